"""The units of a small network as dots, its weights as lines: DOT with a place for every dot.

In: a typed graph and its group. Out: DOT, the same for the same graph. A column is one wire, or several whose indices
are taken together; a line is an entry of a weight that its constraints leave (of a kernel, one that has any). Dots of one colour
are exchanged by the group, open ones are not exchanged with any other. Raises SpecError for what is too large.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from html import escape
from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from nnspec.compiler.diagrams.entries import present, sides
from nnspec.compiler.diagrams.labels import quoted
from nnspec.compiler.diagrams.themes import FONT, THEMES, WIRES
from nnspec.compiler.ir import Graph
from nnspec.compiler.relations import Contract, Move, Term
from nnspec.compiler.symmetry.neurons import NeuronGroup, neuron_group
from nnspec.compiler.symmetry.orbits import indices, orbits
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.relate import flow
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.render import NoUnits, TooManyUnits

if TYPE_CHECKING:
    import numpy as np

MOST_UNITS, MOST_LINES = 400, 4000
_APART = (
    400  # lines that an eye tells apart; of more, those between columns that are joined wholly become one
)
_ACROSS, _DOWN, _HIGHEST = 1.9, 0.3, 8.0  # inches between columns and dots, and of a column
_DOT, _HEADING = 0.15, 0.85  # inches of a dot, and between columns below one another, for a heading

Unit: TypeAlias = "tuple[tuple[Atom, int], ...]"  # an index of each factor of its axis
Column: TypeAlias = "tuple[Atom, ...]"


class Line(NamedTuple):
    """An entry of a weight; `same` marks an index that goes on into a finer column."""

    source: Unit
    target: Unit
    same: bool = False


def draw_neurons(graph: Graph, group: SymmetryGroup, *, theme: str = "light") -> str:
    """Return the DOT text of a network's units."""
    return _Neurons(graph, group, theme).run()


class _Neurons:
    def __init__(self, graph: Graph, group: SymmetryGroup, theme: str) -> None:
        self.graph = graph
        self.group = group
        self.spaces = group.derivation.spaces
        self.related = group.derivation.related
        self.theme = THEMES[theme]
        self.palette = WIRES[theme]
        self.columns: dict[tuple[Atom, ...], dict[Unit, None]] = {}  # in order of appearance
        self.lines: list[Line] = []
        self.bundles: list[
            tuple[Column, Column]
        ] = []  # columns whose units are all joined, drawn as one line
        self.step = _DOWN
        self.patterned: NeuronGroup | None = None  # what patterns of weights leave
        self.orbits: dict[Atom, list[list[int]]] = {}

    def run(self) -> str:
        self.refuse_large()
        self.collect()
        if not self.lines:
            raise SpecError((NoUnits(self.graph.root.span, network=self.graph.name),))
        self.join_columns()
        self.find_orbits()
        places = self.places()
        count = sum(not line.same for line in self.lines)
        if count > _APART:
            self.bundle()
        names = {unit: f"u{number}" for number, unit in enumerate(places)}
        fill = self.fills()
        drawn = [f"digraph {quoted(self.graph.name)} {{", *self.attributes()]
        drawn += [self.dot(names[unit], unit, places[unit], fill) for unit in places]
        drawn += self.headings(places)
        drawn += [self.line(line, names, places) for line in self.lines]
        drawn += self.wide_lines(places)
        return "\n".join([*drawn, *self.legend(len(places), count), "}"]) + "\n"

    def refuse_large(self) -> None:
        """Count before anything is made: what a weight's axes come to, and the entries of the weights."""
        sizes: dict[tuple[Atom, ...], int] = {}
        lines = 0
        for weight, relation, live in self.maps():
            _, sources, targets = sides(relation, live, weight)
            ends = [self.axis_sizes(weight.tensor, axes) for axes in (sources, targets)]
            sizes.update(end for end in ends)
            lines += ends[0][1] * ends[1][1]
        units = sum(sizes.values())
        if units > MOST_UNITS or lines > 50 * MOST_LINES:
            raise SpecError((self.too_many(units, lines),))

    def too_many(self, units: int, lines: int) -> TooManyUnits:
        return TooManyUnits(
            self.graph.root.span,
            network=self.graph.name,
            units=f"{units:,}",
            lines=f"{lines:,}",
            most_units=f"{MOST_UNITS:,}",
            most_lines=f"{MOST_LINES:,}",
        )

    def axis_sizes(self, tensor: str, axes: list[int]) -> tuple[tuple[Atom, ...], int]:
        shape = self.related.carriers[tensor].shape
        count = 1
        found: list[Atom] = []
        for axis in axes:
            size = shape[axis]
            count *= size if isinstance(size, int) else 1
            found += [
                self.spaces.space(atom) for segment in self.spaces.atoms((tensor, axis)) for atom in segment
            ]
        return tuple(found), count

    def find_orbits(self) -> None:
        from nnspec.compiler.emit.load import initial_state

        self.patterned = neuron_group(self.graph, initial_state(self.graph, 0))
        self.orbits = orbits(self.group, self.patterned)

    # --------------------------------------------------------------------------------------- units and lines

    def maps(self) -> Iterator[tuple[Term, Contract, Term]]:
        """Yield the weights of linear maps: the term of the weight, the relation, the term that flows."""
        for stated in self.related.stated:
            relation = stated.relation
            if not isinstance(relation, Contract):
                continue
            live = [term for term in relation.terms if self.related.carriers[term.tensor].live]
            still = [term for term in relation.terms if not self.related.carriers[term.tensor].live]
            if len(live) == 1 and len(still) == 1 and len(self.related.carriers[still[0].tensor].shape) > 1:
                yield still[0], relation, live[0]

    def collect(self) -> None:
        import numpy as np

        known: dict[str, Any] = {}
        for weight, relation, live in self.maps():
            kernel, sources, targets = sides(relation, live, weight)
            if weight.tensor not in known:
                known[weight.tensor] = self.pattern(weight.tensor)
            there: Any = known[weight.tensor]
            if kernel:
                there = there.any(axis=tuple(kernel), keepdims=True)
            ends = [
                [indices(self.spaces, (weight.tensor, axis)) for axis in axes] for axes in (sources, targets)
            ]
            for column in ends:
                self.add_column(column)
            entries: list[list[int]] = np.argwhere(there).tolist()
            for entry in entries:
                source, target = (
                    tuple(part for axis, own in zip(axes, column, strict=True) for part in own[entry[axis]])
                    for axes, column in zip((sources, targets), ends, strict=True)
                )
                self.lines.append(Line(source, target))
            if len(self.lines) > MOST_LINES:
                units = sum(map(len, self.columns.values()))
                raise SpecError((self.too_many(units, len(self.lines)),))

    def add_column(self, column: list[list[Unit]]) -> None:
        for parts in product(*column):
            unit = tuple(part for own in parts for part in own)
            self.columns.setdefault(_column(unit), {}).setdefault(unit)

    def join_columns(self) -> None:
        """Join what is one index in one column to the units of a finer column that have it."""
        for fine, units in self.columns.items():
            for coarse in self.columns:
                if set(coarse) < set(fine):
                    for unit in units:
                        part = tuple(pair for pair in unit if pair[0] in coarse)
                        if part in self.columns[coarse]:
                            self.lines.append(Line(part, unit, same=True))

    def bundle(self) -> None:
        """Take the lines between columns whose units are all joined out of the picture; one wide line stands for them."""
        pairs: dict[tuple[Column, Column], set[Line]] = defaultdict(set)
        for line in self.lines:
            if not line.same:
                pairs[_column(line.source), _column(line.target)].add(line)
        for (source, target), lines in pairs.items():
            if source != target and len(lines) == len(self.columns[source]) * len(self.columns[target]):
                self.bundles.append((source, target))
        whole = set(self.bundles)
        self.lines = [
            line
            for line in self.lines
            if line.same or (_column(line.source), _column(line.target)) not in whole
        ]

    def pattern(self, tensor: str) -> np.ndarray[Any, Any]:
        """Return which entries of a weight, or of the view of one, there are: those not zero at random weights."""
        carrier = self.related.carriers[tensor]
        if carrier.weight is None:
            for stated in self.related.stated:
                relation = stated.relation
                if isinstance(relation, Move) and relation.output == tensor:
                    given = self.pattern(relation.input)
                    if all(len(ins) == len(outs) == 1 for ins, outs in relation.groups):
                        order = {outs[0]: ins[0] for ins, outs in relation.groups}
                        return given.transpose([order[axis] for axis in range(given.ndim)])
                    return given.reshape([int(str(size)) for size in carrier.shape])
        return present(self.graph, tensor)

    # ---------------------------------------------------------------------------------------------- drawing

    def places(self) -> dict[Unit, tuple[float, float]]:
        """Give each unit a place: columns from left to right, those of one depth below one another.

        Units of one depth that are joined with each other stand on an arc, where their lines are chords.
        """
        by_depth: dict[int, list[tuple[Atom, ...]]] = defaultdict(list)
        for column, depth in self.depths().items():
            by_depth[depth].append(column)
        tallest = max(sum(len(self.columns[c]) for c in columns) for columns in by_depth.values())
        self.step = min(_DOWN, _HIGHEST / max(1, tallest))
        found: dict[Unit, tuple[float, float]] = {}
        for across, depth in enumerate(sorted(by_depth)):
            heights = [(len(self.columns[column]) - 1) * self.step for column in by_depth[depth]]
            half = top = (sum(heights) + _HEADING * (len(heights) - 1)) / 2
            joined = {unit for column in by_depth[depth] for unit in self.columns[column]}
            bent = any(line.source in joined and line.target in joined for line in self.lines)
            for column, height in zip(by_depth[depth], heights, strict=True):
                for number, unit in enumerate(self.columns[column]):
                    y = top - number * self.step
                    arc = min(_ACROSS / 2.2, half) * (1 - (y / half) ** 2) if bent and half else 0.0
                    found[unit] = (across * _ACROSS + arc, y)
                top -= height + _HEADING
        return found

    def depths(self) -> dict[tuple[Atom, ...], int]:
        """Return how many columns lie on the longest way to each: along it, values are made of those before."""
        flows = [flow(stated.relation) for stated in self.related.stated]
        live = {name for name, carrier in self.related.carriers.items() if carrier.live}
        order = dict.fromkeys(
            [*self.related.inputs, *(name for _, made in flows for name in made if name in live)]
        )
        first = {column: self.first(column, order) for column in self.columns}
        last = len(order)
        found: dict[tuple[Atom, ...], int] = {}
        reached: dict[str, int] = {}  # by tensor: columns on the longest way to it, itself included
        begins: dict[str, list[tuple[Atom, ...]]] = defaultdict(list)
        for column, tensor in first.items():
            begins[tensor or ""].append(column)
        sources: dict[str, list[str]] = defaultdict(list)
        for taken, made in flows:
            for name in made:
                sources[name] += [other for other in taken if other in live]
        for tensor in order:
            before = max((reached.get(other, 0) for other in sources[tensor]), default=0)
            for column in sorted(begins[tensor], key=len):
                found[column] = before + sum(set(other) < set(column) for other in begins[tensor])
            reached[tensor] = 1 + max((found[c] for c in begins[tensor]), default=before - 1)
        return {column: found.get(column, last) for column in self.columns}

    def first(self, column: tuple[Atom, ...], order: Iterable[str]) -> str | None:
        """Return the first value that has all spaces of a column."""
        for tensor in order:
            axes = range(len(self.related.carriers[tensor].shape))
            own = {
                self.spaces.space(a)
                for axis in axes
                for part in self.spaces.atoms((tensor, axis))
                for a in part
            }
            if own.issuperset(column):
                return tensor
        return None

    def fills(self) -> dict[tuple[Atom, int], str]:
        """Return the colour of each index that is exchanged with another."""
        found: dict[tuple[Atom, int], str] = {}
        count = 0
        for space, classes in self.orbits.items():
            for orbit in classes:
                if len(orbit) > 1:
                    colour = self.palette[count % len(self.palette)]
                    found.update({(space, index): colour for index in orbit})
                    count += 1
        return found

    @property
    def dot_size(self) -> float:
        return min(_DOT, 0.85 * self.step)

    def attributes(self) -> list[str]:
        theme = self.theme
        return [
            f'  graph [layout=neato, splines=line, outputorder=edgesfirst, bgcolor="{theme.background}", pad=0.3,'
            f' fontname="{FONT}", fontsize=10, fontcolor="{theme.text}"]',
            f"  node [shape=circle, width={self.dot_size:.3f}, height={self.dot_size:.3f}, fixedsize=true, penwidth=0.9,"
            f' style=filled, label="", color="{theme.text}", fontname="{FONT}", fontsize=10, fontcolor="{theme.text}"]',
            f'  edge [arrowhead=none, penwidth=0.5, color="{theme.edge}99"]',
        ]

    def dot(
        self, name: str, unit: Unit, place: tuple[float, float], fill: dict[tuple[Atom, int], str]
    ) -> str:
        colour = next((fill[pair] for pair in unit if pair in fill), None)
        inside = f'fillcolor="{colour or self.theme.background}"' + (f', color="{colour}"' if colour else "")
        return f'  {name} [pos="{place[0]:.3f},{place[1]:.3f}!", {inside}]'

    def line(self, line: Line, names: dict[Unit, str], places: dict[Unit, tuple[float, float]]) -> str:
        look = " [style=dotted, penwidth=1]" if line.same else ""
        if not line.same and places[line.target][0] < places[line.source][0]:
            look = f' [color="{self.theme.edge}2a"]'  # back to a stream: it passes all that stands between
        return f"  {names[line.source]} -> {names[line.target]}{look}"

    def wide_lines(self, places: dict[Unit, tuple[float, float]]) -> Iterator[str]:
        """Yield a wide line between the middles of columns for each bundle, and the unseen points where these end."""
        middles: dict[Column, tuple[float, float]] = {}
        for column in dict.fromkeys(end for pair in self.bundles for end in pair):
            own = [places[unit] for unit in self.columns[column]]
            middles[column] = (max(x for x, _ in own), (own[0][1] + own[-1][1]) / 2)
        names = {column: f"m{number}" for number, column in enumerate(middles)}
        for column, (x, y) in middles.items():
            yield f'  {names[column]} [pos="{x:.3f},{y:.3f}!", shape=point, style=invis, width=0.01, height=0.01]'
        for source, target in self.bundles:
            forth = middles[source][0] < middles[target][0]
            faint, wide = (
                ("aa", 4.0) if forth else ("55", 2.0)
            )  # back to a stream: beneath those that lead on
            yield f'  {names[source]} -> {names[target]} [penwidth={wide}, color="{self.theme.edge}{faint}"]'

    def headings(self, places: dict[Unit, tuple[float, float]]) -> Iterator[str]:
        """Yield the name and the group of each column, above it."""
        wires = {self.spaces.space(wire.space): wire for wire in self.group.wires}
        ground = (
            f'color="{self.theme.background}", fillcolor="{self.theme.background}"'  # lines do not cross text
        )
        for number, (column, units) in enumerate(self.columns.items()):
            known = [wires[space] for space in column if space in wires]
            name = " × ".join(self.short(wire.name) for wire in known) or "positions"
            acting = " × ".join(wire.group for wire in known if wire.group != "1")
            counted = self.count_orbits(column, len(units))
            if not acting or (any(wire.is_fixed for wire in known) and not counted.endswith("fixed")):
                acting = f"{acting}, {counted}" if acting else counted
            x, y = places[next(iter(units))]
            label = f'<{escape(name)}<br/><font color="{self.theme.faint}" point-size="9">{escape(acting)}</font>>'
            place = f'pos="{x:.3f},{y + 0.42:.3f}!", shape=plaintext, margin=0.02, fixedsize=false'
            yield f"  h{number} [{place}, {ground}, label={label}]"

    def short(self, name: str) -> str:
        """Return the last part of a wire's name, with the numbers of copies where several wires end so."""
        last = name.rpartition(".")[2]
        alike = sum(wire.name.rpartition(".")[2] == last for wire in self.group.wires)
        numbers = "".join(re.findall(r"\[\d+\]", name.removesuffix(last)))
        return f"{numbers} {last}" if alike > 1 and numbers else last

    def count_orbits(self, column: tuple[Atom, ...], units: int) -> str:
        """Say how the units of a column fall into orbits, where no plain group acts on them."""
        counts = [len(self.orbits[space]) for space in column if space in self.orbits]
        if all(len(orbit) == 1 for space in column for orbit in self.orbits.get(space, ())):
            return f"{units} fixed"
        return "1 orbit" if counts == [1] else f"{max(counts)} orbits"

    def legend(self, units: int, count: int) -> list[str]:
        text = (
            f"<br/><b>{escape(self.graph.name)}</b>: {units} units, {count:,} connections. "
            "Units of one colour are exchanged by the symmetry group; open ones are not."
        )
        if self.bundles:
            text += "<br/>A wide line joins every unit of one column to every unit of another."
        if self.patterned is not None:
            own = self.patterned
            order = f"10^{own.log10_lower:.1f}" if own.order is None else f"{own.order:,}"
            least = "" if own.exact else "at least "
            noun = "permutation of units keeps" if order == "1" else "permutations of units keep"
            text += f"<br/>{least}{order} {noun} the patterns of the weights"
        return [f'  labelloc=b; label=<<font color="{self.theme.text}">{text}</font>>']


def _column(unit: Unit) -> tuple[Atom, ...]:
    return tuple(space for space, _ in unit)
