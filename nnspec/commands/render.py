"""Draw a network as svg, png, pdf, html or dot, by the ending of the output file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from nnspec import exits
from nnspec.commands.options import add_spec, open_network
from nnspec.exits import UsageError
from nnspec.terminal import note, write


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument(
        "-o", dest="output", metavar="FILE", help="FILE.svg, .png, .pdf, .html or .dot; `-` prints dot"
    )
    parser.add_argument(
        "--view",
        choices=("architecture", "symmetry", "neurons"),
        default="architecture",
        help="what runs after what; wires coloured by the group that acts on them; or units as dots",
    )
    parser.add_argument("--depth", type=int, metavar="N", help="draw blocks deeper than N as one node each")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="colours of the picture")


def run(options: Namespace) -> int:
    path = Path(options.output or "picture.svg")
    if options.output != "-":
        _check_format(path)
    network = open_network(options)
    if options.output is None:
        path = Path(f"{network.name}.svg")
    dot = network.dot(view=options.view, depth=options.depth, theme=options.theme)
    if options.output == "-":
        write(dot)
        return exits.OK
    from nnspec.compiler.diagrams.renderer import render

    render(dot, path.suffix[1:], path)
    note(f"wrote {path}")
    return exits.OK


def _check_format(path: Path) -> None:
    from nnspec.compiler.diagrams.renderer import FORMATS

    if path.suffix[1:] not in FORMATS:
        from nnspec.dsl.errors.render import UnknownFormat

        known = ", ".join(f".{name}" for name in FORMATS)
        raise UsageError(UnknownFormat(None, format=path.suffix[1:], known=known))
