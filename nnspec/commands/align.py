"""Move the weights B into the basin of A: permute, flip, scale and rotate the units of B to lie near those of A."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnspec import exits
from nnspec.commands.options import add_spec, counting, open_network
from nnspec.comparing import add_pair, weights
from nnspec.exits import UsageError
from nnspec.terminal import note, write

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.align import Aligned


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    add_pair(parser)
    parser.add_argument(
        "-o", dest="output", metavar="FILE", type=Path, help="write B, moved: FILE.safetensors"
    )
    parser.add_argument(
        "--restarts", metavar="N", type=counting(1), default=4, help="random starts; 4 if not given"
    )
    parser.add_argument("--seed", metavar="K", type=int, default=0, help="of the starts")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    from nnspec.compiler.symmetry.align import align
    from nnspec.compiler.symmetry.group import symmetry_group
    from nnspec.tables import print_table

    if options.output is not None:
        _refuse_output(options.output)
    graph = open_network(options).graph
    ours, theirs = weights(options.first, graph), weights(options.second, graph)
    found = align(symmetry_group(graph), ours, theirs, options.restarts, options.seed)
    if options.output is not None:
        _write(options.output, found, ours)
    if options.json:
        write(json.dumps(_data(found), indent=2) + "\n")
        return exits.OK
    print_table("matched", ("wire", "by"), found.solvers)
    write(
        f"distance of B from A, over the norm of A: {found.before:.4g} before, {found.after:.4g} after "
        f"(the best of {found.starts} starts; a local optimum)\n"
    )
    for one in found.notes:
        write(f"{one}\n")
    return exits.OK


def _refuse_output(path: Path) -> None:
    """Raise UsageError for a file that is named as something else, or in a folder that is not there."""
    from nnspec.dsl.errors.command_line import CannotWrite

    if path.suffix != ".safetensors":
        raise UsageError(CannotWrite(None, path=str(path), why="weights are written as FILE.safetensors"))
    if not path.parent.is_dir():
        raise UsageError(CannotWrite(None, path=str(path), why=f"there is no folder `{path.parent}`"))


def _data(found: Aligned) -> dict[str, Any]:
    return {
        "before": found.before,
        "after": found.after,
        "starts": found.starts,
        "solvers": dict(found.solvers),
        "notes": list(found.notes),
    }


def _write(path: Path, found: Aligned, ours: dict[str, Any]) -> None:
    """Write the weights, each in the precision that it has in A; folders are not made."""
    from safetensors.torch import save

    from nnspec.files import write_bytes

    write_bytes(path, save({key: t.to(ours[key].dtype).contiguous() for key, t in found.state.items()}))
    note(f"wrote {path}")
