"""Write a network as a standalone PyTorch module, as a graph, or as an exported program."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from nnspec import exits
from nnspec.commands.options import add_spec, open_network
from nnspec.dsl.diagnostics import RunError
from nnspec.exits import UsageError
from nnspec.spec import Network
from nnspec.terminal import note, write

_ENDINGS = {
    "torch": ".py",
    "graph": ".graph.json",
    "symmetry": ".symmetry.json",
    "export": ".pt2",
    "onnx": ".onnx",
}
_BINARY = ("export", "onnx")


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument("-o", dest="folder", metavar="FOLDER", type=Path, help="where to write; else printed")
    parser.add_argument(
        "--emit",
        choices=tuple(_ENDINGS),
        default="torch",
        help="torch: Python text that needs torch alone; graph: JSON; symmetry: JSON; export: torch.export; onnx",
    )


def run(options: Namespace) -> int:
    if options.emit in _BINARY and options.folder is None:
        from nnspec.dsl.errors.command_line import NeedsFolder

        raise UsageError(NeedsFolder(None, emit=options.emit))
    network = open_network(options)
    binary = options.emit in _BINARY
    data = _program(network, options.emit) if binary else _text(network, options.emit).encode("utf-8")
    if options.folder is None:
        write(data.decode("utf-8"))
        return exits.OK
    from nnspec.files import write_bytes

    path = options.folder / f"{network.name}{_ENDINGS[options.emit]}"
    write_bytes(path, data)
    note(f"wrote {path}")
    return exits.OK


def _text(network: Network, emit: str) -> str:
    if emit == "torch":
        return network.source()
    if emit == "graph":
        from nnspec.compiler.emit.graph_json import emit_graph

        return emit_graph(network.graph)
    import json

    data: Any = network.analyze("symmetry").data
    return json.dumps(data, indent=2) + "\n"


def _program(network: Network, emit: str) -> bytes:
    from nnspec.compiler.emit.export import exported, onnx_model

    if emit == "onnx":
        try:
            return onnx_model(network.graph)
        except ImportError as failure:
            from nnspec.dsl.errors.command_line import NeedsPackage

            error = NeedsPackage(None, what="`--emit onnx`", package=failure.name or "onnx", extra="onnx")
            raise RunError(error) from failure
    import io

    import torch

    buffer = io.BytesIO()
    torch.export.save(exported(network.graph), buffer)
    return buffer.getvalue()
