"""What training keeps of states that did not settle: how often, and how far from it, told once in the end.

In: the warnings of the emitted solvers, which carry a residual. Out: counts for the record of a run, and a diagnostic.
"""

from __future__ import annotations

import warnings
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors.unsettled import GradientsUnsettled, StatesUnsettled
from nnspec.dsl.source import Span


class Unsettled:
    """Counts of settlings that ended above their tolerance, by what was to settle."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, Any]] = {}

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
    """Return a warning for each kind of what did not settle."""
    made: list[Error] = []
    for of, kept in sorted(found.items(), reverse=True):  # states first
        error = GradientsUnsettled if of.startswith("gradient") else StatesUnsettled
        tolerance, _, steps = str(kept["why"]).partition(" after ")
        made.append(
            error(
                span,
                seed=seed,
                count=f"{kept['count']:,}",
                residual=f"{kept['residual']:.1e}",
                tolerance=tolerance,
                steps=steps,
            )
        )
    return tuple(made)
