"""Find every error in specs. Exit code 1 if there is any; warnings alone give 0."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from nnspec import exits
from nnspec.commands.options import add_allow, read
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag, Error
from nnspec.exits import UsageError
from nnspec.terminal import counted, print_errors, write


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="specs; `-` reads the standard input")
    parser.add_argument(
        "--format",
        choices=("text", "json", "sarif", "gcc"),
        default="text",
        help="text for people, one line an error for editors (gcc), or json or sarif for programs",
    )
    add_allow(parser)


def run(options: Namespace) -> int:
    if options.files.count("-") > 1:
        from nnspec.dsl.errors.command_line import OnlyOneInput

        raise UsageError(OnlyOneInput(None))
    found = [error for name in options.files for error in _check(name, options.allow)]
    failed = any(error.severity == "error" for error in found)
    _print(found, options.format, len(options.files))
    return exits.SPEC_WRONG if failed else exits.OK


def _check(name: str, folders: list[Any]) -> Bag:
    bag = Bag()
    source = read(name, bag)
    if source is not None:
        check(source, bag, folders=tuple(folders))
    return bag


def _print(errors: list[Error], form: str, files: int) -> None:
    if form == "text":
        print_errors(errors, sys.stdout)
        write(_summary(errors, files))
    elif form == "gcc":
        from nnspec.dsl.render import to_line

        write("".join(to_line(error) + "\n" for error in errors))
    else:
        import json

        write(json.dumps(_data(errors, form), indent=2) + "\n")


def _data(errors: list[Error], form: str) -> dict[str, Any]:
    from nnspec import __version__
    from nnspec.dsl.render import to_json, to_sarif

    if form == "sarif":
        return to_sarif(errors, __version__)
    return {"diagnostics": [to_json(error) for error in errors]}


def _summary(errors: list[Error], files: int) -> str:
    wrong = sum(error.severity == "error" for error in errors)
    if not errors:
        return f"{counted(files, 'file')}: no errors\n"
    parts = [counted(wrong, "error")] if wrong else ["no errors"]
    if len(errors) > wrong:
        parts.append(counted(len(errors) - wrong, "warning"))
    codes = list(dict.fromkeys(error.code for error in errors))
    return f"\n{', '.join(parts)}; `nnspec explain {codes[0]}` says more\n"
