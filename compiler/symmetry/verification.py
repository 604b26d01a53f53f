"""Verifies a derived group at random weights, at several seeds, and at the weights that are given.

In: a typed graph, its group, and where there are some, trained states. Out: `Verification`. At each seed the guards
hold or raise InternalError. The dimension is reached if the nullity equals it at one seed or more; what is left at
every seed is a surplus that was not derived. Networks above the limit are checked in part: see `sampled`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.hidden import hidden_at
from nnspec.compiler.fibres.probe import DEFAULT
from nnspec.compiler.fibres.rank import TOLERANCE
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.symmetry.draws import idealised, statistics_of
from nnspec.compiler.symmetry.guards import Verified, guarded_error, verify_group
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.sampled import Sampled, sampled_nullity
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.fibres import WeightsNotFinite
from nnspec.dsl.errors.passes import TooLargeToVerify
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]

SEEDS = 5
PARAMETER_LIMIT = 1500  # the spectrum costs the cube of it
LARGEST = 20_000_000  # parameters of a network that is tried at all


class Verification(Node):
    """What was found at each seed, and at each given state."""

    dimension: int
    parameters: int
    trials: tuple[Verified, ...] = ()
    given: tuple[Verified, ...] = ()
    hidden: tuple[tuple[str, dict[str, int]], ...] = ()  # where more is flat than was derived: why
    sampled: Sampled | None = None
    tried: tuple[int, float] = (0, 0.0)  # of a large network: generators, and the largest change of an output

    @property
    def best(self) -> Verified | None:
        """The trial of the least nullity, which is the generic one."""
        return min(self.trials, key=lambda trial: trial.nullity, default=None)

    @property
    def nullity(self) -> int | None:
        return None if self.best is None else self.best.nullity

    @property
    def surplus(self) -> int | None:
        """How many flat directions every seed has beyond those derived."""
        return None if self.nullity is None else self.nullity - self.dimension

    @property
    def max_output_error(self) -> float:
        return max([trial.max_output_error for trial in (*self.trials, *self.given)] + [self.tried[1]])

    @property
    def generators(self) -> int:
        return max([trial.generators for trial in (*self.trials, *self.given)] + [self.tried[0]])

    def json(self) -> dict[str, Any]:
        best = self.best
        return {
            "generators": self.generators,
            "max_output_error": self.max_output_error,
            "nullity": self.nullity,
            "nullities": [trial.nullity for trial in self.trials],
            "seeds": [trial.seed for trial in self.trials],
            "surplus": self.surplus,
            "parameters": self.parameters,
            "gap": None if best is None or not isfinite(best.gap) else best.gap,  # JSON has no infinity
            "spectrum": [] if best is None else list(best.spectrum.values),
            "given": [
                {"seed": one.seed, "nullity": one.nullity, "max_output_error": one.max_output_error}
                for one in self.given
            ],
            "hidden": [{"weights": label, "causes": causes} for label, causes in self.hidden],
            "sampled": None if self.sampled is None else self.sampled.json(),
        }


def verify(
    graph: Graph,
    group: SymmetryGroup,
    seed: int = 0,
    states: Sequence[tuple[int, Mapping[str, Tensor]]] = (),
) -> Verification:
    """Try a group on random weights of `SEEDS` seeds from `seed` on, and on states given with their seeds.

    Raises InternalError where a guard does not hold, SpecError for states that are not finite and for networks
    that are too large.
    """
    parameters = cost_table(graph).parameters
    given = [(number, as_double(graph, state)) for number, state in states]
    if parameters > LARGEST:
        raise SpecError((_too_large(graph, parameters),))
    if parameters > PARAMETER_LIMIT:
        tried, worst, _ = guarded_error(idealised(graph), group, seed, count=_affordable(parameters))
        sampled = sampled_nullity(graph, group, seed, PARAMETER_LIMIT)
        return Verification(
            dimension=group.continuous_dimension + group.redundant,
            parameters=parameters,
            sampled=sampled,
            tried=(tried, worst),
        )
    found = Verification(
        dimension=group.continuous_dimension + group.redundant,
        parameters=parameters,
        trials=tuple(verify_group(graph, group, number) for number in range(seed, seed + SEEDS)),
        given=tuple(verify_group(graph, group, number, state) for number, state in given),
    )
    listed = (*_generic(graph, group, found), *_hidden(graph, group, seed, given))
    return found.replace(hidden=listed)


def _generic(graph: Graph, group: SymmetryGroup, found: Verification) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the causes of the surplus, at the random weights where the least is flat; with slopes, as it is counted."""
    best, surplus = found.best, found.surplus
    if best is None or not surplus:
        return
    label = f"random, seed {best.seed}"
    own = hidden_at(idealised(graph), group, best.state, DEFAULT, label, best.seed, TOLERANCE, slopes=True)
    causes = {cause: count for cause, count in own.causes.items() if count}
    rest = surplus - sum(
        causes.values()
    )  # what weights alone cannot keep, but statistics that a norm stores can
    cause = "statistics of a norm" if statistics_of(group) else "unknown"
    yield label, causes | ({cause: causes.get(cause, 0) + rest} if rest > 0 else {})


def _hidden(
    graph: Graph, group: SymmetryGroup, seed: int, given: Sequence[tuple[int, State]]
) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield why more is flat at given weights than was derived, by cause.

    Here without slopes: units that are dead at these weights are a cause.
    """
    ready = idealised(graph)
    for number, state in given:
        label = f"trained, seed {number}"
        found = hidden_at(ready, group, state, DEFAULT, label, seed, TOLERANCE)
        if found.hidden:
            yield label, {cause: count for cause, count in found.causes.items() if count}


def as_double(graph: Graph, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return weights as doubles, the same numbers: ranks cannot be told in single precision.

    Raises SpecError for weights that are not finite.
    """
    import torch

    bad = [name for name, own in state.items() if own.is_floating_point() and not torch.isfinite(own).all()]
    if bad:
        where = ", ".join(f"`{name}`" for name in bad)
        raise SpecError(
            (WeightsNotFinite(graph.root.span, pass_name="symmetry", what="weights", where=where),)
        )
    return {
        name: own.detach().cpu().double() if own.is_floating_point() else own.detach().cpu()
        for name, own in state.items()
    }


def _affordable(parameters: int) -> int:
    """Return how many generators of a large network are tried, each of which rewrites its state."""
    return max(8, min(100, 400_000_000 // parameters))


def _too_large(graph: Graph, parameters: int) -> TooLargeToVerify:
    span = graph.root.inputs[0].span if graph.root.inputs else None
    return TooLargeToVerify(
        span, pass_name="symmetry", limit=f"{LARGEST:,}", network=graph.name, parameters=f"{parameters:,}"
    )
