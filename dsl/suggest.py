"""Did you mean: the nearest known word to a misspelt one."""

from __future__ import annotations

from collections.abc import Iterable

_MOST_CANDIDATES = 2000  # comparing takes time, and a file may have any number of names


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that is nearest in spelling, None if none is within a third of the length."""
    from difflib import get_close_matches

    candidates = sorted({name for name in known if len(word) <= 2 * len(name) <= 4 * len(word)})
    if len(word) > 200 or not 0 < len(candidates) <= _MOST_CANDIDATES:
        return None
    folded = {name.lower(): name for name in reversed(candidates)}
    found = get_close_matches(word.lower(), list(folded), n=1, cutoff=0.66)
    return folded[found[0]] if found else None
