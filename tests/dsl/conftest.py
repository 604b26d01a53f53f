"""Every spec text there is (the fences of the documentation, the gallery, samples), and mutations of them."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def spec_texts() -> list[str]:
    texts = [
        match.group(2)
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for match in re.finditer(r"```nnspec( later)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    samples = sorted((ROOT / "tests" / "diagnostics").glob("*.nnspec"))
    broken = ("syntax", "file")  # those that do not parse
    files = [
        *sorted((ROOT / "specs").rglob("*.nnspec")),
        *sorted((ROOT / "tests" / "dsl" / "golden").glob("*.nnspec")),
        *(path for path in samples if not path.stem.startswith(broken)),
    ]
    return texts + [path.read_text(encoding="utf-8") for path in files]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return spec_texts()


TOKENS = (
    *(
        "network",
        "layer",
        "experiment",
        "input",
        "output",
        "x",
        "3",
        "0.5",
        '"t"',
        '"""d"""',
        "(",
        ")",
        "[",
        "]",
    ),
    *(
        "{",
        "}",
        "->",
        "=>",
        "=",
        "==",
        ",",
        ":",
        ".",
        "..",
        "+",
        "-",
        "*",
        "/",
        "^",
        "@",
        "&",
        "\n",
        "if",
        "else",
    ),
    *("repeat", "not", "and", "every", "except", "as", "#c", "'", "\t", "\x00", "é"),
)


@pytest.fixture(scope="session")
def tokens() -> tuple[str, ...]:
    return TOKENS


@pytest.fixture(scope="session")
def mutate() -> Callable[[str, random.Random], str]:
    return mutated


def mutated(text: str, chance: random.Random) -> str:
    for _ in range(chance.choice((1, 2, 5))):
        at = chance.randrange(len(text) + 1)
        kind = chance.random()
        if kind < 0.4:
            text = text[:at] + chance.choice(TOKENS) + text[at:]
        elif kind < 0.7:
            text = text[:at] + text[at + chance.randrange(1, 8) :]
        else:
            start = chance.randrange(len(text) + 1)
            text = text[:at] + text[start : start + chance.randrange(1, 40)] + text[at:]
    return text
