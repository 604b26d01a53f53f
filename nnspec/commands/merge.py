"""Measure an experiment's loss along the straight path from the weights A to B, before and after B is aligned."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from pathlib import Path

from nnspec import exits
from nnspec.commands.options import add_spec, counting, open_spec
from nnspec.comparing import add_pair, weights
from nnspec.tables import print_result
from nnspec.terminal import note, write
from nnspec.training import add_training


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    add_pair(parser)
    parser.add_argument("--experiment", metavar="NAME", help="whose data and loss, if the file has several")
    parser.add_argument(
        "--points", metavar="N", type=counting(2), default=25, help="of the path; 25 if not given"
    )
    add_training(parser)
    parser.add_argument("-o", dest="output", metavar="FILE", type=Path, help="write a report: FILE.html")
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    from nnspec.analysing import Found
    from nnspec.compiler.passes.merge import merged
    from nnspec.compiler.runtime.plan import prepare

    spec = open_spec(options)
    experiment = spec.experiment(options.experiment)
    plan = prepare(experiment.fitted, options.data_root or spec.folder, options.device)
    states = weights(options.first, plan.graph), weights(options.second, plan.graph)
    result = merged(plan, *states, points=max(2, options.points))
    if options.output is not None:
        from nnspec.report import write_analyses

        write_analyses(options.output, spec, [Found(target=experiment.name, analysis="merge", result=result)])
        note(f"wrote {options.output}")
    if options.json:
        write(json.dumps(result.data, indent=2) + "\n")
    else:
        print_result(result)
    return exits.OK
