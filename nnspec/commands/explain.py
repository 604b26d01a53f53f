"""Explain an error code or a word of the library; without one, list them all."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from nnspec import exits
from nnspec.compiler.catalog import catalog
from nnspec.dsl.catalog import Argument, Entry, describe
from nnspec.dsl.diagnostics import Bag, Error
from nnspec.dsl.errors import all_errors
from nnspec.dsl.expected import ITEMS, STATEMENTS
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source
from nnspec.dsl.standard import defined, parts, rules
from nnspec.dsl.syntax import File
from nnspec.exits import UsageError
from nnspec.reference import signature, value_text
from nnspec.terminal import write

_WIDTH = 88
_OF_RULES = frozenset(("phase", "feedback", "update", "settle", "forward", "relax"))
_LANGUAGE = frozenset(
    (*ITEMS, *STATEMENTS, "repeat", "as", "if", "else", "every", "except", "gradient", *_OF_RULES)
)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "word", metavar="WORD", nargs="?", help="N0401, dense, binary, adam, symmetry, library.blocks, ..."
    )


def run(options: Namespace) -> int:
    if options.word is None:
        write(_index())
        return exits.OK
    if options.word.split(".")[0] == "library":
        write(_library(options.word))
        return exits.OK
    codes = {error.code: error for error in all_errors()}
    code = codes.get(options.word.upper())
    entries = catalog().anywhere(options.word)
    texts = [_error(code)] if code is not None else [_entry(entry) for entry in entries]
    if options.word in rules():
        texts.append(_rule(options.word))
    homes = [part for part in _homes(options.word) if part != rules().get(options.word)]
    texts += [_library(f"library.{part}.{options.word}") for part in homes]
    if not texts:
        raise UsageError(_nothing(options.word, codes))
    write("\n".join(texts))
    return exits.OK


def _nothing(word: str, codes: dict[str, type[Error]]) -> Error:
    from nnspec.dsl.errors.command_line import NothingCalled
    from nnspec.dsl.suggest import nearest

    words = catalog()
    known = [*(name for family in words.families() for name in words.names(family)), *rules(), *defined()]
    near = None if word in _LANGUAGE else nearest(word, [*known, *codes])
    if near is not None:
        advice = f"did you mean `{near}`?"
    elif word in _LANGUAGE:
        under = ', under "Learning rules"' if word in _OF_RULES else ""
        advice = f"`{word}` belongs to the language itself: docs/language.md describes it{under}"
    else:
        advice = "`nnspec explain` alone lists every word"
    return NothingCalled(None, name=word, advice=advice)


def _rule(name: str) -> str:
    """Explain a learning rule of the library, which needs no `use`."""
    return (
        f"{name} (library.{rules()[name]})\n\n{_source(rules()[name], name)}\n\nuse it by:  learn = {name}\n"
    )


def _library(word: str) -> str:
    """Explain `library`, one of its parts, or a definition: `library.swish`, `library.activations.swish`."""
    from nnspec.dsl.errors.command_line import NothingCalled
    from nnspec.dsl.suggest import nearest

    name = word.rpartition(".")[2]
    if word == "library":
        return "\n".join(_part(part) for part in parts())
    if word == f"library.{name}" and name in parts():
        return _part(name)
    homes = _homes(name)
    part = next((part for part in homes if word == f"library.{part}.{name}"), defined().get(name))
    if part is None or word not in (f"library.{name}", f"library.{part}.{name}"):
        near = nearest(name, [*parts(), *defined()])
        advice = f"did you mean `library.{near}`?" if near else "`nnspec explain library` lists what there is"
        raise UsageError(NothingCalled(None, name=word, advice=advice))
    return f"{name} (library.{part})\n\n{_source(part, name)}\n\nuse it by:  use library.{part}\n"


def _homes(name: str) -> list[str]:
    """Return the parts of the library that define a name."""
    if name not in defined():
        return []
    return [
        part for part in parts() if any(getattr(item, "name", None) == name for item in _parsed(part).items)
    ]


def _names(part: str) -> str:
    """Return what a part of the library defines, in its order; two parts may define one name."""
    items = (getattr(item, "name", None) for item in _parsed(part).items)
    return ", ".join(name for name in items if name is not None)


def _part(part: str) -> str:
    names = _names(part)
    about = _parsed(part).doc or ""
    return f"library.{part}:\n{_paragraph(about, '  ', '  ')}\n{_paragraph(names, '  ', '  ')}\n"


def _source(part: str, name: str) -> str:
    """Return a definition of the library as it is written there."""
    item = next(item for item in _parsed(part).items if getattr(item, "name", None) == name)
    return "\n".join(f"  {line}" if line else "" for line in item.span.text.split("\n"))


def _parsed(part: str) -> File:
    path = parts()[part]
    return parse(Source(path.name, path.read_text(encoding="utf-8")), Bag())


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
    for part in parts():
        names = _names(part)
        lines += [f"library.{part}:", _paragraph(names, "  ", "  "), ""]
    return "\n".join([*lines, "error codes:", _paragraph(codes, "  ", "  "), ""])
