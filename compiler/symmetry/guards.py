"""The guards of a derived group: its generators change no output, its dimension is that of a fibre.

In: a group, its graph, weights in double precision. The nullity of the parameter Jacobian bounds the derived
dimension from above, for any weights; what breaks either guard is our bug and raises InternalError. Both are tried on
the idealised network, in which norms have no epsilon, the Jacobian also on hard weights and with slopes where
functions may be flat: that changes no symmetry, and leaves no dead units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from math import inf, isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.rank import Spectrum, spectrum
from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.sloped import sloped
from nnspec.compiler.symmetry.draws import (
    idealised,
    outputs_of,
    random_inputs,
    random_state,
    statistics_of,
    with_same_draws,
)
from nnspec.compiler.symmetry.generators import Generator, generators
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.diagnostics import InternalError
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]

GENERATOR_LIMIT = 200
ERROR_LIMIT = 1e-10  # of an output, relative to the largest
_STEP = 0.3  # of the continuous generators
_SAMPLES = 16
_FAR = 1e-6  # beyond this, rounding explains nothing
_ROUNDING = 100  # how much more than rounding an error may be before it is one of ours
_DRAWS = 3  # of calm weights, where others amplify rounding
_UNCLEAR = 1e4  # a gap below which a rank is not told: large weights fill a softmax, and what it then forgets looks flat


class Verified(Node):
    """What was found at one state: how many generators were tried, the largest relative change of an output,
    and the spectrum of the Jacobian."""

    seed: int
    generators: int
    max_output_error: float
    spectrum: Spectrum
    state: Any = None  # the weights of the spectrum

    @property
    def nullity(self) -> int:
        return self.spectrum.nullity

    @property
    def parameters(self) -> int:
        return len(self.spectrum.values)

    @property
    def gap(self) -> float:
        return self.spectrum.gap

    def json(self) -> dict[str, Any]:
        return {
            "generators": self.generators,
            "max_output_error": self.max_output_error,
            "nullity": self.nullity,
            "parameters": self.parameters,
            "gap": self.gap if isfinite(self.gap) else None,  # JSON has no infinity
        }


def verify_group(graph: Graph, group: SymmetryGroup, seed: int = 0, state: State | None = None) -> Verified:
    """Try the generators and count the nullity, at random weights or at a state.

    Raises InternalError if a generator changes an output, or the dimension is above the nullity.
    """
    graph = idealised(graph)
    tried, worst, used = guarded_error(graph, group, seed, state)
    own = jacobian_spectrum(sloped(graph), group, used, seed)
    if state is None and own.gap < _UNCLEAR:
        calm = random_state(graph, group, seed, calm=True)
        other = jacobian_spectrum(sloped(graph), group, calm, seed)
        used, own = (calm, other) if other.gap > own.gap else (used, own)
    claimed, found = group.continuous_dimension + group.redundant, own.nullity
    if claimed > found:
        raise InternalError(f"{graph.name}: dimension {claimed} is above the Jacobian's nullity {found}")
    return Verified(seed=seed, generators=tried, max_output_error=worst, spectrum=own, state=used)


def guarded_error(
    graph: Graph, group: SymmetryGroup, seed: int, state: State | None = None, count: int = GENERATOR_LIMIT
) -> tuple[int, float, State]:
    """Return how many generators were tried, the largest relative change of an output, and where.

    Where random weights amplify rounding beyond the limit, smaller ones are drawn. Raises InternalError if the
    change is more than rounding explains, and names the generator.
    """
    used = random_state(graph, group, seed) if state is None else state
    found = largest_error(graph, group, used, seed, count)
    for number in range(_DRAWS if state is None else 0):
        if found.change <= ERROR_LIMIT:
            break
        used = random_state(graph, group, seed + 1000 * number, calm=True)
        found = largest_error(graph, group, used, seed, count)
    if not (
        found.change <= ERROR_LIMIT or found.change <= _ROUNDING * rounding(graph, group, used, seed) < _FAR
    ):
        raise InternalError(
            f"{graph.name}: {_named(found.worst, used)} changes an output by {found.change:.1e}"
        )
    return found.tried, found.change, used


class Tried(Node):
    """How many generators were applied, the largest relative change of an output, and the one that made it."""

    tried: int
    change: float
    worst: Generator | None


def largest_error(
    graph: Graph, group: SymmetryGroup, state: State, seed: int, count: int = GENERATOR_LIMIT
) -> Tried:
    """Apply generators to a state and return the largest relative change of an output."""
    changed = _change(graph, group, state, seed)
    tried = _spread(generators(group, seed), count, seed)
    largest, worst = 0.0, None
    for generator in tried:
        own = changed(generator(dict(state), _length(generator)))
        if own > largest:
            largest, worst = own, generator
    return Tried(tried=len(tried), change=largest, worst=worst)


def _length(generator: Generator) -> float:
    return 1.0 if generator.family in ("permutation", "sign") else _STEP


def _named(generator: Generator | None, state: State) -> str:
    """Say which generator it is: its family, its wire, and the tensors that it moves."""
    if generator is None:
        return "a generator of its symmetry group"
    moved = generator(dict(state), _length(generator))
    names = [key for key, own in moved.items() if not own.equal(state[key])]
    wire = "" if generator.wire is None else f" of the wire {generator.wire}"
    return f"the generator of family {generator.family}{wire}, which moves {', '.join(names) or 'nothing'},"


def _spread(given: Iterable[Generator], count: int, seed: int) -> list[Generator]:
    """Return all generators, or so many of them drawn at random, in order."""
    import random

    listed = list(given)
    if len(listed) <= count:
        return listed
    return [listed[index] for index in sorted(random.Random(seed).sample(range(len(listed)), count))]


def largest_change(graph: Graph, group: SymmetryGroup, state: State, other: State, seed: int) -> float:
    """Return the largest relative change of an output on random inputs, from one state to another."""
    return _change(graph, group, state, seed)(other)


def _change(graph: Graph, group: SymmetryGroup, state: State, seed: int) -> Callable[[State], float]:
    forward = with_same_draws(graph, seed)
    inputs = random_inputs(graph, _SAMPLES, seed)
    before = outputs_of(forward(state, *inputs))
    size = float(before.abs().max()) or 1.0

    def changed(other: State) -> float:
        found = float((outputs_of(forward(other, *inputs)) - before).abs().max()) / size
        return found if found == found else inf

    return changed


def rounding(graph: Graph, group: SymmetryGroup, state: State, seed: int) -> float:
    """Return how much outputs change, relative to the largest, when weights change in their last digits."""
    import torch

    forward = with_same_draws(graph, seed)
    inputs = random_inputs(graph, _SAMPLES, seed)
    before = outputs_of(forward(state, *inputs))
    random = torch.Generator().manual_seed(seed)
    worst = 0.0
    for _ in range(4):
        moved = {
            name: value * (1 + 1e-15 * torch.randn(value.shape, generator=random, dtype=torch.float64))
            if value.dtype == torch.float64
            else value
            for name, value in state.items()
        }
        worst = max(worst, float((outputs_of(forward(moved, *inputs)) - before).abs().max()))
    return worst / (float(before.abs().max()) or 1.0)


def jacobian_spectrum(
    graph: Graph,
    group: SymmetryGroup,
    state: State,
    seed: int,
    entries: Mapping[str, Tensor] | None = None,
) -> Spectrum:
    """Return the spectrum of the Jacobian on random inputs, of all learned weights or of some entries of them."""
    chart = Chart(graph, state, seed, entries, statistics_of(group))
    return spectrum(chart, lambda more, count: random_inputs(graph, count, seed + more))


def jacobian_nullity(graph: Graph, group: SymmetryGroup, state: State, seed: int) -> tuple[int, int, float]:
    """Return nullity of the Jacobian, the number of parameters, and the gap in the spectrum."""
    found = jacobian_spectrum(graph, group, state, seed)
    return found.nullity, len(found.values), found.gap
