"""Data against network: which field enters at which input, and whether loss and metrics fit.

In: a typed graph and the fields of a data set, known from its word or from the file once it is read.
Out: pairs of input and field, the numbers that symbolic input dimensions get, and errors. `feed` does
it all for data that have been read, and hands them out under the names of the network's inputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from nnspec.compiler.annealing import with_progress
from nnspec.compiler.experiment import Choice, Experiment, Judged
from nnspec.compiler.ir import Graph, Port, Type
from nnspec.compiler.objective_fit import settle_all
from nnspec.compiler.runtime import losses, metrics
from nnspec.compiler.runtime.component import Misfit
from nnspec.compiler.runtime.data import Field, Part, Splits, check_batch
from nnspec.dsl.diagnostics import Bag, Error, Related, RunError
from nnspec.dsl.dimensions import Size, bind
from nnspec.dsl.errors.experiments import InputMismatch, InputWithoutData, LossMismatch, MetricMismatch
from nnspec.dsl.errors.objectives import WhichOutput
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest


class Feeds(Node):
    """For each input of the network, in order, the field that enters there; sizes of its dimensions."""

    pairs: tuple[tuple[str, str], ...]
    sizes: dict[str, Size]


def meet(graph: Graph, fields: Sequence[Field], span: Span | None) -> tuple[Feeds, tuple[Error, ...]]:
    """Match fields to inputs: by name, or the one input with the one field beside the target."""
    pairs: list[tuple[str, str]] = []
    errors: list[Error] = []
    sizes: dict[str, Size] = {}
    for port in graph.root.inputs:
        field = _field(graph, port, fields)
        error = (
            _without_data(port, fields, span) if field is None else _misfit(graph, port, field, sizes, span)
        )
        if error is not None:
            errors.append(error)
        elif field is not None:
            pairs.append((port.name, field.name))
    return Feeds(pairs=tuple(pairs), sizes=sizes), tuple(errors)


def judge(
    graph: Graph, fields: Sequence[Field], loss: Judged | None, chosen: Sequence[Judged], span: Span | None
) -> tuple[Error, ...]:
    """Return what is wrong between the network's output, the target, and words laid on the two."""
    target = next(field for field in fields if field.target)
    loss = loss if isinstance(loss, Choice) else None
    chosen = [metric for metric in chosen if isinstance(metric, Choice)]
    if len(graph.root.outputs) != 1:
        words = chosen if loss is None else [loss, *chosen]
        return tuple(_which_output(word, graph, target) for word in words)
    port = graph.root.outputs[0]
    output = dict(graph.root.types)[port.value]
    if any(not isinstance(size, int) for size in output.shape):
        return ()
    found: list[Error] = []
    places = _places((port.span, f"the output is {output}"), (span, f"the target is {target}"))
    if loss is not None:
        misfit = losses.accepts(loss, output, target)
        if misfit is not None:
            found.append(LossMismatch(loss.span, places, **_facts(misfit, port, target)))
    for metric in chosen:
        misfit = metrics.accepts(metric, output, target)
        if misfit is not None:
            found.append(MetricMismatch(metric.span, places, **_facts(misfit, port, target)))
    return tuple(found)


def _which_output(word: Choice, graph: Graph, target: Field) -> Error:
    outputs = graph.root.outputs
    example = f"{word.name}({outputs[0].name}, {target.name})"
    related = _places(*((port.span, f"the output `{port.name}`") for port in outputs[:3]))
    return WhichOutput(
        word.span, related, name=word.name, network=graph.name, count=len(outputs), example=example
    )


def feed(experiment: Experiment, splits: Splits) -> tuple[Experiment, Splits]:
    """Return the experiment with its graph sized to the data, and the data by the network's input names.

    Raises RunError with the first thing that does not fit: of files, this is known only now.
    """
    span = experiment.data.span
    feeds, errors = meet(experiment.graph, splits.fields, span)
    graph = experiment.graph
    if not errors and feeds.sizes:
        graph = _sized(graph, feeds.sizes)
    errors = errors or judge(graph, splits.fields, experiment.loss, experiment.metrics, span)
    for group in experiment.groups:
        errors = errors or judge(graph, splits.fields, group.loss, (), span)
    if errors:
        raise RunError(errors[0])
    check_batch(splits, experiment.batch, experiment.span)
    experiment = _settled(experiment.replace(graph=graph), splits)
    return experiment, splits.replace(
        train=_fed(splits.train, feeds, graph, splits.dtype),
        validation=splits.validation and _fed(splits.validation, feeds, graph, splits.dtype),
        test=splits.test and _fed(splits.test, feeds, graph, splits.dtype),
    )


def _settled(experiment: Experiment, splits: Splits) -> Experiment:
    """Settle every loss and metric that is an expression, now that fields and rows are known."""
    bag = Bag()
    values = {name: getattr(experiment, name) for name in experiment.fields_ if name != "graph"}
    graph = with_progress(experiment.graph, values, (field.name for field in splits.fields))
    found = settle_all(values, graph, splits.fields, experiment.data, splits.train.rows, bag)
    for error in bag:
        raise RunError(error)
    return experiment.replace(graph=graph, **found)


def _sized(graph: Graph, sizes: dict[str, Size]) -> Graph:
    from nnspec.compiler.typing import type_graph

    bag = Bag()
    typed = type_graph(graph, bag, sizes)
    for error in bag:
        raise RunError(error)
    return graph if typed is None else typed


def _fed(part: Part, feeds: Feeds, graph: Graph, dtype: str) -> Part:
    """Return a part under the names of the inputs; whole numbers become real where an input is."""
    import torch

    inputs = {name: part.field(field) for name, field in feeds.pairs}
    for port in graph.root.inputs:
        if _type(graph, port).dtype == "real":
            inputs[port.name] = inputs[port.name].to(getattr(torch, dtype))
    return part.replace(inputs=inputs, fields={**part.inputs, part.target: part.targets})


# ----------------------------------------------------------------------------------------------- matching


def _field(graph: Graph, port: Port, fields: Sequence[Field]) -> Field | None:
    named = next((field for field in fields if field.name == port.name), None)
    beside = [field for field in fields if not field.target]
    if named is None and len(graph.root.inputs) == 1 and len(beside) == 1:
        return beside[0]
    return named


def _without_data(port: Port, fields: Sequence[Field], span: Span | None) -> Error:
    near = nearest(port.name, [field.name for field in fields])
    listed = ", ".join(f"`{field}`" for field in fields)
    help_text = f"call the input `{near}`" if near else "call each input as the field that enters there"
    related = _places((port.span, "the input"))
    return InputWithoutData(span, related, name=port.name, fields=listed, help=help_text)


def _misfit(
    graph: Graph, port: Port, field: Field, sizes: dict[str, Size], span: Span | None
) -> Error | None:
    """Bind the dimensions of an input to a field's sizes, or say why they do not fit."""
    declared = _type(graph, port)
    bound = dict(sizes)
    kinds = declared.dtype == field.dtype or (declared.dtype == "real" and field.dtype == "int")
    fits = len(declared.shape) == len(field.shape) and all(
        bind(size, actual, bound) for size, actual in zip(declared.shape, field.shape, strict=True)
    )
    if kinds and fits:
        sizes.update(bound)
        return None
    related = _places((port.span, f"the input is {declared}"))
    return InputMismatch(
        span,
        related,
        name=port.name,
        network=graph.name,
        field=field.name,
        expected=str(declared),
        found=field.type_text,
        help=_help(port, declared, field) if kinds else None,
    )


def _help(port: Port, declared: Type, field: Field) -> str:
    start = f"declare `input {port.name}: {field.type_text}`"
    wanted = [size for size in declared.shape if isinstance(size, int)]
    if len(wanted) < len(declared.shape) or math.prod(wanted) != math.prod(field.shape):
        return start
    if len(wanted) == 1:
        return f"{start} and begin with `{port.name} -> flatten`"
    return f"{start} and begin with `{port.name} -> reshape([{', '.join(map(str, wanted))}])`"


def _type(graph: Graph, port: Port) -> Type:
    return dict(graph.root.types).get(port.value) or port.declared or Type(axes=())


def _facts(misfit: Misfit, port: Port, target: Field) -> dict[str, str | None]:
    return {
        "why": misfit.why,
        "expected": misfit.expected,
        "found": misfit.found,
        "help": misfit.help,
        "output": port.name,
        "field": target.name,
    }


def _places(*places: tuple[Span | None, str]) -> tuple[Related, ...]:
    return tuple(Related(span=span, label=label) for span, label in places if span is not None)
