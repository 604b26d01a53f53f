"""`initialize backbone.**: load("f.safetensors")`: weights that begin as a file says.

In: loads whose selectors have become state-dict keys, and the folder that files may lie in. Out: tensors by
key, and a hash of what was read. Only safetensors files are read: nothing is ever unpickled. What does not fit
is a RunError that lists it, found from the file's header before a tensor is read.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Load
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.component import Component
from nnspec.compiler.runtime.data.files import find
from nnspec.compiler.tensors import tensors
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import WeightsMissing, WeightsUnreadable

if TYPE_CHECKING:
    from torch import Tensor

_LISTED = 5  # names in a diagnostic


class LoadWord(Component):
    """The word of a load."""

    name = "load"
    family = "weights"
    doc = """The selected tensors begin as those of a safetensors file. Their names there are those of the
network; with `prefix`, the fixed beginning of the selector is replaced by it: of `backbone.**` with
`prefix = ""`, `backbone.conv1.weight` is `conv1.weight` in the file."""
    arguments = (
        Argument(name="path", kind="text", doc="a .safetensors file"),
        Argument(name="prefix", kind="text", default=None, nullable=True, doc="what names begin with there"),
    )
    example = 'initialize backbone.**: load("backbone.safetensors", prefix = "")'


def entries() -> tuple[Entry, ...]:
    """Return the catalog entry."""
    return (LoadWord().entry(),)


def loaded(loads: tuple[Load, ...], graph: Graph, root: Path) -> tuple[dict[str, Tensor], str]:
    """Return tensors by state-dict key, of a later load where two have one, and the hash of all."""
    found: dict[str, Tensor] = {}
    for load in loads:
        found |= _read(load, graph, root)
    digest = hashlib.sha256()
    for key in sorted(found):
        value: Any = found[key]
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.contiguous().view(-1).numpy().tobytes())
    return found, digest.hexdigest()


def _read(load: Load, graph: Graph, root: Path) -> dict[str, Tensor]:
    import safetensors

    path = find(load.path, root, load.span)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in list(file.keys())}
            _check(load, graph, shapes)
            return {key: file.get_tensor(name) for key, name in load.names}
    except (safetensors.SafetensorError, OSError) as failure:
        raise RunError(WeightsUnreadable(load.span, path=load.path, why=str(failure))) from failure


def _check(load: Load, graph: Graph, shapes: dict[str, tuple[int, ...]]) -> None:
    wanted = {key: tuple(int(str(size)) for size in tensor.shape) for key, tensor in tensors(graph)}
    missing = [f"no `{name}`" for _, name in load.names if name not in shapes]
    different = [
        f"`{name}` is {list(shapes[name])}, and `{key}` {list(wanted[key])}"
        for key, name in load.names
        if name in shapes and shapes[name] != wanted[key]
    ]
    problems = [*missing, *different]
    if problems:
        more = f", and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        there = ", ".join(f"`{name}`" for name in sorted(shapes)[:_LISTED]) or "nothing"
        raise RunError(
            WeightsMissing(load.span, path=load.path, why="; ".join(problems[:_LISTED]) + more, there=there)
        )
