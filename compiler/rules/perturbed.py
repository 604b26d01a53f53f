"""The loss at places near the weights: parameters shifted and put back, with the same draws at each place."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup

Found = TypeVar("Found")


def shift(parameters: Sequence[Tensor], stored: Sequence[Tensor], by: Sequence[Tensor], times: float) -> None:
    """Set parameters to `stored + times * by`: from the kept values, so that rounding never adds up."""
    import torch

    with torch.no_grad():
        for parameter, centre, v in zip(parameters, stored, by, strict=True):
            parameter.copy_(torch.add(centre, v, alpha=times))


def put_back(parameters: Sequence[Tensor], stored: Sequence[Tensor]) -> None:
    """Set parameters to their kept values, exactly."""
    import torch

    with torch.no_grad():
        for parameter, own in zip(parameters, stored, strict=True):
            parameter.copy_(own)


class SameDraws:
    """Calls that see the same random numbers and the same buffers; the first one moves both, the others neither.

    Otherwise the difference of two dropout masks would drown that of two places, and running statistics would
    move several times a step.
    """

    def __init__(self, run: LearningGroup) -> None:
        self._run = run
        self._draws = run.draws()
        self._before = [buffer.clone() for buffer in run.network.buffers()]
        self._after: list[Tensor] | None = None

    def __call__(self, function: Callable[[], Found]) -> Found:
        """Return what the function returns."""
        if self._after is not None:
            self._run.draw_again(self._draws)
            self._set(self._before)
        found = function()
        if self._after is None:
            self._after = [buffer.clone() for buffer in self._run.network.buffers()]
        return found

    def finish(self) -> None:
        """Leave buffers as the first call did."""
        self._set(self._after or ())

    def _set(self, buffers: Sequence[Tensor]) -> None:
        for buffer, kept in zip(self._run.network.buffers(), buffers, strict=False):
            buffer.copy_(kept)


@contextmanager
def same_draws(run: LearningGroup) -> Generator[SameDraws]:
    """Yield calls that draw the same numbers, as many as there are of them."""
    again = SameDraws(run)
    yield again
    again.finish()
