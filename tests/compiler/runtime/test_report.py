"""The report page: well-formed, self-contained, and nothing of a hostile text gets through."""

from __future__ import annotations

from html.parser import HTMLParser

from nnspec.compiler.passes.analysis import Table
from nnspec.compiler.runtime.figures import confusion, curves
from nnspec.compiler.runtime.highlight import highlight
from nnspec.compiler.runtime.report import Code, Figure, Headline, Report, Section, cell_text, page

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
    table = Table(title=HOSTILE, columns=("a", HOSTILE), rows=((HOSTILE, 1.5), ("x", None)))
    figure = Figure(svg="<svg></svg>", caption=HOSTILE)
    section = Section(title=HOSTILE, text=(HOSTILE,), parts=(table, figure, Code(text=HOSTILE, spec=True)))
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


def test_highlighting_changes_no_character() -> None:
    source = 'network n {\n  """Doc <b>"""\n  input x: real[3]  # 1 < 2\n  y = "a\\"b" -> f(1e-3)\n}\n'
    parser = HTMLParser()
    found: list[str] = []
    parser.handle_data = found.append  # type: ignore[method-assign]
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


def test_figures_are_the_same_each_time() -> None:
    points = {"train": {0: [(1.0, 0.5), (2.0, 0.4)], 1: [(1.0, 0.7), (2.0, 0.6)]}}
    assert curves("loss", points) == curves("loss", points)
    assert ">loss<" in curves("loss", points)
    assert ">7<" in confusion(((7, 1), (0, 5)), ("a", "b"))
