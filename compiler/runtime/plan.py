"""Everything that the trainings of one experiment share, worked out before the first of them.

In: a fitted experiment, the folder its data lie in, and perhaps another device than its own. Out: `Plan`:
the graph sized to the data, the data on the device, and how long to train. What cannot be trained as asked
is a RunError.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.experiment import Experiment, PartStart
from nnspec.compiler.feeding import feed
from nnspec.compiler.flat import flatten
from nnspec.compiler.following import followed_keys
from nnspec.compiler.ir import Graph
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.runtime import data, stops
from nnspec.compiler.runtime.carried import carried, still_removed
from nnspec.compiler.runtime.data import Field, Part
from nnspec.compiler.runtime.device import resolve
from nnspec.compiler.runtime.loads import loaded
from nnspec.compiler.runtime.objectives import Sources, sources
from nnspec.compiler.runtime.stages import Phase, phases
from nnspec.compiler.runtime.trials import Trial, trials
from nnspec.compiler.tensors import learned_keys, tensors
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import BatchOfOne, NothingToJudgeBy
from nnspec.dsl.errors.training import NothingToFit
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Batch(NamedTuple):
    """Rows to learn from, or all rows of a part: inputs in the network's order, and the target."""

    inputs: tuple[Tensor, ...]
    target: Tensor
    fields: tuple[Tensor, ...] = ()  # those that losses and metrics read by name
    true: Tensor | None = None  # targets before some were corrupted, if some were

    @property
    def rows(self) -> int:
        return int(self.target.shape[0])

    def take(self, index: Tensor) -> Batch:
        """Return the rows of a one-dimensional index."""
        return self.each(lambda values: values.index_select(0, index))

    def between(self, start: int, stop: int) -> Batch:
        """Return consecutive rows, as views."""
        return self.each(lambda values: values[start:stop])

    def each(self, function: Callable[[Tensor], Tensor]) -> Batch:
        """Return the batch with a function applied to each of its tensors."""
        fields = tuple(map(function, self.fields)) if self.fields else ()
        true = None if self.true is None else function(self.true)
        return Batch(tuple(map(function, self.inputs)), function(self.target), fields, true)


class Start(NamedTuple):
    """What a training begins with: the tensors of another, and which of their entries were pruned there.

    `paths` says which instance begins as which of the other network; None: each as that of its own path.
    """

    graph: Graph
    tensors: dict[str, Tensor]
    removed: dict[str, Tensor]
    paths: Mapping[str, str] | None = None


class Plan(Node):
    """What the trainings share. Parts are on the device; `dtype` is that of weights and real data."""

    experiment: Experiment
    identity: str  # of the data
    fields: tuple[Field, ...]
    device: torch.device
    dtype: torch.dtype
    make: Callable[[], nn.Module]
    sources: Sources  # where losses and metrics find what they read
    train: Batch
    validation: Batch | None
    test: Batch | None
    phases: tuple[Phase, ...]
    parent: Plan | None = None  # of the experiment whose weights it begins with
    borrowed: tuple[tuple[PartStart, Plan], ...] = ()  # instances that begin as parts of others' networks
    initial: Callable[[int], tuple[Start, ...]] | None = None  # by seed, from those trainings
    loaded: Mapping[str, Tensor] | None = None  # tensors from files
    loaded_hash: str | None = None

    @property
    def graph(self) -> Graph:
        return self.experiment.graph

    def endless(self) -> Plan:
        """Return the plan of a first phase that never ends, to measure its steps."""
        return self.replace(phases=(self.phases[0].replace(steps=1 << 40),))

    def begun(self, seed: int) -> nn.Module:
        """Return a new network, with the weights that come from elsewhere in it."""
        network = self.make()
        given: dict[str, Tensor] = {}
        for start in () if self.initial is None else self.initial(seed):
            given |= carried(start.graph, self.graph, start.tensors, start.paths)
        given |= self.loaded or {}
        if given:
            for own, leader, _ in followed_keys(self.graph.root):  # a follower begins equal
                if leader in given:
                    given.setdefault(own, given[leader])
            network.load_state_dict(network.state_dict() | given)
        return network

    def removed(self, seed: int, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the masks of what was pruned before this training, of the entries that are 0 in its state."""
        found: dict[str, Tensor] = {}
        for start in () if self.initial is None else self.initial(seed):
            found |= still_removed(self.graph, state, start.removed, start.paths)
        return {name: mask.to(self.device) for name, mask in found.items()}

    @property
    def trials(self) -> tuple[Trial, ...]:
        return trials(self.experiment)

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which forwards run: that of mixed precision, where it is asked for."""
        import torch

        if self.experiment.precision == "bfloat16":
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return nullcontext()

    @property
    def epochs(self) -> int:
        """Epochs of all phases together."""
        return sum(phase.epochs for phase in self.phases)

    @property
    def steps(self) -> int:
        """Steps of all phases together."""
        return sum(phase.steps for phase in self.phases)

    @property
    def target(self) -> Field:
        return next(field for field in self.fields if field.target)

    @property
    def parts(self) -> dict[str, Batch]:
        """The parts that there are, by name."""
        found = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: part for name, part in found.items() if part is not None}

    @property
    def held_out(self) -> str:
        """The part that results are reported on: the test part, else the validation part, else training."""
        return list(self.parts)[-1]


def prepare(experiment: Experiment, folder: Path, device: str | None = None) -> Plan:
    """Return the plan of an experiment whose data lie under a folder."""
    import torch

    from nnspec.compiler.emit.load import module_class

    place = resolve(device or experiment.device, experiment.precision, experiment.span)
    precision = "float64" if experiment.precision == "float64" else "float32"
    splits = data.load(experiment.data, folder, dtype=precision)
    experiment, splits = feed(experiment, splits)
    if not learned_keys(experiment.graph):
        why, help_text = "nothing of the network is learned", "let some of its weights be learned"
        raise RunError(NothingToFit(experiment.span, why=why, help=help_text))
    read = sources(experiment)
    train = _on_device(splits.train, read, place)
    found = phases(experiment, train.rows)
    for phase in found:
        _check_batches(experiment, phase.batch or train.rows, train.rows)
    _check_watch(experiment, splits.validation)
    weights, weights_hash = loaded(experiment.loads, experiment.graph, folder)
    return Plan(
        experiment=experiment,
        identity=splits.identity,
        fields=splits.fields,
        device=place,
        dtype=getattr(torch, precision),
        make=module_class(read.graph),
        sources=read,
        train=train,
        validation=None if splits.validation is None else _on_device(splits.validation, read, place),
        test=None if splits.test is None else _on_device(splits.test, read, place),
        phases=found,
        loaded=weights,
        loaded_hash=weights_hash if weights else None,
        parent=None if experiment.start is None else prepare(experiment.start, folder, device),
        borrowed=tuple((part, prepare(part.experiment, folder, device)) for part in experiment.parts),
    )


def parameter_count(graph: Graph) -> int:
    """Return how many numbers a network learns."""
    return sum(
        math.prod(int(str(size)) for size in tensor.shape)
        for _, tensor in tensors(graph)
        if tensor.kind == "learned"
    )


def draws(graph: Graph) -> bool:
    """Return whether a forward in training takes random numbers."""
    return any(operation(use.primitive.operation).draws for use in flatten(graph).uses)


def batch_coupled(graph: Graph) -> bool:
    """Return whether the rows of a batch see each other in training."""
    return any(operation(use.primitive.operation).batch_coupled for use in flatten(graph).uses)


def _on_device(part: Part, sources: Sources, device: torch.device) -> Batch:
    names = [port.name for port in sources.graph.root.inputs]
    batch = Batch(
        tuple(part.inputs[name] for name in names),
        part.targets,
        tuple((part.fields or {})[name] for name in sources.fields),
        part.true,
    )
    return batch.each(lambda values: values.to(device))


def _check_batches(experiment: Experiment, batch: int, rows: int) -> None:
    if rows % batch == 1 and batch_coupled(experiment.graph):
        better = next((size for size in range(batch + 1, rows) if rows % size != 1), rows)
        raise RunError(BatchOfOne(experiment.span, rows=rows, batch=batch, better=better))


def _check_watch(experiment: Experiment, validation: Part | None) -> None:
    stop = experiment.stop
    if stop is None and experiment.save != "best":
        return
    span = experiment.span if stop is None else stop.span
    if validation is None:
        why = "early stopping" if stop is not None else '`save = "best"`'
        why = f"{why} needs a validation part, and the data have none"
        help_text = "keep some rows for it, such as `validation = 0.1` in `data`"
        raise RunError(NothingToJudgeBy(span, why=why, help=help_text))
    if stop is not None and stops.build(stop).metric == "confusion":
        why = "a confusion table is no number that could get better"
        raise RunError(NothingToJudgeBy(span, why=why, help="watch `accuracy`"))
