"""Losses and metrics as functions of what a forward returned: words on the one output, or expressions.

In: an experiment. Out: `Sources` (what the forward must return and which fields a batch carries), and functions
(values, batch, weights) -> tensors, for one network or, under vmap, for many. `values` is what the forward of
`Sources.graph` returned; `weights` is the network's state by name, of which most losses read nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from nnspec.compiler.experiment import Choice, Experiment, Judged, Objective, Read, objectives_in
from nnspec.compiler.ir import Graph, Port, instances, weight_path
from nnspec.compiler.runtime import losses
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.plan import Batch

    Values: TypeAlias = Tensor | tuple[Tensor, ...]
    State: TypeAlias = Mapping[str, Tensor]
    Judge: TypeAlias = Callable[[Values, Batch, State], Any]
    Reader: TypeAlias = Callable[[Values, Batch, State], Tensor]


class Sources(Node):
    """Where objectives find what they read: a graph that returns it, and the fields of a batch."""

    graph: Graph  # the network, perhaps with more outputs
    values: tuple[str, ...]  # of its body, in the order of its outputs
    inputs: tuple[str, ...]  # values that are inputs
    fields: tuple[str, ...]  # of the data, in the order in which a batch carries them


def sources(experiment: Experiment) -> Sources:
    """Return the sources for all that an experiment aims at and is judged by."""
    root = experiment.graph.root
    reads = [read for objective in objectives_in(experiment) for read in objective.reads]
    inputs = tuple(port.value for port in root.inputs)
    own = tuple(port.value for port in root.outputs)
    more = dict.fromkeys(read.of for read in reads if read.kind == "value")
    extra = tuple(value for value in more if value not in own and value not in inputs)
    ports = tuple(Port(name=value, value=value) for value in extra)
    graph = experiment.graph
    if ports:
        graph = graph.replace(root=root.replace(outputs=(*root.outputs, *ports)))
    fields = tuple(dict.fromkeys(read.of for read in reads if read.kind == "field"))
    return Sources(graph=graph, values=(*own, *extra), inputs=inputs, fields=fields)


def per_sample(loss: Judged, sources: Sources) -> Judge:
    """Return the loss of each sample, (batch,)."""
    if isinstance(loss, Objective):
        compute = _computed(loss, sources)

        def judged(values: Values, batch: Batch, weights: State) -> Tensor:
            found: Tensor = compute(values, batch, weights)
            return found if found.dim() else found.expand(batch.rows)

        return judged
    function = losses.build(loss)
    return lambda values, batch, weights: function(_first(values), batch.target)


def mean(loss: Judged, sources: Sources) -> Judge:
    """Return the mean of the losses of a batch: of a word in one fused call, where torch has one."""
    if isinstance(loss, Objective):
        compute = _computed(loss, sources)
        return lambda values, batch, weights: compute(values, batch, weights).mean()
    function = losses.mean(loss)
    return lambda values, batch, weights: function(_first(values), batch.target)


def compared(metric: Judged, sources: Sources) -> Judge:
    """Return the two values that a metric compares, or the numbers that it averages, twice."""
    if isinstance(metric, Choice):
        return lambda values, batch, weights: (_first(values), batch.target)
    if metric.metric is not None:
        return _over_rows(_computed(metric, sources), metric)
    numbers = per_sample(metric, sources)
    return lambda values, batch, weights: (numbers(values, batch, weights),) * 2


def _over_rows(compute: Judge, metric: Objective) -> Judge:
    """Repeat what is the same for every sample."""
    root = metric.settled.root
    types = dict(root.types)
    own = [types[port.value].batched for port in root.outputs]
    if all(own):
        return compute

    def judged(values: Values, batch: Batch, weights: State) -> Any:
        found = compute(values, batch, weights)
        return tuple(
            value if batched else value.expand(batch.rows, *value.shape)
            for value, batched in zip(found, own, strict=True)
        )

    return judged


def _first(values: Values) -> Tensor:
    return values[0] if isinstance(values, tuple) else values


# ----------------------------------------------------------------------------------------------- expressions


def _computed(objective: Objective, sources: Sources) -> Judge:
    """Return an objective's function, as it was emitted, laid on what it reads."""
    from nnspec.compiler.emit.load import function

    graph = objective.settled
    forward = function(graph)
    readers = [_reader(read, sources) for read in objective.reads]

    def compute(values: Values, batch: Batch, weights: State) -> Any:
        return forward({}, *[read(values, batch, weights) for read in readers])

    return compute


def _reader(read: Read, sources: Sources) -> Reader:
    """Return how to find one thing that is read; the batch is its first axis, but for a weight."""
    if read.kind == "row":
        return _row
    if read.kind == "weight":
        effective = _weight(read.of, sources.graph)
        return lambda values, batch, weights: effective(weights)
    if read.kind == "field":
        at = sources.fields.index(read.of)
        return lambda values, batch, weights: batch.fields[at]
    if read.of in sources.inputs:
        at = sources.inputs.index(read.of)
        return lambda values, batch, weights: batch.inputs[at]
    at = sources.values.index(read.of)
    if len(sources.values) == 1:
        return lambda values, batch, weights: cast("Tensor", values)
    return lambda values, batch, weights: values[at]


def _row(values: Values, batch: Batch, weights: State) -> Tensor:
    import torch

    return torch.arange(batch.rows, device=batch.target.device)


def _weight(path: str, graph: Graph) -> Callable[[State], Tensor]:
    """Return how to compute an effective weight from a network's state."""
    from nnspec.compiler.emit.load import weight_function

    owner, weight = next(
        (found.path, weight)
        for found in instances(graph.root)
        for weight in found.primitive.weights
        if weight_path(found.path, weight.name) == path
    )
    if weight.tie is not None:
        before, _, _ = owner.rpartition(".")
        other = _weight(f"{before}.{weight.tie.child}.{weight.tie.weight}".lstrip("."), graph)
        turned = weight.tie.transpose
        return lambda state: other(state).t() if turned else other(state)
    return weight_function(weight, owner)
