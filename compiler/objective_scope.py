"""What a loss expression can see: values of the network, fields of the data, weights, `rows`, `row`, `all(v)`.

In: a typed network and the fields. Out: for each name what it reads, with its type; a binder that refuses other
names, and an evaluator that makes an input of the objective's block of each thing read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, cast

from nnspec.compiler.evaluate import Evaluator
from nnspec.compiler.experiment import Choice, Read, Source
from nnspec.compiler.ir import Axis, Graph, Primitive, Type, instances, weight_path
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.runtime.data.field import Field
from nnspec.compiler.values import Refused, Value
from nnspec.dsl.bind_expression import ExpressionBinder
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.dimensions import symbol
from nnspec.dsl.errors.objectives import AmbiguousInObjective, UnknownInObjective, WholeOfName
from nnspec.dsl.later import what_later
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import CallOf, Expression, Index, Member, Name, Number

_BATCH = "batch"  # the axis of `all(v)` that counts samples


class Visible(Node):
    """Something that a loss can read."""

    read: Read
    type: Type
    span: Span | None = None


class Scope:
    """The names that a loss over a network and data can read."""

    def __init__(
        self, graph: Graph, fields: tuple[Field, ...] | None, data: Choice, rows: int | None
    ) -> None:
        self.network = graph.name
        self.values = _values(graph)
        self.fields = {field.name: _field(field, data.span) for field in fields or ()}
        self.weights = _weights(graph)
        self.inputs = {port.name for port in graph.root.inputs}
        self.rows = rows
        self.complete = fields is not None
        self.tracked = tracked(graph)

    def find(self, name: str) -> Visible | None:
        """Return what a name reads; a value stands before a field."""
        found = self.values.get(name) or self.fields.get(name)
        if found is None and name == "row":
            return Visible(read=Read(kind="row"), type=Type(axes=(), dtype="int"))
        return found or self.tracked.get(name)

    def ambiguous(self, name: str) -> bool:
        return name in self.values and name in self.fields and name not in self.inputs

    def names(self) -> list[str]:
        return [*self.values, *(name for name in self.fields if name not in self.values)]


def names_in(tree: Any) -> Iterator[Name]:
    """Yield the names in an expression, in the order in which they stand."""
    if isinstance(tree, Name):
        yield tree
    elif isinstance(tree, Node):
        for field in tree.fields_:
            yield from names_in(getattr(tree, field))
    elif isinstance(tree, tuple):
        for item in cast(tuple[Any, ...], tree):
            yield from names_in(item)


class ScopeBinder(ExpressionBinder):
    """Refuses the names that nothing a loss can read has."""

    def __init__(self, scope: Scope, source: Source, bag: Bag, place: str) -> None:
        super().__init__(None, source.definitions.catalog, bag, source.module)
        self.visible = scope
        self.place = place
        self.scope = dict.fromkeys((*scope.names(), *scope.tracked, "row", "rows"), None)
        self.axis_names = {_BATCH}

    def name(self, expression: Name) -> None:
        if self.visible.ambiguous(expression.name):
            seen = self.visible.values[expression.name].span
            related = () if seen is None else (Related(span=seen, label="the value of the network"),)
            network = self.visible.network
            self.bag.add(
                AmbiguousInObjective(expression.span, related, name=expression.name, network=network)
            )
            return
        if self.knows(expression.name):
            super().name(expression)
        else:
            self.bag.add(self.unknown(expression.span, expression.name, self.visible.names()))

    def knows(self, name: str) -> bool:
        words = name in self.module.names or self.catalog.find("operation", name) or what_later(name)
        return name in self.scope or name in self.axis_names or bool(words)

    def member(self, expression: Member) -> None:
        path = path_of(expression)
        if path is None or path.partition(".")[0] in self.module.names:
            super().member(expression)
        elif path not in self.visible.weights:
            self.bag.add(self.unknown(expression.span, path, list(self.visible.weights)))

    def call(self, expression: CallOf) -> None:
        if not _is_all(expression):
            super().call(expression)
            return
        given = expression.arguments[0].value if len(expression.arguments) == 1 else None
        if not isinstance(given, Name) or expression.arguments[0].name is not None:
            self.bag.add(WholeOfName(expression.span))
        else:
            self.name(given)

    def unknown(self, span: Span | None, name: str, known: list[str]) -> UnknownInObjective:
        near = nearest(name, [*known, *self.visible.names()])
        shown = ", ".join(f"`{item}`" for item in known[:12])
        help_text = f"did you mean `{near}`?" if near else f"it can read {shown}"
        return UnknownInObjective(span, place=self.place, name=name, help=help_text)


class ScopeEvaluator(Evaluator):
    """Evaluates a loss; what it reads becomes the inputs of its block, in `reads` with their order."""

    def __init__(self, elaborator: Any, builder: Any, scope: Scope) -> None:
        super().__init__(elaborator, builder)
        self.visible = scope
        self.reads: list[Read] = []
        self._made: dict[Read, Value] = {}
        builder.dimensions.add(_BATCH)
        builder.scope[_BATCH] = symbol(_BATCH)
        if scope.rows is not None:
            builder.scope["rows"] = scope.rows

    def prepare(self, expression: Expression) -> None:
        """Make inputs of the names that an expression reads as they are, so that any part of it sees them."""
        whole = {id(name) for call in _calls_of_all(expression) for name in names_in(call)}
        functions = {id(call.function) for call in _calls(expression)}
        for name in names_in(expression):
            found = self.visible.find(name.name)
            if found is not None and id(name) not in whole | functions:
                self.builder.scope[name.name] = self.read(found, name.name)

    def read(self, found: Visible, name: str) -> Value:
        if found.read not in self._made:
            taken = {value.name for value in self._made.values()}
            own = next(n for n in _numbered(name) if n not in taken)
            self._made[found.read] = self.builder.input(own, found.type, found.span)
            self.reads.append(found.read)
        return self._made[found.read]

    def expression(self, expression: Expression) -> Any:
        path = path_of(expression) if isinstance(expression, Member) else None
        if path is not None and path in self.visible.weights:
            return self.read(self.visible.weights[path], path.replace(".", "_"))
        return super().expression(expression)

    def call(self, expression: CallOf) -> Any:
        if not _is_all(expression):
            # A value may bear the name of an operation (`mean`); where something is called, the operation is meant.
            layer = self.chains.callee(expression.function)
            arguments = tuple(self.given(argument) for argument in expression.arguments)
            return self.elaborator.callables.call(self.builder, layer, arguments, expression.span)
        given = expression.arguments[0].value
        found = self.visible.find(given.name) if isinstance(given, Name) else None
        if found is None or not isinstance(given, Name):
            raise Refused(WholeOfName(expression.span))
        batch = Axis(size=symbol(_BATCH), name=_BATCH)
        whole = found.replace(
            read=found.read.replace(whole=True),
            type=found.type.replace(axes=(batch, *found.type.axes), batched=False),
        )
        return self.read(whole, f"all_{given.name}")


def path_of(expression: Expression) -> str | None:
    """Return the path that `repeat[1].dense.weight` is, None for any other expression."""
    match expression:
        case Name(name=name):
            return name
        case Member(of=of, name=name):
            outer = path_of(of)
            return None if outer is None else f"{outer}.{name}"
        case Index(of=of, items=(item,)) if isinstance(item.value, Number) and item.name is None:
            outer = path_of(of)
            return None if outer is None else f"{outer}[{item.value.text}]"
        case _:
            return None


def _is_all(expression: CallOf) -> bool:
    return isinstance(expression.function, Name) and expression.function.name == "all"


def _calls(tree: Any) -> Iterator[CallOf]:
    if isinstance(tree, CallOf):
        yield tree
    if isinstance(tree, Node):
        for field in tree.fields_:
            yield from _calls(getattr(tree, field))
    elif isinstance(tree, tuple):
        for item in cast(tuple[Any, ...], tree):
            yield from _calls(item)


def _calls_of_all(tree: Any) -> list[CallOf]:
    return [call for call in _calls(tree) if _is_all(call)]


def _numbered(name: str) -> Iterator[str]:
    yield name
    yield from (f"{name}_{number}" for number in range(2, 1 << 20))


# --------------------------------------------------------------------------------------------- what there is


def _values(graph: Graph) -> dict[str, Visible]:
    root = graph.root
    types = dict(root.types)
    spans: dict[str, Span | None] = {
        value: statement.span for statement in root.body for value in statement.outputs
    }
    named = [(value, value, spans.get(value)) for value in root.named]
    ports = [(port.name, port.value, port.span) for port in (*root.inputs, *root.outputs)]
    return {
        name: Visible(read=Read(kind="value", of=value), type=types[value], span=span)
        for name, value, span in (*named, *ports)
        if value in types
    }


def tracked(graph: Graph) -> dict[str, Visible]:
    """Return how far training has come under its word, where the network's own body keeps it."""
    return {
        instance.operation: Visible(
            read=Read(kind="weight", of=child.name), type=Type(axes=(), batched=False), span=child.span
        )
        for child in graph.root.children
        for instance in child.instances[:1]
        if isinstance(instance, Primitive) and operation(instance.operation).tracks
    }


def _field(field: Field, span: Span | None) -> Visible:
    kind = Type(axes=tuple(Axis(size=size) for size in field.shape), dtype=field.dtype)
    return Visible(read=Read(kind="field", of=field.name), type=kind, span=span)


def _weights(graph: Graph) -> Mapping[str, Visible]:
    found: dict[str, Visible] = {}
    for located in instances(graph.root):
        for weight in located.primitive.weights:
            path = weight_path(located.path, weight.name)
            kind = Type(axes=tuple(Axis(size=size) for size in weight.shape), batched=False)
            found[path] = Visible(read=Read(kind="weight", of=path), type=kind, span=located.primitive.span)
    return found
