"""One self-contained HTML page: what was declared, drawn, trained and found, and how to do it again.

In: plain records, filled by the face. Out: HTML that loads nothing; what runs is our own script, and only where
a picture in space is to be turned. Every text that comes from a spec, a file or an error is escaped; pictures
are SVG that our own renderers made.
"""

from __future__ import annotations

from html import escape
from math import floor, isfinite, log10
from typing import TypeAlias

from nnspec.compiler.diagrams.themes import dark_rules
from nnspec.compiler.passes.analysis import Cell, Scene, Table
from nnspec.compiler.runtime.highlight import highlight
from nnspec.compiler.runtime.scene import SCRIPT, STYLE, scene
from nnspec.dsl.node import Node


class Figure(Node):
    """A picture with a line under it; a wide one stands alone, others side by side."""

    svg: str
    caption: str = ""
    wide: bool = False


class Section(Node):
    """A part of the report: paragraphs, then tables and figures in the order given."""

    title: str
    text: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()


class Code(Node):
    """Text in a box; `spec` colours it as the language."""

    text: str
    spec: bool = False


class Folded(Node):
    """A long table that is opened by a click on its title."""

    table: Table


Part: TypeAlias = "Table | Folded | Figure | Code | Scene"


class Headline(Node):
    """One of the numbers at the top."""

    value: str
    label: str


class Report(Node):
    """All that a report says."""

    title: str
    doc: str | None
    headlines: tuple[Headline, ...]
    sections: tuple[Section, ...]
    footer: str


def page(report: Report) -> str:
    """Return the HTML of a report."""
    links = "".join(
        f'<a href="#{_anchor(index)}">{escape(section.title)}</a>'
        for index, section in enumerate(report.sections)
    )
    body = "\n".join(_section(index, section) for index, section in enumerate(report.sections))
    turned = any(isinstance(part, Scene) for section in report.sections for part in section.parts)
    style = _STYLE + (STYLE if turned else "")
    script = f"<script>{SCRIPT}</script>\n" if turned else ""
    doc = "".join(f"<p>{escape(text)}</p>" for text in (report.doc or "").split("\n\n") if text.strip())
    numbers = "".join(
        f"<div><b>{escape(item.value)}</b><span>{escape(item.label)}</span></div>"
        for item in report.headlines
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.title)}</title>\n<style>{style}{dark_rules('.network')}\n</style>\n</head>\n<body>\n<main>\n"
        f'<header><h1>{escape(report.title)}</h1><div class="abstract">{doc}</div>\n'
        f'<div class="numbers">{numbers}</div>\n<nav>{links}</nav></header>\n'
        f"{body}\n<footer>{escape(report.footer)}</footer>\n</main>\n{script}</body>\n</html>\n"
    )


def _anchor(index: int) -> str:
    return f"part-{index + 1}"


def _section(index: int, section: Section) -> str:
    text = "".join(f"<p>{escape(paragraph)}</p>" for paragraph in section.text)
    parts: list[str] = []
    figures: list[str] = []
    for part in (*section.parts, None):
        if isinstance(part, Scene) or (isinstance(part, Figure) and not part.wide):
            figures.append(_part(part))
            continue
        if figures:
            parts.append(f'<div class="figures">{"".join(figures)}</div>')
            figures = []
        if part is not None:
            parts.append(_part(part))
    inside = "\n".join(parts)
    return f'<section id="{_anchor(index)}"><h2>{escape(section.title)}</h2>\n{text}\n{inside}</section>'


def _part(part: Part) -> str:
    match part:
        case Figure():
            return _figure(part)
        case Scene():
            return scene(part)
        case Code(text=text, spec=spec):
            return f"<pre>{highlight(text) if spec else escape(text)}</pre>"
        case Folded(table=folded):
            summary = f"<summary>{escape(folded.title)}</summary>"
            return f"<details>{summary}{table(folded.replace(title=''))}</details>"
        case Table():
            return table(part)


def _figure(part: Figure) -> str:
    caption = f"<figcaption>{escape(part.caption)}</figcaption>" if part.caption else ""
    return f'<figure class="{"wide" if part.wide else "small"}">{part.svg}{caption}</figure>'


def table(given: Table) -> str:
    """Return the HTML of a table; columns of numbers stand to the right, with as many decimals each."""
    columns = [_column([row[i] for row in given.rows]) for i in range(len(given.columns))]
    head = "".join(
        f"<th{_NUMERIC if right else ''}>{escape(name)}</th>"
        for name, (right, _) in zip(given.columns, columns, strict=True)
    )
    rows = "\n".join(
        "<tr>"
        + "".join(f"<td{_NUMERIC if right else ''}>{escape(texts[row])}</td>" for right, texts in columns)
        + "</tr>"
        for row in range(len(given.rows))
    )
    title = f"<caption>{escape(given.title)}</caption>" if given.title else ""
    return (
        f'<div class="scroll"><table>{title}<thead><tr>{head}</tr></thead>\n'
        f"<tbody>{rows}</tbody></table></div>"
    )


_NUMERIC = ' class="n"'


def _column(cells: list[Cell]) -> tuple[bool, list[str]]:
    """Whether a column is one of numbers, and its texts."""
    numbers = [cell for cell in cells if isinstance(cell, int | float) and not isinstance(cell, bool)]
    if not numbers or any(cell is not None and not isinstance(cell, int | float) for cell in cells):
        return False, [cell_text(cell) for cell in cells]
    decimals = _decimals([number for number in numbers if isinstance(number, float)])
    return True, [
        f"{cell:.{decimals}f}" if decimals and isinstance(cell, float) and isfinite(cell) else cell_text(cell)
        for cell in cells
    ]


def _decimals(numbers: list[float]) -> int:
    """The decimals that suit all of a column's numbers; 0 if they are too far apart for one choice."""
    sizes = [abs(number) for number in numbers if number and isfinite(number)]
    if not sizes or max(sizes) >= 1000 or min(sizes) < 0.0005:
        return 0
    return max(2, 3 - floor(log10(max(sizes)))) if max(sizes) < 1 else 4 if max(sizes) < 10 else 3


def cell_text(cell: Cell) -> str:
    """Write a cell: thousands in groups, four digits of what is no whole number."""
    match cell:
        case None:
            return ""
        case bool():
            return "yes" if cell else "no"
        case int():
            return f"{cell:,}"
        case float():
            return f"{cell:.4g}"
        case _:
            return str(cell)


_STYLE = """
:root { --ink: #1f2328; --faint: #667079; --line: #dfe2e6; --paper: #ffffff; --panel: #f7f8f9; --key: #8250a8;
  --text: #1b6e53; --number: #a8441f; --note: #8a929b; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --faint: #9aa3af; --line: #2f353d;
  --paper: #14171c; --panel: #1b1f25; --key: #c59be8; --text: #7fd0b0; --number: #f0a27c; --note: #78828d; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font: 16px/1.5 "Charter", "Bitstream Charter", "Iowan Old Style", Georgia, serif; }
main { max-width: 62rem; margin: 0 auto; padding: 3rem 1.5rem 4rem; }
h1, h2, nav, table, .numbers, figcaption, summary, footer { font-family: system-ui, "Helvetica Neue", Arial, sans-serif; }
h1 { font-size: 1.9rem; font-weight: 650; margin: 0 0 .5rem; letter-spacing: -.01em; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; font-weight: 620; margin: 3rem 0 .8rem; padding-top: .8rem; border-top: 1px solid var(--line);
  overflow-wrap: anywhere; }
.abstract { color: var(--faint); max-width: 44rem; } .abstract p { margin: .3rem 0; white-space: pre-line; }
.numbers { display: flex; flex-wrap: wrap; gap: 1rem 2.5rem; margin: 1.6rem 0 1.2rem; }
.numbers div { display: flex; flex-direction: column; }
.numbers b { font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.numbers span { color: var(--faint); font-size: .82rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1.1rem; font-size: .86rem; }
nav a { color: var(--faint); text-decoration: none; border-bottom: 1px solid var(--line); }
nav a:hover { color: var(--ink); }
.scroll { overflow-x: auto; margin: 1rem 0; }
table { border-collapse: collapse; font-size: .84rem; font-variant-numeric: tabular-nums; min-width: 50%; }
caption { text-align: left; color: var(--faint); padding: .2rem 0 .5rem; }
th { text-align: left; font-weight: 600; color: var(--faint); border-bottom: 1px solid var(--faint); }
th, td { padding: .3rem 1.4rem .3rem 0; vertical-align: top; }
td { border-bottom: 1px solid var(--line); } .n { text-align: right; } td.n { white-space: nowrap; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: 6px; padding: 1rem 1.2rem;
  overflow-x: auto; font: .84rem/1.55 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
.keyword, .arrow { color: var(--key); } .text, .docstring { color: var(--text); }
.number { color: var(--number); } .comment { color: var(--note); font-style: italic; }
figure { margin: 1rem 0; } figure svg { max-width: 100%; height: auto; }
figure.wide { text-align: center; overflow-x: auto; }
.figures { display: flex; flex-wrap: wrap; gap: 1rem 2rem; align-items: flex-end; }
figcaption { color: var(--faint); font-size: .82rem; margin-top: .3rem; }
details { margin: 1rem 0; } summary { cursor: pointer; color: var(--faint); font-size: .84rem; }
footer { margin-top: 3.5rem; color: var(--faint); font-size: .8rem; }
@media (max-width: 40rem) { main { padding: 1.5rem 1rem 3rem; } th, td { padding-right: .9rem; } }
@media print { nav { display: none; } main { max-width: none; padding: 0; } body { font-size: 11pt; }
  h2 { break-after: avoid; } figure, tr { break-inside: avoid; } figure svg { max-height: 22cm; }
  pre { white-space: pre-wrap; } }
"""
