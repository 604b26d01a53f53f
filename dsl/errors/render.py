"""Errors of drawing (N09xx)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class NoRenderer(Error):
    code = "N0901"
    title = "no renderer"
    message = "nothing here can draw a picture"
    found = "the DOT text is in {beside}"
    help = 'pip install "nnspec[render]", or install Graphviz so that `dot` is on the PATH'
    explain = """Pictures are drawn by Graphviz' `dot` or by the `graphviz-pure` wheel. Without either the DOT text is
written, which any Graphviz turns into a picture."""


class NoPdf(Error):
    code = "N0902"
    title = "no PDF without Graphviz"
    message = "the renderer at hand cannot write PDF"
    help = "install Graphviz so that `dot` is on the PATH, or write .svg and print it from a browser"
    explain = """The `graphviz-pure` wheel draws SVG and PNG; PDF needs Graphviz itself."""


class RenderFailed(Error):
    code = "N0903"
    title = "picture could not be drawn"
    message = "{program}: {why}"
    explain = """The renderer was started and failed. `nnspec render FILE -o -` prints the DOT text that it was
given."""


class UnknownFormat(Error):
    code = "N0904"
    title = "unknown kind of picture"
    message = "pictures are not written as `.{format}`"
    help = "the ending of the file says the kind: {known}"
    explain = """A picture's kind is read off the ending of the output file."""


class TooManyUnits(Error):
    code = "N0905"
    title = "too many units to draw"
    message = (
        "{network} has {units} units and {lines} connections; at most {most_units} and {most_lines} are drawn"
    )
    help = "`-p NAME=VALUE` makes the network smaller, `--view symmetry` draws one of any size"
    explain = """`render --view neurons` draws every unit as a dot and every weight as a line. Beyond some hundred dots
nothing could be seen. A network whose widths are parameters can be drawn small: what is exchanged with what is the same."""


class NoUnits(Error):
    code = "N0906"
    title = "no units to draw"
    message = "{network} has no linear maps with weights between units"
    help = "`--view symmetry` draws what the network has"
    explain = """`render --view neurons` draws weights as lines between the units that they join. Tables that are looked
up, gains and biases join none."""
