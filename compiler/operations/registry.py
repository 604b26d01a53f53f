"""Every operation by its name: the files of this folder, then installed extensions.

A file lists its operations in `OPERATIONS`. Importing this module imports none of them; the first
question does, without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from nnspec.compiler import operations as folder
from nnspec.compiler.extensions import by_name, offered
from nnspec.compiler.operations.operation import Operation


@lru_cache(maxsize=1)
def operations() -> Mapping[str, Operation]:
    """Return every operation by name; two claims to one name raise RunError naming both."""
    return by_name("operation", (*_own(), *offered("OPERATIONS")))


def operation(name: str) -> Operation:
    """Return the operation of this name; KeyError if there is none."""
    return operations()[name]


def _own() -> Iterator[tuple[str, Operation]]:
    for module in sorted(iter_modules(folder.__path__), key=lambda module: module.name):
        found = import_module(f"{folder.__name__}.{module.name}")
        for item in getattr(found, "OPERATIONS", ()):
            yield f"nnspec ({module.name}.py)", item
