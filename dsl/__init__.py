"""Text to bound definitions. Imports lark, pydantic and the standard library only."""

if __name__ != "nnspec.dsl":
    raise ImportError("import this package as `nnspec.dsl`; the folder `dsl/` is only where it is kept")
