"""Train one experiment. Ctrl-C leaves a run that --resume takes up again."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from nnspec import exits
from nnspec.analysing import judge_claims
from nnspec.commands.options import add_spec, open_spec
from nnspec.tables import print_result
from nnspec.terminal import write
from nnspec.training import add_training, print_run, train


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument(
        "experiment", metavar="EXPERIMENT", nargs="?", help="which one, if the file has several"
    )
    add_training(parser)
    parser.add_argument("--resume", action="store_true", help="go on where an earlier run stopped")
    parser.add_argument("--json", action="store_true", help="print the metrics as JSON")


def run(options: Namespace) -> int:
    spec = open_spec(options)
    experiment = spec.experiment(options.experiment)
    result = train(experiment, options)
    claimed, wrong = judge_claims(spec, {experiment.fitted.graph.name})
    if options.json:
        write(json.dumps(result.json(), indent=2) + "\n")
    else:
        print_run(result)
        for one in claimed:
            print_result(one.result)
    return exits.RUN_FAILED if wrong or result.problems or result.disappointments else exits.OK
