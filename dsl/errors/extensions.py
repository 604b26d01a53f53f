"""What can be wrong with installed extensions (N0950 to N0958)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class WordClaimedTwice(Error):
    code = "N0950"
    title = "two claims to one word"
    message = "the {kind} `{word}` is defined twice: by {first} and by {second}"
    help = "uninstall one of the two, or ask its authors to rename the word"
    explain = """Every operation, rule, constraint and pass has a name of its own in the language. Two
installed packages (or a package and nnspec itself) define the same name, so a spec that uses it would have no
single meaning. Nothing is chosen silently: remove one of the two packages."""


class BrokenExtension(Error):
    code = "N0951"
    title = "an extension cannot be loaded"
    message = "the extension `{name}` of {package} cannot be loaded: {why}"
    help = "update or uninstall {package}"
    explain = """An installed package offers words for the language through the entry point group
`nnspec.extensions`, and importing it failed. The reason given is that of the import."""
