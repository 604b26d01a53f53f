"""`cost`: parameters, memory and floating-point operations of every layer.

In: a typed graph. Numbers are whole, or symbolic where a dimension of the input has no size yet. Imports
neither torch nor numpy, since `show` prints this table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from math import prod
from typing import Any

from nnspec.compiler.constrained import ConstrainedWeight, constrained_weights
from nnspec.compiler.flat import Cycle, Flat, Use, flatten
from nnspec.compiler.ir import Graph, Primitive, Tensor, Type
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.passes.analysis import Pass, Result, Subject, Table
from nnspec.compiler.solvers import evaluations
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size
from nnspec.dsl.node import Node

# Bytes of one stored number; a truth value takes a byte in torch too.
_BYTES = {"real": 4, "int": 8, "int32": 4, "bool": 1, "complex": 8}


class LayerCost(Node):
    """One use of an operation. A weight counts where it is first used; `shared` says it was used before."""

    path: str
    operation: str
    inputs: tuple[Type, ...]
    outputs: tuple[Type, ...]
    parameters: int
    buffers: int
    bytes: int
    flops: Size
    shared: bool = False


class CostTable(Node):
    """The cost of a network. Bytes and operations are those of one sample in single precision."""

    network: str
    layers: tuple[LayerCost, ...]
    parameters: int  # learned scalars that are stored, shared ones once
    buffers: int
    bytes: int  # of parameters and buffers
    activation_bytes: Size  # of every value between input and output, as training keeps them
    flops: Size  # forward; a multiply-add is two
    constraints: tuple[ConstrainedWeight, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return the table as `show --json` prints it."""
        return {
            "network": self.network,
            "parameters": self.parameters,
            "buffers": self.buffers,
            "bytes": self.bytes,
            "activation_bytes": _number(self.activation_bytes),
            "flops": _number(self.flops),
            "layers": [_layer_json(layer) for layer in self.layers],
            "constraints": [weight.json() for weight in self.constraints],
        }


def cost_table(graph: Graph) -> CostTable:
    """Return what a typed graph costs, layer by layer."""
    flat = flatten(graph)
    seen: set[str] = set()
    layers = tuple(_layer(use, seen) for use in flat.uses)
    for cycle in reversed(flat.cycles):
        layers = (
            *layers[: cycle.first],
            *_settling(flat, cycle, layers[cycle.first : cycle.last + 1]),
            *layers[cycle.last + 1 :],
        )
    return CostTable(
        network=graph.name,
        layers=layers,
        parameters=sum(layer.parameters for layer in layers),
        buffers=sum(layer.buffers for layer in layers),
        bytes=sum(layer.bytes for layer in layers),
        activation_bytes=_activation_bytes(flat),
        flops=_total(layer.flops for layer in layers),
        constraints=constrained_weights(graph),
    )


def _layer(use: Use, seen: set[str]) -> LayerCost:
    primitive = use.primitive
    stored = [t for _, held in use.weights if use.holds(held) for t in held.weight.stored]
    shared = use.owner in seen
    if use.owner is not None:
        seen.add(use.owner)
    counted = [] if shared else stored
    return LayerCost(
        path=use.path,
        operation=use.word,
        inputs=primitive.inputs,
        outputs=primitive.outputs,
        parameters=sum(_count(tensor) for tensor in counted if tensor.kind == "learned"),
        buffers=sum(_count(tensor) for tensor in counted if tensor.kind != "learned"),
        bytes=sum(_count(tensor) * _BYTES[tensor.dtype] for tensor in counted),
        flops=_flops(primitive),
        shared=shared,
    )


def _settling(flat: Flat, cycle: Cycle, layers: tuple[LayerCost, ...]) -> Iterator[LayerCost]:
    """Yield a row for each connection and state of a loop, and one for the equation, which takes the other work.

    What depends on the states is done as often as the solver evaluates the equation; the rest once.
    """
    uses = flat.uses[cycle.first : cycle.last + 1]
    times = evaluations(cycle.loop.solver)
    moving = set(cycle.before)
    work: Size = 0
    rows: list[LayerCost] = []
    for use, layer in zip(uses, layers, strict=True):
        again = moving.intersection(use.inputs)
        moving.update(use.outputs if again else ())
        flops = layer.flops * times if again else layer.flops
        if use.owner is not None and use.inputs:
            rows.append(layer.replace(flops=flops))
        else:
            work = work + flops
    biases = {
        layer.path: layer for use, layer in zip(uses, layers, strict=True) if use.owner and not use.inputs
    }
    prefix = cycle.path.removesuffix(cycle.loop.name)
    yield from rows
    for state in cycle.loop.carried:
        path, own = f"{prefix}{state.name}", biases.pop(f"{prefix}{state.name}", None)
        empty = layers[0].replace(operation="state", inputs=(), flops=0)
        row = empty if own is None else own.replace(operation="state")
        yield row.replace(path=path, outputs=(state.declared,))
    yield from biases.values()
    yield layers[-1].replace(
        path=cycle.path,
        operation=f"dynamics, {times} x" if times > 1 else "dynamics",
        inputs=(),
        flops=work,
    )


def _flops(primitive: Primitive) -> Size:
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    flops = operation(primitive.operation).cost(site).flops
    for weight in primitive.weights:
        if isinstance(flops, int) and any(item.product for item in weight.maps):
            # The product reads what is kept alone; its cost is so many times the entries of the matrix.
            kept = sum(_count(tensor) for tensor in weight.stored if tensor.kind != "buffer")
            flops = flops // prod(size for size in weight.shape if isinstance(size, int)) * kept
    return flops


def _count(tensor: Tensor) -> int:
    total: Size = 1
    for size in tensor.shape:
        total = total * size
    assert isinstance(total, int), "stored tensors have sizes that are numbers"
    return total


def _activation_bytes(flat: Flat) -> Size:
    outputs = [flat.values[number].type for use in flat.uses for number in use.outputs]
    return _total(_elements(kind) * _BYTES[kind.dtype] for kind in outputs)


def _elements(kind: Type) -> Size:
    total: Size = 1
    for size in kind.shape:
        total = total * size
    return total


def _total(sizes: Iterable[Size]) -> Size:
    total: Size = 0
    for size in sizes:
        total = total + size
    return total


def _number(size: Size) -> int | str:
    return size if isinstance(size, int) else str(size)


def _types(types: tuple[Type, ...]) -> str:
    return ", ".join(str(kind) for kind in types)


def _layer_json(layer: LayerCost) -> dict[str, Any]:
    return {
        "path": layer.path,
        "operation": layer.operation,
        "input": _types(layer.inputs),
        "output": _types(layer.outputs),
        "parameters": layer.parameters,
        "bytes": layer.bytes,
        "flops": _number(layer.flops),
        "shared": layer.shared,
    }


class Cost(Pass):
    name = "cost"
    doc = """Parameters, memory and floating-point operations, layer by layer.

    For one sample, in single precision; a multiply-add counts as two operations. A shared weight is counted
    where it is first used. In a system what depends on its states is done once for each step of its solver, the
    rest once; a row of its dynamics holds what no connection does."""
    arguments = (Argument(name="all", kind="bool", doc="list layers without parameters too", default=True),)

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        table = cost_table(subject.graph)
        shown = [layer for layer in table.layers if options.get("all", True) or layer.parameters]
        rows = tuple(
            (
                layer.path,
                layer.operation,
                _types(layer.inputs),
                _types(layer.outputs),
                layer.parameters,
                _number(layer.flops),
            )
            for layer in shown
        )
        columns = ("layer", "operation", "input", "output", "parameters", "operations")
        summary = (
            f"{table.network} has {table.parameters:,} parameters ({table.bytes:,} bytes) and does "
            f"{_spelled(table.flops)} operations a sample."
        )
        return Result(
            data=table.json(), summary=summary, tables=(Table(title="Cost", columns=columns, rows=rows),)
        )


def _spelled(size: Size) -> str:
    return f"{size:,}" if isinstance(size, int) else str(size)


PASSES = (Cost(),)
