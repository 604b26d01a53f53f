"""Every analysis pass by its name: the files of this folder, then installed extensions.

Importing this module imports no pass; the first question does, without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from nnspec.compiler import passes as folder
from nnspec.compiler.extensions import by_name, offered
from nnspec.compiler.passes.analysis import Pass
from nnspec.dsl.catalog import Entry


@lru_cache(maxsize=1)
def passes() -> Mapping[str, Pass]:
    """Return every pass by name; two claims to one name raise RunError naming both."""
    return by_name("pass", (*_own(), *offered("PASSES")))


def find(name: str) -> Pass:
    """Return the pass of this name; KeyError if there is none."""
    return passes()[name]


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of all passes."""
    return tuple(rule.entry() for rule in passes().values())


def _own() -> Iterator[tuple[str, Pass]]:
    for module in sorted(iter_modules(folder.__path__), key=lambda module: module.name):
        found = import_module(f"{folder.__name__}.{module.name}")
        for item in getattr(found, "PASSES", ()):
            yield f"nnspec ({module.name}.py)", item
