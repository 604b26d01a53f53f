"""How far a run is: a bar on the standard error stream where that is a terminal, nothing elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nnspec.compiler.runtime.results import Progress as Told


@contextmanager
def progress(title: str) -> Generator[Callable[[Told], None] | None]:
    """Yield what `train` tells its progress to, None where nobody would see it."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    from nnspec.terminal import coloured

    columns = (TextColumn(title, markup=False), BarColumn(), TextColumn("{task.fields[now]}", markup=False))
    console = Console(file=sys.stderr, no_color=not coloured(sys.stderr))
    with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as bar:
        task = bar.add_task(title, total=1.0, now="")
        yield lambda told: bar.update(task, completed=told.fraction, now=_now(told))


def _now(told: Told) -> str:
    several = f"{told.networks} {'seeds' if told.networks == len(told.seeds) else 'networks'} at once"
    seeds = f"seed {told.seeds[0]}" if told.networks == 1 else several
    name = told.descended
    losses = [row[name] for row in told.rows if isinstance(row.get(name), float)]
    loss = f", {name} {sum(losses) / len(losses):.4g}" if losses else ""
    return f"{seeds}, epoch {told.epoch} of {told.epochs}{loss}"
