"""What learning rules tell of their steps: means over an epoch, which a row of history shows under `rule`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Notes:
    """Sums of what was noted, on the device: nothing waits for it before the epoch ends."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, name: str, value: Tensor) -> None:
        """Take note of one number of a step."""
        own = value.detach()
        self._sums[name] = self._sums[name] + own if name in self._sums else own
        self._counts[name] = self._counts.get(name, 0) + 1

    def means(self) -> dict[str, float]:
        """Return the mean of each since the last time that this was asked."""
        found = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        return found


def notes_row(learner: object) -> dict[str, dict[str, float]]:
    """Return what a learner's row of history says of its rules; nothing where they note nothing."""
    own = getattr(learner, "notes", None)  # networks in a stack have none
    found = own.means() if isinstance(own, Notes) else {}
    return {"rule": found} if found else {}
