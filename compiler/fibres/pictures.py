"""Pictures of what GENNI found: contour and surface of log J, kept points in space, and a projection.

In: what was found and the options of the pass. Out: plots for matplotlib (which the report calls), and scenes
that a reader may turn. The origin is gold, the other networks of the slice blue; the exact orbit of the origin is
orange, walks along the fibre are white.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import log10
from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.told import limit_of
from nnspec.compiler.passes.analysis import Dots, Plot, Scene
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.fibres.genni import Cut, Equivalents

ORIGIN, OTHER, ORBIT, WALK = "#e0b020", "#3b78b8", "#d08a2e", "#b04a6f"
_MAP = "viridis"
_NEAR = 0.02  # of the box: what counts as in the slice
_MOST_DOTS = 2000
_SHARP = 160  # dots an inch of what is drawn as pixels


class _Overlay(Node):
    """What is drawn over a slice, as coordinates in it."""

    origin: Tensor  # [1, d]
    others: Tensor
    curves: tuple[Tensor, ...]
    images: Tensor  # of the origin, those that lie in the slice
    walks: tuple[Tensor, ...]


def plots(found: Equivalents, options: Mapping[str, Any]) -> tuple[Plot, ...]:
    """Return the plots of a run: contour, surface, points in space, projection."""
    limit = limit_of(found, options)
    made = [
        Plot(
            name="log J on the slice",
            draw=lambda axes: _contour(axes, found, options, limit),
            size=(4.5, 3.7),
        ),
        Plot(name="log J as a surface", draw=lambda axes: _surface(axes, found, options), size=(4.5, 3.7)),
    ]
    if len(found.cuts) > 1:
        made.append(
            Plot(
                name="points of the grid within epsilon",
                draw=lambda axes: _scatter(axes, found, options, limit),
                size=(4.5, 3.7),
            )
        )
    if options["project"] is not None:
        where, flat = _projected(found, options, limit)
        name = f"weights within epsilon, by {options['project'].name}"
        named = "on their two principal axes" if options["project"].name == "pca" else "by UMAP"
        made.append(Plot(name=name, draw=lambda axes: _projection(axes, where, flat, named), size=(4.5, 3.5)))
    return tuple(made)


def scenes(found: Equivalents, options: Mapping[str, Any]) -> tuple[Scene, ...]:
    """Return the scene of a run: points within epsilon in space, or the surface over a plane."""
    limit = limit_of(found, options)
    cut, variance = found.cuts[-1], found.distance.variance
    over = _overlay(found, options, len(cut.bounds))
    if len(cut.bounds) == 3:
        kept = _thinned((cut.values <= limit).nonzero().flatten())
        points = cut.coordinates[kept]
        cloud = Dots(name="grid", points=_triples(points), values=_logs(cut.values[kept] / variance))
        named = ("c₁", "c₂", "c₃")
        return (
            Scene(
                name="points within epsilon",
                axes=named,
                dots=(cloud, *_lifted(over, None)),
                value="log₁₀ J / variance",
            ),
        )
    heights = _logs(cut.values / variance)
    flat: list[list[float]] = cut.coordinates.tolist()
    points = tuple((x, y, h) for (x, y), h in zip(flat, heights, strict=True))
    cloud = Dots(name="grid", points=points, values=heights)
    named = ("c₁", "c₂", "log₁₀ J / variance")
    dots = (cloud, *_lifted(over, found))
    return (Scene(name="log J over the slice", axes=named, dots=dots, value="log₁₀ J / variance"),)


# ------------------------------------------------------------------------------------------------------ overlays


def _overlay(found: Equivalents, options: Mapping[str, Any], dims: int) -> _Overlay:
    """Return what lies in the slice or, as its shadow, near it."""
    import torch

    assert found.slice is not None
    cut = found.slice.replace(basis=found.slice.basis[:, :dims])
    exact = options["seed_mode"] == "torch"
    on = torch.stack(
        [found.students[k].found.double() if exact else found.students[k].best for k in found.through]
    )
    low, high = found.cuts[-1].bounds[0]
    near = _NEAR * (high - low)
    return _Overlay(
        origin=cut.coordinates(on[:1]),
        others=cut.coordinates(on[1:]),
        curves=tuple(_inside(found.cuts[-1], cut.coordinates(curve)) for curve in found.curves),
        images=cut.coordinates(found.images[cut.off(found.images) <= near]),
        walks=tuple(_inside(found.cuts[-1], cut.coordinates(walk.points)) for walk in found.walks),
    )


def _inside(cut: Cut, points: Tensor) -> Tensor:
    """Return the points with those outside of the box as NaN, where lines break off."""
    import torch

    low = torch.tensor([pair[0] for pair in cut.bounds[: points.shape[1]]], dtype=points.dtype)
    high = torch.tensor([pair[1] for pair in cut.bounds[: points.shape[1]]], dtype=points.dtype)
    out = ((points < low) | (points > high)).any(dim=1)
    return points.masked_fill(out.unsqueeze(1), float("nan"))


def _lifted(over: _Overlay, found: Equivalents | None) -> tuple[Dots, ...]:
    """Return the overlay as dots in space; over a plane they lie on its floor."""
    import torch

    floor = None if found is None else min(_logs(found.cuts[0].values / found.distance.variance))

    def triples(points: Tensor) -> tuple[tuple[float, float, float], ...]:
        kept = points[~torch.isnan(points).any(dim=1)]
        if floor is None:
            return _triples(kept)
        flat: list[list[float]] = kept.tolist()
        return tuple((x, y, floor) for x, y in flat)

    made = [
        *(
            Dots(name="exact orbit", points=triples(curve), colour=ORBIT, joined=True)
            for curve in over.curves
        ),
        *(Dots(name="walk", points=triples(walk), colour=WALK, joined=True) for walk in over.walks),
        Dots(name="other networks", points=triples(over.others), colour=OTHER, size=5.0),
        Dots(name="origin", points=triples(over.origin), colour=ORIGIN, size=6.0),
    ]
    return tuple(dots for dots in made if dots.points)


def _triples(points: Tensor) -> tuple[tuple[float, float, float], ...]:
    listed: list[list[float]] = points.tolist()
    return tuple((x, y, z) for x, y, z in listed)


def _logs(values: Tensor) -> tuple[float, ...]:
    listed: list[float] = values.tolist()
    return tuple(log10(max(value, 1e-32)) for value in listed)


def _thinned(index: Tensor) -> Tensor:
    """Return evenly spaced ones of too many."""
    step = -(-len(index) // _MOST_DOTS)
    return index[:: max(1, step)]


# --------------------------------------------------------------------------------------------------------- plots


def _contour(axes: Any, found: Equivalents, options: Mapping[str, Any], limit: float) -> None:
    """Draw log J on the plane, the line J = epsilon, the networks, the orbit of the origin and the walks."""
    from nnspec.compiler.runtime.figures import GREY

    x, y, heights = _plane(found)
    variance = found.distance.variance
    image = axes.contourf(x, y, heights, levels=24, cmap=_MAP)
    image.set_rasterized(True)
    axes.figure.set_dpi(_SHARP)
    level = log10(limit / variance)
    if heights.min() < level < heights.max():
        axes.contour(x, y, heights, levels=[level], colors="white", linewidths=1.0, linestyles="solid")
    over = _overlay(found, options, 2)
    for number, curve in enumerate(over.curves):
        label = "exact orbit (shadow)" if number == 0 else None
        axes.plot(*_columns(curve), color=ORBIT, linewidth=1.1, linestyle="--", label=label)
    for number, walk in enumerate(over.walks):
        axes.plot(*_columns(walk), color="white", linewidth=1.6)
        axes.plot(*_columns(walk), color=WALK, linewidth=0.9, label="walk (shadow)" if number == 0 else None)
    if len(over.images) > 1:
        ring = {"color": ORBIT, "markersize": 11, "fillstyle": "none", "markeredgewidth": 1.6}
        axes.plot(*_columns(over.images), "o", **ring, label="images of the origin")
    _networks(axes, over)
    axes.set_xlabel("c₁")
    axes.set_ylabel("c₂")
    axes.set_title("log₁₀ J / Var[y], white: epsilon", loc="left")
    bar = axes.figure.colorbar(image, ax=axes)
    bar.outline.set_visible(False)
    axes.set_aspect("equal")
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=2, labelcolor=GREY)


def _networks(axes: Any, over: _Overlay) -> None:
    on, off = over.others[:2], over.others[2:]
    axes.plot(*_columns(on), "o", color=OTHER, markeredgecolor="white", markersize=6, label="networks")
    if len(off):
        hollow = {"markerfacecolor": "white", "markeredgecolor": OTHER, "markersize": 6}
        axes.plot(*_columns(off), "o", **hollow, label="network beside it (shadow)")
    axes.plot(
        *_columns(over.origin), "*", color=ORIGIN, markeredgecolor="white", markersize=11, label="origin"
    )


def _columns(points: Tensor) -> tuple[list[float], ...]:
    return tuple(points[:, axis].tolist() for axis in range(points.shape[1]))


def _plane(found: Equivalents) -> tuple[Any, Any, Any]:
    import numpy as np

    cut = found.cuts[0]
    shape = (cut.count, cut.count)
    heights = np.log10(np.maximum(cut.values.numpy() / found.distance.variance, 1e-32)).reshape(shape)
    first, second = cut.coordinates[:, 0].reshape(shape).numpy(), cut.coordinates[:, 1].reshape(shape).numpy()
    return first, second, heights


def _in_space(axes: Any) -> Any:
    """Return axes in space in the place of plain ones."""
    from matplotlib.ticker import MaxNLocator

    figure, place = axes.figure, axes.get_subplotspec()
    axes.remove()
    figure.set_dpi(_SHARP)
    made = figure.add_subplot(place, projection="3d")
    for axis in (made.xaxis, made.yaxis, made.zaxis):
        axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
        axis.set_pane_color((0.5, 0.5, 0.5, 0.04))
        axis._axinfo["grid"].update(color=(0.5, 0.5, 0.5, 0.2), linewidth=0.5)  # pyright: ignore[reportPrivateUsage]
    made.tick_params(labelsize=7, pad=0)
    made.set_box_aspect(None, zoom=0.9)
    return made


def _surface(axes: Any, found: Equivalents, options: Mapping[str, Any]) -> None:
    x, y, heights = _plane(found)
    made = _in_space(axes)
    surface = made.plot_surface(x, y, heights, cmap=_MAP, linewidth=0, antialiased=True, rcount=80, ccount=80)
    surface.set_rasterized(True)
    floor = float(heights.min())
    over = _overlay(found, options, 2)
    for points, colour, mark, size in ((over.others, OTHER, "o", 22), (over.origin, ORIGIN, "*", 70)):
        across, along = _columns(points)
        made.scatter(
            across, along, [floor] * len(across), color=colour, marker=mark, s=size, depthshade=False
        )
    made.set_xlabel("c₁", labelpad=-4)
    made.set_ylabel("c₂", labelpad=-4)
    made.set_title("log₁₀ J / Var[y]", loc="left")
    made.view_init(elev=38, azim=-60)


def _scatter(axes: Any, found: Equivalents, options: Mapping[str, Any], limit: float) -> None:
    from nnspec.compiler.runtime.figures import GREY

    cut = found.cuts[-1]
    kept = _thinned((cut.values <= limit).nonzero().flatten())
    made = _in_space(axes)
    heights = _logs(cut.values[kept] / found.distance.variance)
    dots = made.scatter(*_columns(cut.coordinates[kept]), c=heights, cmap=_MAP, s=7, linewidths=0, alpha=0.75)
    over = _overlay(found, options, 3)
    for number, curve in enumerate(over.curves):
        label = "exact orbit (shadow)" if number == 0 else None
        made.plot(*_columns(curve), color=ORBIT, linewidth=1.1, linestyle="--", label=label)
    for number, walk in enumerate(over.walks):
        made.plot(*_columns(walk), color=WALK, linewidth=1.2, label="walk (shadow)" if number == 0 else None)
    made.scatter(*_columns(over.others), color=OTHER, s=26, depthshade=False, label="networks")
    made.scatter(*_columns(over.origin), color=ORIGIN, marker="*", s=80, depthshade=False, label="origin")
    for name, bounds in zip("xyz", cut.bounds, strict=True):
        getattr(made, f"set_{name}lim")(*bounds)
    made.set_xlabel("c₁", labelpad=-4)
    made.set_ylabel("c₂", labelpad=-4)
    made.set_zlabel("c₃", labelpad=-4)
    made.set_title("J ≤ epsilon, log₁₀ J / Var[y]", loc="left")
    named = made.legend(fontsize=7, loc="upper left", bbox_to_anchor=(-0.05, 0.99), ncols=2, labelcolor=GREY)
    named.set_in_layout(False)  # it stands in a corner that the box leaves free
    if len(kept):
        bar = made.figure.colorbar(dots, ax=made, shrink=0.6, pad=0.08)
        bar.outline.set_visible(False)


# ---------------------------------------------------------------------------------------------------- projections


def _projected(
    found: Equivalents, options: Mapping[str, Any], limit: float
) -> tuple[dict[str, slice], Tensor]:
    """Return where each kind of weights stands, and all in two dimensions."""
    import torch

    assert found.slice is not None
    cut = found.cuts[-1]
    kept = _thinned((cut.values <= limit).nonzero().flatten())
    basis = found.slice.replace(basis=found.slice.basis[:, : len(cut.bounds)])
    parts: dict[str, Tensor] = {"grid": basis.points(cut.coordinates[kept])}
    equal = [student.best for student in found.equivalent]
    parts["equivalent networks"] = torch.stack(equal) if equal else parts["grid"][:0]
    parts["walk"] = torch.cat([w.points for w in found.walks]) if found.walks else parts["grid"][:0]
    parts["teacher"] = found.teacher.unsqueeze(0)
    where: dict[str, slice] = {}
    start = 0
    for name, part in parts.items():
        where[name] = slice(start, start + len(part))
        start += len(part)
    return where, project(torch.cat(list(parts.values())), options)


def project(vectors: Tensor, options: Mapping[str, Any]) -> Tensor:
    """Return weights [n, p] as [n, 2]: on their two principal axes, or by UMAP with a fixed seed."""
    import torch

    if options["project"].name == "umap" and len(vectors) > 4:
        return _umap(vectors, options["project"].options, options["seed"])
    centred = vectors - vectors.mean(dim=0)
    _, _, right = torch.linalg.svd(centred, full_matrices=False)
    axes = right[:2]
    largest = axes.gather(1, axes.abs().argmax(dim=1, keepdim=True))
    return centred @ (axes * largest.sign()).T


def _umap(vectors: Tensor, settings: Mapping[str, Any], seed: int) -> Tensor:
    from importlib import import_module

    import torch

    umap: Any = import_module("umap")
    reducer = umap.UMAP(
        n_neighbors=min(settings["neighbours"], len(vectors) - 1),
        min_dist=settings["distance"],
        random_state=seed,
        n_jobs=1,
    )
    return torch.from_numpy(reducer.fit_transform(vectors.numpy())).double()


def _projection(axes: Any, where: dict[str, slice], flat: Tensor, by: str) -> None:
    from nnspec.compiler.runtime.figures import GREY

    styles: dict[str, dict[str, Any]] = {
        "grid": {"color": GREY, "s": 5, "alpha": 0.35},
        "walk": {"color": WALK, "s": 6},
        "equivalent networks": {"color": OTHER, "s": 26, "edgecolors": "white", "linewidths": 0.6},
        "teacher": {"color": ORIGIN, "s": 90, "marker": "*", "edgecolors": "white", "linewidths": 0.6},
    }
    for name, style in styles.items():
        points = flat[where[name]]
        if len(points):
            drawn = axes.scatter(*_columns(points), label=name, **{"linewidths": 0, **style})
            drawn.set_rasterized(len(points) > 300)
    axes.figure.set_dpi(_SHARP)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.03), ncols=4)
    axes.set_title(f"weights found, {by}", loc="left")
