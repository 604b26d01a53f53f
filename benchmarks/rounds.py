"""Times alternatives in interleaved rounds of one process, so that what the machine does meanwhile hits all.

In: functions by name, each of which does its work once. Out: medians in seconds, and a table in Markdown.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median


def seconds(alternatives: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, float]:
    """Return the median time of each alternative; every second round runs them in reverse order."""
    found: dict[str, list[float]] = {name: [] for name in alternatives}
    for function in alternatives.values():
        function()
    for number in range(rounds):
        order = list(alternatives) if number % 2 == 0 else list(alternatives)[::-1]
        for name in order:
            begin = time.perf_counter()
            alternatives[name]()
            found[name].append(time.perf_counter() - begin)
    return {name: median(times) for name, times in found.items()}


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a table in Markdown."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(str(cell) for cell in line) + " |" for line in lines)
