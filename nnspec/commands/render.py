"""Draw a network as svg, png, pdf, html or dot, by the ending of the output file."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from nnspec import exits
from nnspec.commands.options import add_spec, open_network
from nnspec.terminal import note, write


def arguments(parser: ArgumentParser) -> None:
    add_spec(parser)
    parser.add_argument(
        "-o", dest="output", metavar="FILE", help="FILE.svg, .png, .pdf, .html or .dot; `-` prints dot"
    )
    parser.add_argument("--depth", type=int, metavar="N", help="draw blocks deeper than N as one node each")
    parser.add_argument("--theme", choices=("light", "dark"), default="light", help="colours of the picture")


def run(options: Namespace) -> int:
    network = open_network(options)
    dot = network.dot(depth=options.depth, theme=options.theme)
    if options.output == "-":
        write(dot)
        return exits.OK
    from nnspec.compiler.diagrams.renderer import render

    path = Path(options.output or f"{network.name}.svg")
    render(dot, path.suffix.lstrip("."), path)
    note(f"wrote {path}")
    return exits.OK
