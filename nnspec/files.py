"""Writes files whole or not at all, and says in a diagnostic why one cannot be written."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from nnspec.dsl.errors.command_line import CannotWrite
from nnspec.exits import UsageError


def write_text(path: Path, text: str) -> None:
    """Write text in UTF-8, replacing what was there; folders are made."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: Path, data: bytes) -> None:
    """Write bytes to a file beside the path, then put it in its place; a link is followed."""
    target = Path(os.path.realpath(path))
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        if target.exists():
            beside.chmod(target.stat().st_mode)
        beside.replace(target)
    except OSError as failure:
        with suppress(OSError):
            beside.unlink()
        why = failure.strerror or "the system refuses"
        raise UsageError(CannotWrite(None, path=str(path), why=why)) from None
