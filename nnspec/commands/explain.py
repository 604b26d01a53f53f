"""Explain an error code or a word of the library; without one, list them all."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from nnspec import exits
from nnspec.compiler.catalog import catalog
from nnspec.dsl.catalog import Argument, Entry, describe
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors import all_errors
from nnspec.dsl.expected import ITEMS, STATEMENTS
from nnspec.exits import UsageError
from nnspec.reference import signature, value_text
from nnspec.terminal import write

_WIDTH = 88
_LANGUAGE = frozenset((*ITEMS, *STATEMENTS, "repeat", "as", "if", "else", "every", "except", "gradient"))


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("word", metavar="WORD", nargs="?", help="N0401, dense, binary, adam, symmetry, ...")


def run(options: Namespace) -> int:
    if options.word is None:
        write(_index())
        return exits.OK
    codes = {error.code: error for error in all_errors()}
    code = codes.get(options.word.upper())
    entries = catalog().anywhere(options.word)
    if code is None and not entries:
        raise UsageError(_nothing(options.word, codes))
    texts = [_error(code)] if code is not None else [_entry(entry) for entry in entries]
    write("\n".join(texts))
    return exits.OK


def _nothing(word: str, codes: dict[str, type[Error]]) -> Error:
    from nnspec.dsl.errors.command_line import NothingCalled
    from nnspec.dsl.suggest import nearest

    words = catalog()
    known = [name for family in words.families() for name in words.names(family)]
    near = None if word in _LANGUAGE else nearest(word, [*known, *codes])
    if near is not None:
        advice = f"did you mean `{near}`?"
    elif word in _LANGUAGE:
        advice = f"`{word}` belongs to the language itself: docs/language.md describes it"
    else:
        advice = "`nnspec explain` alone lists every word"
    return NothingCalled(None, name=word, advice=advice)


def _error(error: type[Error]) -> str:
    return f"{error.code}: {error.title} ({error.severity})\n\n{_paragraph(error.explain)}\n"


def _entry(entry: Entry) -> str:
    lines = [f"{entry.name} ({entry.family})", "", f"  {signature(entry)}", "", _paragraph(entry.doc)]
    if entry.arguments:
        lines += ["", "arguments:", *(_argument(argument) for argument in entry.arguments)]
    if entry.example:
        lines += ["", f"example:  {entry.example}"]
    return "\n".join(lines) + "\n"


def _argument(argument: Argument) -> str:
    default = "required" if argument.required else f"default {value_text(argument.default)}"
    about = f"; {argument.doc}" if argument.doc else ""
    return _paragraph(f"{argument.name}: {describe(argument)} ({default}){about}", "  ", "      ")


def _paragraph(text: str, first: str = "", rest: str = "") -> str:
    from textwrap import fill

    return fill(" ".join(text.split()), _WIDTH, initial_indent=first, subsequent_indent=rest)


def _index() -> str:
    words = catalog()
    lines: list[str] = []
    for family in sorted(words.families()):
        lines += [f"{family}:", _paragraph(", ".join(words.names(family)), "  ", "  "), ""]
    codes = ", ".join(sorted(error.code for error in all_errors()))
    return "\n".join([*lines, "error codes:", _paragraph(codes, "  ", "  "), ""])
