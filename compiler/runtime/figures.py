"""Plots of a report as SVG texts: learning curves with their spread, confusion matrices, a pass's own plots.

matplotlib draws them, imported here only; `available` says whether it is there. Text stays text, the
background is transparent and the lines are readable on light and dark.
"""

from __future__ import annotations

import hashlib
import io
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from typing import Any

GREY = "#7a828c"
COLOURS = {
    **{"train": "#8b929c", "validation": "#d08a2e", "test": "#3b78b8", "loss": "#8b929c"},
    **{"exact zeros": "#d08a2e", "stored to used": "#3b78b8"},
}
OTHERS = ("#5f8a4f", "#3b78b8", "#d08a2e", "#8b6bb1")  # of curves that are not of a part
_FONTS = "system-ui, 'Helvetica Neue', Arial, sans-serif"
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "nnspec",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "text.color"), GREY),
    "axes.titlecolor": GREY,
    "axes.titlesize": 10,
    "legend.frameon": False,
    "legend.labelcolor": GREY,
}


def available() -> bool:
    """Return whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def figure(
    draw: Callable[[Any], None],
    size: tuple[float, float] = (4.2, 2.8),
    panels: tuple[int, int] = (1, 1),
    heights: Sequence[float] = (),
) -> str:
    """Return the SVG of what `draw` draws into a matplotlib Axes; `size` in inches.

    Of several `panels`, rows and columns, `draw` is given an array of Axes, and `heights` are the rows' beside each other.
    """
    import matplotlib

    with matplotlib.rc_context(_STYLE):
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure

        made = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(made)
        axes = made.subplots(*panels, squeeze=False, height_ratios=heights or None)
        draw(axes[0, 0] if panels == (1, 1) else axes)
        buffer = io.StringIO()
        made.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _embedded(buffer.getvalue())


def figure_row(draws: Sequence[Callable[[Any], None]], size: tuple[float, float]) -> str:
    """Return the SVG of panels side by side, each with what one of `draws` draws; `size` is of them all."""

    def draw(axes: Any) -> None:
        for own, place in zip(draws, axes[0], strict=True):
            own(place)

    return figure(draws[0] if len(draws) == 1 else draw, size, (1, len(draws)))


def _embedded(text: str) -> str:
    """The SVG to stand inside a page: its own identifiers, only those that it uses, and the page's font."""
    text = text[text.index("<svg") :].rstrip()
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', text))
    key = hashlib.sha256(text.encode()).hexdigest()[:8]
    text = re.sub(r' id="([^"]*)"', lambda m: f' id="{key}-{m[1]}"' if m[1] in used else "", text)
    text = re.sub(r'(url\(#|href="#)', rf"\g<1>{key}-", text)
    return re.sub(r"'DejaVu Sans'(?:, (?:'[^']*'|[\w -]+))*", _FONTS, text)


Curves = Mapping[str, Mapping[int, Sequence[tuple[float, float]]]]


def curves(name: str, parts: Curves, boundaries: Sequence[int] = ()) -> str:
    """Return one metric's curves: `parts[part][seed]` are (epoch, value) pairs.

    A line is the mean over the seeds, the band reaches one standard deviation (of the sample) each way.
    `boundaries` are the epochs after which another stage began.
    """

    def draw(axes: Any) -> None:
        draw_curves(axes, parts, boundaries)
        axes.set_title(name.replace("_", " "), loc="left")

    return figure(draw)


def draw_curves(axes: Any, parts: Curves, boundaries: Sequence[int]) -> None:
    """Draw a line for each part, the mean over the seeds, with a band of one deviation."""
    for number, (part, seeds) in enumerate(parts.items()):
        epochs, centre, spread = _over_seeds(seeds)
        colour = COLOURS.get(part, OTHERS[number % len(OTHERS)])
        axes.plot(epochs, centre, color=colour, linewidth=1.6, label=part, clip_on=False)
        if len(seeds) > 1:
            low = [c - s for c, s in zip(centre, spread, strict=True)]
            high = [c + s for c, s in zip(centre, spread, strict=True)]
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, linewidth=0)
    for epoch in boundaries:
        axes.axvline(epoch, color=GREY, linewidth=0.8, linestyle="--")
    axes.set_xlabel("epoch")
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(axis="y", color=GREY, alpha=0.18, linewidth=0.6)
    if len(parts) > 1:
        axes.legend(fontsize=8)


def _over_seeds(
    seeds: Mapping[int, Sequence[tuple[float, float]]],
) -> tuple[list[float], list[float], list[float]]:
    """The mean and the deviation at each epoch, over the seeds that reached it.

    An epoch may come twice, before and after pruning: a line then falls straight down.
    """
    found: dict[tuple[float, int], list[float]] = {}
    for points in seeds.values():
        times: dict[float, int] = {}
        for epoch, value in points:
            times[epoch] = times.get(epoch, 0) + 1
            found.setdefault((epoch, times[epoch]), []).append(value)
    places = sorted(found)
    epochs = [epoch for epoch, _ in places]
    centre = [sum(found[e]) / len(found[e]) for e in places]
    spread: list[float] = []
    for e, c in zip(places, centre, strict=True):
        values = found[e]
        squares = sum((value - c) ** 2 for value in values)
        spread.append((squares / (len(values) - 1)) ** 0.5 if len(values) > 1 else 0.0)
    return epochs, centre, spread


def confusion(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> str:
    """Return the picture of a confusion matrix: rows are true classes, shaded by their share of the row."""
    size = len(matrix)
    labels = list(names) if len(names) == size else [str(index) for index in range(size)]

    def draw(axes: Any) -> None:
        shares = [[n / max(1, sum(row)) for n in row] for row in matrix]
        axes.imshow(shares, cmap=_blues(), vmin=0, vmax=1)
        for i, row in enumerate(matrix):
            for j, count in enumerate(row):
                if count and size <= 25:
                    colour = "#ffffff" if shares[i][j] > 0.5 else GREY
                    axes.text(j, i, str(count), ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(size), labels, rotation=90 if max(map(len, labels)) > 3 else 0)
        axes.set_yticks(range(size), labels)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)

    side = min(6.0, 1.4 + 0.32 * size)
    return figure(draw, (side, side))


def _blues() -> Any:
    """From nearly clear to blue, so that the page shows through on light and dark."""
    from matplotlib.colors import LinearSegmentedColormap, to_rgb

    red, green, blue = to_rgb(COLOURS["test"])
    ends = [(red, green, blue, 0.05), (red * 0.75, green * 0.75, blue * 0.8, 1.0)]
    return LinearSegmentedColormap.from_list("share", ends)


def scatter(points: Sequence[tuple[float, float]]) -> str:
    """Return targets against outputs, with the line on which they agree."""

    def draw(axes: Any) -> None:
        targets, outputs = [t for t, _ in points], [o for _, o in points]
        low, high = min(targets + outputs), max(targets + outputs)
        axes.plot([low, high], [low, high], color=GREY, linewidth=0.8)
        axes.scatter(targets, outputs, s=9, color=COLOURS["test"], alpha=0.6, linewidths=0)
        axes.set_xlabel("target")
        axes.set_ylabel("output")

    return figure(draw, (3.2, 3.0))
