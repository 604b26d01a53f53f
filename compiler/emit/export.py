"""Typed graph -> programs that other tools read: `torch.export` and ONNX. For inference, any batch size.

In: a typed graph, and perhaps the state to export it with. torch is imported inside the functions.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from nnspec.compiler.emit.load import State, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.dimensions import substitute, symbols
from nnspec.dsl.errors.equilibrium import SlopeNotExported

if TYPE_CHECKING:
    from torch import Tensor


def exported(graph: Graph, batch: int = 2, state: State | None = None) -> Any:
    """Return the network as a `torch.export` program in evaluation mode, for any batch size.

    Symbolic dimensions of the inputs stay free too.
    """
    import torch

    if "torch.func.vjp(" in emit(graph, "export"):
        raise RunError(SlopeNotExported(None, name=graph.name))
    net = module(graph, "export").eval()
    if state is not None:
        net.load_state_dict(state)
    inputs, shapes = _example(graph, batch)
    with torch.no_grad():
        return torch.export.export(net, inputs, dynamic_shapes=shapes)


def onnx_model(graph: Graph, state: State | None = None) -> bytes:
    """Return the network as an ONNX model. Raises ImportError where `onnx` or `onnxscript` is missing.

    Constraints are evaluated while exporting: the model holds effective weights.
    """
    import_module("onnxscript")  # first of all, so that it is named if it is missing
    import torch

    onnx: Any = torch.onnx
    with _quiet():
        found = onnx.export(exported(graph, state=state), dynamo=True, verbose=False)
    for nodes, ports in (
        (found.model.graph.inputs, graph.root.inputs),
        (found.model.graph.outputs, graph.root.outputs),
    ):
        for node, port in zip(nodes, ports, strict=True):
            node.name = port.name
    return found.model_proto.SerializeToString()


@contextmanager
def _quiet() -> Generator[None]:
    """Keep what the exporter says of packages that have nothing to do with the network to itself."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)


def _example(graph: Graph, batch: int) -> tuple[tuple[Tensor, ...], tuple[dict[int, Any], ...]]:
    """Return inputs of the declared shapes, and which of their dimensions are free."""
    import torch

    real = torch.get_default_dtype()
    kinds = {"real": real, "int": torch.int64, "bool": torch.bool, "complex": real.to_complex()}
    types = dict(graph.root.types)
    found = [types[port.value] for port in graph.root.inputs]
    names = sorted({name for given in found for size in given.shape for name in symbols(size)})
    # Different small primes, so that sizes which differ are not taken to be equal.
    sizes = {name: number for name, number in zip(names, _PRIMES, strict=False)}
    inputs: list[Tensor] = []
    free: list[dict[int, Any]] = []
    for given in found:
        shape = [substitute(size, dict(sizes)) for size in given.shape]
        inputs.append(torch.zeros(batch, *(int(str(size)) for size in shape), dtype=kinds[given.dtype]))
        open_axes = [place + 1 for place, size in enumerate(given.shape) if not isinstance(size, int)]
        free.append({axis: torch.export.Dim.AUTO for axis in (0, *open_axes)})
    return tuple(inputs), tuple(free)


_PRIMES = (5, 7, 11, 13, 17, 19, 23, 29)
