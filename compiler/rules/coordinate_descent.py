"""`coordinate_descent`: weights of a finite set, tried one at a time.

Date, Carothers, Mitchell, Hendler and Magdon-Ismail, "Training Deep Neural Networks with Constrained Learning
Parameters" (arXiv:2009.00540). A step visits coordinates in random order; at each the loss is evaluated for every
other value of the set, all else fixed, and the best value is kept if it is strictly better than the present one. Nothing
is differentiated, and the loss of the batch never rises within a step: over a whole training part it falls from step to
step. A sweep over n weights of |V| values costs n (|V| - 1) forwards, each of which the next one waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.constrained import ConstrainedWeight, constrained_weights
from nnspec.compiler.ir import Graph, state_key
from nnspec.compiler.rules.perturbed import SameDraws, same_draws
from nnspec.compiler.rules.rule import Rule
from nnspec.compiler.rules.setting import Setting
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.learning import NoFiniteSet, NotOneByOne, OptimizerHasNoPart

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams


class Coordinate(NamedTuple):
    """One entry of a parameter: the parameter as a flat view, the place in it, and the values it may have."""

    flat: Tensor
    place: int
    members: tuple[float, ...]


class CoordinateDescent(Rule):
    name = "coordinate_descent"
    doc = """Coordinate descent over finite values (CoNNTrA: Date and others, 2020): a step visits weights in random
order and gives each the value of least loss, if that is strictly less. The values are those of the weight's constraint
(`values`, `binary`, `ternary` without a scale), else `values`. Weights begin at the nearest value, entries that a mask
removes are no coordinates, and no optimizer takes part. With `batch = none` the loss never rises; a step is then a sweep."""
    arguments = (
        Argument(
            name="values",
            kind="real",
            listed="yes",
            default=None,
            nullable=True,
            doc="what a weight may be that no constraint says it of",
        ),
        Argument(
            name="coordinates",
            kind="int",
            default=None,
            nullable=True,
            at_least=1,
            doc="how many weights a step visits; none: all",
        ),
    )
    example = "learn = coordinate_descent(values = [-1, 0, 1])"

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        values = options["values"]
        if values is not None and len(set(values)) < 2:
            return "values", "`values` must be two different numbers or more"
        return None

    def refusals(self, setting: Setting) -> Iterator[Error]:
        span = setting.choice.span
        for field, choice in (("optimizer", setting.optimizer), ("schedule", setting.schedule)):
            if choice is not None:
                related = () if span is None else (Related(span=span, label="the rule"),)
                yield OptimizerHasNoPart(choice.span, related, field=field, rule=self.name)
        under = under_constraint(setting.graph)
        for key in setting.keys:
            given = under.get(key)
            clash = None if given is None else _clash(given, key)
            if given is not None and clash is not None:
                related = tuple(Related(span=laid.span, label="here") for laid in given.rules if laid.span)
                yield NotOneByOne(span, related, path=given.path, constraint=given.text, why=clash)
            elif _members(given, setting.choice["values"]) is None:
                yield NoFiniteSet(span, key=key)

    def step(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        import torch

        with torch.no_grad(), same_draws(run) as again:
            coordinates = self.coordinates(run)
            loss = first = again(lambda: run.mean_loss(batch))
            order = streams.permutation("coordinates", len(coordinates)).tolist()
            for number in order[: run.options["coordinates"]]:
                loss = _improve(run, batch, coordinates[number], loss, again)
            run.note("after", loss)
        return first

    def coordinates(self, run: LearningGroup) -> list[Coordinate]:
        """Return the entries that learn, each of its parameter moved to one of its values."""
        import torch

        under = under_constraint(run.learner.plan.graph)
        found: list[Coordinate] = []
        for name, parameter in zip(run.names, run.parameters, strict=True):
            given = under.get(name)
            members = _members(given, run.options["values"])
            assert members is not None, "fit has asked for a finite set"
            _settle(parameter, members, None if given is None else _used(given, run))
            flat, kept = parameter.view(-1), _kept(given, run, name)
            places: Any = torch.arange(flat.numel()) if kept is None else kept.flatten().nonzero().flatten()
            found += [Coordinate(flat, place, members) for place in places.tolist()]
        return found


def under_constraint(graph: Graph) -> dict[str, ConstrainedWeight]:
    """Return the constrained weights by the keys of what they store."""
    return {
        state_key(given.owner, tensor.name): given
        for given in constrained_weights(graph)
        for tensor in given.weight.stored
    }


def _improve(run: LearningGroup, batch: Batch, at: Coordinate, loss: Tensor, again: SameDraws) -> Tensor:
    """Give one entry its best value, if it is strictly better; return the loss that it leaves."""
    best = now = float(at.flat[at.place])
    for value in at.members:
        if value != now:
            at.flat[at.place] = value
            found = again(lambda: run.mean_loss(batch))
            if bool(found < loss):
                best, loss = value, found
    at.flat[at.place] = best
    return loss


def _settle(parameter: Tensor, members: tuple[float, ...], used: Tensor | None) -> None:
    """Move a parameter to the values that its weight is used with, else to the nearest ones."""
    from nnspec.compiler.constraints.code.discrete import nearest_value

    parameter.copy_(nearest_value(parameter, members, None) if used is None else used)


def _used(given: ConstrainedWeight, run: LearningGroup) -> Tensor | None:
    """Return the weight as its finite set makes it, before a topology removes entries."""
    from nnspec.compiler.runtime.constrained_state import WeightState

    chain = WeightState(given).chain(run.learner.state)
    values = [at for at, (laid, _) in enumerate(given.maps) if laid.rule.kind == "values"]
    return chain[values[-1]] if values else None


def _kept(given: ConstrainedWeight | None, run: LearningGroup, name: str) -> Tensor | None:
    """Return which entries there are: those that neither a topology nor pruning removed."""
    from nnspec.compiler.runtime.constrained_state import WeightState

    kept = None if given is None else WeightState(given).kept(run.learner.state)
    removed = run.learner.masks.get(name)
    if removed is None:
        return kept
    return ~removed if kept is None else kept & ~removed


def _members(given: ConstrainedWeight | None, values: tuple[float, ...] | None) -> tuple[float, ...] | None:
    """Return the finite set of a weight: that of its constraint, else the rule's."""
    for laid in given.rules if given is not None else ():
        if laid.rule.kind == "values":
            return laid.rule.members(laid.site)
    return None if values is None else tuple(sorted({float(value) for value in values}))


def _clash(given: ConstrainedWeight, key: str) -> str | None:
    """Return why the entries of a constrained weight cannot be set one by one; None if they can."""
    if given.main is None or state_key(given.owner, given.main.name) != key:
        return "the weight is made of other numbers than its own"
    for laid in given.rules:
        if laid.rule.kind in ("structure", "manifold"):
            return "an entry of it cannot change alone"
        if laid.rule.kind == "projection":
            return "a projection moves it away from its values"
        if laid.rule.kind == "values" and laid.rule.members(laid.site) is None:
            return "its values move with the weight, or with a scale"
    if any(penalty.proximal is not None for penalty in given.weight.penalties):
        return "its penalty shrinks the weight after each step"
    return None


RULES = (CoordinateDescent(),)
