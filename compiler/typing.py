"""The type stage: elaborated graph -> graph with the type of every value and the tensors of every instance.

Shapes flow forward from the inputs, by the operations' own rules. A block is typed once for each list of
input types it is called with; equal calls share one object. A declared type binds its symbolic dimensions
to the sizes of the call. A value whose type could not be found is None and is silent ever after: one
cause, one message. Every error inside a block also shows the uses that led there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from nnspec.compiler.declared import Bindings, leading_help, shape_text, with_names
from nnspec.compiler.following import with_followers
from nnspec.compiler.ir import (
    Apply,
    Ascription,
    Block,
    Call,
    Child,
    Graph,
    Instance,
    Loop,
    Port,
    Primitive,
    Pullback,
    Reason,
    Statement,
    Type,
    gathered,
)
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.traits.claims import wrong_claims
from nnspec.compiler.typing_effects import effects_fit, has_penalties
from nnspec.compiler.typing_loops import RepeatTyper
from nnspec.compiler.typing_primitives import PrimitiveTyper
from nnspec.compiler.typing_promises import promises_hold
from nnspec.compiler.typing_weights import names_free
from nnspec.compiler.values import resolve
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.dimensions import Size, substitute
from nnspec.dsl.errors.owned import LentTooEarly, MixedBatch, NoSuchWeight, OutputWithoutBatch, SharedPenalty
from nnspec.dsl.errors.shapes import (
    AscriptionMismatch,
    ShapeMismatch,
    SharedMismatch,
    WrongInputCount,
)
from nnspec.dsl.source import Span

Types: TypeAlias = "tuple[Type, ...] | None"


def type_graph(
    graph: Graph, bag: Bag, sizes: Mapping[str, Size] | None = None, constant: bool = False
) -> Graph | None:
    """Type a graph; None if anything is wrong. `sizes` gives numbers to symbolic input dimensions.

    Unless `constant`, an output that is the same for every sample is an error.
    """
    graph = with_followers(graph)
    typer = Typer(bag)
    inputs = tuple(_declared_input(port, sizes or {}) for port in graph.root.inputs)
    before = len(bag)
    root, outputs = typer.block(graph.root, inputs)
    if root is None or outputs is None or len(bag) > before:
        return None
    for port, given in zip(root.outputs, outputs, strict=True):
        if not given.batched and not constant:
            bag.add(OutputWithoutBatch(port.span, name=port.name, network=graph.name))
            return None
    return graph.replace(root=root)


def _declared_input(port: Port, sizes: Mapping[str, Size]) -> Type:
    declared = port.declared or Type(axes=())
    reason = Reason(span=port.span, text=f"declared by `{port.name}`")
    axes = tuple(axis.replace(size=substitute(axis.size, sizes), reason=reason) for axis in declared.axes)
    return declared.replace(axes=axes)


class Typer:
    def __init__(self, bag: Bag) -> None:
        self.bag = bag
        self.known: dict[tuple[Any, ...], tuple[Block | None, Types]] = {}
        self.kept: list[Block] = []  # keeps `id` of the keys of `known` alive
        self.uses: list[tuple[str, Span | None]] = []
        self.claimed: set[int] = set()  # activations whose claims were tested, by the `id` of kept blocks

    def block(
        self, block: Block, inputs: tuple[Type, ...], outer: Mapping[str, Size] | None = None
    ) -> tuple[Block | None, Types]:
        sizes = dict(outer or {}) if block.inline else {}
        key = (id(block), inputs, *sorted(sizes.items()))
        if key not in self.known:
            self.kept.append(block)
            self.known[key] = _BlockTyper(self, block, sizes).run(inputs)
        return self.known[key]

    def related(self, *types: Type) -> tuple[Related, ...]:
        """Return the uses that led here, innermost first, and where the sizes of these types came from."""
        found = [Related(span=span, label=f"in this use of `{name}`") for name, span in self.uses if span]
        places = {id(r.span): r for r in (a.reason for t in types for a in t.axes) if r and r.span}
        reasons = [Related(span=r.span, label=r.text) for r in places.values() if r.span]
        return tuple(reasons[:3] + found[::-1])


class _BlockTyper:
    """Types one block for one list of input types."""

    def __init__(self, typer: Typer, block: Block, sizes: dict[str, Size]) -> None:
        self.typer = typer
        self.source = block
        self.declared_children = {child.name: child for child in block.children}
        self.bindings = Bindings(sizes)
        self.sizes = self.bindings.sizes
        self.primitives = PrimitiveTyper(typer, self.sizes)
        self.types: dict[str, Type | None] = {}
        self.children: dict[str, Child] = {}
        self.failed = False
        self.repeats = RepeatTyper(typer, self.types, self.statement, self.bindings)

    def run(self, inputs: tuple[Type, ...]) -> tuple[Block | None, Types]:
        if not self.bind_inputs(inputs):
            return None, None
        ascribed = {item.value: item for item in self.source.ascriptions}
        for value in [port.value for port in self.source.inputs]:
            self.check_ascription(ascribed.get(value))
        for statement in self.source.body:
            self.statement(statement)
            for value in statement.outputs:
                self.check_ascription(ascribed.get(value))
        self.check_outputs()
        self.failed |= not promises_hold(self.typer, self.source, self.types, self.children, self.sizes)
        self.failed |= not effects_fit(self.typer, self.source, self.types)
        self.failed |= not names_free(self.typer, self.children)
        return self.finish()

    # ---------------------------------------------------------------------------------------------- inputs

    def bind_inputs(self, inputs: tuple[Type, ...]) -> bool:
        ports = self.source.inputs
        for port, actual in zip(ports, inputs, strict=True):
            if port.declared is not None and not self.bindings.matches(port.declared, actual):
                self.input_mismatch(port, actual)
                return False
            self.types[port.value] = with_names(port.declared, actual)
        return True

    def input_mismatch(self, port: Port, actual: Type) -> None:
        use = self.typer.uses[-1] if self.typer.uses else (self.source.name, port.span)
        declared = port.declared or actual
        related = list(self.typer.related(actual))
        if port.span:
            related.insert(0, Related(span=port.span, label=f"`{port.name}` is declared here"))
        related = [item for item in related if item.span is not use[1]]
        self.typer.bag.add(
            ShapeMismatch(
                use[1],
                tuple(related),
                operation=self.source.name,
                problem=f"its input `{port.name}` does not fit",
                expected=self.bindings.describe(declared),
                found=str(actual),
                help=leading_help(declared, actual),
            )
        )

    # ------------------------------------------------------------------------------------------------ body

    def statement(self, statement: Statement) -> None:
        """Type a statement, and those inside it."""
        if isinstance(statement, Loop | Pullback):
            outputs = (
                self.repeats.loop(statement)
                if isinstance(statement, Loop)
                else self.repeats.pullback(statement)
            )
        else:
            outputs = self.apply(statement) if isinstance(statement, Apply) else self.call(statement)
        self.define(statement.outputs, outputs)

    def define(self, values: tuple[str, ...], types: Types) -> None:
        if types is None:
            self.failed = True
            self.types.update({value: None for value in values})
        else:
            self.types.update(zip(values, types, strict=True))

    def given(self, statement: Apply | Call) -> Types:
        found = [self.types[value] for value in statement.inputs]
        known = tuple(t for t in found if t is not None)
        return known if len(known) == len(found) else None

    def apply(self, statement: Apply) -> Types:
        inputs = self.given(statement)
        if inputs is None:
            return None
        typed = self.primitives.primitive(statement.operation, inputs, statement.span)
        return None if typed is None else typed.outputs

    def call(self, statement: Call) -> Types:
        inputs = self.given(statement)
        if inputs is None:
            return None
        child = self.declared_children[statement.child]
        made: list[Instance] = []
        chained = child.repeated and child.flow != "fork"
        types = self.settled_names(child, inputs, statement.span) if chained else inputs
        results: list[tuple[Type, ...]] = []
        for index, instance in enumerate(child.instances):
            place = f"{child.name}[{index}]" if child.repeated else child.name
            typed, found = self.instance(instance, types, statement.span, place)
            if typed is None or found is None:
                return None
            made.append(typed)
            results.append(found)
            types = found if chained else types
        kept = self.keep(child, tuple(made), statement.span)
        return gathered(child.flow, results) if kept else None

    def settled_names(self, child: Child, inputs: tuple[Type, ...], span: Span | None) -> tuple[Type, ...]:
        """Let the first copy of a repeat see the axis names that the others see: then all are one object."""
        _, outputs = self.instance(child.instances[0], inputs, span, f"{child.name}[0]")
        if outputs is None:
            return inputs
        axes = [
            (a, b) for s, t in zip(inputs, outputs, strict=True) for a, b in zip(s.axes, t.axes, strict=False)
        ]
        same = [t.shape for t in inputs] == [t.shape for t in outputs]
        return outputs if same and all(a.name in (None, b.name) for a, b in axes) else inputs

    def instance(
        self, instance: Instance, inputs: tuple[Type, ...], span: Span | None, place: str
    ) -> tuple[Instance | None, Types]:
        if isinstance(instance, Primitive):
            lent = self.lent(instance) if operation(instance.operation).borrows else instance
            if lent is None:
                return None, None
            typed = self.primitives.primitive(lent, inputs, span)
            return typed, None if typed is None else typed.outputs
        if len(inputs) != len(instance.inputs):
            self.count_mismatch(instance.name, len(instance.inputs), len(inputs), span)
            return None, None
        self.typer.uses.append((place, span))
        result = self.typer.block(instance, inputs, self.sizes)
        self.typer.uses.pop()
        return result

    def lent(self, primitive: Primitive) -> Primitive | None:
        """Give another instance's weight, as a value, the shape that it has there."""
        (laid,) = primitive.constraints
        options = dict(laid.options)
        child, name = self.children.get(options["child"]), options["weight"]
        if child is None:
            if not self.failed:
                path = f"{options['child']}.{name}"
                error = LentTooEarly(laid.span, self.typer.related(), name=path, instance=options["child"])
                self.typer.bag.add(error)
            return None
        owned = {w.name: w for i in child.instances if isinstance(i, Primitive) for w in i.weights}
        weight = owned.get(name)
        if weight is None:
            there = ", ".join(f"`{child.name}.{other}`" for other in owned)
            error = NoSuchWeight(
                laid.span, self.typer.related(), instance=child.name, name=name, help=f"there are {there}"
            )
            self.typer.bag.add(error)
            return None
        if weight.tie is not None:  # it is stored elsewhere, and comes from there
            own = {"child": weight.tie.child, "transpose": weight.tie.transpose, "weight": weight.tie.weight}
            laid = laid.replace(options=tuple(own.items()))
        given = {**primitive.options, "names": (None,) * len(weight.shape), "shape": weight.shape}
        return primitive.replace(arguments=tuple(given.items()), constraints=(laid,))

    def keep(self, child: Child, made: tuple[Instance, ...], span: Span | None) -> bool:
        """Remember the typed instances of a child; a second call must need the same tensors."""
        first = self.children.get(child.name)
        if first is None:
            self.children[child.name] = child.replace(instances=made)
            return True
        if any(has_penalties(instance) for instance in made):
            self.typer.bag.add(SharedPenalty(span, self.typer.related(), name=child.name))
            return False
        if not self.same_batch(child.name, first.instances[0], made[0], span):
            return False
        wanted, found = _tensor_text(first.instances), _tensor_text(made)
        if wanted != found:
            error = SharedMismatch(span, self.typer.related(), name=child.name, expected=wanted, found=found)
            self.typer.bag.add(error)
        return wanted == found

    def same_batch(self, name: str, first: Instance, second: Instance, span: Span | None) -> bool:
        """The body of a block is written once: for values with a batch axis, or for values without."""
        if isinstance(first, Primitive) or isinstance(second, Primitive):
            return True
        kinds = [
            tuple(dict(block.types)[port.value].batched for port in block.inputs) for block in (first, second)
        ]
        if kinds[0] != kinds[1]:
            expected, found = (_batch_text(kind) for kind in kinds)
            error = MixedBatch(span, self.typer.related(), name=name, expected=expected, found=found)
            self.typer.bag.add(error)
        return kinds[0] == kinds[1]

    def count_mismatch(self, name: str, expected: int, found: int, span: Span | None) -> None:
        wanted = f"{expected} input" + ("" if expected == 1 else "s")
        error = WrongInputCount(span, self.typer.related(), operation=name, expected=wanted, found=str(found))
        self.typer.bag.add(error)

    # -------------------------------------------------------------------------------------------- at the end

    def check_ascription(self, item: Ascription | None) -> None:
        actual = None if item is None else self.types.get(item.value)
        if item is None or actual is None:
            return
        if not self.bindings.matches(item.declared, actual):
            self.ascription_mismatch(item.value, item.declared, actual, item.span)
            self.types[item.value] = None
            self.failed = True
        else:
            self.types[item.value] = with_names(item.declared, actual)

    def check_outputs(self) -> None:
        for port in self.source.outputs:
            actual = self.types.get(port.value)
            if actual is None or port.declared is None:
                continue
            if not self.bindings.matches(port.declared, actual):
                self.ascription_mismatch(port.name, port.declared, actual, port.span)
                self.failed = True
            else:
                self.types[port.value] = with_names(port.declared, actual)

    def ascription_mismatch(self, name: str, declared: Type, actual: Type, span: Span | None) -> None:
        related = tuple(r for r in self.typer.related(actual) if r.span is not span)
        error = AscriptionMismatch(
            span, related, name=name, expected=self.bindings.describe(declared), found=str(actual)
        )
        self.typer.bag.add(error)

    def finish(self) -> tuple[Block | None, Types]:
        outputs = tuple(t for t in (self.types.get(p.value) for p in self.source.outputs) if t is not None)
        if self.failed or len(outputs) < len(self.source.outputs):
            return None, None
        types = tuple((name, t) for name, t in self.types.items() if t is not None)
        children = tuple(self.children[child.name] for child in self.source.children)
        body = tuple(self.resolve_statement(statement) for statement in self.source.body)
        typed = self.source.replace(children=children, types=types, body=body)
        if typed.claims and id(self.source) not in self.typer.claimed:
            self.typer.claimed.add(id(self.source))
            for error in wrong_claims(typed, self.typer.related()):
                self.typer.bag.add(error)
        return typed, outputs

    def resolve_statement(self, statement: Statement) -> Statement:
        if isinstance(statement, Call):
            return statement
        if isinstance(statement, Loop):
            return self.repeats.resolved(statement, self.resolve_statement)
        if isinstance(statement, Pullback):
            return statement.replace(through=tuple(self.resolve_statement(own) for own in statement.through))
        inputs, outputs = (
            tuple(t for t in (self.types[value] for value in values) if t is not None)
            for values in (statement.inputs, statement.outputs)
        )
        primitive = statement.operation
        arguments = tuple((name, resolve(value, self.sizes)) for name, value in primitive.arguments)
        return statement.replace(
            operation=primitive.replace(arguments=arguments, inputs=inputs, outputs=outputs)
        )


# ------------------------------------------------------------------------------------------------------ text


def _batch_text(kinds: tuple[bool, ...]) -> str:
    if all(kinds):
        return "values of each sample"
    return "a mixture of both" if any(kinds) else "parameters alone"


def _tensor_text(made: tuple[Instance, ...]) -> str:
    return "; ".join(sorted(_tensors(instance) for instance in {id(i): i for i in made}.values()))


def _tensors(instance: Instance) -> str:
    if isinstance(instance, Primitive):
        return ", ".join(f"{weight.name} {shape_text(weight.shape)}" for weight in instance.weights)
    return _tensor_text(tuple(i for child in instance.children for i in child.instances))
