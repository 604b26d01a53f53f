"""One network that learns: its module, optimizer and streams, an epoch at a time.

In: a plan and a seed. A rule's step is given the learner and sees `network`, `parameters`, `optimizer`,
`options` and `mean_loss`. Nothing in an epoch waits for the device; losses are read when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.registry import rule
from nnspec.compiler.runtime import losses, optimizers
from nnspec.compiler.runtime.checkpoint import Snapshot, optimizer_snapshot, optimizer_state
from nnspec.compiler.runtime.evaluation import Scorer, confusion, predictions
from nnspec.compiler.runtime.plan import Batch, Plan
from nnspec.compiler.runtime.streams import Streams, global_states, set_global_states

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.experiment import Choice

__all__ = ["Batch", "Learner"]


class Learner:
    """A network in training."""

    def __init__(self, plan: Plan, seed: int) -> None:
        experiment = plan.experiment
        self.plan = plan
        self.seeds = (seed,)
        self.streams = Streams(seed, experiment.seed_mode, plan.device)
        self.streams.begin("init")
        self.network = plan.make().to(device=plan.device, dtype=plan.dtype)
        self.streams.begin("forward")
        self.parameters = [p for p in self.network.parameters() if p.requires_grad]
        self.optimizer = optimizers.build(experiment.optimizer, self.parameters, plan.device.type)
        self.rates: list[float] = [group["lr"] for group in self.optimizer.param_groups]
        self.rule = rule(experiment.rule.name)
        self.options = experiment.rule.options
        self.loss = losses.mean(experiment.loss)
        self.mixed = experiment.precision == "bfloat16"
        self.scorer = Scorer(experiment.loss, experiment.metrics)
        self.step = 0
        self.best: dict[str, Tensor] = {}

    # ------------------------------------------------------------------------------------ what rules see

    def mean_loss(self, batch: Batch) -> Tensor:
        """Return the mean loss of a batch, of which the rule may take the gradient."""
        if self.mixed:
            with self._precision():
                return self.loss(self.network(*batch.inputs), batch.target)
        return self.loss(self.network(*batch.inputs), batch.target)

    def draws(self) -> dict[str, Tensor]:
        """Return where the forward's random numbers stand, for `draw_again`."""
        return global_states(self.plan.device)

    def draw_again(self, states: dict[str, Tensor]) -> None:
        """Let the next forward draw what it drew when `draws` was called."""
        set_global_states(self.plan.device, states)

    # ------------------------------------------------------------------------------------------ an epoch

    def epoch(self) -> Tensor:
        """Train an epoch, or what is left of the steps; return the losses (step, 1) on the device."""
        import torch

        self.network.train()
        count = min(self.plan.steps_per_epoch, self.plan.steps - self.step)
        found = [self.learn(batch) for batch in self.batches(count)]
        return torch.stack(found).unsqueeze(1)

    def learn(self, batch: Batch) -> Tensor:
        """Make one step of the rule, at the learning rate of the schedule."""
        factor = self.plan.factor
        if factor is not None:
            for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
                group["lr"] = rate * factor(self.step)
        self.step += 1
        return self.rule.step(self, batch, self.streams)

    def batches(self, count: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, in its own order."""
        part, size = self.plan.train, self.plan.experiment.batch
        if size is None:  # all rows at once: their order is of no account
            yield from (part for _ in range(count))
        elif not self.plan.experiment.shuffle:
            yield from (part.between(start, start + size) for start in range(0, count * size, size))
        else:
            order: Any = self.streams.permutation("shuffle", part.rows).to(self.plan.device)
            yield from (part.take(index) for index in order.split(size)[:count])

    # ------------------------------------------------------------------------------------------ measuring

    def scores(self) -> dict[str, list[dict[str, float]]]:
        """Return for each part the scores, in a list of one."""
        import torch

        self.network.eval()
        with torch.no_grad(), self._precision():
            return {name: [self.scorer.scores(self.network, part)] for name, part in self.plan.parts.items()}

    def tables(self, choice: Choice | None) -> list[tuple[Any, Any]]:
        """Return the confusion table and the pairs of target and output on the held-out part."""
        import torch

        self.network.eval()
        part = self.plan.parts[self.plan.held_out]
        with torch.no_grad(), self._precision():
            return [(confusion(self.network, part, choice), predictions(self.network, part))]

    def keep_best(self) -> None:
        """Keep the weights as they are now as the best so far."""
        self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def use_best(self) -> None:
        """Go back to the best weights, where some were kept."""
        if self.best:
            self.network.load_state_dict(self.best)

    def _precision(self) -> AbstractContextManager[Any]:
        import torch

        if self.mixed:
            return torch.autocast(self.plan.device.type, dtype=torch.bfloat16)
        return nullcontext()

    # ---------------------------------------------------------------------------------------- checkpoints

    def capture(self) -> Snapshot:
        """Return a copy of all that changes in training."""
        tensors = {f"model.{name}": t.clone() for name, t in self.network.state_dict().items()}
        tensors |= {f"best.{name}": t.clone() for name, t in self.best.items()}
        tensors |= {f"streams.{name}": t for name, t in self.streams.states().items()}
        kept = optimizer_snapshot(self.optimizer.state_dict())
        tensors |= {f"optimizer.{name}": t for name, t in kept.tensors.items()}
        return Snapshot(tensors, {"step": self.step, "seeds": list(self.seeds), "optimizer": kept.data})

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to where a snapshot of this very plan was captured."""
        self.network.load_state_dict(snapshot.under("model."))
        place = self.plan.device
        self.best = {name: tensor.to(place) for name, tensor in snapshot.under("best.").items()}
        kept = Snapshot(snapshot.under("optimizer."), snapshot.data["optimizer"])
        self.optimizer.load_state_dict(optimizer_state(self.optimizer.state_dict(), kept))
        self.streams.restore(snapshot.under("streams."))
        self.step = snapshot.data["step"]
