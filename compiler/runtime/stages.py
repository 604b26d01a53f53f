"""Stages: what a run does one after another.

`fit` trains, `prune` removes weights, `freeze` and `unfreeze` say which parameters learn from here on. In:
choices whose selectors have become state-dict keys. Out: phases, each an optimizer's time with what is done
to the weights before it. Imports no torch.
"""

from __future__ import annotations

import math
from typing import Any

from nnspec.compiler.experiment import Choice, Experiment, Group
from nnspec.compiler.runtime.component import Component, registered
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.node import Node

_SELECTED = Argument(name="select", kind="selector", doc="which parameters, such as `encoder.**`")


class Stage(Component):
    """A stage."""

    family = "stage"


class Fit(Stage):
    name = "fit"
    doc = """Trains for `epochs` passes or `steps` batches. What is left out comes from the experiment. The
optimizer begins anew, and the schedule spans this stage alone."""
    arguments = (
        Argument(name="epochs", kind="int", default=None, at_least=1, doc="passes"),
        Argument(name="steps", kind="int", default=None, at_least=1, doc="batches"),
        Argument(
            name="lr",
            kind="real",
            default=None,
            above=0,
            doc="learning rate of the experiment's optimizer",
        ),
        Argument(name="optimizer", kind="optimizer", default=None, doc="another optimizer"),
        Argument(name="schedule", kind="schedule", default=None, doc="another schedule"),
        Argument(name="learn", kind="rule", default=None, doc="another learning rule"),
        Argument(name="batch", kind="int", default=None, at_least=1, doc="rows in a batch"),
        Argument(name="prune", kind="pruning", default=None, doc="what is pruned after each step"),
    )
    example = "stages = [fit(epochs = 20), fit(epochs = 5, lr = 0.0003)]"


class Prune(Stage):
    name = "prune"
    doc = """Removes weights, until the fraction `density` of the selected ones is left: those of least
magnitude, or random ones (Han, Pool, Tran and Dally, 2015). What is removed is zero from here on."""
    arguments = (
        Argument(name="density", kind="real", above=0, at_most=1, doc="the fraction that is kept"),
        Argument(
            name="by", kind="choice", choices=("magnitude", "random"), default="magnitude", doc="which go"
        ),
        Argument(
            name="scope",
            kind="choice",
            choices=("global", "layer"),
            default="global",
            doc="compare the weights of all layers, or each layer's own",
        ),
        Argument(
            name="select",
            kind="selector",
            default=None,
            doc="which parameters; none: all learned tensors of two axes or more",
        ),
    )
    example = "stages = [fit(epochs = 20), prune(density = 0.1), fit(epochs = 5)]"


class Freeze(Stage):
    name = "freeze"
    doc = "Keeps the selected parameters as they are from here on."
    arguments = (_SELECTED,)
    example = "stages = [fit(epochs = 5), freeze(encoder.**), fit(epochs = 5)]"


class Unfreeze(Stage):
    name = "unfreeze"
    doc = "Lets parameters learn again that an earlier `freeze` keeps."
    arguments = (_SELECTED,)
    example = "stages = [freeze(encoder.**), fit(epochs = 5), unfreeze(encoder.**), fit(epochs = 5)]"


_STAGES = registered((Fit(), Prune(), Freeze(), Unfreeze()))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the stages."""
    return tuple(stage.entry() for stage in _STAGES.values())


def misfit(choice: Choice) -> tuple[str, str] | None:
    """Return the argument, and why, whose value does not go with the others; None if all do."""
    options = choice.options
    if choice.name != "fit":
        return None
    if options["epochs"] is None and options["steps"] is None:
        return "epochs", "`fit` must say how long: `epochs` or `steps`"
    if options["epochs"] is not None and options["steps"] is not None:
        return "steps", "`epochs` and `steps` both say how long"
    if options["lr"] is not None and options["optimizer"] is not None:
        return "lr", "`lr` changes the experiment's optimizer, and here is another, which takes its own"
    return None


class Phase(Node):
    """What happens from one beginning of the optimizers to the next."""

    stage: int  # the number, among the stages, of the last one that it holds
    before: tuple[Choice, ...]  # what is done to the weights first
    frozen: tuple[str, ...]  # keys of parameters that do not learn
    groups: tuple[Group, ...]  # complete
    batch: int | None
    epochs: int
    steps: int  # in all; the last epoch may be cut short; 0: nothing is trained after `before`
    steps_per_epoch: int
    thinning: Choice | None = None  # what is pruned after each step


def phases(experiment: Experiment, rows: int) -> tuple[Phase, ...]:
    """Return the phases of an experiment that trains on so many rows; at least one."""
    if not experiment.stages:
        length = {"epochs": experiment.epochs, "steps": experiment.steps}
        return (_phase(experiment, 1, (), frozenset(), length, rows),)
    found: list[Phase] = []
    before: list[Choice] = []
    frozen: set[str] = set()
    for number, stage in enumerate(experiment.stages, 1):
        match stage.name:
            case "freeze":
                frozen |= set(stage["select"])
            case "unfreeze":
                frozen -= set(stage["select"])
            case "fit":
                options = stage.options
                found.append(_phase(experiment, number, before, frozenset(frozen), options, rows))
                before = []
            case _:
                before.append(stage)
    if before:
        found.append(_phase(experiment, len(experiment.stages), before, frozenset(frozen), {}, rows))
    return tuple(found)


def _phase(
    experiment: Experiment,
    number: int,
    before: Any,
    frozen: frozenset[str],
    options: dict[str, Any],
    rows: int,
) -> Phase:
    batch = options.get("batch") or experiment.batch
    steps_per_epoch = math.ceil(rows / (batch or rows))
    steps = options.get("steps") or (options.get("epochs") or 0) * steps_per_epoch
    return Phase(
        stage=number,
        before=tuple(before),
        frozen=tuple(sorted(frozen)),
        groups=tuple(_complete(group, experiment, options) for group in experiment.groups or (Group(),)),
        batch=batch,
        epochs=math.ceil(steps / steps_per_epoch),
        steps=steps,
        steps_per_epoch=steps_per_epoch,
        thinning=options.get("prune"),
    )


def _complete(group: Group, experiment: Experiment, options: dict[str, Any]) -> Group:
    """Fill in what a group leaves out: from the stage, else from the experiment."""
    optimizer = options.get("optimizer") or experiment.optimizer
    if options.get("lr") is not None:
        given = optimizer.options | {"lr": options["lr"]}
        optimizer = optimizer.replace(arguments=tuple(given.items()))
    return group.replace(
        loss=group.loss or experiment.loss,
        rule=group.rule or options.get("learn") or experiment.rule,
        optimizer=group.optimizer or optimizer,
        schedule=group.schedule or options.get("schedule") or experiment.schedule,
    )
