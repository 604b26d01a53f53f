"""Checkpoints: tensors and plain data in one safetensors file, replaced in one step.

A checkpoint is written beside the old one, brought to the disk, and moved into its place: a process that
is killed at any moment leaves one of the two whole. The plain data are JSON in the file's header, so that
tensors and data can never be of different moments. Nothing is ever pickled.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import CheckpointUnreadable, DiskFull, RunNotWritable

if TYPE_CHECKING:
    from torch import Tensor


class Snapshot(NamedTuple):
    """All that a training needs to go on from here."""

    tensors: dict[str, Tensor]
    data: dict[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with `prefix`, without it."""
        size = len(prefix)
        return {name[size:]: tensor for name, tensor in self.tensors.items() if name.startswith(prefix)}


def write_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write a checkpoint; RunError if it cannot be written, the old one being untouched."""
    from safetensors.torch import save

    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in snapshot.tensors.items()}
    write_bytes(path, save(tensors, metadata={"state": json.dumps(snapshot.data)}))


def read_snapshot(path: Path) -> Snapshot:
    """Read a checkpoint; RunError if it is damaged."""
    import safetensors

    try:
        with safetensors.safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in list(file.keys())}
            return Snapshot(tensors, json.loads(file.metadata()["state"]))
    except (safetensors.SafetensorError, OSError, KeyError, TypeError, ValueError) as failure:
        raise RunError(CheckpointUnreadable(None, path=str(path), why=str(failure))) from failure


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with written(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        finally:
            beside.unlink(missing_ok=True)


@contextmanager
def written(path: Path) -> Generator[None]:
    """Turn what the system says while a file is written into a diagnostic."""
    try:
        yield
    except OSError as failure:
        full = failure.errno in (errno.ENOSPC, errno.EDQUOT)
        why = failure.strerror or str(failure)
        error = DiskFull(None, path=str(path)) if full else RunNotWritable(None, path=str(path), why=why)
        raise RunError(error) from failure


def optimizer_snapshot(state: dict[str, Any]) -> Snapshot:
    """Return the state dict of a torch optimizer as tensors and data. Learning rates are not kept: the
    step says them."""
    from torch import Tensor

    tensors: dict[str, Tensor] = {}
    numbers: dict[str, dict[str, Any]] = {}
    for index, values in state["state"].items():
        for name, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{name}"] = value.clone()
            elif isinstance(value, list):  # lbfgs keeps its last steps so
                listed = cast("list[Any]", value)
                tensors |= {
                    f"{index}.{name}.{i}": t.clone() for i, t in enumerate(listed) if isinstance(t, Tensor)
                }
                kept = [None if isinstance(item, Tensor) else item for item in listed]
                numbers.setdefault(str(index), {})[name] = kept
            elif value is not None:
                numbers.setdefault(str(index), {})[name] = value
    return Snapshot(tensors, numbers)


def optimizer_state(fresh: dict[str, Any], snapshot: Snapshot) -> dict[str, Any]:
    """Return the state dict for an optimizer made anew, whose own is `fresh`, from `optimizer_snapshot`.

    Tensors are copied: torch would go on to change those of the snapshot.
    """
    state: dict[int, dict[str, Any]] = {}
    for index, values in snapshot.data.items():
        own = {name: list(v) if isinstance(v, list) else v for name, v in values.items()}
        state.setdefault(int(index), {}).update(own)
    for name, tensor in snapshot.tensors.items():
        index, _, key = name.partition(".")
        key, _, place = key.partition(".")
        if place:
            state[int(index)][key][int(place)] = tensor.clone()
        else:
            state.setdefault(int(index), {})[key] = tensor.clone()
    return {"state": state, "param_groups": fresh["param_groups"]}
