"""The parser built from `grammar.lark`, cached on disk between processes."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar

import lark


class Newlines:
    """Lets the contextual lexer see a newline everywhere; the parse stage drops those inside brackets."""

    always_accept: ClassVar[tuple[str, ...]] = ("_NL",)

    def process(self, stream: Iterator[lark.Token]) -> Iterator[lark.Token]:
        return stream


def grammar_text() -> str:
    """Return the text of the grammar."""
    return files("nnspec.dsl").joinpath("grammar.lark").read_text(encoding="utf-8")


@lru_cache(maxsize=1)
def parser() -> lark.Lark:
    """Return the parser. An unwritable cache folder costs time, nothing else."""
    text = grammar_text()
    cache = _cache_file(text)
    if cache is not None:
        try:
            return _build(text, cache=str(cache))
        except (OSError, ValueError, EOFError):
            pass  # a cache that cannot be written or read is done without
    return _build(text)


def _build(text: str, **options: Any) -> lark.Lark:
    return lark.Lark(
        text,
        parser="lalr",
        lexer="contextual",
        postlex=Newlines(),
        propagate_positions=True,
        maybe_placeholders=True,
        **options,
    )


def _cache_file(text: str) -> Path | None:
    """Return where the built tables are kept: a folder of the user's own, by version and grammar."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(base) / "nnspec"
    key = hashlib.sha256(f"{lark.__version__}\n{text}".encode()).hexdigest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / f"grammar-{key}.bin" if os.access(folder, os.W_OK) else None
