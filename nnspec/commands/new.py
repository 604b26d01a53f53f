"""Write a first spec to start from: a small network, an experiment, an analysis."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path

from nnspec import exits
from nnspec.exits import UsageError
from nnspec.terminal import note


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "file", metavar="FILE", nargs="?", default="first.nnspec", help="where; first.nnspec otherwise"
    )


def run(options: Namespace) -> int:
    from importlib.resources import files

    from nnspec.dsl.errors.command_line import CannotWrite, FileExists

    path = Path(options.file if options.file.endswith(".nnspec") else f"{options.file}.nnspec")
    text = files("nnspec").joinpath("starter.nnspec").read_text(encoding="utf-8")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise UsageError(FileExists(None, path=str(path))) from None
    except OSError as failure:
        raise UsageError(CannotWrite(None, path=str(path), why=failure.strerror)) from None
    note(f"wrote {path}; now try `nnspec run {path}`")
    return exits.OK
