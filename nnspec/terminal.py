"""What the command line prints: diagnostics, tables, progress; colours only where a person looks."""

from __future__ import annotations

import os
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from nnspec.dsl.diagnostics import Error

if TYPE_CHECKING:
    from rich.console import Console


def coloured(stream: TextIO) -> bool:
    """Return whether a stream shows colours: a terminal that is not dumb, and NO_COLOR is not set."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class _Held:
    """Diagnostics of a command that answers in JSON; `answered` once it has printed its own document."""

    def __init__(self) -> None:
        self.errors: list[Error] = []
        self.answered = False


_held: _Held | None = None


@contextmanager
def diagnostics_as_json() -> Generator[None]:
    """Print the diagnostics of a command in its end as one JSON document.

    They are its answer on the standard output if it has none of its own, else they go to the standard error stream.
    """
    global _held
    _held = held = _Held()
    try:
        yield
    finally:
        _held = None
    if held.errors:
        import json

        from nnspec.dsl.render import to_json

        text = json.dumps({"diagnostics": [to_json(error) for error in held.errors]}, indent=2) + "\n"
        _write(sys.stderr if held.answered else sys.stdout, text)


def complain(*errors: Error) -> None:
    """Print diagnostics to the standard error stream, or keep them for the end of a command that answers in JSON."""
    if _held is None:
        print_errors(errors, sys.stderr)
    else:
        _held.errors += errors


def print_errors(errors: Iterable[Error], stream: TextIO) -> None:
    """Print diagnostics in their long form, a blank line between them."""
    from nnspec.dsl.render import to_text

    colour = coloured(stream)
    texts = [to_text(error, colour=colour) for error in errors]
    if texts:
        _write(stream, "\n\n".join(texts) + "\n")


def write(text: str) -> None:
    """Print text as it stands to the standard output."""
    if _held is not None:
        _held.answered = True
    _write(sys.stdout, text)


def _write(stream: TextIO, text: str) -> None:
    """Print text; characters that the stream's encoding lacks are escaped."""
    encoding = stream.encoding or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding))


def note(text: str) -> None:
    """Print a line about what is going on, apart from the output proper."""
    _write(sys.stderr, text + "\n")


def console() -> Console:
    """Return where tables are printed. Away from a terminal they keep their natural width."""
    from rich.console import Console

    width = None if sys.stdout.isatty() else 240
    return Console(
        file=sys.stdout, no_color=not coloured(sys.stdout), width=width, highlight=False, soft_wrap=False
    )


def counted(number: int, noun: str) -> str:
    """Return `1 error`, `2 errors`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
