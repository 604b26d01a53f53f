"""Weights that the command line names to compare them: `runs/NAME-HASH`, with `:SEED` behind it, or a file."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.weights import NoWeightsThere
from nnspec.exits import UsageError

if TYPE_CHECKING:
    from torch import Tensor

NAMED = "the folder of a run, with :SEED behind it for one of its seeds, or a .safetensors file"


def add_pair(parser: ArgumentParser, optional: bool = False) -> None:
    """Add A and B."""
    count: dict[str, Any] = {"nargs": "?"} if optional else {}
    parser.add_argument("first", metavar="A", help=f"weights: {NAMED}", **count)
    parser.add_argument("second", metavar="B", help="other weights, named in the same way", **count)


def weights(name: str, graph: Graph) -> dict[str, Tensor]:
    """Return the weights of that name; UsageError if there are none, or if they are another network's."""
    from nnspec.compiler.symmetry.weights import checked

    found = _read(name)
    try:
        return checked(graph, found, name)
    except RunError as refusal:  # no run failed: the command line names weights that do not fit
        raise UsageError(refusal.error) from None


def _read(name: str) -> dict[str, Tensor]:
    from nnspec.compiler.runtime.runs import load_state, read_record

    path = Path(name)
    if path.is_file():
        return _file(path)
    seed: int | None = None
    if not path.is_dir() and ":" in name:
        folder, _, written = name.rpartition(":")
        if not written.isdecimal():
            raise UsageError(NoWeightsThere(None, name=name, why=f"`{written}` is no seed"))
        path, seed = Path(folder), int(written)
    if not path.is_dir():
        raise UsageError(NoWeightsThere(None, name=name, why="there is no such file or folder"))
    seeds: list[int] = (read_record(path) or {}).get("seeds", [0])
    return load_state(path, seeds[0] if seed is None else seed)


def _file(path: Path) -> dict[str, Tensor]:
    import safetensors
    import safetensors.torch

    reader: Any = safetensors.torch
    try:
        return reader.load_file(path)
    except (safetensors.SafetensorError, OSError) as failure:
        raise UsageError(NoWeightsThere(None, name=str(path), why=str(failure))) from failure
