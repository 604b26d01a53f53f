"""Mutations of every gallery spec and documentation fence go through the whole check.

Nothing raises; and where no error is told, every network that can be made was made: no statement was
dropped on the way.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from nnspec.compiler.pipeline import Checked, check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.render import to_json, to_text
from nnspec.dsl.source import Source

ROOT = Path(__file__).parent.parent.parent
PAGES = (ROOT / "README.md", ROOT / "docs" / "language.md")
SPECS = sorted((ROOT / "specs").rglob("*.nnspec"))
FENCE = re.compile(r"^```nnspec[^\n]*\n(.*?)^```", re.DOTALL | re.MULTILINE)
TEXTS = {
    **{path.stem: path.read_text(encoding="utf-8") for path in SPECS},
    **{
        f"{page.stem}_{number}": match.group(1)
        for page in PAGES
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8")))
    },
}
TOKEN = re.compile(r'"""(?:.|\n)*?"""|"[^"\n]*"|\w+|->|=>|\.\.|[^\w\s]|\n')
STRANGE = (
    *('"text"', "0", "-1", "1.5", "9223372036854775807", "none", "true", "[]", "[1, 2]", "0..3", "x", "y"),
    *("(", ")", "[", "]", "{", "}", ",", "=", ":", "->", "=>", "..", ".", "*", "**", "&", "^", "@", "if"),
    *("else", "not", "every", "except", "dense", "relu", "split(2)", "concat(axis = 0)", "binary", "tied"),
    *("input", "output", "shared", "constrain", "require", "repeat(2) { relu }", "dense(3) as a", "\n"),
    *("(q => q + 1)", "real[n]", "int", "network", "layer", "experiment", "a.b", "x[0]", "é", "\u0000", "\t"),
)
ROUNDS = 12  # mutations of each text


def mutated(text: str, chance: random.Random) -> str:
    """Delete, repeat, replace, swap or insert a few tokens."""
    places = [match.span() for match in TOKEN.finditer(text)]
    for _ in range(chance.randint(1, 3)):
        start, end = chance.choice(places)
        other = chance.choice(places)
        replacement = chance.choice(
            (
                "",
                text[start:end] * 2,
                chance.choice(STRANGE),
                text[slice(*other)],
                f" {chance.choice(STRANGE)} ",
            )
        )
        text = text[:start] + replacement + text[end:]
        places = [match.span() for match in TOKEN.finditer(text)] or [(0, 0)]
    return text


def checked(text: str) -> tuple[Checked, Bag]:
    bag = Bag()
    return check(Source("mutated.nnspec", text), bag), bag


@pytest.mark.parametrize("name", TEXTS)
def test_mutations_never_raise_and_nothing_is_dropped(name: str) -> None:
    chance = random.Random(name)
    for _ in range(ROUNDS):
        text = mutated(TEXTS[name], chance)
        found, bag = checked(text)
        for error in bag:
            assert to_text(error) and to_json(error)["code"]
        if bag.failed:
            continue
        for network in found.networks():
            if all(parameter.default is not None for parameter in network.item.parameters):
                assert found.graph(network) is not None or bag.failed, text


@pytest.mark.parametrize("name", TEXTS)
def test_a_spec_cut_short_never_raises(name: str) -> None:
    chance = random.Random(name)
    text = TEXTS[name]
    for _ in range(3):
        checked(text[: chance.randrange(len(text))])
        start = chance.randrange(len(text))
        checked(text[:start] + text[start + chance.randint(1, 40) :])
