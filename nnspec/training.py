"""Trains an experiment for the command line: progress, what came out as a table, interruptions."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnspec import exits
from nnspec.compiler.claims.judge import table_of
from nnspec.exits import Stop
from nnspec.spec import Experiment
from nnspec.tables import print_table
from nnspec.terminal import complain, note, write

if TYPE_CHECKING:
    from nnspec.compiler.runtime.results import RunResult

_MOST_ROWS = 20  # of seeds in a table; beyond, the mean alone says enough


def add_training(parser: ArgumentParser) -> None:
    """Add the options of commands that train or need what was trained."""
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda", "mps"), help="where, whatever the spec says"
    )
    parser.add_argument(
        "--out", type=Path, default=Path("runs"), metavar="FOLDER", help="where runs are kept"
    )
    parser.add_argument(
        "--data-root", type=Path, metavar="FOLDER", help="where data files lie; else the spec's folder"
    )


def train(experiment: Experiment, options: Namespace) -> RunResult:
    """Train with progress; say so if it is interrupted."""
    from nnspec.progress import progress

    try:
        with progress(experiment.name) as told:
            result = experiment.train(
                device=options.device,
                out=options.out,
                resume=options.resume,
                data_root=options.data_root,
                on_progress=told,
            )
    except KeyboardInterrupt:
        note(f"interrupted; `--resume` goes on with {experiment.name} where it stopped")
        raise Stop(exits.INTERRUPTED) from None
    complain(*result.doubts, *result.problems, *result.disappointments)
    return result


def print_run(result: RunResult) -> None:
    """Print each seed's metrics on the held-out part, their mean and deviation, and where the run lies."""
    names = list(result.shown)
    rows: list[tuple[Any, ...]] = []
    if len(result.seeds) <= _MOST_ROWS:
        for seed in result.seeds:
            rows.append((str(seed.seed), seed.status, seed.epochs, *(seed.metrics.get(n) for n in names)))
    if len(result.seeds) > 1:
        rows.append((f"mean of {len(result.seeds)}", "", None, *(result.mean[n] for n in names)))
        rows.append(("deviation", "", None, *(result.deviation[n] for n in names)))
    columns = ("seed", "ended", "epochs", *result.shown.values())
    print_table(f"experiment {result.experiment}", columns, rows)
    if result.trials:
        count = len(result.trials) // len(result.seeds)
        kept = ", ".join(str(seed.restart) for seed in result.seeds[:_MOST_ROWS])
        write(f"of {count} restarts (0 to {count - 1}) was kept, by seed: {kept}\n")
    if result.claims:
        table = table_of(result.claims)
        means = f", scores being means over {len(result.seeds)} seeds" if len(result.seeds) > 1 else ""
        print_table(f"claims about {result.experiment}{means}", table.columns, table.rows)
    earlier = ", in place of an earlier one" if result.replaced else ", resumed" if result.resumed else ""
    write(f"run: {result.path}{earlier}\n")
