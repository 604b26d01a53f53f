"""Do all that a file asks for: train its experiments, run its analyses, draw its networks, write one report."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from nnspec import exits
from nnspec.analysing import Found, analyse_all, judge_claims
from nnspec.commands.options import add_spec, open_spec
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.runtime.results import RunResult
from nnspec.dsl.diagnostics import RunError
from nnspec.report import write_report
from nnspec.spec import Spec
from nnspec.tables import print_result
from nnspec.terminal import complain, write
from nnspec.training import add_training, print_run, train


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    add_training(parser)
    parser.add_argument("--resume", action="store_true", help="go on with runs that stopped")
    parser.add_argument(
        "-o", dest="report", metavar="FILE", type=Path, help="the report; else reports/NAME.html"
    )


def run(options: Namespace) -> int:
    spec = open_spec(options)
    runs, failed = _train(spec, options)
    claimed, wrong = judge_claims(spec)
    for one in claimed:
        print_result(one.result)
    found, refused = _analyse(spec, options, failed)
    path = options.report or Path("reports") / f"{Path(spec.name).stem or 'spec'}.html"
    write_report(path, spec, runs, [*claimed, *found], options)
    write(f"report: {path}\n")
    wrong = wrong or any(result.problems or result.disappointments for result in runs)
    return exits.RUN_FAILED if failed or wrong or refused else exits.OK


def _train(spec: Spec, options: Namespace) -> tuple[list[RunResult], set[str]]:
    """Train every experiment; one that fails does not keep the others from running."""
    runs: list[RunResult] = []
    failed: set[str] = set()
    for name in _in_order(spec):
        if failed & set(_parents(spec.experiment(name).fitted)):
            failed.add(name)
            continue
        try:
            result = train(spec.experiment(name), options)
        except RunError as failure:
            complain(failure.error)
            failed.add(name)
        else:
            print_run(result)
            runs.append(result)
            failed |= {name} if result.problems else set()
    return runs, failed


def _in_order(spec: Spec) -> list[str]:
    """The experiments, each behind those whose weights it begins with."""
    found: dict[str, None] = {}
    for name in spec.experiments:
        own = [parent for parent in _parents(spec.experiment(name).fitted) if parent in spec.experiments]
        found |= dict.fromkeys([*reversed(own), name])
    return list(found)


def _parents(experiment: Experiment) -> list[str]:
    """The experiments that one begins with, each before those that it begins with itself."""
    starts = [part.experiment for part in experiment.parts]
    starts += [] if experiment.start is None else [experiment.start]
    return [name for start in starts for name in (start.name, *_parents(start))]


def _analyse(spec: Spec, options: Namespace, failed: set[str]) -> tuple[list[Found], bool]:
    """Run the file's analyses, but those of experiments that failed; return whether any was refused."""
    found: list[Found] = []
    refused = False
    for analysis in spec.checked.analyses:
        if analysis.target not in failed:
            own, errors = analyse_all(analysis, spec, options)
            for one in own:
                print_result(one.result)
            complain(*errors)
            refused = refused or bool(errors)
            found += own
    return found, refused
