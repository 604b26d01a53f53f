"""One network that learns: its module, the groups of its parameters and its streams, an epoch at a time.

In: a plan and a trial. Nothing in an epoch waits for the device; losses are read when it ends.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from nnspec.compiler.runtime import masks
from nnspec.compiler.runtime.after_step import AfterStep
from nnspec.compiler.runtime.checkpoint import Snapshot, optimizer_snapshot, optimizer_state
from nnspec.compiler.runtime.evaluation import Scorer
from nnspec.compiler.runtime.followers import Followers
from nnspec.compiler.runtime.group import LearningGroup
from nnspec.compiler.runtime.layer_penalties import LayerPenalties
from nnspec.compiler.runtime.notes import Notes
from nnspec.compiler.runtime.penalties import Penalties
from nnspec.compiler.runtime.phased import Phased
from nnspec.compiler.runtime.plan import Batch, Plan
from nnspec.compiler.runtime.progress import Progress
from nnspec.compiler.runtime.streams import Streams
from nnspec.compiler.runtime.thinning import Thinner
from nnspec.compiler.runtime.trials import Trial

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.experiment import Judged
    from nnspec.compiler.flat import Held
    from nnspec.compiler.rules.settled.phases import Watch
    from nnspec.compiler.runtime.divergence import Blown
    from nnspec.compiler.runtime.settling import Unsettled

__all__ = ["Batch", "Learner"]


class Learner(Phased):
    """A network in training. It begins at the start of the first phase."""

    def __init__(self, plan: Plan, trial: Trial) -> None:
        experiment = plan.experiment
        self.plan = plan
        self.trials = (trial,)
        self.streams = Streams(trial, experiment.seed_mode, plan.device)
        self.streams.begin("init")
        self.network = plan.begun(trial.seed).to(device=plan.device, dtype=plan.dtype)
        self.streams.begin("forward")
        self.state: dict[str, Tensor] = {
            **dict(self.network.named_parameters()),
            **dict(self.network.named_buffers()),
        }
        self.penalties = Penalties(plan.graph)
        self.layer_penalties = LayerPenalties(plan.graph, self.network)
        self.notes = Notes()
        self.blown: list[Blown] | None = None  # where a diverged training is replayed: states that blew up
        self.watch: Watch | None = None  # who looks on while the states of a system settle
        self.unsettled: Unsettled | None = None  # what a training keeps of phases that did not settle
        self.after_step = AfterStep(plan.graph)
        self.after_step.project(self.state)
        self.followers = Followers(plan.graph)
        self.thinner = Thinner(plan.graph)
        self.progress = Progress(plan.graph, plan.steps)
        self.learned = {name: p for name, p in self.network.named_parameters() if p.requires_grad}
        self.mixed = experiment.precision == "bfloat16"
        self.scorer = Scorer(plan)
        self.masks = plan.removed(trial.seed, self.state)
        self.step = 0
        self.best: dict[str, Tensor] = {}
        self.feedback: dict[str, Tensor] = {}  # of rules, by names of their own: the same in every stage
        self.enter(0)

    # ------------------------------------------------------------------------------------------- a phase

    def enter(self, number: int) -> None:
        """Begin a phase: do what comes before it, and make its optimizers."""
        self._prepare(number)
        for stage in self.phase.before:
            absent = self.thinner.absent(self.learned, self.state)
            self.masks = masks.prune(stage, self.learned, self.masks, self.streams.generator("prune"), absent)
        masks.lay(self.learned, self.masks)

    def _prepare(self, number: int) -> None:
        self.groups = [LearningGroup(self, group, self.phase, own) for group, own in self.begin_phase(number)]

    @property
    def taught(self) -> list[LearningGroup]:
        """The groups of the phase."""
        return self.groups

    def thin(self) -> None:
        choice = self.phase.thinning
        if choice is None or self.phase_step % choice["every"]:
            return
        gone = self.thinner.thin(choice, self.learned, self.state, self.streams.generator("prune"))
        if not choice["regrow"]:
            before = self.masks
            self.masks = before | {k: v | before[k] if k in before else v for k, v in gone.items()}
        self.notes.add("sparsity", self.thinner.sparsity(self.learned, self.state))

    # ------------------------------------------------------------------------------------------ an epoch

    def epoch(self) -> Tensor:
        """Train an epoch, or what is left of the phase; return the losses (step, 1) on the device."""
        import torch

        self.network.train()
        count = min(self.phase.steps_per_epoch, self.phase.steps - self.phase_step)
        return torch.stack(self.learn_all(self.batches(count))).unsqueeze(1)

    def batches(self, count: int) -> Iterator[Batch]:
        """Yield the batches of an epoch, in its own order."""
        part, size = self.plan.train, self.phase.batch
        if size is None:  # all rows at once: their order is of no account
            yield from (part for _ in range(count))
        elif not self.plan.experiment.shuffle:
            yield from (part.between(start, start + size) for start in range(0, count * size, size))
        else:
            order: Any = self.streams.permutation("shuffle", part.rows).to(self.plan.device)
            yield from (part.take(index) for index in order.split(size)[:count])

    # ------------------------------------------------------------------------------------------ measuring

    def is_finite(self) -> bool:
        """Return whether all that is learned is."""
        import torch

        found = [parameter.isfinite().all() for parameter in self.learned.values()]
        return not found or bool(torch.stack(found).all())

    def states(self) -> list[dict[str, Tensor]]:
        """Return the state, in a list of one."""
        return [{**self.state, **dict(self.network.named_buffers())}]  # a layer may have made its buffer anew

    def scores(self) -> dict[str, list[dict[str, float]]]:
        """Return for each part the scores, in a list of one."""
        import torch

        self.network.eval()
        with torch.no_grad(), self.precision(), self.streams.apart("evaluation"):
            return {
                name: [self.scorer.scores(self.network, part, self.state)]
                for name, part in self.plan.parts.items()
            }

    def tables(self, choice: Judged | None) -> list[tuple[Any, Any]]:
        """Return the confusion table and the pairs of target and output on the held-out part."""
        import torch

        self.network.eval()
        part = self.plan.parts[self.plan.held_out]
        with torch.no_grad(), self.precision(), self.streams.apart("evaluation"):
            return [self.scorer.tables(self.network, part, self.state, choice)]

    def keep_best(self) -> None:
        """Keep the weights as they are now as the best so far."""
        self.best = {name: tensor.clone() for name, tensor in self.network.state_dict().items()}

    def use_best(self) -> None:
        """Go back to the best weights, where some were kept."""
        if self.best:
            self.network.load_state_dict(self.best)

    def effective(self, held: Held) -> Tensor:
        """Return a weight as a use takes it, detached."""
        from nnspec.compiler.emit.load import weight_function

        found = weight_function(held.weight, held.path)(self.state).detach()
        return found.transpose(0, 1) if held.transposed else found

    def precision(self) -> AbstractContextManager[Any]:
        """Return the context in which forwards run: that of mixed precision, where it is asked for."""
        return self.plan.precision()

    # ---------------------------------------------------------------------------------------- checkpoints

    def capture(self) -> Snapshot:
        """Return a copy of all that changes in training."""
        tensors = {f"model.{name}": t.clone() for name, t in self.network.state_dict().items()}
        tensors |= {f"best.{name}": t.clone() for name, t in self.best.items()}
        tensors |= {f"streams.{name}": t for name, t in self.streams.states().items()}
        tensors |= {f"mask.{name}": t for name, t in self.masks.items()}
        tensors |= {f"feedback.{name}": t.detach().clone() for name, t in self.feedback.items()}
        optimizers: list[Any] = []
        for number, group in enumerate(self.groups):
            kept = optimizer_snapshot(group.optimizer.state_dict())
            tensors |= {f"optimizer.{number}.{name}": t for name, t in kept.tensors.items()}
            tensors |= {f"rule.{number}.{name}": t.clone() for name, t in group.kept.items()}
            optimizers.append(kept.data)
        return Snapshot(tensors, {**self.where(), "optimizers": optimizers})

    def restore(self, snapshot: Snapshot) -> None:
        """Go back to where a snapshot of this very plan was captured."""
        place = self.plan.device
        self.feedback = {name: tensor.to(place) for name, tensor in snapshot.under("feedback.").items()}
        self._prepare(snapshot.data["phase"])
        self.network.load_state_dict(snapshot.under("model."))
        self.best = {name: tensor.to(place) for name, tensor in snapshot.under("best.").items()}
        self.masks = {name: tensor.to(place) for name, tensor in snapshot.under("mask.").items()}
        for number, (group, data) in enumerate(zip(self.groups, snapshot.data["optimizers"], strict=True)):
            kept = Snapshot(snapshot.under(f"optimizer.{number}."), data)
            group.optimizer.load_state_dict(optimizer_state(group.optimizer.state_dict(), kept))
            group.kept = {n: t.to(place) for n, t in snapshot.under(f"rule.{number}.").items()}
        self.streams.restore(snapshot.under("streams."))
        self.step, self.phase_step = snapshot.data["step"], snapshot.data["phase_step"]
