"""Many networks that learn at once: the seeds of one experiment, stacked along a new first axis.

Each seed has its own initialisation and its own order of the data, and its numbers are those it would have
alone, to rounding; they never depend on its company. Only where that is exact: the rule follows the
gradient, a forward draws nothing, rows of a batch do not see each other, nothing is stored but what is
learned, and the optimizer works on each number by itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import instances
from nnspec.compiler.rules.registry import rule
from nnspec.compiler.runtime import losses, optimizers
from nnspec.compiler.runtime.checkpoint import Snapshot, optimizer_snapshot, optimizer_state
from nnspec.compiler.runtime.evaluation import Scorer, confusion, predictions, stacked_losses
from nnspec.compiler.runtime.plan import Batch, Plan, batch_coupled, draws, parameter_count
from nnspec.compiler.runtime.stacked_forward import stacked, traced
from nnspec.compiler.runtime.streams import Streams

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from nnspec.compiler.experiment import Choice

# Above this many parameters a network keeps a core busy by itself (measured: benchmarks/seeds.py).
SMALL = 30_000


def stackable(plan: Plan, small: int = SMALL) -> bool:
    """Return whether the seeds of an experiment can be trained at once, and gain by it."""
    experiment = plan.experiment
    return (
        len(experiment.seeds) > 1
        and rule(experiment.rule.name).follows_gradient
        and experiment.stop is None
        and experiment.save == "last"
        and experiment.precision != "bfloat16"
        and optimizers.elementwise(experiment.optimizer)
        and parameter_count(plan.graph) <= small
        and _only_learns(plan)
        and not draws(plan.graph)
        and not batch_coupled(plan.graph)
    )


def _only_learns(plan: Plan) -> bool:
    weights = (weight for located in instances(plan.graph.root) for weight in located.primitive.weights)
    return all(tensor.kind == "learned" for weight in weights for tensor in weight.stored)


class Stack:
    """Networks in training at once; the same face as a `Learner`."""

    def __init__(self, plan: Plan, seeds: tuple[int, ...]) -> None:
        from nnspec.compiler.emit.load import function

        experiment = plan.experiment
        self.plan = plan
        self.seeds = seeds
        self.streams = [Streams(seed, experiment.seed_mode, plan.device) for seed in seeds]
        self.state = self._initial()
        self.optimizer = optimizers.build(experiment.optimizer, self.state.values(), plan.device.type)
        self.rates: list[float] = [group["lr"] for group in self.optimizer.param_groups]
        self.per_sample = losses.build(experiment.loss)
        self.function = function(plan.graph)
        self.scorer = Scorer(experiment.loss, experiment.metrics)
        self.step = 0
        self._forwards: dict[tuple[int, ...], Callable[..., Tensor]] = {}
        self._ones = next(iter(self.state.values())).new_ones(len(seeds))

    def _initial(self) -> dict[str, Tensor]:
        """Return the stacked states; each network is initialised as it would be alone."""
        import torch

        states: list[dict[str, Tensor]] = []
        for streams in self.streams:
            streams.begin("init")
            states.append(self.plan.make().state_dict())
            streams.leave_global()
        together = {name: torch.stack([state[name] for state in states]) for name in states[0]}
        return {
            name: tensor.to(self.plan.device, self.plan.dtype).requires_grad_()
            for name, tensor in together.items()
        }

    # ------------------------------------------------------------------------------------------ an epoch

    def epoch(self) -> Tensor:
        """Train an epoch, or what is left of the steps; return the losses (step, seed) on the device."""
        import torch

        count = min(self.plan.steps_per_epoch, self.plan.steps - self.step)
        return torch.stack([self.learn(batch) for batch in self._batches(count)])

    def learn(self, batch: Batch) -> Tensor:
        """Make one step of every network; return the loss of each."""
        factor = self.plan.factor
        if factor is not None:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor(self.step)
        self.step += 1
        self.optimizer.zero_grad(set_to_none=True)
        output = self._forward(batch)(self.state, *batch.inputs)
        target = batch.target
        if not self._own_rows:
            target = target.expand(len(self.seeds), *target.shape)
        found: Any = stacked_losses(self.per_sample, output, target).mean(1)
        found.backward(self._ones)
        self.optimizer.step()
        return found.detach()

    def _forward(self, batch: Batch) -> Callable[..., Tensor]:
        """Return the forward for batches of this shape, traced when the first one comes."""
        shape = tuple(batch.inputs[0].shape)
        if shape not in self._forwards:
            forward = stacked(self.function, self._own_rows, training=True)
            self._forwards[shape] = traced(forward, self.state, batch.inputs)
        return self._forwards[shape]

    @property
    def _own_rows(self) -> bool:
        """Whether each network has rows of its own in a batch."""
        return self.plan.experiment.shuffle and self.plan.experiment.batch is not None

    def _batches(self, count: int) -> Iterator[Batch]:
        """Yield the batches of an epoch: rows that all share, or (seed, row, ...) in each seed's own order."""
        import torch

        part, size = self.plan.train, self.plan.experiment.batch
        if size is None:
            yield from (part for _ in range(count))
        elif not self._own_rows:
            yield from (part.between(start, start + size) for start in range(0, count * size, size))
        else:
            rows = part.rows
            drawn = [streams.permutation("shuffle", rows) for streams in self.streams]
            orders: Any = torch.stack(drawn).to(self.plan.device)
            for index in orders.split(size, dim=1)[:count]:
                yield Batch(tuple(values[index] for values in part.inputs), part.target[index])

    # ------------------------------------------------------------------------------------------ measuring

    def scores(self) -> dict[str, list[dict[str, float]]]:
        """Return for each part the scores of each network."""
        import torch

        forward = stacked(self.function, own_inputs=False, training=False)
        with torch.no_grad():
            return {
                name: self.scorer.stacked_scores(lambda *inputs: forward(self.state, *inputs), part)
                for name, part in self.plan.parts.items()
            }

    def tables(self, choice: Choice | None) -> list[tuple[Any, Any]]:
        """Return for each network the confusion table and the pairs of target and output, held out."""
        import torch

        part = self.plan.parts[self.plan.held_out]
        found: list[tuple[Any, Any]] = []
        with torch.no_grad():
            for index in range(len(self.seeds)):
                own = {name: tensor[index] for name, tensor in self.state.items()}

                def forward(*inputs: Tensor, own: dict[str, Tensor] = own) -> Tensor:
                    return self.function(own, *inputs, training=False)

                found.append((confusion(forward, part, choice), predictions(forward, part)))
        return found

    # ---------------------------------------------------------------------------------------- checkpoints

    def capture(self) -> Snapshot:
        """Return a copy of all that changes in training."""
        import torch

        tensors = {f"model.{name}": tensor.detach().clone() for name, tensor in self.state.items()}
        kept = optimizer_snapshot(self.optimizer.state_dict())
        tensors |= {f"optimizer.{name}": tensor for name, tensor in kept.tensors.items()}
        if self._own_rows:
            states = [_shuffle(streams).get_state() for streams in self.streams]
            tensors[self._shuffle_key] = torch.stack(states)
        return Snapshot(tensors, {"step": self.step, "seeds": list(self.seeds), "optimizer": kept.data})

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to where a snapshot was captured."""
        import torch

        with torch.no_grad():
            for name, tensor in snapshot.under("model.").items():
                self.state[name].copy_(tensor)
        kept = Snapshot(snapshot.under("optimizer."), snapshot.data["optimizer"])
        self.optimizer.load_state_dict(optimizer_state(self.optimizer.state_dict(), kept))
        shuffle = snapshot.tensors.get(self._shuffle_key)
        if shuffle is not None:
            for streams, state in zip(self.streams, shuffle, strict=True):
                _shuffle(streams).set_state(state.clone())  # torch reads past a row of a larger tensor
        self.step = snapshot.data["step"]

    @property
    def _shuffle_key(self) -> str:
        """The name under which a learner finds the state of its shuffles."""
        return "streams.torch.cpu" if self.plan.experiment.seed_mode == "torch" else "streams.shuffle"


def _shuffle(streams: Streams) -> Any:
    return streams.generator("shuffle")


def alone(snapshot: Snapshot, index: int) -> Snapshot:
    """Return one network's share of the snapshot of a stack, as a learner of its own would capture it.

    The optimizer counts steps for all networks together: a tensor without axes belongs to each.
    """
    model = {f"model.{name}": tensor[index] for name, tensor in snapshot.under("model.").items()}
    optimizer = {
        f"optimizer.{name}": tensor[index] if tensor.dim() else tensor
        for name, tensor in snapshot.under("optimizer.").items()
    }
    streams = {
        f"streams.{name}": tensor[index].clone() for name, tensor in snapshot.under("streams.").items()
    }
    data = {**snapshot.data, "seeds": [snapshot.data["seeds"][index]]}
    return Snapshot(model | optimizer | streams, data)
