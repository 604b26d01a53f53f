"""Say whether two specs, or two sets of weights, are one network up to its symmetries: yes, no, or undecided."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from typing import Any

from nnspec import exits
from nnspec.commands.options import add_spec, open_network, positive
from nnspec.comparing import add_pair, weights
from nnspec.exits import UsageError
from nnspec.terminal import write


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    add_pair(parser, optional=True)
    parser.add_argument("--with", dest="other", metavar="FILE", help="the spec of B, if it is another one")
    parser.add_argument("--other-network", metavar="NAME", help="which network of it; the last otherwise")
    parser.add_argument(
        "--tolerance", metavar="X", type=positive, default=1e-6, help="relative; 1e-6 if not given"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    from nnspec.compiler.symmetry.equivalent import equivalent, same_architecture
    from nnspec.dsl.errors.command_line import NothingToCompare

    second = options.other is not None or options.other_network is not None
    if not second and options.second is None:
        raise UsageError(NothingToCompare(None, file=options.file))
    ours = open_network(options).graph
    theirs = ours
    if second:
        own: dict[str, Any] = {
            "file": options.other or options.file,
            "network": options.other_network,
            "parameters": [],
        }
        theirs = open_network(Namespace(**{**vars(options), **own})).graph
    if options.second is None:
        found = same_architecture(ours, theirs)
    else:
        states = weights(options.first, ours), weights(options.second, theirs)
        found = equivalent(ours, states[0], theirs, states[1], options.tolerance)
    if options.json:
        write(json.dumps(found.json(), indent=2) + "\n")
    else:
        near = "" if found.distance is None else f" (distance {found.distance:.3g})"
        write(f"{found.answer}: {found.reason}{near}\n")
    return exits.OK
