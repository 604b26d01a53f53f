"""The units of a network and their connections as pictures: a matrix from all units to all, and a directed graph.

matplotlib's Axes come from outside. Positive weights are blue, negative ones orange, what is gone is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import cos, pi, sin
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Plot
from nnspec.compiler.runtime.figures import GREY

if TYPE_CHECKING:
    from nnspec.compiler.checks.survival import Survival
    from nnspec.compiler.checks.wiring import Group, Wiring

NEGATIVE, POSITIVE = "#d9731a", "#2f6fb5"
_INK = "#2b3138"
_GONE = "#9aa0a8"
_ORBITS = ("#e8c547", "#7fb685", "#c58bb5", "#8fb8de", "#d6896b", "#9d8fd0", "#b7b06b", "#6fb7b7")
_SHAPES = {"input": "s", "hidden": "o", "output": "D"}
_FEW = 80  # connections up to which each has an arrow head
_MANY = 800  # beyond which they are drawn as an image
_NAMED = 40  # units up to which each is labelled

# --------------------------------------------------------------------------------------------- the matrix


def matrix_plot(found: Sequence[tuple[str, Wiring]], name: str) -> Plot:
    """Return the matrices of some weights side by side, on one scale."""
    across = found[0][1]
    rows = across.units - _inputs(across)
    height = min(5.0, max(2.4, 1.2 + 0.16 * rows))
    width = min(6.0, max(2.6, 1.4 + 0.16 * across.units))
    return Plot(
        name=name,
        draw=lambda axes: _matrices(_panels(axes), found),
        size=(width * len(found) + 0.6, height),
        panels=(1, len(found)),
    )


def _panels(axes: Any) -> list[Any]:
    return list(axes.flat) if hasattr(axes, "flat") else [axes]


def _inputs(wiring: Wiring) -> int:
    return sum(group.size for group in wiring.groups if group.kind == "input")


def _matrices(panels: list[Any], found: Sequence[tuple[str, Wiring]]) -> None:
    most = max(_reach(wiring) for _, wiring in found) or 1.0
    shown = None
    for axes, (label, wiring) in zip(panels, found, strict=True):
        shown = _matrix(axes, wiring, most)
        axes.set_title(label, loc="left", fontsize=9)
    axes = panels[-1]
    axes.figure.colorbar(shown, ax=panels, label="weight", shrink=0.8, aspect=25, pad=0.02, extend="both")


def _reach(wiring: Wiring) -> float:
    """Return where colours end: a few weights that are larger than all others have the last one."""
    sizes: Any = wiring.matrix[wiring.matrix != 0].abs()
    return float(sizes.quantile(0.99)) if len(sizes) else 0.0


def _matrix(axes: Any, wiring: Wiring, most: float) -> Any:
    """Draw W[to, from]: units from above to below are those that are reached, from left to right those from which."""
    first = _inputs(wiring)
    values = wiring.matrix[first:].numpy().copy()
    values[values == 0] = float("nan")
    shown = axes.imshow(
        values, cmap=_two_sided(), vmin=-most, vmax=most, aspect="auto", interpolation="nearest"
    )
    targets = [group for group in wiring.groups if group.kind != "input"]
    for group in wiring.groups[1:]:
        axes.axvline(group.begin - 0.5, color=_INK, linewidth=0.6)
    for group in targets[1:]:
        axes.axhline(group.begin - first - 0.5, color=_INK, linewidth=0.6)
    axes.set_xticks([_middle(group) for group in wiring.groups], [_named(g) for g in wiring.groups])
    axes.set_yticks([_middle(group) - first for group in targets], [_named(g) for g in targets])
    axes.tick_params(length=0)
    axes.set_xlabel("from")
    axes.set_ylabel("to")
    for spine in axes.spines.values():
        spine.set_visible(True)
    return shown


def _middle(group: Group) -> float:
    return group.begin + (group.size - 1) / 2


def _named(group: Group) -> str:
    return f"{group.name}\n{group.size}" if group.size > 1 else group.name


def _two_sided() -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("weights", [NEGATIVE, "#dededa", POSITIVE])


# ---------------------------------------------------------------------------------------------- the graph


def graph_plot(found: Survival) -> Plot:
    """Return the picture of what survived."""
    tallest = max(group.size for group in found.wiring.groups)
    height = min(6.5, max(3.2, 1.2 + 0.28 * tallest))
    return Plot(
        name=f"what survives of the connections, {found.label}",
        draw=lambda axes: _graph(axes, found),
        size=(7.2, height + 0.6),
    )


def places(wiring: Wiring) -> dict[int, tuple[float, float]]:
    """Return where each unit stands: inputs on the left, outputs on the right, hidden units on a ring between them."""
    found: dict[int, tuple[float, float]] = {}
    for kind, across in (("input", 0.0), ("output", 2.0)):
        units = [unit for group in wiring.groups if group.kind == kind for unit in group.units]
        step = min(0.25, 2.0 / max(1, len(units) - 1))
        for place, unit in enumerate(units):
            found[unit] = (across, step * ((len(units) - 1) / 2 - place))
    hidden = [unit for group in wiring.groups if group.kind == "hidden" for unit in group.units]
    for place, unit in enumerate(hidden):
        turn = pi / 2 - 2 * pi * (place + 0.5) / len(hidden)
        found[unit] = (1.0 + 0.5 * cos(turn), 0.85 * sin(turn))
    return found


def _graph(axes: Any, found: Survival) -> None:
    where = places(found.wiring)
    most = max((abs(weight) for _, _, weight in found.edges), default=1.0) or 1.0
    if len(found.edges) <= _FEW:
        _arrows(axes, found, where, most)
    else:
        _lines(axes, found, where, most)
    _units(axes, found, where)
    _labels(axes, found, where)
    axes.set_xlim(-0.25, 2.25)
    axes.set_ylim(-1.15, 1.2)
    axes.set_axis_off()
    _key(axes, found)


def _colour(weight: float) -> str:
    return POSITIVE if weight > 0 else NEGATIVE


def _arrows(axes: Any, found: Survival, where: dict[int, tuple[float, float]], most: float) -> None:
    from matplotlib.patches import FancyArrowPatch

    for source, target, weight in found.edges:
        size = abs(weight) / most
        look: dict[str, Any] = {"color": _colour(weight), "linewidth": 0.4 + 2.2 * size}
        axes.add_patch(
            FancyArrowPatch(
                where[source],
                where[target],
                connectionstyle="arc3,rad=0.12",
                arrowstyle="-|>",
                mutation_scale=7,
                shrinkA=7,
                shrinkB=8,
                alpha=0.45 + 0.5 * size,
                zorder=1,
                **look,
            )
        )


def _lines(axes: Any, found: Survival, where: dict[int, tuple[float, float]], most: float) -> None:
    """Draw many connections as curves that bend to the left of their direction, small weights first."""
    from matplotlib.collections import LineCollection
    from matplotlib.colors import to_rgba

    edges = sorted(found.edges, key=lambda edge: abs(edge[2]))
    sizes = [abs(weight) / most for _, _, weight in edges]
    colours = [to_rgba(_colour(w), 0.08 + 0.8 * s) for (_, _, w), s in zip(edges, sizes, strict=True)]
    curves = [list(_curve(where[source], where[target])) for source, target, _ in edges]
    widths = [0.3 + 1.5 * size for size in sizes]
    many = len(edges) > _MANY
    axes.add_collection(LineCollection(curves, colors=colours, linewidths=widths, zorder=1, rasterized=many))


def _curve(start: tuple[float, float], end: tuple[float, float]) -> Iterator[tuple[float, float]]:
    (a, b), (c, d) = start, end
    e, f = (a + c) / 2 - 0.12 * (d - b), (b + d) / 2 + 0.12 * (c - a)  # between them, off to one side
    for step in range(13):
        t = step / 12
        first, middle, last = (1 - t) ** 2, 2 * t * (1 - t), t**2
        yield first * a + middle * e + last * c, first * b + middle * f + last * d


def _units(axes: Any, found: Survival, where: dict[int, tuple[float, float]]) -> None:
    orbit = {unit: number for number, units in enumerate(found.orbits) for unit in units}
    tallest = max(group.size for group in found.wiring.groups)
    size = max(10.0, min(90.0, 2600.0 / tallest))
    for unit, (x, y) in where.items():
        fill = _ORBITS[orbit[unit] % len(_ORBITS)] if unit in orbit else "#ffffff"
        cut = unit in found.dead or unit in found.unfed
        look: dict[str, Any] = {"facecolor": fill, "edgecolor": _GONE if cut else _INK, "linewidth": 0.9}
        axes.scatter([x], [y], s=size, marker=_SHAPES[found.kind(unit)], zorder=2, **look)
        if unit in found.dead:
            axes.scatter([x], [y], s=size * 0.8, marker="x", color=_GONE, linewidth=1.2, zorder=3)


def _labels(axes: Any, found: Survival, where: dict[int, tuple[float, float]]) -> None:
    for group in found.wiring.groups:
        own = [where[unit] for unit in group.units]
        top = max(y for _, y in own)
        if group.kind != "hidden":
            place = sum(x for x, _ in own) / len(own), top + 0.1
            axes.text(*place, group.name, ha="center", va="bottom", fontsize=8, color=_INK)
        if found.wiring.units <= _NAMED and group.size > 1:
            for unit in group.units:
                axes.text(*where[unit], str(unit - group.begin), **_INSIDE)
    hidden = [group.name for group in found.wiring.groups if group.kind == "hidden"]
    if hidden:
        axes.text(1.0, 1.0, ", ".join(hidden), ha="center", va="bottom", fontsize=8, color=_INK)


_INSIDE: dict[str, Any] = {"ha": "center", "va": "center", "fontsize": 6, "color": _INK, "zorder": 4}


def _key(axes: Any, found: Survival) -> None:
    from matplotlib.lines import Line2D

    def mark(label: str, marker: str, **look: Any) -> Any:
        plain: dict[str, Any] = {"color": "#ffffff", "markeredgecolor": _INK, "markersize": 6}
        return Line2D([], [], linestyle="", marker=marker, label=label, **(plain | look))

    handles = [mark(kind, shape) for kind, shape in _SHAPES.items() if _has(found, kind)]
    if found.dead:
        handles.append(mark("no way to an output", "x", markeredgecolor=_GONE))
    if found.orbits:
        handles.append(mark("exchanged by the group, by colour", "o", color=_ORBITS[0]))
    handles += [
        Line2D([], [], color=colour, linewidth=1.6, label=label)
        for colour, label in ((POSITIVE, "positive"), (NEGATIVE, "negative"))
    ]
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.02), "ncols": 4}
    axes.legend(handles=handles, fontsize=7, handlelength=1.2, columnspacing=1.4, **place)
    total = f"{len(found.edges):,} of {found.allowed:,} connections, {found.label}"
    axes.set_title(total, loc="left", fontsize=9, color=GREY)


def _has(found: Survival, kind: str) -> bool:
    return any(group.kind == kind for group in found.wiring.groups)
