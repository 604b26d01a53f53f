"""Plots of a constrained weight: its histogram before and after training, its pattern, and its measures by epoch.

In: a picture in numbers (`weight_pictures`) and curves. Out: one SVG text, a row of panels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from nnspec.compiler.runtime.figures import COLOURS, Curves, draw_curves, figure_row

_BEFORE, _AFTER, _NEGATIVE = COLOURS["train"], COLOURS["test"], COLOURS["validation"]
_HEIGHT = 2.5  # inches
_WIDTH = 9.4  # of a full row
_SMALL = 0.01  # residuals below this are drawn as what they are: nothing


def weight_figure(
    picture: Mapping[str, Any], measures: Curves, penalties: Curves, boundaries: Sequence[int] = ()
) -> str:
    """Return the row of panels of one weight; curves of measures that are shares, and of penalties."""
    draws: list[Callable[[Any], None]] = [lambda axes: _histogram(axes, picture["histogram"])]
    if "pattern" in picture:
        draws.append(lambda axes: _pattern(axes, picture["pattern"]))
    if measures:
        draws.append(lambda axes: _measures(axes, measures, boundaries))
    if penalties:
        draws.append(lambda axes: _penalties(axes, penalties, boundaries))
    width = _WIDTH if len(draws) > 2 else _WIDTH * len(draws) / 3
    return figure_row(draws, (width, _HEIGHT))


def _histogram(axes: Any, histogram: Mapping[str, Any]) -> None:
    if "values" in histogram:
        _bars(axes, histogram)
    else:
        _bins(axes, histogram)
    axes.set_title("entries", loc="left")
    axes.set_ylim(bottom=0)
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend(fontsize=8, loc="upper left", bbox_to_anchor=(0.45, 1.22), ncols=2, handlelength=1.0)


def _bars(axes: Any, histogram: Mapping[str, Any]) -> None:
    """A bar for each value, before beside after."""
    values: Sequence[float] = histogram["values"]
    places = range(len(values))
    axes.bar([p - 0.2 for p in places], histogram["before"], 0.38, color=_BEFORE, alpha=0.6, label="before")
    axes.bar([p + 0.2 for p in places], histogram["after"], 0.38, color=_AFTER, label="after")
    labels = [f"{value:.3g}" for value in values]
    most = 9 if max(map(len, labels)) <= 3 else 4  # so that longer ones stand apart
    every = -(-len(values) // most)
    axes.set_xticks(list(places)[::every], labels[::every])
    axes.tick_params(axis="x", length=0)


def _bins(axes: Any, histogram: Mapping[str, Any]) -> None:
    """Steps over the bins; exact zeros are said in words, since their bar would dwarf all others."""
    edges: Sequence[float] = histogram["edges"]
    axes.stairs(histogram["before"], edges, color=_BEFORE, fill=True, alpha=0.35, label="before")
    axes.stairs(histogram["after"], edges, color=_AFTER, linewidth=1.4, label="after")
    zeros = histogram["zeros"][1]
    if zeros:
        share = zeros / (zeros + sum(histogram["after"]))
        said = f"and {zeros:,} exactly 0 ({_percent(share)})"
        axes.set_xlabel(said, fontsize=8)


def _percent(share: float) -> str:
    return f"{100 * share:.3g}%" if share < 1 else "all"


def _pattern(axes: Any, pattern: Mapping[str, Any]) -> None:
    """The matrix; what is exactly zero is left out, negative and positive have colours of their own."""
    from matplotlib.ticker import MaxNLocator

    values: Sequence[Sequence[float]] = pattern["values"]
    shares = pattern["of"] == "shares"
    largest = max((abs(value) for row in values for value in row), default=0.0) or 1.0
    extent = (-0.5, pattern["columns"] - 0.5, pattern["rows"] - 0.5, -0.5)
    shown = axes.imshow(
        values,
        cmap=_clear_to_colours(),
        vmin=-largest,
        vmax=largest,
        extent=extent,
        aspect="auto",
        interpolation="nearest",
    )
    axes.set_title("share of entries not 0" if shares else "weight", loc="left")
    axes.set_xlabel("input")
    axes.set_ylabel("output")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(4, integer=True))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=0.6, alpha=0.5)
    bar = axes.figure.colorbar(shown, ax=axes, fraction=0.05, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=0)
    bar.locator = MaxNLocator(4)
    bar.update_ticks()
    if min(min(row) for row in values) >= 0:
        bar.ax.set_ylim(0, largest)


def _clear_to_colours() -> Any:
    """From orange over clear to blue, so that the page shows through on light and dark."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    low, high = to_rgb(_NEGATIVE), to_rgb(_AFTER)
    ends = [(*low, 1.0), (*low, 0.0), (*high, 0.0), (*high, 1.0)]
    return LinearSegmentedColormap.from_list("signed", list(zip((0.0, 0.5, 0.5, 1.0), ends, strict=True)))


def _measures(axes: Any, curves: Curves, boundaries: Sequence[int]) -> None:
    draw_curves(axes, curves, boundaries)
    axes.set_title(next(iter(curves)) if len(curves) == 1 else "through training", loc="left")
    highest = max(value for seeds in curves.values() for points in seeds.values() for _, value in points)
    axes.set_ylim(0, max(_SMALL, 1.08 * highest))


def _penalties(axes: Any, curves: Curves, boundaries: Sequence[int]) -> None:
    draw_curves(axes, curves, boundaries)
    axes.set_title("penalty", loc="left")
    axes.set_ylim(bottom=0)
