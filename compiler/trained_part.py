"""`trained(E).encoder` as a layer: an instance like that part of the network of another experiment.

In: the expression as written and the body it stands in. Out: a layer whose instance, with its constraints, is the
part's; what its weights begin as is marked on the child that calls make. Nothing is trained or read here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.constraints.tied import Tied
from nnspec.compiler.ir import Apply, Begin, Block, Child, Instance, Primitive
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Layer, Refused, TrainedPart, describe, source_text
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.errors.training import NoSuchPart, WrongPart, WrongStart
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import Expression, Index, Member

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator
    from nnspec.compiler.evaluate_expression import ExpressionEvaluator

_LISTED = 8  # names in a diagnostic


def trained_part(evaluator: ExpressionEvaluator, expression: Expression) -> Layer:
    """Return `trained(E)` or a part of it as a layer; Refused if there is no such experiment or part."""
    from nnspec.compiler.fit_start import parent_of

    steps: list[Member | Index] = []
    root = expression
    while isinstance(root, Member | Index):
        steps.insert(0, root)
        root = root.of
    definition = parent_of(root, evaluator.builder.module)
    assert definition is not None  # `trained_root` found it
    network = _network(evaluator.elaborator, definition, root.span)
    part = _Part(definition.name, network)
    for number, step in enumerate(steps):
        if isinstance(step, Member):
            indexed = number + 1 < len(steps) and isinstance(steps[number + 1], Index)
            part.member(step, indexed)
        else:
            part.index(step, _index(evaluator, step))
    instance = part.layer(expression.span)
    begins = Begin(experiment=definition.name, path=part.path, definition=definition, span=expression.span)
    name = part.child.name if part.child is not None else network.name
    return Layer(
        target=TrainedPart(instance=_alone(instance), begins=begins), name=name, span=expression.span
    )


def _network(elaborator: Elaborator, definition: Definition, span: Span) -> Block:
    """Return the network of an experiment with what the experiment says of its weights."""
    from nnspec.compiler.derivation import fields, lines
    from nnspec.compiler.fit_start import parent_of

    if id(definition) not in elaborator.trained:
        with elaborator.entered(definition, span):
            own = definition.module is elaborator.definitions.module
            found = fields(definition, Bag() if own else elaborator.bag)  # of the file's own `fit` says it
            if found is None:
                raise Refused
            if "network" not in found:
                why = f"`{definition.name}` names no network"
                raise Refused(WrongStart(span, why=why, label="no network", help="give it `network = NAME`"))
            field = found["network"]
            expression = field.field.value
            parent = parent_of(expression, field.module)
            if parent is not None:
                block = _network(elaborator, parent, expression.span)
            else:
                evaluator = elaborator.evaluator(BlockBuilder(definition.name, field.module, {}, frozenset()))
                layer = evaluator.expression(expression)
                target = layer.target if isinstance(layer, Layer) else None
                if not isinstance(target, Definition) or target.kind != "network":
                    raise Refused
                block = elaborator.callables.block(layer, 1, expression.span)
            for line in lines(definition):
                builder = BlockBuilder(definition.name, line.module, {}, frozenset())
                block = elaborator.constrained(block, (line.statement,), builder)
            elaborator.trained[id(definition)] = block
    return elaborator.trained[id(definition)]


class _Part:
    """A part of a network, and the way to it."""

    def __init__(self, experiment: str, network: Block) -> None:
        self.shown = f"trained({experiment})"
        self.path = ""
        self.instance: Instance = network
        self.parent: Block | None = None
        self.child: Child | None = None

    def member(self, step: Member, indexed: bool) -> None:
        """Go to a child by name; of a repeated one an index says which copy."""
        block, name = self.instance, step.name
        if not isinstance(block, Block):
            why = f"`{name}` is no instance: `{self.shown}` is a `{block.operation}`, which has no parts"
            help_text = f"the instance itself is a layer: `{self.shown}`"
            raise Refused(WrongPart(step.span, why=why, label="no layer", help=help_text))
        child = next((child for child in block.children if child.name == name), None)
        if child is None:
            raise Refused(self._missing(block, step))
        if child.repeated and not indexed:
            why = f"`{self.shown}.{name}` stands for {len(child.instances)} copies"
            help_text = f"choose one: `{self.shown}.{name}[0]`"
            raise Refused(WrongPart(step.span, why=why, label="needs an index", help=help_text))
        if child.follows is not None:  # like its leader, once all is said about that
            leader = block.child(child.follows.leader)
            child = child.replace(instances=leader.instances)
        self.parent, self.child, self.instance = block, child, child.instances[0]
        self.path = f"{self.path}.{name}".removeprefix(".")
        self.shown += f".{name}"

    def _missing(self, block: Block, step: Member) -> NoSuchPart | WrongPart:
        if any(isinstance(statement, Apply) and statement.name == step.name for statement in block.body):
            why = f"`{step.name}` is no instance: it is an operation without weights"
            return WrongPart(step.span, why=why, label="has no weights", help="use the operation itself")
        if step.name in block.named or any(port.name == step.name for port in block.inputs):
            why = f"`{step.name}` is no instance: it is a value of `{self.shown}`"
            return WrongPart(step.span, why=why, label="a value", help=self._listed(block))
        near = nearest(step.name, [child.name for child in block.children])
        help_text = f"did you mean `{near}`?" if near else self._listed(block)
        return NoSuchPart(step.span, name=step.name, of=self.shown, help=help_text)

    def _listed(self, block: Block) -> str:
        names = [f"`{child.name}`" for child in block.children]
        more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
        return f"it has {', '.join(names[:_LISTED])}{more}" if names else "it has no parts with weights"

    def index(self, step: Index, index: object) -> None:
        """Go to one copy of a repeated child."""
        child = self.child
        if child is None or not child.repeated:
            why = f"`{self.shown}` is one instance"
            raise Refused(WrongPart(step.span, why=why, label="not repeated", help="leave the index out"))
        last = len(child.instances) - 1
        if not isinstance(index, int) or isinstance(index, bool) or not 0 <= index <= last:
            why = f"`{self.shown}` has the copies 0 to {last}"
            label = f"found {describe(index)}"
            raise Refused(WrongPart(step.span, why=why, label=label, help="copies are counted from 0"))
        self.instance = child.instances[index]
        self.child = child.replace(repeated=False)
        self.path += f"[{index}]"
        self.shown += f"[{index}]"

    def layer(self, span: Span) -> Instance:
        """Return the instance if it is a layer by itself."""
        instance = self.instance
        if isinstance(instance, Block):
            return instance
        if operation(instance.operation).entry().inputs == (0, 0):
            why = f"`{self.shown}` is a stored tensor, which is applied to nothing"
            help_text = "use the layer that it belongs to"
            raise Refused(WrongPart(span, why=why, label="no layer", help=help_text))
        tie = next((c for c in instance.constraints if isinstance(c.rule, Tied)), None)
        if tie is not None:
            why = f"the weight of `{self.shown}` is stored in `{dict(tie.options)['child']}` beside it"
            help_text = "use the part that holds both"
            raise Refused(WrongPart(span, why=why, label="tied to another instance", help=help_text))
        return instance


def _index(evaluator: ExpressionEvaluator, step: Index) -> object:
    if len(step.items) != 1 or step.items[0].name is not None:
        why = f"`{source_text(step)}` is no path"
        raise Refused(WrongPart(step.span, why=why, label="not one index", help="write `[2]`"))
    return evaluator.expression(step.items[0].value)


def _alone(instance: Instance) -> Instance:
    """Return an instance in which nothing begins elsewhere: all of it begins as the part that it is of."""
    if isinstance(instance, Primitive):
        return instance
    children: list[Child] = []
    for child in instance.children:
        made = tuple(_alone(own) for own in child.instances)
        same = all(one is other for one, other in zip(made, child.instances, strict=True))
        children.append(
            child if same and child.begins is None else child.replace(instances=made, begins=None)
        )
    same = all(one is other for one, other in zip(children, instance.children, strict=True))
    return instance if same else instance.replace(children=tuple(children))
