"""Reads a spec file into a Source, or says why not."""

from __future__ import annotations

from pathlib import Path

from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.errors.syntax import FileMissing, FileTooLarge, FileUnreadable, NotText
from nnspec.dsl.source import Source
from nnspec.dsl.suggest import nearest

LARGEST_FILE = 2_000_000  # bytes


def load_source(path: Path, bag: Bag) -> Source | None:
    """Return the text of a file; None after a diagnostic. Line ends become plain newlines."""
    name = str(path)
    try:
        if path.exists() and not path.is_file():
            why = "it is a folder" if path.is_dir() else "it is no ordinary file"
            bag.add(FileUnreadable(None, name=name, why=why))
            return None
        if not path.is_file():
            near = [p.name for p in path.parent.glob("*.nnspec")] if path.parent.is_dir() else []
            bag.add(FileMissing(None, name=name, suggestion=nearest(path.name, near)))
            return None
        size = path.stat().st_size
        if size > LARGEST_FILE:
            text = f"{size:,} bytes"
            bag.add(FileTooLarge(None, name=name, size=text, limit=f"{LARGEST_FILE:,}"))
            return None
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        why = getattr(error, "strerror", None) or "it can be no file's name"
        bag.add(FileUnreadable(None, name=name, why=why))
        return None
    return source_of(content, name, path, bag)


def source_of(content: bytes, name: str, path: Path | None, bag: Bag) -> Source | None:
    """Decode the bytes of a spec; None after a diagnostic."""
    if b"\0" in content:
        line = content[: content.index(b"\0")].count(b"\n") + 1
        bag.add(NotText(None, name=name, why=f"line {line} holds a zero byte"))
        return None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        bag.add(NotText(None, name=name, why=f"line {line} holds the byte 0x{content[error.start]:02x}"))
        return None
    return Source(name, text.replace("\r\n", "\n").replace("\r", "\n"), path)
