"""Write a network as a standalone PyTorch module, as a graph, or as an exported program; or a learning rule as torch code."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nnspec import exits
from nnspec.commands.options import add_spec, open_network, open_spec
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
    "rule": ".rule.py",
}
_BINARY = ("export", "onnx")


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument(
        "experiment",
        metavar="EXPERIMENT",
        nargs="?",
        help="its network as it is there, or with --emit rule its rule",
    )
    parser.add_argument("-o", dest="folder", metavar="FOLDER", type=Path, help="where to write; else printed")
    parser.add_argument(
        "--emit",
        choices=tuple(_ENDINGS),
        default="torch",
        help="torch: Python text that needs torch alone; graph: JSON; symmetry: JSON, with -o GraphML too; "
        "export: torch.export; onnx; rule: what the written rule of an experiment computes, as torch code",
    )
    parser.add_argument(
        "--packed",
        action="store_true",
        help="with --emit torch: write the weights too, in as few bits as they need, and a `load` that reads them",
    )
    parser.add_argument(
        "--weights",
        metavar="RUN",
        type=Path,
        help="the folder of a run whose weights are written (packed, export, onnx); else those at initialisation",
    )
    parser.add_argument("--seed", metavar="K", type=int, help="which seed of the run, or of initialisation")


def run(options: Namespace) -> int:
    if options.emit in _BINARY and options.folder is None:
        from nnspec.dsl.errors.command_line import NeedsFolder

        raise UsageError(NeedsFolder(None, emit=options.emit))
    binary = options.emit in _BINARY
    holds_weights = binary or options.packed
    if not holds_weights and (options.weights is not None or options.seed is not None):
        from nnspec.dsl.errors.command_line import HoldsNoWeights

        raise UsageError(HoldsNoWeights(None, emit=options.emit))
    if options.packed:
        return _packed(options)
    if options.emit == "rule":
        return _rules(options)
    network = _network(options)
    data = _program(network, options) if binary else _text(network, options.emit).encode("utf-8")
    if options.folder is None:
        write(data.decode("utf-8"))
        return exits.OK
    from nnspec.files import write_bytes

    path = options.folder / f"{network.name}{_ENDINGS[options.emit]}"
    write_bytes(path, data)
    note(f"wrote {path}")
    if options.emit == "symmetry":
        from nnspec.compiler.symmetry.graph import graphml

        beside = options.folder / f"{network.name}.symmetry.graphml"
        write_bytes(beside, graphml(network.symmetry_group()).encode("utf-8"))
        note(f"wrote {beside}")
    return exits.OK


def _network(options: Namespace) -> Network:
    """Return the network that the command line names, or that of the experiment which it names."""
    if options.experiment is None:
        return open_network(options)
    return open_spec(options).experiment(options.experiment).network


def _rules(options: Namespace) -> int:
    """Write what the rules of an experiment compute."""
    experiment = open_spec(options).experiment(options.experiment)
    texts = experiment.rules()
    if options.folder is None:
        write("\n\n".join(texts.values()))
        return exits.OK
    from nnspec.files import write_bytes

    for rule, text in texts.items():
        path = options.folder / f"{experiment.name}.{rule}{_ENDINGS['rule']}"
        write_bytes(path, text.encode("utf-8"))
        note(f"wrote {path}")
    return exits.OK


def _packed(options: Namespace) -> int:
    """Write the packed module and its weights; print the size of each tensor."""
    from nnspec.dsl.errors.command_line import NeedsFolder, OnlyTextPacked
    from nnspec.files import write_bytes, write_text
    from nnspec.tables import print_table, size

    if options.emit != "torch":
        raise UsageError(OnlyTextPacked(None))
    if options.folder is None:
        raise UsageError(NeedsFolder(None, emit="torch --packed"))
    network = _network(options)
    from nnspec.compiler.emit.packed import packed

    file = f"{network.name}.safetensors"
    found = packed(network.graph, _state(network, options.weights, options.seed), file)
    print_table("packed weights", ("tensor", "stored as", "bytes", "packed"), found.rows)
    write(f"{size(sum(row[2] for row in found.rows))} packed into {size(len(found.data))}\n")
    write_text(options.folder / f"{network.name}.py", found.text)
    write_bytes(options.folder / file, found.data)
    note(f"wrote {options.folder / f'{network.name}.py'} and {options.folder / file}")
    return exits.OK


def _state(network: Network, folder: Path | None, seed: int | None) -> dict[str, Any]:
    """Return the weights of a run, or those of an initialisation; UsageError if they are another network's."""
    from nnspec.compiler.emit.load import initial_state

    own = initial_state(network.graph, seed or 0)
    if folder is None:
        return own
    from nnspec.compiler.runtime.runs import load_state, read_record

    seeds: list[int] = (read_record(folder) or {}).get("seeds", [0])
    given = load_state(folder, seeds[0] if seed is None else seed)
    odd = sorted(set(own) ^ set(given)) or [name for name in own if own[name].shape != given[name].shape]
    if odd:
        from nnspec.dsl.errors.command_line import OtherWeights

        raise UsageError(OtherWeights(None, run=str(folder), network=network.name, name=odd[0]))
    return given


def _text(network: Network, emit: str) -> str:
    if emit == "torch":
        return network.source()
    if emit == "graph":
        from nnspec.compiler.emit.graph_json import emit_graph

        return emit_graph(network.graph)
    import json

    from nnspec.compiler.symmetry.graph import node_link

    found = network.symmetry_group()
    return json.dumps(found.json() | {"graph": node_link(found)}, indent=2) + "\n"


def _program(network: Network, options: Namespace) -> bytes:
    """Return an exported program or an ONNX model: constraints evaluated, for inference."""
    from nnspec.compiler.emit.export import exported, onnx_model
    from nnspec.compiler.rewrites.hard import evaluated, evaluated_state

    state = evaluated_state(network.graph, _state(network, options.weights, options.seed))
    graph = evaluated(network.graph)
    if options.emit == "onnx":
        return _onnx(lambda: onnx_model(graph, state))
    import io

    import torch

    buffer = io.BytesIO()
    torch.export.save(exported(graph, state=state), buffer)
    return buffer.getvalue()


def _onnx(write_model: Callable[[], bytes]) -> bytes:
    from torch.onnx import OnnxExporterError

    from nnspec.dsl.errors.command_line import NeedsPackage, NotInOnnx

    try:
        return write_model()
    except ImportError as failure:
        error = NeedsPackage(None, what="`--emit onnx`", package=failure.name or "onnx", extra="onnx")
        raise RunError(error) from failure
    except OnnxExporterError as failure:
        why = str(failure.__cause__ or failure).strip().splitlines()[0]
        raise RunError(NotInOnnx(None, why=why)) from failure
