"""Train one experiment. Ctrl-C leaves a run that --resume takes up again."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from nnspec import exits
from nnspec.commands.options import add_spec, open_spec
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
    result = train(open_spec(options).experiment(options.experiment), options)
    if options.json:
        write(json.dumps(result.json(), indent=2) + "\n")
    else:
        print_run(result)
    return exits.RUN_FAILED if result.problems or result.disappointments else exits.OK
