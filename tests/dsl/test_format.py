"""The formatter keeps meaning and comments, and changes nothing the second time."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.format import format
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source
from nnspec.dsl.syntax import File


def read(text: str) -> File | None:
    bag = Bag()
    file = parse(Source("t.nnspec", text), bag)
    return None if bag.failed else file


def check_laws(text: str) -> bool:
    file = read(text)
    if file is None:
        return False
    once = format(file)
    again = read(once)
    assert again is not None, once
    assert again == file, once
    assert format(again) == once
    assert sorted(c.text for c in again.comments) == sorted(c.text for c in file.comments)
    return True


def test_laws_hold_for_every_spec(texts: list[str]) -> None:
    assert all(check_laws(text) for text in texts)


@settings(max_examples=200)
@given(st.randoms(use_true_random=False))
def test_laws_hold_with_comments_in_odd_places(texts: list[str], chance: random.Random) -> None:
    text = chance.choice(texts)
    for _ in range(3):
        ends = [match.start() for match in re.finditer(r"\n", text)] or [len(text)]
        at = chance.choice(ends)
        note = chance.choice(["  # note", "\n# own", "\n", "\n\n   # far"])
        text = text[:at] + note + text[at:]
    check_laws(text)


@settings(max_examples=150)
@given(st.randoms(use_true_random=False))
def test_laws_hold_for_mutated_specs_that_still_parse(
    texts: list[str], mutate: Callable[[str, random.Random], str], chance: random.Random
) -> None:
    items = chance.choice(texts).split("\n\n")
    check_laws(mutate(chance.choice(items), chance))


def test_the_surface_is_in_canonical_form() -> None:
    text = (Path(__file__).parent / "golden" / "surface.nnspec").read_text(encoding="utf-8")
    file = read(text)
    assert file is not None
    assert format(file) == text


MESSY = '''
language=1
"""  Two
   lines  """
use   "a.nnspec"   as b
use "c.nnspec"
let   w=3   # width


layer f( a :int=3,act:activation=relu ){   # head
  """Doc"""
  # first
  input x:real[.. ,w]
  y,z=x->[dense(a)  as one ,g]   # fork

  output o:real[3]=((y+z))*2->repeat( 3 ){f->h}
  # last
}
experiment e{
  network=f   # which
  data=digits( test=.2 ) if false else digits
  epochs=3

  seeds=0..4
}
'''.replace(".2 )", "0.2 )")


def test_canonical_form(golden: Callable[[str, str], None]) -> None:
    file = read(MESSY)
    assert file is not None
    golden("dsl/golden/messy.nnspec", format(file))


def many(pattern: str, separator: str, count: int = 12) -> str:
    return separator.join(pattern.format(i=i) for i in range(count))


LONG = f"""layer f({many("parameter_{i}: int = {i}", ", ")}) {{
  chain = x -> {many("dense({i}) as layer_{i}", " -> ")}
  sum = {many("2 * long_name_{i}", " - ")}
  call = f({many("argument_{i} = {i}", ", ")})
  items = [{many("long_name_{i}", ", ")}]
  step = x -> dense({many("argument_{i} = {i}", ", ")}) as head
  again = x -> repeat(i in 0..3, keep = all) {{ {many("dense({i})", " -> ")} }} -> ({many("dense({i})", " -> ")}) as g
  forked = x -> [{many("dense({i}) -> relu", ", ")}]
  constrain every dense.weight: {many("long_name_{i}", " & ")}
}}
"""


def test_long_lines_are_broken(golden: Callable[[str, str], None]) -> None:
    file = read(LONG)
    assert file is not None
    text = format(file)
    assert max(map(len, text.splitlines())) <= 100
    assert check_laws(LONG)
    golden("dsl/golden/long.nnspec", text)
