"""What can be wrong with a loss or a metric that is an expression, once its shapes are known.

In: an `Objective` with its typed graph, the network, the fields. Out: the first error, None if there is none.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnspec.compiler.experiment import Choice, Judged, Objective, Read
from nnspec.compiler.ir import Block, Call, Child, Graph, Primitive, Type, instances, walked
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.runtime import losses, metrics
from nnspec.compiler.runtime.data.field import Field
from nnspec.compiler.tensors import tracked_keys
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.experiments import LossMismatch, MetricMismatch
from nnspec.dsl.errors.objectives import LeftOverAxis, NotALossValue, NothingLearns, OwnsWeights
from nnspec.dsl.source import Span

# ------------------------------------------------------------------------------------------- what is wrong


def loss_error(objective: Objective, network: Graph, fields: Mapping[str, Field]) -> Error | None:
    """Return what is wrong with a typed objective that gives one number a sample."""
    root = objective.settled.root
    kind = dict(root.types)[root.outputs[0].value]
    if kind.axes:
        return LeftOverAxis(objective.span, found=str(kind), axes=_axes_text(kind))
    if kind.dtype != "real":
        return NotALossValue(objective.span, found=str(kind), help=None)
    return _owning(objective) or _labels(objective, fields)


def learning_error(objective: Objective, network: Graph) -> Error | None:
    """Return the error of a loss that no weight has a part in."""
    learned = _learned_values(network.root)
    tracked = tracked_keys(network)
    reads = [read for read in objective.reads if read.kind != "field" and read.of not in tracked]
    if any(read.kind == "weight" or read.of in learned for read in reads):
        return None
    return NothingLearns(objective.span, network=network.name)


def metric_error(objective: Objective, fields: Mapping[str, Field]) -> Error | None:
    """Return what is wrong with a metric laid on two values."""
    assert objective.metric is not None
    root = objective.settled.root
    types = dict(root.types)
    output, wanted = (types[port.value] for port in root.outputs)
    if not all(isinstance(size, int) for size in (*output.shape, *wanted.shape)):
        return None
    field = _field_behind(objective, root.outputs[1].value, fields)
    shape = tuple(int(str(size)) for size in wanted.shape)
    field = field or Field(name=root.outputs[1].value, shape=shape, dtype=wanted.dtype, target=True)
    misfit = metrics.accepts(objective.metric, output, field)
    if misfit is None:
        return _owning(objective)
    first = root.outputs[0].value
    facts: dict[str, Any] = {
        "why": misfit.why,
        "expected": misfit.expected,
        "found": misfit.found,
        "help": misfit.help,
    }
    return MetricMismatch(objective.span, output=first, field=field.name, **facts)


def _owning(objective: Objective) -> Error | None:
    for located in instances(objective.settled.root):
        rule = operation(located.primitive.operation)
        if rule.owns or rule.keeps or rule.tracks:
            return OwnsWeights(located.primitive.span or objective.span, name=located.path)
    return None


def _labels(objective: Objective, fields: Mapping[str, Field]) -> Error | None:
    """Labels of so many classes need so many scores: what types do not say, fields do."""
    root = objective.settled.root
    types = dict(root.types)
    for statement in root.plain:
        if isinstance(statement, Call) or not losses.known(statement.operation.operation):
            continue
        field = _field_behind(objective, statement.inputs[1], fields)
        output = types[statement.inputs[0]]
        if field is None or not all(isinstance(size, int) for size in output.shape):
            continue
        primitive = statement.operation
        choice = Choice(family="loss", name=primitive.operation, arguments=primitive.arguments)
        misfit = losses.accepts(choice, output, field)
        if misfit is not None:
            facts: dict[str, Any] = {"why": misfit.why, "expected": misfit.expected, "found": misfit.found}
            return LossMismatch(
                statement.operation.span or objective.span,
                output=statement.inputs[0],
                field=field.name,
                help=misfit.help,
                **facts,
            )
    return None


def _field_behind(objective: Objective, value: str, fields: Mapping[str, Field]) -> Field | None:
    """Return the field that enters at a value of the objective's body, if it is one as it stands."""
    for port, read in zip(objective.settled.root.inputs, objective.reads, strict=True):
        if port.value == value and read.kind == "field" and not read.whole:
            return fields.get(read.of)
    return None


def midpoint(loss: Judged | None, metric: Judged) -> float:
    """Return where a single output stands halfway between the labels 0 and 1, under a loss."""
    if loss is None:
        return 0.5
    if isinstance(loss, Choice):
        return losses.midpoint(loss)
    found = [
        losses.midpoint(Choice(family="loss", name=statement.operation.operation))
        for statement in (() if loss.graph is None else loss.graph.root.plain)
        if not isinstance(statement, Call)
        and losses.known(statement.operation.operation)
        and (isinstance(metric, Choice) or _first_read(loss, statement.inputs[0]) == _first_of(metric))
    ]
    return found[0] if found else 0.5


def _first_of(metric: Objective) -> Read | None:
    return None if metric.graph is None else _first_read(metric, metric.graph.root.outputs[0].value)


def _first_read(objective: Objective, value: str) -> Read | None:
    pairs = zip(objective.settled.root.inputs, objective.reads, strict=True)
    return next((read for port, read in pairs if port.value == value), None)


def _axes_text(kind: Type) -> str:
    named = [f"`{axis.name}`" if axis.name else str(axis.size) for axis in kind.axes]
    return f"an axis of {named[0]}" if len(named) == 1 else f"axes of {', '.join(named[:-1])} and {named[-1]}"


def related_places(*places: tuple[Span | None, str]) -> tuple[Related, ...]:
    return tuple(Related(span=span, label=label) for span, label in places if span is not None)


def _learned_values(root: Block) -> set[str]:
    """Return the values of a body that depend on something learned."""
    learners = {child.name for child in root.children if _learns(child)}
    found: set[str] = set()
    for statement in root.body:
        own = any(isinstance(step, Call) and step.child in learners for step in walked((statement,)))
        if own or found & set(statement.inputs):
            found |= set(statement.outputs)
    return found


def _learns(child: Child) -> bool:
    made = (
        primitive
        for instance in child.instances
        for primitive in (
            [instance] if isinstance(instance, Primitive) else [p.primitive for p in instances(instance)]
        )
    )
    return any(
        weight.tie is not None or any(tensor.kind == "learned" for tensor in weight.stored)
        for primitive in made
        for weight in primitive.weights
    )
