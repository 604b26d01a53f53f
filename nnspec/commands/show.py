"""List a network's layers, shapes, parameters and cost."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from nnspec import exits
from nnspec.commands.options import add_spec, open_network


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def run(options: Namespace) -> int:
    network = open_network(options)
    if not options.json:
        network.show()
        return exits.OK
    import json

    from nnspec.terminal import write

    write(json.dumps(network.cost().json(), indent=2) + "\n")
    return exits.OK
