"""What constraints on the values of entries share: a scale for the whole weight or for each of its rows."""

from __future__ import annotations

from math import prod

from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.ir import Tensor
from nnspec.dsl.catalog import Argument

SCALE = Argument(
    name="scale",
    kind="choice",
    doc='one number that multiplies the whole weight ("tensor"), or one for each output ("channel")',
    default=None,
    choices=("tensor", "channel"),
    nullable=True,
)
LEARNED = Argument(
    name="learned",
    kind="bool",
    doc="whether the scale is learned; else it is worked out from the stored weight in each forward pass",
    default=False,
)
CLIP = Argument(
    name="clip",
    kind="real",
    doc="half-width of the window in which the gradient passes; none: everywhere",
    default=1.0,
    above=0,
    nullable=True,
)


def scale_axes(site: WeightSite) -> tuple[int, ...]:
    """Return the axes of the weight that share a scale: all of them without one for each channel."""
    axes = tuple(range(len(site.shape)))
    if site["scale"] != "channel":
        return axes
    if len(axes) < 2:
        raise Misfit("a weight of one axis has no channels", help='write `scale = "tensor"`')
    return axes[1:]


def scale_shape(site: WeightSite) -> tuple[int, ...]:
    """Return the shape of the scale, which broadcasts against the weight."""
    axes = scale_axes(site)
    return tuple(1 if axis in axes else size for axis, size in enumerate(site.sizes))


def scale_count(site: WeightSite) -> int:
    """Return how many scales there are."""
    return 0 if site["scale"] is None else prod(scale_shape(site))


def learned_scale(site: WeightSite) -> Tensor:
    """Return the stored tensor of a learned scale."""
    return Tensor(name=site.stored("scale"), shape=scale_shape(site))


def clip_of(site: WeightSite) -> float | None:
    """Return the half-width of the window of the gradient."""
    return None if site["clip"] is None else float(site["clip"])


def refuse_lone_learned(site: WeightSite) -> None:
    """Raise Misfit where a scale is to be learned and there is none."""
    if site["learned"] and site["scale"] is None:
        raise Misfit("`learned` is about the scale, and there is none", help='add `scale = "tensor"`')
