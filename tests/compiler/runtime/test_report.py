"""The report page: well-formed, self-contained, and nothing of a hostile text gets through."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from nnspec.compiler.passes.analysis import Cell, Dots, Scene, Table
from nnspec.compiler.runtime.figures import _over_seeds, confusion, curves
from nnspec.compiler.runtime.highlight import highlight
from nnspec.compiler.runtime.report import (
    Code,
    Figure,
    Folded,
    Headline,
    Report,
    Section,
    cell_text,
    page,
    table,
)

HOSTILE = '</style><script>alert("x")</script> & "quotes" \'single\''
VOID = {"meta", "br", "link", "img"}


class Checker(HTMLParser):
    """Checks that tags nest, and collects them."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            assert not (name in ("src", "href") and value and value.startswith("http"))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def hostile_report() -> Report:
    rows = Table(title=HOSTILE, columns=("a", HOSTILE), rows=((HOSTILE, 1.5), ("x", None)))
    figure = Figure(svg="<svg></svg>", caption=HOSTILE)
    parts = (rows, Folded(table=rows), figure, Code(text=HOSTILE, spec=True), Code(text=HOSTILE))
    section = Section(title=HOSTILE, text=(HOSTILE,), parts=parts)
    return Report(
        title=HOSTILE,
        doc=HOSTILE,
        headlines=(Headline(value=HOSTILE, label=HOSTILE),),
        sections=(section,),
        footer=HOSTILE,
    )


def test_hostile_texts_are_escaped_and_tags_nest() -> None:
    text = page(hostile_report())
    checker = Checker()
    checker.feed(text)
    assert checker.open == []
    assert "script" not in checker.seen
    assert text.count("</style>") == 1
    assert text.count("<details>") == 1


def test_highlighting_changes_no_character() -> None:
    source = 'network n {\n  """Doc <b>"""\n  input x: real[3]  # 1 < 2\n  y = "a\\"b" -> f(1e-3)\n}\n'
    parser = HTMLParser()
    found: list[str] = []
    parser.handle_data = found.append
    parser.feed(highlight(source))
    parser.close()
    assert "".join(found) == source
    assert '<span class="keyword">network</span>' in highlight(source)


def test_cells() -> None:
    assert [cell_text(c) for c in (None, 1234567, 0.123456, True, "a")] == [
        "",
        "1,234,567",
        "0.1235",
        "yes",
        "a",
    ]


def texts(rows: tuple[tuple[Cell, ...], ...]) -> list[str]:
    html = table(Table(title="", columns=("x",), rows=rows))
    return re.findall(r"<td[^>]*>([^<]*)</td>", html)


def test_a_column_of_numbers_has_as_many_decimals_each() -> None:
    assert texts(((1.0,), (0.975,), (None,))) == ["1.0000", "0.9750", ""]
    assert texts(((0.25,), (0.0988,))) == ["0.2500", "0.0988"]
    assert texts(((123.456,), (7.0,))) == ["123.456", "7.000"]
    assert texts(((1e-9,), (1.0,))) == ["1e-09", "1"]  # too far apart for one choice
    assert texts(((float("nan"),), (0.5,))) == ["nan", "0.5000"]
    assert texts(((1234567,), (2,))) == ["1,234,567", "2"]
    assert texts((("a",), (0.5,))) == ["a", "0.5"]


def test_figures_name_only_what_they_use_and_no_two_alike() -> None:
    points = {"train": {0: [(1.0, 0.5), (2.0, 0.4)]}}
    drawn = [curves("loss", points), curves("accuracy", points), confusion(((7, 1), (0, 5)), ())]
    names = [name for svg in drawn for name in re.findall(r' id="([^"]*)"', svg)]
    assert len(names) == len(set(names))
    for svg in drawn:
        own = set(re.findall(r' id="([^"]*)"', svg))
        used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', svg))
        assert own == used
        assert "DejaVu" not in svg
        ElementTree.fromstring(svg)


def test_seeds_that_ended_early_count_as_far_as_they_went() -> None:
    epochs, centre, spread = _over_seeds({0: [(1.0, 1.0), (2.0, 4.0)], 1: [(1.0, 3.0)]})
    assert (epochs, centre) == ([1.0, 2.0], [2.0, 4.0])
    assert spread == [pytest.approx(2**0.5), 0.0]  # of the sample: two values 1 and 3


def test_figures_are_the_same_each_time() -> None:
    points = {"train": {0: [(1.0, 0.5), (2.0, 0.4)], 1: [(1.0, 0.7), (2.0, 0.6)]}}
    assert curves("loss", points) == curves("loss", points)
    assert ">loss<" in curves("loss", points)
    assert ">7<" in confusion(((7, 1), (0, 5)), ("a", "b"))


def test_a_picture_in_space_is_turned_by_our_own_script_alone() -> None:
    """The page holds its numbers and one script; texts of others can end neither."""
    dots = (
        Dots(name=HOSTILE, points=((0.0, 1.0, 2.0), (1 / 3, 0.0, 1e-9)), colour="#112233", joined=True),
        Dots(name="grid", points=((0.0, 0.0, 0.0),), values=(-3.25,)),
    )
    scene = Scene(name=HOSTILE, axes=("a", HOSTILE, "c"), dots=dots, value="J")
    plain = Section(title="s")
    sections = (plain.replace(parts=(scene,)), plain.replace(parts=(scene,)))
    text = page(hostile_report().replace(sections=sections))
    checker = Checker()
    checker.feed(text)
    assert checker.seen.count("script") == 3 and not checker.open  # the numbers of two scenes, and ours
    assert text.count("<script>") == 1 and text.count("</script>") == 3 and "src=" not in text
    numbers = text.partition('<script type="application/json">')[2].partition("</script>")[0]
    read = json.loads(numbers)
    assert read["axes"] == ["a", HOSTILE, "c"]
    assert read["dots"][0]["points"] == [[0.0, 1.0, 2.0], [0.33333, 0.0, 1e-9]]
    assert "<script" not in page(hostile_report().replace(sections=(plain,)))
