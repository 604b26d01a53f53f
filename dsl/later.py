"""The words and statements whose meaning comes later, and what each is about.

They parse, and `bind` refuses each with the code of `NotBuiltYet`.
"""

from __future__ import annotations

from nnspec.dsl.syntax import Over, Statement

LATER_STATEMENTS: dict[type[Statement], str] = {
    Over: "`over`, a loop along a dimension",
}

_OPERATIONS = {
    "previous": "`previous`, the value one step ago",
    "attention": "attention",
    "rotary": "rotary positions",
    "mask": "masks of ragged axes",
    "length": "lengths of ragged axes",
    "graph_conv": "graph-shaped data",
}

LATER_WORDS: dict[str, str] = {name: f"the constraint `{name}`" for name in (*("unitary", "block"),)}


def what_later(name: str) -> str | None:
    """Return what a word of the library that is not built yet is about, None for any other word."""
    return _OPERATIONS.get(name)
