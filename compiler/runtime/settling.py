"""What training keeps of states that did not settle: how often, and how far from it, told once in the end.

In: the warnings of the emitted solvers, which carry a residual, and the residuals of phases of rules, which stay on the device
until they are read. Out: counts for the record of a run, why, and a diagnostic.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors.unsettled import GradientsUnsettled, StatesUnsettled
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.ir import Graph


NUDGED = 0.1  # of the way that a nudge moves states: what the last step may still move them by
_NUDGED_ADVICE = (
    "take a smaller nudge, more nudged steps, or a smaller `damping` (of a map) or `dt` (of a flow)"
)
_ADVICE = "try more steps, another `damping` (of a map) or `dt` (of a flow), `clip`, or `solve = anderson`"
_SAMPLES = 4  # at which it is looked why


class Unsettled:
    """Counts of settlings that ended above their tolerance, by what was to settle."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.phases: dict[tuple[str, int, float, float], tuple[Tensor, Tensor]] = {}  # counts, and the worst
        self.nudged: dict[
            tuple[str, int], tuple[Tensor, Tensor]
        ] = {}  # the same, as shares of how far states were moved

    def note(self, what: str, residual: Tensor, steps: int, tolerance: float, stride: float) -> None:
        """Count what was to settle; nothing waits for the device. Of many networks, `residual` is one each."""
        key = (what, steps, tolerance, stride)
        count, worst = self.phases.get(
            key, (residual.new_zeros(residual.shape), residual.new_zeros(residual.shape))
        )
        self.phases[key] = (count + ~(residual <= tolerance), worst.maximum(residual))

    def of(self, place: int) -> Unsettled:
        """Return what was counted of one of many networks."""
        own = Unsettled()
        own.found = {of: dict(kept) for of, kept in self.found.items()}
        own.phases = {
            key: (count[place], worst[place]) if count.dim() else (count, worst)
            for key, (count, worst) in self.phases.items()
        }
        own.nudged = dict(self.nudged)  # many networks at once note none
        return own

    def note_nudged(self, phase: str, share: Tensor, steps: int) -> None:
        """Count a nudged phase whose states still moved, in the last step, by too large a share of their whole way."""
        count, worst = self.nudged.get((phase, steps), (share.new_zeros(()), share.new_zeros(())))
        self.nudged[phase, steps] = (count + ~(share <= NUDGED), worst.maximum(share))

    @property
    def worst_nudged(self) -> float | None:
        """The largest share of its way by which a nudged state still moved; None without such phases."""
        return max((float(worst) for _, worst in self.nudged.values()), default=None)

    def read(self) -> dict[str, dict[str, Any]]:
        """Return what was found, that of phases among it."""
        for (of, steps, tolerance, stride), (count, worst) in self.phases.items():
            if float(count):
                why = f"{tolerance:g} after {steps} steps"
                facts = {"count": int(count), "residual": min(float(worst), 1e300), "why": why}
                self.found[of] = {**facts, "stride": stride}
        for (phase, steps), (count, worst) in self.nudged.items():
            if float(count):
                why = f"{NUDGED:g} of the way that the nudge moved them after {steps} steps"
                facts = {"count": int(count), "residual": min(float(worst), 1e300), "why": why}
                self.found[f"the states of `{phase}`"] = {**facts, "advice": _NUDGED_ADVICE}
        return self.found

    def explain(self, graph: Graph, state: Mapping[str, Tensor], inputs: tuple[Tensor, ...]) -> None:
        """Look at the last weights, at some inputs, why states did not settle, and note it."""
        from nnspec.compiler.checks.unsettled import Settling, reason

        for of, kept in self.read().items():
            if of.startswith("gradient") or "advice" in kept:
                continue
            tolerance, _, steps = str(kept["why"]).partition(" after ")
            given = Settling(int(steps.split()[0]), float(tolerance), kept.get("stride"))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # the network says again what is known
                found = reason(graph, state, tuple(values[:_SAMPLES] for values in inputs), given)
            if found is not None:
                kept |= found._asdict()

    @contextmanager
    def watching(self) -> Generator[None]:
        """Keep the solvers' warnings to ourselves for a while; others are shown as ever."""
        with warnings.catch_warnings():
            warnings.filterwarnings("always", message=".* not settled to ", category=RuntimeWarning)
            shown: Any = warnings.showwarning

            def show(message: Any, *rest: Any, **options: Any) -> None:
                residual = getattr(message, "residual", None)
                if residual is None:
                    shown(message, *rest, **options)
                else:
                    self.add(str(message), residual)

            warnings.showwarning = show
            yield

    def add(self, text: str, residual: float) -> None:
        """Count one."""
        of, _, why = text.partition(" not settled to ")
        kept = self.found.setdefault(of, {"count": 0, "residual": 0.0, "why": why.partition(":")[0]})
        kept["count"] += 1
        if residual > kept["residual"]:  # not so where it is no number: then the loss is none either
            kept["residual"] = min(residual, 1e300)


def diagnostics(found: Mapping[str, Mapping[str, Any]], seed: int, span: Span | None) -> tuple[Error, ...]:
    """Return a warning of the states that did not settle, whatever phases they are of, and one of gradients."""
    rested = sorted(
        found.items(), key=lambda pair: (pair[1].get("advice") == _NUDGED_ADVICE, pair[0])
    )  # nudged phases begin there
    states = {of: kept for of, kept in rested if not of.startswith("gradient")}
    gradients = (_gradients(kept, seed, span) for of, kept in rested if of not in states)
    return (*([_states(states, seed, span)] if states else []), *gradients)


def _states(found: Mapping[str, Mapping[str, Any]], seed: int, span: Span | None) -> Error:
    """Return the warning of states, with each phase that they are of and what helps there."""
    times: list[str] = []
    for of, kept in found.items():
        what = "the network's own states" if of == "states" else of
        were = "" if times else "were not settled "
        worst = f"residual {kept['residual']:.1e} at worst"
        times.append(f"{kept['count']:,} times {what} {were}to {kept['why']} ({worst})")
    radii = [kept["radius"] for kept in found.values() if kept.get("radius") is not None]
    left = "; where the last weights left them a step has a spectral radius of {:.3g}"
    return StatesUnsettled(
        span,
        seed=seed,
        times="; ".join(times),
        radius=left.format(max(radii)) if radii else "",
        advice="; ".join(dict.fromkeys(kept.get("advice") or _ADVICE for kept in found.values())),
    )


def _gradients(kept: Mapping[str, Any], seed: int, span: Span | None) -> Error:
    tolerance, _, steps = str(kept["why"]).partition(" after ")
    return GradientsUnsettled(
        span,
        seed=seed,
        count=f"{kept['count']:,}",
        residual=f"{kept['residual']:.1e}",
        tolerance=tolerance,
        steps=steps,
    )
