"""The symmetry group of a network as a DOT text: the picture of its architecture, its wires coloured by class.

In: a typed graph. Out: DOT, the same for the same graph. An edge has the colour of the wire that its value's indices
belong to, one colour throughout the picture, and says which group acts there; axes on which nothing acts stand as
their sizes, and an edge of such axes alone is dashed. Below the picture: every colour with its wire, its group, and
what decided it.
"""

from __future__ import annotations

import re
from html import escape
from itertools import groupby
from math import prod

from nnspec.compiler.diagrams.architecture import Drawing, End
from nnspec.compiler.diagrams.labels import clipped
from nnspec.compiler.diagrams.themes import FONT, THEMES, WIRES, Theme
from nnspec.compiler.flat import flatten
from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.heard import equal_values
from nnspec.compiler.symmetry.record import SymmetryGroup, Wire
from nnspec.compiler.symmetry.spaces import Atom

MOST_ROWS = 14  # of the legend
_MOST_STRANDS = 3  # colours of one edge


def draw_symmetry(
    graph: Graph, group: SymmetryGroup, *, depth: int | None = None, theme: str = "light"
) -> str:
    """Return the DOT text of a network and its group; blocks nested deeper than `depth` are one node each."""
    return _SymmetryDrawing(graph, group, depth, THEMES[theme], WIRES[theme]).run()


class _SymmetryDrawing(Drawing):
    def __init__(
        self, graph: Graph, group: SymmetryGroup, depth: int | None, theme: Theme, classes: tuple[str, ...]
    ) -> None:
        super().__init__(graph, depth, theme)
        self.group = group
        self.spaces = group.derivation.spaces
        self.wires = {
            space: wire
            for wire in group.wires
            if wire.group != "1"
            for space in group.derivation.by_space[wire.space].spaces
        }
        self.tensors = _tensors(graph)
        self.classes = classes
        self.colours: dict[str, str] = {}  # of wires, by name, in order of appearance

    def look(self, end: End) -> tuple[str, str]:
        tensor = self.tensors.get(end.path)
        if tensor is None or tensor not in self.group.derivation.related.carriers:
            text, _ = super().look(end)
            return text, "style=dashed"
        axes = [self.axis(tensor, axis) for axis in range(len(end.type.axes))]
        text = " × ".join(text for text, _ in axes)
        strands = list(dict.fromkeys(wire.name for _, wires in axes for wire in wires))
        if not strands:
            return text, "style=dashed"
        line = ":".join(self.colour(name) for name in strands[:_MOST_STRANDS])
        return text, f'color="{line}", penwidth=2'

    def label(self, text: str) -> str:
        return f"<  {text}>"

    def colour(self, wire: str) -> str:
        if wire not in self.colours:
            self.colours[wire] = self.classes[len(self.colours) % len(self.classes)]
        return self.colours[wire]

    def axis(self, tensor: str, axis: int) -> tuple[str, list[Wire]]:
        """Write what acts on an axis, and name the wires on it: `S_16`, `8`, `(5 + S_4)`, `GL(4) × 9`."""
        size = self.group.derivation.related.carriers[tensor].shape[axis]
        if not isinstance(size, int):
            return escape(str(size)), []
        segments = [self.segment(segment) for segment in self.spaces.atoms((tensor, axis))]
        found = [wire for _, wires in segments for wire in wires]
        if not found:
            return str(size), []
        runs = [(text, len(list(own))) for text, own in groupby(text for text, _ in segments)]
        joined = " + ".join(f"{count} · {text}" if count > 1 else text for text, count in runs)
        return (f"({joined})" if len(segments) > 1 else joined), found

    def segment(self, atoms: list[Atom]) -> tuple[str, list[Wire]]:
        """Write what acts on a segment of an axis, factor by factor; factors of one wire are written once."""
        spaces = [self.spaces.space(atom) for atom in atoms]
        still = prod(self.spaces.sizes[space] for space in spaces if space not in self.wires)
        acting = list({self.wires[s].name: self.wires[s] for s in spaces if s in self.wires}.values())
        texts = [
            f'<font color="{self.colour(wire.name)}"><b>{escape(wire.group)}</b></font>' for wire in acting
        ]
        return " × ".join([*texts, str(still)] if still > 1 or not texts else texts), acting

    def legend(self) -> list[str]:
        """Return, as the label of the whole graph, each colour that was drawn with its wire, group and reason."""
        found = _collapsed(self.group, self.colours)
        rows = [self.row(*entry) for entry in found[:MOST_ROWS]]
        if len(found) > MOST_ROWS:
            rows.append(self.cells("<td></td>", f"and {len(found) - MOST_ROWS} more wires", "", ""))
        mark = f'<td><font color="{self.theme.faint}">- - -</font></td>'
        rows.append(self.cells(mark, "dashed", "1", "fixed: nothing but the identity acts"))
        head = (
            f'<tr><td align="left"><font color="{self.theme.text}" point-size="11"><b>'
            f"{escape(self.group.network)}</b>: {escape(_headline(self.group))}</font></td></tr>"
        )
        inner = f'<table border="0" cellspacing="2" cellpadding="2">{"".join(rows)}</table>'
        below = f'<tr><td align="left">{inner}</td></tr>'
        return [f'  labelloc=b; label=<<table border="0" cellspacing="0">{head}{below}</table>>']

    def row(self, wire: Wire, copies: int) -> str:
        name = f"{_numberless(wire.name)} × {copies}" if copies > 1 else wire.name
        where = ", line " + wire.place if wire.file is None and wire.place else f", {wire.place}"
        mark = f'<td bgcolor="{self.colours[wire.name]}" width="26"></td>'
        return self.cells(mark, name, wire.group, wire.reason + where)

    def cells(self, mark: str, name: str, group: str, why: str) -> str:
        ink, faint = self.theme.text, self.theme.faint
        texts = ((clipped(name), ink), (group, ink), (why, faint))
        return f"<tr>{mark}{''.join(_cell(*text) for text in texts)}</tr>"


def _cell(text: str, colour: str) -> str:
    inside = escape(text) if text else " "
    return f'<td align="left"><font face="{FONT}" point-size="9" color="{colour}">{inside}</font></td>'


def _headline(group: SymmetryGroup) -> str:
    small = group.order is not None and group.order < 10**12
    order = f"order {group.order:,}" if small else f"order 10^{group.log10_order:.1f}"
    flat = [f"{count:,} {name}" for name, count in group.families.items() if count]
    count = group.continuous_dimension
    directions = f"{count:,} flat directions" if count != 1 else "1 flat direction"
    return f"{order}, {directions}" + (f" ({', '.join(flat)})" if len(flat) > 1 else "")


def _collapsed(group: SymmetryGroup, colours: dict[str, str]) -> list[tuple[Wire, int]]:
    """Return the wires that were drawn, each with how many like it stand in the copies of a repeat."""
    likes: dict[tuple[str, ...], list[Wire]] = {}
    for wire in group.wires:
        likes.setdefault((_numberless(wire.name), wire.group), []).append(wire)
    found: list[tuple[Wire, int]] = []
    for alike in likes.values():
        drawn = [wire for wire in alike if wire.name in colours]
        counts = [1 + (len(alike) - len(drawn) if index == 0 else 0) for index in range(len(drawn))]
        found += list(zip(drawn, counts, strict=True))
    order = list(colours)
    return sorted(found, key=lambda entry: order.index(entry[0].name))


def _numberless(name: str) -> str:
    return re.sub(r"\[\d+\]", "[..]", name)


def _tensors(graph: Graph) -> dict[str, str]:
    """Return the tensor of a derivation by the path of the use that gives it."""
    flat = flatten(graph)
    same = equal_values(flat)
    found = {flat.values[number].name: f"%{number}" for number in flat.inputs}
    for use in flat.uses:
        for index, number in enumerate(use.outputs):
            path = use.path if len(use.outputs) == 1 else f"{use.path}[{index}]"
            found[path] = f"%{same[number]}"
    return found
