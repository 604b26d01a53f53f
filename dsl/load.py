"""Reads a file into a Source, or says why not."""

from __future__ import annotations

from pathlib import Path

from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source


def load_source(path: Path, bag: Bag) -> Source | None:
    """Return the text of a file."""
    return Source(str(path), path.read_text(encoding="utf-8"), path)
