"""Put specs into their canonical form, comments kept. `-` reads the standard input and prints."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from nnspec import exits
from nnspec.commands.options import read
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source
from nnspec.terminal import complain, note, write


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("files", metavar="FILE", nargs="+", help="specs to rewrite where they stand")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit code 1 if a file is not canonical"
    )
    parser.add_argument("--diff", action="store_true", help="write nothing; print what would change")


def run(options: Namespace) -> int:
    codes = [_format(name, options) for name in options.files]
    return max(codes)


def _format(name: str, options: Namespace) -> int:
    from nnspec.dsl.format import format
    from nnspec.dsl.parse import parse

    bag = Bag()
    source = read(name, bag)
    file = None if source is None else parse(source, bag)
    complain(*bag)
    if source is None or file is None or bag.failed:
        return exits.SPEC_WRONG
    text = format(file)
    if options.check or options.diff:
        return _compare(source, text, options)
    if source.path is None:
        write(text)
    elif text != source.text:
        _rewrite(source, text)
    return exits.OK


def _compare(source: Source, text: str, options: Namespace) -> int:
    if text == source.text:
        return exits.OK
    if options.diff:
        write(_difference(source, text))
    else:
        note(f"{source.name}: not in canonical form")
    return exits.SPEC_WRONG if options.check else exits.OK


def _difference(source: Source, text: str) -> str:
    from difflib import unified_diff

    before, after = source.text.splitlines(keepends=True), text.splitlines(keepends=True)
    lines = unified_diff(before, after, source.name, f"{source.name} (formatted)")
    return "".join(line if line.endswith("\n") else f"{line}\n" for line in lines)


def _rewrite(source: Source, text: str) -> None:
    from nnspec.files import write_text

    assert source.path is not None
    write_text(source.path, text)
    note(f"{source.name}: formatted")
