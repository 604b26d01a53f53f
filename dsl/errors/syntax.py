"""Errors of text and syntax (N01xx), and the limits of the parser (N05xx)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class UnexpectedCharacter(Error):
    code = "N0101"
    title = "unexpected character"
    message = "`{character}` means nothing here"
    label = "not part of the language"
    help = "{help}"
    explain = """The language is written with letters, digits, the operators + - * / // % ^ @ & = == != < <= > >=,
the arrows -> <-> =>, brackets, commas, dots, colons, and texts in double quotes."""


class UnexpectedToken(Error):
    code = "N0102"
    title = "syntax error"
    message = "unexpected {found}"
    label = "{label}"
    help = "{help}"
    explain = """What stands here cannot follow what stands before it. The label lists what can."""


class MissingValue(Error):
    code = "N0103"
    title = "missing value"
    message = "there is no {what} after `{after}`"
    label = "a {what} must follow"
    help = "{help}"
    explain = """A line ends where a value was still to come. A newline ends a statement; to go on, begin the
next line with `->` or an operator, or use brackets."""


class UnclosedBracket(Error):
    code = "N0104"
    title = "unclosed bracket"
    message = "`{bracket}` is never closed"
    label = "opened here"
    help = "add `{closing}`"
    explain = """Every ( [ and { needs its closing partner. The second place is where the text no longer
made sense inside the bracket."""


class UnmatchedBracket(Error):
    code = "N0105"
    title = "closing bracket without an opening one"
    message = "`{bracket}` closes {what}"
    label = "{label}"
    explain = """There is a closing bracket more than there are opening ones, or one of another kind."""


class MisspeltKeyword(Error):
    code = "N0106"
    title = "unknown keyword"
    message = "`{word}` begins no {what}"
    label = "not known"
    help = "{help}"
    explain = """A file consists of items (`use`, `let`, `layer`, `network`, `constraint`, `experiment`,
`analyze`, ...), a body of statements (`input`, `output`, `shared`, `constrain`, `require`, or
`name = value`)."""


class UnclosedText(Error):
    code = "N0107"
    title = "unclosed text"
    message = "this {what} has no closing {quote}"
    label = "opened here"
    explain = """A text stands in double quotes on one line; a docstring in triple quotes."""


class EmptyFile(Error):
    code = "N0110"
    title = "nothing in this file"
    message = "`{name}` declares nothing"
    explain = """A spec needs at least one item, such as a network. `nnspec new` writes a starter file."""


class FileMissing(Error):
    code = "N0111"
    title = "no such file"
    message = "there is no file `{name}`"
    help = "did you mean `{suggestion}`?"
    explain = """The file does not exist. Names of files are looked for as they are written,
relative to where the command runs."""


class FileUnreadable(Error):
    code = "N0112"
    title = "file cannot be read"
    message = "`{name}` cannot be read: {why}"
    explain = """The operating system refused to read the file, or it is a folder, a device or a pipe."""


class NotText(Error):
    code = "N0113"
    title = "not a text file"
    message = "`{name}` is not UTF-8 text: {why}"
    explain = """A spec is a text file in UTF-8. Most editors can save a file in that encoding."""


class FileTooLarge(Error):
    code = "N0501"
    title = "file too large"
    message = "`{name}` has {size}, and the limit is {limit}"
    explain = (
        """A spec is written by a person; the limit keeps an untrusted file from exhausting the machine."""
    )


class NestedTooDeeply(Error):
    code = "N0502"
    title = "nested too deeply"
    message = "brackets and operators are nested deeper than the limit"
    label = "too deep here"
    help = "name the inner parts with `let` or in lines of their own"
    explain = """Expressions may nest some hundred levels of operators and brackets."""


class NumberTooLong(Error):
    code = "N0503"
    title = "number too large"
    message = "this number is {what}"
    label = "beyond the limit"
    explain = """Whole numbers go to 2^63 - 1, other numbers to the range of double precision."""


class TooManyErrors(Error):
    code = "N0504"
    title = "too many errors"
    message = "more than {limit} syntax errors; the rest of the file was not read"
    explain = """The text is probably no spec at all: reading stops after a number of errors in one file."""
