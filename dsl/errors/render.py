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
