"""Every error of the project, a class each, in a file for each stage."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


def all_errors() -> tuple[type[Error], ...]:
    """Return the classes of every error, by code."""
    from importlib import import_module
    from pkgutil import iter_modules

    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
    return tuple(sorted(_subclasses(Error), key=lambda error: error.code))


def _subclasses(error: type[Error]) -> set[type[Error]]:
    found: set[type[Error]] = set()
    for subclass in error.__subclasses__():
        found |= {subclass} | _subclasses(subclass)
    return {item for item in found if item.code and item.__module__.startswith(__name__)}
