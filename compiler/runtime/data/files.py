"""Which file a path of a spec names, and how much of it may be read.

In: a path as written, the folder that data may lie in. Out: the file's own path, or a RunError with a
diagnostic: no path leads outside the folder, links resolved, and devices and pipes are not opened.
"""

from __future__ import annotations

from pathlib import Path

from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.data import DataFileMissing, DataPathOutside, DataTooLarge
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest

LARGEST = 8 * 2**30  # bytes that one data set may take when unpacked


def find(path: str, root: Path, span: Span | None) -> Path:
    """Return the file that a spec's path names under `root`."""
    folder = root.resolve()
    try:
        found = (folder / path).resolve()
        inside = found.is_relative_to(folder)
        readable = inside and found.is_file()
    except (ValueError, OSError, RuntimeError):  # a zero character, a name too long, links in a circle
        raise RunError(DataFileMissing(span, path=_shown(path), root=_shown(root))) from None
    if not inside:
        raise RunError(DataPathOutside(span, path=_shown(path)))
    if not readable:
        near = _near(found)
        help_text = f"did you mean `{near}`?" if near else None
        raise RunError(DataFileMissing(span, path=_shown(path), root=_shown(root), help=help_text))
    return found


def limit(path: str, size: int, span: Span | None) -> None:
    """Refuse a file whose declared size is beyond the limit."""
    if size > LARGEST:
        error = DataTooLarge(span, path=path, found=size_text(size), limit=size_text(LARGEST))
        raise RunError(error)


def size_text(size: int) -> str:
    """Return a number of bytes in words: "1.5 GiB"."""
    value = float(size)
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if value < 1024 or unit == "TiB":
            return f"{value:.0f} {unit}" if unit == "bytes" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{size} bytes"


def _near(missing: Path) -> str | None:
    if not missing.parent.is_dir():
        return None
    names = [entry.name for _, entry in zip(range(1000), missing.parent.iterdir(), strict=False)]
    return nearest(missing.name, names)


def _shown(path: str | Path) -> str:
    return str(path).replace("\0", "\\0")[:200]
