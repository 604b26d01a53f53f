"""`teleport`: how much steeper the loss is elsewhere on the orbit of the weights, and whether training is faster from there.

In: an experiment with its data. Out: the norm of the gradient along the ascent, and the losses of the experiment's own
first steps from the weights as they begin and from where they were teleported to.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Pass, Plot, Result, Subject, Table
from nnspec.compiler.tensors import learned_keys
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.weights import NeedsTraining, StepsNotFinite

if TYPE_CHECKING:
    from nnspec.compiler.runtime.plan import Plan


class Teleport(Pass):
    name = "teleport"
    heading = "Teleportation"
    doc = """Symmetry teleportation: the weights with which a training begins are moved along their orbit, by scales and GL,
    to where the gradient of the loss is steeper (Zhao et al. 2022); the outputs stay the same. Then the experiment's first
    `train` steps from there are compared with those from the start."""
    arguments = (
        Argument(name="steps", kind="int", doc="of the ascent", default=20, at_least=1),
        Argument(name="rate", kind="real", doc="length of its steps", default=0.1, above=0),
        Argument(name="reach", kind="real", doc="largest logarithm of a scale", default=1.0, above=0),
        Argument(name="train", kind="int", doc="steps of training, each way", default=50, at_least=1),
        Argument(name="seed", kind="int", doc="of the weights at the start", default=0, at_least=0),
    )

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        return False

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.runtime.short_training import course, exactly, initial_weights, loss_of
        from nnspec.compiler.symmetry.group import symmetry_group
        from nnspec.compiler.symmetry.teleport import teleport

        if subject.plan is None:
            raise SpecError((NeedsTraining(None, pass_name=self.name, target=subject.graph.name),))
        plan: Plan = exactly(subject.plan)
        seed, train = options.get("seed", 0), options.get("train", 50)
        start = initial_weights(plan, seed)
        keys = tuple(key for key in learned_keys(plan.graph) if start[key].dtype.is_floating_point)
        given = {name: options[name] for name in ("steps", "rate", "reach") if name in options}
        moved = teleport(symmetry_group(plan.graph), start, loss_of(plan), keys, **given)
        losses = {
            name: [loss for _, loss in course(plan, seed, train, state) if loss is not None]
            for name, state in (("from the start", start), ("teleported", moved.state))
        }
        if not all(isfinite(loss) for own in losses.values() for loss in own):
            target = subject.graph.name if subject.experiment is None else subject.experiment.name
            error = StepsNotFinite(None, pass_name=self.name, target=target, steps=train, what="a loss")
            raise SpecError((error,))
        data = {"norms": list(moved.norms), "losses": losses}
        rows = (
            ("norm of the gradient", moved.norms[0], moved.norms[-1]),
            (f"loss after {len(losses['teleported'])} steps", *(own[-1] for own in losses.values())),
        )
        factor = moved.norms[-1] / moved.norms[0] if moved.norms[0] else 1.0
        found = (
            f"The gradient is {factor:.3g} times as steep elsewhere on the orbit of the first weights. After "
            f"{len(losses['teleported'])} steps the loss is {losses['teleported'][-1]:.4g} from there, and "
            f"{losses['from the start'][-1]:.4g} from the start."
        )
        still = "The group has no scales and no GL wires: there is nowhere on the orbit to go by small steps."
        summary = found if moved.element.moves else still
        columns = ("what", "from the start", "teleported")
        plot = Plot(name="loss after teleportation", draw=lambda axes: _draw(axes, losses))
        table = Table(title="Teleportation", columns=columns, rows=rows)
        return Result(data=data, summary=summary, tables=(table,), plots=(plot,))


def _draw(axes: Any, losses: dict[str, list[float]]) -> None:
    for (name, own), colour in zip(losses.items(), ("#7f7f7f", "#3b78b8"), strict=True):
        axes.plot(range(1, len(own) + 1), own, color=colour, linewidth=1.4, label=name)
    axes.set_xlabel("step")
    axes.set_ylabel("loss of the batch")
    axes.set_xlim(1, None)
    axes.legend(frameon=False, fontsize=7)


PASSES = (Teleport(),)
