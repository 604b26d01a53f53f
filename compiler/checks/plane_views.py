"""The plane as a network sees it, in a panel for each seed. matplotlib's Axes come from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnspec.compiler.checks.plane import flat_points, listed
from nnspec.compiler.passes.analysis import Plot

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.checks.plane import Grid, Map, Reading
    from nnspec.compiler.runtime.plan import Plan

# Okabe and Ito (2008): told apart by those who see few colours, too. The first two are the ends of the map of two classes.
CLASSES = ("#e69f00", "#0072b2", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#7f7f7f")
_MARKS = "o^sDvP*X"
_SIDE = 2.2  # inches of a panel
_ACROSS = 4  # panels in a row
_MOST_POINTS = 400  # of a part that are drawn
_INK = "#2b3138"


def plot(plan: Plan, grid: Grid, read: Reading, maps: Sequence[Map]) -> Plot:
    """Return the picture of all maps, alike in scale."""
    rows = -(-len(maps) // _ACROSS)
    columns = -(-len(maps) // rows)
    return Plot(
        name=f"the plane as {plan.graph.name} sees it",
        draw=lambda axes: _draw(_panels(axes), columns, plan, grid, read, maps),
        size=(columns * _SIDE + 1.1, rows * (_SIDE + 0.25) + 0.3),
        panels=(rows, columns),
    )


def _panels(axes: Any) -> list[Any]:
    return list(axes.flat) if hasattr(axes, "flat") else [axes]


def _draw(
    panels: list[Any], columns: int, plan: Plan, grid: Grid, read: Reading, maps: Sequence[Map]
) -> None:
    for place, axes in enumerate(panels):
        if place >= len(maps):
            axes.set_visible(False)
            continue
        one = maps[place]
        shown = _classes(axes, grid, read, one, maps) if read.classes else _numbers(axes, grid, maps, one)
        _points(axes, plan, read, shown)
        axes.set_title(_title(one), loc="left", fontsize=8)
        axes.set_xlim(float(grid.x[0]), float(grid.x[-1]))
        axes.set_ylim(float(grid.y[0]), float(grid.y[-1]))
        axes.tick_params(labelsize=7)
        axes.locator_params(nbins=4)
        if place % columns == 0:
            axes.set_ylabel(grid.names[1])
        if place + columns >= len(maps):
            axes.set_xlabel(grid.names[0])
        if place == min(columns, len(maps)) - 1:
            _key(axes, plan, read, shown)


def _title(one: Map) -> str:
    part = list(one.right)[-1] if one.right else None
    return one.label if part is None else f"{one.label}: {part} {one.right[part]:.3f}"


def _shown(axes: Any, values: Tensor, grid: Grid, **look: Any) -> Any:
    return axes.pcolormesh(
        listed(grid.x), listed(grid.y), listed(values), shading="nearest", rasterized=True, **look
    )


def _classes(axes: Any, grid: Grid, read: Reading, one: Map, maps: Sequence[Map]) -> Any:
    """Draw the regions of the classes; of two also how far either leads, and the line where neither does."""
    from matplotlib.colors import LinearSegmentedColormap, ListedColormap

    assert read.classes is not None and one.chosen is not None
    if one.values is None:
        tints = ListedColormap([_tint(CLASSES[k % len(CLASSES)]) for k in range(len(read.classes))])
        shown = _shown(axes, one.chosen, grid, cmap=tints, vmin=-0.5, vmax=len(read.classes) - 0.5)
        assert one.leads is not None
        for lead in one.leads:
            _line(axes, grid, lead)
        return shown
    most = _reach([float(own.values.abs().quantile(0.9)) for own in maps if own.values is not None])
    two = LinearSegmentedColormap.from_list("two", [CLASSES[0], "#f4f4f2", CLASSES[1]])
    shown = _shown(axes, one.values, grid, cmap=two, vmin=-most, vmax=most, alpha=0.75)
    _line(axes, grid, one.values)
    return shown


def _reach(ends: Sequence[float]) -> float:
    """Return where the colours of all maps end: what nine of ten points of the middle map stay within."""
    return sorted(ends)[len(ends) // 2] or 1.0


def _line(axes: Any, grid: Grid, values: Tensor) -> None:
    """Draw where a lead is zero."""
    if float(values.min()) < 0 < float(values.max()):
        look: dict[str, Any] = {"levels": [0], "colors": _INK, "linewidths": 1.1}
        axes.contour(listed(grid.x), listed(grid.y), listed(values), **look)


def _tint(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.45 * part + 0.55 for part in to_rgb(colour))


def _numbers(axes: Any, grid: Grid, maps: Sequence[Map], one: Map) -> Any:
    """Draw an output that is a number, on one scale for all maps."""
    assert one.values is not None
    known = [own.values for own in maps if own.values is not None]
    low, high = min(float(v.min()) for v in known), max(float(v.max()) for v in known)
    shown = _shown(axes, one.values, grid, cmap="cividis", vmin=low, vmax=high)
    look: dict[str, Any] = {"levels": 8, "colors": "#ffffff", "linewidths": 0.5, "linestyles": "solid"}
    if float(one.values.max()) > float(one.values.min()):
        axes.contour(listed(grid.x), listed(grid.y), listed(one.values), **look)
    return shown


def _points(axes: Any, plan: Plan, read: Reading, shown: Any) -> None:
    """Draw the points of the held-out part, and smaller those of training."""
    for name in dict.fromkeys(("train", plan.held_out)):
        part = plan.parts[name].between(0, _MOST_POINTS)
        points, target = flat_points(part).cpu(), part.target.cpu().flatten()
        size = 16 if name == plan.held_out else 6
        if read.classes is None:
            look: dict[str, Any] = {
                "c": listed(target),
                "cmap": shown.get_cmap(),
                "norm": shown.norm,
                "marker": "o",
            }
            axes.scatter(*listed(points.T), s=size + 6, edgecolors="#ffffff", linewidths=0.8, **look)
            continue
        for k in range(len(read.classes)):
            own = points[target == k]
            look = {"color": CLASSES[k % len(CLASSES)], "marker": _MARKS[k % len(_MARKS)]}
            axes.scatter(*listed(own.T), s=size, edgecolors=_INK, linewidths=0.4, clip_on=False, **look)


def _key(axes: Any, plan: Plan, read: Reading, shown: Any) -> None:
    """Say once what colours mean."""
    if read.classes is None:
        axes.figure.colorbar(shown, ax=axes, label=plan.target.name, shrink=0.85)
        return
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [],
            [],
            linestyle="",
            marker=_MARKS[k % len(_MARKS)],
            color=CLASSES[k % len(CLASSES)],
            markeredgecolor=_INK,
            markeredgewidth=0.4,
            markersize=5,
            label=name,
        )
        for k, name in enumerate(read.classes)
    ]
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0)}
    axes.legend(handles=handles, title=plan.target.name, fontsize=7, title_fontsize=7, **place)
