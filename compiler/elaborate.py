"""The elaborate stage: definitions and parameter values -> graph.

A definition with the same arguments is elaborated once, and its block shared by all its uses. Shapes are
not known yet; `type_graph` finds them. Constraints are laid on the finished block of the body in which
they stand.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from nnspec.compiler.activations import activation_block
from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.callables import Callables
from nnspec.compiler.constraints.registry import laid_constraints
from nnspec.compiler.evaluate import Evaluator
from nnspec.compiler.evaluate_owned import initializer
from nnspec.compiler.ir import Block, Call, Graph
from nnspec.compiler.parameters import bind_parameters
from nnspec.compiler.selectors import initialize, lay
from nnspec.compiler.values import (
    UNKNOWN,
    Anonymous,
    Given,
    Layer,
    Refused,
    TrainedPart,
    Value,
    describe,
    entries,
)
from nnspec.dsl.definitions import Constant, Definition, Definitions, Module
from nnspec.dsl.diagnostics import Bag, Error, Related
from nnspec.dsl.errors.limits import GraphTooLarge, NestingTooDeep
from nnspec.dsl.errors.names import (
    NeverUsed,
    NotALayer,
    NotAValue,
    RecursiveDefinition,
    RecursiveLet,
)
from nnspec.dsl.errors.training import TrainedCycle, WrongPart
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import (
    ActivationDefinition,
    Connect,
    Constrain,
    Expression,
    Initialize,
    Lambda,
    LayerDefinition,
    Let,
    NetworkDefinition,
    Statement,
)

_MOST_OPERATIONS = 1_000_000
_DEEPEST = 60


def elaborate(
    definitions: Definitions,
    definition: Definition,
    parameters: Mapping[str, Any],
    bag: Bag,
    lets: dict[int, Any] | None = None,
) -> Graph | None:
    """Return the untyped graph of a network with these parameter values; None after an error.

    `lets` are the values that `evaluate_lets` found.
    """
    elaborator = Elaborator(definitions, bag, lets)
    given = tuple(Given(name=k, value=v, expression=None, span=None) for k, v in parameters.items())
    try:
        block = elaborator.instantiate(definition, given, definition.name, definition.span)
    except Refused as refused:
        if refused.error is not None:
            elaborator.report(refused.error)
        return None
    if elaborator.failed:
        return None
    item = definition.item
    return Graph(
        name=definition.name,
        root=block,
        parameters=block.arguments,
        doc=item.doc,
        source=definition.module.source,
    )


def evaluate_lets(definitions: Definitions, bag: Bag) -> dict[int, Any]:
    """Evaluate every `let` of a file, used or not, so that its mistakes are found, each once."""
    elaborator = Elaborator(definitions, bag)
    module = definitions.module
    for item in module.file.items:
        found = module.names.get(item.name) if isinstance(item, Let) else None
        if isinstance(found, Constant) and found.span is item.span:
            try:
                elaborator.constant(module, found)
            except Refused as refused:
                if refused.error is not None:
                    elaborator.report(refused.error)
    return elaborator.lets


class Elaborator:
    """Makes blocks of definitions, each once for each list of arguments."""

    def __init__(self, definitions: Definitions, bag: Bag, lets: dict[int, Any] | None = None) -> None:
        self.definitions = definitions
        self.catalog = definitions.catalog
        self.bag = bag
        self.callables = Callables(self)
        self.failed = False
        self._blocks: dict[Any, Block | None] = {}
        self._anonymous: dict[tuple[int, int], tuple[Anonymous, Block]] = {}
        self.lets: dict[int, Any] = dict(lets or {})
        self._open_lets: list[Constant] = []
        self._open: list[tuple[Definition, Span | None]] = []
        self._sizes: dict[int, int] = {}
        self.trained: dict[int, Block] = {}  # networks of experiments whose parts are used, by definition

    def report(self, error: Error) -> None:
        """Add an error, with the uses of definitions that led to it."""
        self.failed = True
        uses = [
            Related(span=span, label=f"in this use of `{d.name}`")
            for d, span in reversed(self._open[1:])
            if span is not None and span is not error.span
        ]
        error.related = (*error.related, *uses)
        self.bag.add(error)

    def evaluator(self, builder: BlockBuilder) -> Evaluator:
        """Return the evaluator of a body."""
        return Evaluator(self, builder)

    # ----------------------------------------------------------------------------------------- definitions

    def instantiate(
        self, definition: Definition, given: tuple[Given, ...], name: str, span: Span | None
    ) -> Block:
        """Return the block of a layer or network with these arguments."""
        with self.entered(definition, span):
            arguments = bind_parameters(self, definition, given, span)
            key = _key(definition, arguments)
            if key not in self._blocks:
                self._blocks[key] = self.block(definition, arguments)
            block = self._blocks[key]
        if block is None:
            raise Refused
        return block

    @contextmanager
    def entered(self, definition: Definition, span: Span | None) -> Generator[None]:
        """Stand inside a definition, which then cannot be entered again."""
        if definition.broken:
            raise Refused
        self.check_depth(definition, span)
        self._open.append((definition, span))
        try:
            yield
        finally:
            self._open.pop()

    def check_depth(self, definition: Definition, span: Span | None) -> None:
        names = [d for d, _ in self._open]
        if definition in names:
            circle = names[names.index(definition) :]
            for member in circle:
                member.broken = True  # one circle, one message
            cycle = " -> ".join(d.name for d in [*circle, definition])
            trained = any(member.kind == "experiment" for member in circle)
            error = TrainedCycle if trained else RecursiveDefinition
            raise Refused(error(span, name=definition.name, cycle=cycle))
        if len(names) >= _DEEPEST:
            for member in names:
                member.broken = True
            raise Refused(NestingTooDeep(span, limit=_DEEPEST))

    def block(self, definition: Definition, arguments: dict[str, Any]) -> Block | None:
        item = definition.item
        if isinstance(item, NetworkDefinition) and item.base is not None:
            return self.derived(definition, item, item.base, arguments)
        if isinstance(item, ActivationDefinition):
            return self.activation(definition, item, arguments)
        if not isinstance(item, LayerDefinition | NetworkDefinition):
            raise Refused
        builder = BlockBuilder(
            item.name, definition.module, dict(arguments), _value_names(item.body), is_body=True
        )
        before, self.failed = self.failed, False
        self.evaluator(builder).statements(item.body)
        self.check_shared(builder)
        self.check_system(builder)
        shown = tuple((k, v) for k, v in arguments.items() if not isinstance(v, Layer))
        block = builder.finish(doc=item.doc, arguments=shown, span=definition.span)
        if not self.failed:
            block = self.constrained(block, item.body, builder)
            self.measure(block, definition.span)
        broken, self.failed = self.failed, self.failed or before
        return None if broken else block

    def activation(
        self, definition: Definition, item: ActivationDefinition, arguments: dict[str, Any]
    ) -> Block | None:
        try:
            return activation_block(self, definition, item, arguments)
        except Refused as refused:  # said once, however often it is used
            self.failed = True
            if refused.error is not None:
                self.report(refused.error)
            return None

    def check_shared(self, builder: BlockBuilder) -> None:
        called = {statement.child for statement, _, _ in builder.body if isinstance(statement, Call)}
        for child in builder.children:
            if child.shared and child.name not in called and not self.failed:
                self.report(NeverUsed(child.span, name=child.name))

    def check_system(self, builder: BlockBuilder) -> None:
        """States of a body are settled by a line of it."""
        try:
            if builder.system is not None:
                builder.system.check()
        except Refused as refused:
            if refused.error is not None:
                self.report(refused.error)

    def derived(
        self, definition: Definition, item: NetworkDefinition, base: Expression, arguments: dict[str, Any]
    ) -> Block | None:
        """`network b = a(width = 512) { constrain ... }`: the same block, more said about it."""
        builder = BlockBuilder(item.name, definition.module, dict(arguments), frozenset())
        layer = self.evaluator(builder).expression(base)
        if isinstance(layer, Layer) and isinstance(layer.target, TrainedPart):
            why = f"`{item.name}` derives from a network, and a trained one is a layer"
            help_text = "give it a body, `x -> trained(E)`; or go on in an experiment, `network = trained(E)`"
            raise Refused(WrongPart(base.span, why=why, label="no network's name", help=help_text))
        if not isinstance(layer, Layer) or not isinstance(layer.target, Definition):
            raise Refused(NotALayer(base.span, name=item.name, found=describe(layer)))
        block = self.callables.block(layer, 1, base.span)
        shown = block.arguments + tuple(arguments.items())
        doc = item.doc or block.doc
        block = block.replace(name=item.name, doc=doc, arguments=shown, span=definition.span)
        before, self.failed = self.failed, False
        block = self.constrained(block, item.body, builder)
        broken, self.failed = self.failed, self.failed or before
        return None if broken else block

    def constrained(self, block: Block, body: tuple[Statement, ...], builder: BlockBuilder) -> Block:
        """Lay the lines that speak of the weights of a finished block: constraints, and how they begin."""
        evaluator = self.evaluator(builder)
        for statement in body:
            try:
                if isinstance(statement, Constrain):
                    laid = laid_constraints(self, evaluator, statement.constraint)
                    block = lay(block, statement.selector, laid, evaluator)
                elif isinstance(statement, Initialize):
                    init = initializer(evaluator, statement.value)
                    block = initialize(block, statement.selector, init, evaluator)
            except Refused as refused:
                self.failed = True
                if refused.error is not None:
                    self.report(refused.error)
        return block

    def measure(self, block: Block, span: Span | None) -> None:
        """Keep the number of operations, after all repeats are unfolded, within the limit."""
        total = len(block.body)
        for child in block.children:
            total += sum(self._sizes.get(id(instance), 1) for instance in child.instances)
        self._sizes[id(block)] = total
        if total > _MOST_OPERATIONS:
            error = GraphTooLarge(span, found=f"{total:,}", what="instances", limit=f"{_MOST_OPERATIONS:,}")
            raise Refused(error)

    # ----------------------------------------------------------------------------------- anonymous bodies

    def anonymous_block(self, target: Anonymous, inputs: int, name: str, span: Span | None) -> Block:
        """Return the block of a chain of steps or of an anonymous function."""
        key = (id(target), inputs)
        if key not in self._anonymous:
            self._anonymous[key] = (target, self.make_anonymous(target, inputs, name, span))
        return self._anonymous[key][1]

    def make_anonymous(self, target: Anonymous, inputs: int, name: str, span: Span | None) -> Block:
        builder = BlockBuilder(name, target.module, dict(target.scope), frozenset(), is_body=True)
        evaluator = self.evaluator(builder)
        body = target.body
        names = body.parameters if isinstance(body, Lambda) else _input_names(inputs)
        values = tuple(builder.input(n, None, span) for n in names)
        if isinstance(body, Lambda):
            self.callables.count("an anonymous function", len(names), inputs, span)
            builder.scope.update(zip(names, values, strict=True))
            result = evaluator.expression(body.body)
        else:
            result = evaluator.chains.steps(body, values[0] if inputs == 1 else values)
        outputs = entries(result) or (result,)
        for index, value in enumerate(outputs):
            if not isinstance(value, Value):
                raise Refused(
                    NotAValue(
                        body.body.span if isinstance(body, Lambda) else span, name=name, found=describe(value)
                    )
                )
            port = "output" if len(outputs) == 1 else f"output_{index + 1}"
            builder.outputs.append((port, value, None, None))
        block = builder.finish(inline=True, span=span)
        self.measure(block, span)
        return block

    # ------------------------------------------------------------------------------------------------ lets

    def constant(self, module: Module, constant: Constant) -> Any:
        """Return the value of a `let`."""
        key = id(constant)
        if key not in self.lets:
            if constant in self._open_lets:
                names = [let.name for let in self._open_lets[self._open_lets.index(constant) :]] + [
                    constant.name
                ]
                raise Refused(RecursiveLet(constant.span, name=constant.name, cycle=" -> ".join(names)))
            self._open_lets.append(constant)
            try:
                builder = BlockBuilder(constant.name, module, {}, frozenset())
                self.lets[key] = self.evaluator(builder).expression(constant.value)
            except Refused as refused:
                self.lets[key] = UNKNOWN  # said once, however often it is used
                if refused.error is not None:
                    self.report(refused.error)
            finally:
                self._open_lets.pop()
        if self.lets[key] is UNKNOWN:
            raise Refused
        return self.lets[key]


def _key(definition: Definition, arguments: dict[str, Any]) -> Any:
    """Layers among the arguments are told apart by identity."""
    return (
        id(definition),
        tuple((k, type(v).__name__, id(v) if isinstance(v, Layer) else v) for k, v in arguments.items()),
    )


def _value_names(body: tuple[Statement, ...]) -> frozenset[str]:
    found: set[str] = set()
    for statement in body:
        found.update(getattr(statement, "names", ()))
        name = None if isinstance(statement, Connect) else getattr(statement, "name", None)
        if isinstance(name, str):
            found.add(name)
    return frozenset(found)


def _input_names(count: int) -> tuple[str, ...]:
    return ("x",) if count == 1 else tuple(f"x_{index + 1}" for index in range(count))
