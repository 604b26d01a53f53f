"""Bound definitions to graph, and every interpretation of the graph."""

if __name__ != "nnspec.compiler":
    raise ImportError(
        "import this package as `nnspec.compiler`; the folder `compiler/` is only where it is kept"
    )
