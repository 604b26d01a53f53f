"""Constructs that parse and whose meaning comes later: refused, never ignored (N1000)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class NotBuiltYet(Error):
    code = "N1000"
    title = "not built yet"
    message = "not built yet: {what}"
    label = "understood, but not built yet"
    explain = """The language has this construct, and this version of the compiler cannot give it its
meaning. It is refused rather than ignored, so that a spec either means what it says or does not run."""
