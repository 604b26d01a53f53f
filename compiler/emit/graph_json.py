"""Typed graph -> JSON: everything that the graph says, for `compile --emit graph` and for other tools.

Blocks and primitives that are one object in the graph are written once, in `definitions`, and referred to
by number. Sizes are numbers, or texts where they are symbolic. Assumes a typed graph.
"""

from __future__ import annotations

import json
from typing import Any, cast

from nnspec.compiler.following import text_of
from nnspec.compiler.ir import (
    Block,
    Child,
    Code,
    Graph,
    Instance,
    Loop,
    Primitive,
    Pullback,
    Type,
    Weight,
    WeightMap,
    Word,
)
from nnspec.dsl.dimensions import Dim
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span

FORMAT = 1


def emit_graph(graph: Graph) -> str:
    """Return the graph as JSON text, the same for equal graphs."""
    return json.dumps(graph_data(graph), indent=2, ensure_ascii=False) + "\n"


def graph_data(graph: Graph) -> dict[str, Any]:
    """Return the graph as plain data."""
    writer = _Writer()
    root = writer.instance(graph.root)
    return {
        "format": FORMAT,
        "network": graph.name,
        "doc": graph.doc,
        "parameters": {name: plain(value) for name, value in graph.parameters},
        "root": root,
        "definitions": writer.definitions,
    }


class _Writer:
    def __init__(self) -> None:
        self.definitions: list[dict[str, Any]] = []
        self._numbers: dict[int, int] = {}

    def instance(self, instance: Instance) -> int:
        """Return the number under which an instance's definition stands."""
        if id(instance) not in self._numbers:
            data = self.block(instance) if isinstance(instance, Block) else self.primitive(instance)
            self._numbers[id(instance)] = len(self.definitions)
            self.definitions.append(data)
        return self._numbers[id(instance)]

    def block(self, block: Block) -> dict[str, Any]:
        return {
            "kind": "block",
            "name": block.name,
            "doc": block.doc,
            "arguments": {name: plain(value) for name, value in block.arguments},
            "inputs": [{"name": port.name, "value": port.value} for port in block.inputs],
            "outputs": [{"name": port.name, "value": port.value} for port in block.outputs],
            "children": [self.child(child) for child in block.children],
            "body": [self.statement(statement) for statement in block.body],
            "updates": [{"buffer": item.child, "value": item.value} for item in block.updates],
            "penalties": [{"name": item.name, "value": item.value} for item in block.penalties],
            "named": list(block.named),
            "types": {name: type_data(given) for name, given in block.types},
            "place": place(block.span),
        }

    def child(self, child: Child) -> dict[str, Any]:
        return {
            "name": child.name,
            "instances": [self.instance(instance) for instance in child.instances],
            "repeated": child.repeated,
            "flow": child.flow,
            "shared": child.shared,
            "follows": child.follows and text_of(child.follows),
            "begins": child.begins and {"experiment": child.begins.experiment, "path": child.begins.path},
            "place": place(child.span),
        }

    def statement(self, statement: Any) -> dict[str, Any]:
        if isinstance(statement, Loop):
            return self.loop(statement)
        if isinstance(statement, Pullback):
            return {
                "pullback": statement.name,
                "through": [self.statement(own) for own in statement.through],
                "at": list(statement.at),
                "end": statement.end,
                "cotangent": statement.cotangent,
                "outputs": list(statement.outputs),
                "place": place(statement.span),
            }
        used = (
            {"call": statement.child}
            if hasattr(statement, "child")
            else {"apply": statement.name, "operation": self.instance(statement.operation)}
        )
        return {
            **used,
            "inputs": list(statement.inputs),
            "outputs": list(statement.outputs),
            "place": place(statement.span),
        }

    def loop(self, loop: Loop) -> dict[str, Any]:
        return {
            "loop": loop.name,
            "form": loop.form,
            "carried": [
                {
                    "name": state.name,
                    "before": state.before,
                    "after": state.after,
                    "result": state.result,
                    "driven": state.driven,
                    "type": type_data(state.declared),
                    "start": state.start and _word(state.start),
                    "place": place(state.span),
                }
                for state in loop.carried
            ],
            "body": [self.statement(own) for own in loop.body],
            "connections": [
                {
                    "child": item.child,
                    "sources": list(item.sources),
                    "targets": list(item.targets),
                    "both": item.both,
                    "taken": item.taken,
                    "given": item.given,
                    "place": place(item.span),
                }
                for item in loop.connections
            ],
            "solver": _word(loop.solver),
            "gradient": _word(loop.gradient),
            "clip": loop.clip and list(loop.clip),
            "energy": loop.energy,
            "place": place(loop.span),
        }

    def primitive(self, primitive: Primitive) -> dict[str, Any]:
        return {
            "kind": "primitive",
            "operation": primitive.operation,
            "arguments": {name: plain(value) for name, value in primitive.arguments},
            "inputs": [type_data(given) for given in primitive.inputs],
            "outputs": [type_data(given) for given in primitive.outputs],
            "weights": [self.weight(weight) for weight in primitive.weights],
            "place": place(primitive.span),
        }

    def weight(self, weight: Weight) -> dict[str, Any]:
        tie = weight.tie
        return {
            "name": weight.name,
            "shape": plain(weight.shape),
            "stored": [
                {
                    "name": t.name,
                    "shape": plain(t.shape),
                    "kind": t.kind,
                    "dtype": t.dtype,
                    "init": t.init and _word(t.init),
                }
                for t in weight.stored
            ],
            "init": weight.init and _word(weight.init),
            "maps": [self.map(item) for item in weight.maps],
            "projections": [
                {"name": item.name, **self.function(item.block, item.code)} for item in weight.projections
            ],
            "penalties": [
                {
                    "name": item.name,
                    **self.function(item.block, item.value),
                    "proximal": item.proximal and item.proximal.name,
                }
                for item in weight.penalties
            ],
            "tie": tie and {"child": tie.child, "weight": tie.weight, "transpose": tie.transpose},
        }

    def map(self, item: WeightMap) -> dict[str, Any]:
        return {
            "name": item.name,
            **self.function(item.block, item.code),
            "stored": [tensor.name for tensor in item.stored],
            "start": None if item.start is None else item.start.name,
            "start_options": {} if item.start is None else {k: plain(v) for k, v in item.start.options},
            "straight_through": item.straight_through,
            "gradient": None if item.gradient is None else self.instance(item.gradient),
            "clip": plain(item.clip),
        }

    def function(self, block: Block | None, code: Code | None) -> dict[str, Any]:
        """Say what a map or projection computes: a block of the graph, or a function of the library."""
        return {
            "definition": None if block is None else self.instance(block),
            "code": None if code is None else code.name,
            "options": {} if code is None else {k: plain(v) for k, v in code.options},
        }


def type_data(given: Type) -> dict[str, Any]:
    """Return a type as plain data."""
    return {
        "dtype": given.dtype,
        "shape": plain(given.shape),
        "axes": [
            {
                "size": plain(axis.size),
                "name": axis.name,
                "factors": plain(axis.factors),
                "reason": axis.reason.text if axis.reason else None,
            }
            for axis in given.axes
        ],
    }


def place(span: Span | None) -> str | None:
    """Return `file:line`."""
    return None if span is None else f"{span.source.name}:{span.line}"


def plain(value: Any) -> Any:
    """Return an argument as JSON can hold it: words with their arguments, symbolic sizes and layers as text."""
    if isinstance(value, tuple):
        return [plain(item) for item in cast("tuple[Any, ...]", value)]
    if isinstance(value, float) and value in (float("inf"), float("-inf")):
        return "inf" if value > 0 else "-inf"
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Dim):
        return str(value)
    if isinstance(value, Word):
        return _word(value)
    name = getattr(value, "name", None)
    return name if isinstance(value, Node) and isinstance(name, str) else str(value)


def _word(word: Word) -> dict[str, Any]:
    return {"name": word.name, "arguments": {name: plain(value) for name, value in word.arguments}}
