"""Options that several verbs share, and how a spec is opened for them."""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Mapping
from math import inf
from pathlib import Path
from typing import Any

from nnspec import exits
from nnspec.compiler.pipeline import Checked, check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source
from nnspec.exits import Stop, UsageError
from nnspec.spec import Network, Spec

_SETTING = re.compile(r"([A-Za-z_]\w*)\s*=\s*(.*)", re.DOTALL)
_WORDS: dict[str, Any] = {"true": True, "false": False, "none": None}
_NUMBER = re.compile(r"[+-]?(\d[\d_]*)(\.\d[\d_]*)?([eE][+-]?\d+)?")
_LONGEST_NUMBER = 400


def add_spec(parser: ArgumentParser) -> None:
    """Add the file and what says which network of it, with which parameters."""
    parser.add_argument("file", metavar="FILE", help="a spec; `-` reads the standard input")
    parser.add_argument(
        "-p",
        dest="parameters",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="give a parameter of the network another value; may be repeated",
    )
    parser.add_argument("--network", metavar="NAME", help="which network; the last of the file otherwise")
    add_allow(parser)


def add_allow(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--allow",
        metavar="FOLDER",
        action="append",
        default=[],
        type=Path,
        help="a folder that `use` may read beside the spec's own; may be repeated",
    )


def open_spec(options: Namespace) -> Spec:
    """Return the checked spec, its errors printed; stop with exit code 1 if there are any."""
    from nnspec.terminal import complain, note

    bag = Bag()
    given = settings(options.parameters)
    source = read(options.file, bag)
    checked = None
    if source is not None:
        name: str | None = options.network
        checked = check(source, bag, folders=tuple(options.allow), parameters=given, network=name)
    complain(*bag)
    if checked is None or bag.failed:
        unknown = checked is not None and _names_unknown(checked, options.network, given)
        raise Stop(exits.USAGE if unknown else exits.SPEC_WRONG)
    if checked.unasked:
        names = ", ".join(f"`{name}`" for name in checked.unasked)
        note(f"claims about {names} are of the values in the spec, and not asked of those of -p")
    return Spec(checked)


def _names_unknown(checked: Checked, name: str | None, given: Mapping[str, Any]) -> bool:
    """Return whether `-p` names a parameter that the network does not have."""
    own = checked.networks()
    definition = checked.network(name) if name else own[-1] if own else None
    declared = () if definition is None else definition.item.parameters
    return definition is not None and bool(set(given) - {parameter.name for parameter in declared})


def open_network(options: Namespace) -> Network:
    """Return the network that the command line names."""
    return open_spec(options).network(options.network, **settings(options.parameters))


def read(name: str, bag: Bag) -> Source | None:
    """Return the text of a file or of the standard input (`-`); None after an error."""
    from nnspec.dsl.load import LARGEST_FILE, load_source, source_of

    if name != "-":
        return load_source(Path(name), bag)
    return source_of(sys.stdin.buffer.read(LARGEST_FILE + 1), "<stdin>", None, bag)


def settings(texts: list[str]) -> dict[str, Any]:
    """Return the parameters of `-p name=value`."""
    found: dict[str, Any] = {}
    for text in texts:
        match = _SETTING.fullmatch(text.strip())
        if match is None:
            raise _wrong(text, "there is no name before `=`" if "=" in text else "there is no `=`")
        name, written = match.groups()
        if name in found:
            raise _wrong(text, f"`{name}` is given twice")
        found[name] = _value(text, written.strip())
    return found


def _value(text: str, written: str) -> Any:
    if written in _WORDS:
        return _WORDS[written]
    if not written:
        raise _wrong(text, "there is no value")
    number = _NUMBER.fullmatch(written)
    if number is not None:
        return _number(text, written, number)
    if len(written) > 1 and written[0] == written[-1] == '"':
        return written[1:-1]
    return written


def _number(text: str, written: str, match: re.Match[str]) -> int | float:
    if len(written) > _LONGEST_NUMBER:
        raise _wrong(text, "the number is too long")
    value = float(written) if match.group(2) or match.group(3) else int(written)
    if abs(value) in (float("inf"),) or (isinstance(value, int) and abs(value) >= 2**63):
        raise _wrong(text, "the number is too large")
    return value


def _wrong(text: str, why: str) -> UsageError:
    from nnspec.dsl.errors.command_line import WrongSetting

    return UsageError(WrongSetting(None, text=text, why=why))


def positive(text: str) -> float:
    """Read a positive number; argparse says what else was given."""
    value = float(text)
    if not 0 < value < inf:
        raise ArgumentTypeError(f"{text} is no positive number")
    return value


def counting(least: int) -> Callable[[str], int]:
    """Return how to read a whole number that is at least so large."""

    def read(text: str) -> int:
        value = int(text)
        if value < least:
            raise ArgumentTypeError(f"{text} is less than {least}")
        return value

    read.__name__ = "whole number"  # argparse names the type so
    return read
