"""Every initializer by its name: the files of this folder, then installed extensions; and what a word of a spec means."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from nnspec.compiler import initializers as folder
from nnspec.compiler.extensions import by_name, offered
from nnspec.compiler.initializers.initializer import Initializer
from nnspec.compiler.ir import Tensor
from nnspec.dsl.catalog import Entry


@lru_cache(maxsize=1)
def initializers() -> Mapping[str, Initializer]:
    """Return every initializer by name; two claims to one name raise RunError naming both."""
    return by_name("initializer", (*_own(), *offered("INITIALIZERS")))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the initializers."""
    return tuple(rule.entry() for rule in initializers().values())


def problem_of(tensor: Tensor) -> str | None:
    """Return why a tensor cannot begin as it is said to; None if it can."""
    if tensor.init is None:
        return None
    return initializers()[tensor.init.name].problem(tensor.init.options, tensor.shape, tensor.dtype)


def made(tensor: Tensor) -> str | None:
    """Return the expression of a new tensor that begins so at once, `torch.zeros(32)`; None if it must be filled."""
    if tensor.init is None:
        return None
    return initializers()[tensor.init.name].made(tensor.init.options, tensor.shape, tensor.dtype)


def filled(tensor: Tensor, text: str) -> str | None:
    """Return the statement that fills a stored tensor as it is said to begin; None if nothing is said."""
    if tensor.init is None:
        return None
    return initializers()[tensor.init.name].fill(tensor.init.options, text)


def _own() -> Iterator[tuple[str, Initializer]]:
    for module in sorted(iter_modules(folder.__path__), key=lambda module: module.name):
        found = import_module(f"{folder.__name__}.{module.name}")
        for item in getattr(found, "INITIALIZERS", ()):
            yield f"nnspec ({module.name}.py)", item
