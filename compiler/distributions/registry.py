"""Every distribution by its name: the files of this folder, then installed extensions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from nnspec.compiler import distributions as folder
from nnspec.compiler.distributions.distribution import Distribution
from nnspec.compiler.extensions import by_name, offered
from nnspec.dsl.catalog import Entry


@lru_cache(maxsize=1)
def distributions() -> Mapping[str, Distribution]:
    """Return every distribution by name; two claims to one name raise RunError naming both."""
    return by_name("distribution", (*_own(), *offered("DISTRIBUTIONS")))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the distributions."""
    return tuple(rule.entry() for rule in distributions().values())


def _own() -> Iterator[tuple[str, Distribution]]:
    for module in sorted(iter_modules(folder.__path__), key=lambda module: module.name):
        found = import_module(f"{folder.__name__}.{module.name}")
        for item in getattr(found, "DISTRIBUTIONS", ()):
            yield f"nnspec ({module.name}.py)", item
