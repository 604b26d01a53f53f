"""The forms of a diagnostic: text for people, a line, JSON and SARIF for programs."""

from __future__ import annotations

import json
import re

from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.render import to_json, to_line, to_sarif, to_text
from nnspec.dsl.source import Source, Span


class Sample(Error):
    code = "T0001"
    title = "a sample"
    message = "sample {what}"
    label = "here"
    help = "do {advice}"
    expected = "{wanted}"
    found = "{got}"


def place(text: str, marked: str, name: str = "t.nnspec") -> Span:
    start = text.index(marked)
    return Span(source=Source(name, text), start=start, end=start + len(marked))


def marks(text: str, marked: str) -> tuple[str, str]:
    """The source line and the marks under it, as they are printed."""
    lines = to_text(Sample(place(text, marked), what="x")).splitlines()
    at = next(i for i, line in enumerate(lines) if "^" in line)
    return lines[at - 1], lines[at]


def test_text_has_title_place_marks_expectation_and_help() -> None:
    text = "let a = 1\nlet b = wrong\n"
    span = place(text, "wrong")
    other = Span(source=span.source, start=4, end=5)
    error = Sample(
        span, (Related(span=other, label="from here"),), what="x", advice="it", wanted="[3]", got="[4]"
    )
    assert to_text(error).splitlines() == [
        "error[T0001]: sample x",
        " --> t.nnspec:2:9",
        "  |",
        "2 | let b = wrong",
        "  |         ^^^^^ here",
        " ::: t.nnspec:1:5",
        "  |",
        "1 | let a = 1",
        "  |     - from here",
        "  = expected: [3]",
        "  = found:    [4]",
        "  = help: do it",
    ]


def test_two_marks_on_one_line_show_it_once() -> None:
    span = place("let a = (b]\n", "]")
    related = Related(span=Span(source=span.source, start=8, end=9), label="opened")
    text = to_text(Sample(span, (related,), what="x"))
    assert text.count("let a") == 1
    assert text.splitlines()[-2:] == ["  |           ^ here", "  |         - opened"]


def test_colour_only_adds_escapes() -> None:
    error = Sample(place("let a = b", "b"), what="x", advice="it")
    coloured = to_text(error, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[\d;]*m", "", coloured) == to_text(error)


def test_marks_stand_under_what_they_mark() -> None:
    for text in (
        "\tlet a = HERE",
        "let 数値 = HERE",
        "let e\u0301 = HERE",
        "x = \u202eHERE",
        "x = \x1b[31mHERE",
    ):
        line, mark = marks(text, "HERE")
        width = sum(0 if c == "\u0301" else 2 if c in "数値" else 1 for c in line[: line.index("HERE")])
        assert mark.index("^") == width
        assert mark.count("^") == 4
        assert "\x1b" not in line and "\u202e" not in line


def test_a_span_over_lines_is_marked_to_the_end_of_the_first() -> None:
    line, mark = marks("let a = f(1,\n  2)", "f(1,\n  2)")
    assert line.endswith("f(1,")
    assert mark.count("^") == len("f(1,")


def test_of_a_long_line_the_part_with_the_mistake_is_shown() -> None:
    line, mark = marks("let a = " + "b + " * 5000 + "HERE" + " + b" * 5000, "HERE")
    assert len(line) < 250
    assert line.index("HERE") == mark.index("^")


def test_line_form_is_one_line() -> None:
    assert to_line(Sample(place("let a = b", "b"), what="x")) == "t.nnspec:1:9: error: sample x [T0001]"
    assert to_line(Sample(None, what="x")) == "error: sample x [T0001]"
    assert "\n" not in to_line(Sample(place("a", "a", name="t\n.nnspec"), what="x\ny"))


def test_json_has_exactly_the_promised_keys() -> None:
    span = place("let a = b\nlet c = d\n", "b")
    related = Related(span=Span(source=span.source, start=14, end=15), label="first")
    found = to_json(Sample(span, (related,), what="x", advice="it"))
    assert found == {
        "code": "T0001",
        "severity": "error",
        "message": "sample x",
        "help": "do it",
        "file": "t.nnspec",
        "line": 1,
        "column": 9,
        "end_line": 1,
        "end_column": 10,
        "related": [
            {"message": "first", "file": "t.nnspec", "line": 2, "column": 5, "end_line": 2, "end_column": 6}
        ],
    }
    without = to_json(Sample(None, what="x"))
    assert without["line"] is None and without["help"] is None and without["related"] == []


def test_sarif_names_rules_and_places() -> None:
    span = place("let a = b", "b", name="a folder/t.nnspec")
    log = json.loads(json.dumps(to_sarif([Sample(span, what="x"), Sample(None, what="y")], "1.0")))
    run = log["runs"][0]
    assert log["version"] == "2.1.0"
    assert [rule["id"] for rule in run["tool"]["driver"]["rules"]] == ["T0001"]
    first, second = run["results"]
    location = first["locations"][0]["physicalLocation"]
    assert location["artifactLocation"]["uri"] == "a%20folder/t.nnspec"
    assert location["region"] == {"startLine": 1, "startColumn": 9, "endLine": 1, "endColumn": 10}
    assert "locations" not in second
