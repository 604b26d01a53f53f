"""Windows that slide: along which axes, and how their sizes change. Shared by convolutions and pooling.

Rules are written for [channels, directions..]; `along` names the directions where the axes stand in another order.
"""

from __future__ import annotations

from typing import Any, cast

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import positions, real, shape_text
from nnspec.compiler.operations.operation import Operation, ShapeProblem, Site
from nnspec.compiler.operations.patterns import order_text
from nnspec.compiler.relations import Middle, Move, Relation, renamed
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size

ALONG = Argument(
    name="along",
    kind="axis",
    doc="the axes it runs along, all but that of the channels; none where the channels come first",
    default=None,
    listed="either",
    nullable=True,
)
_LAYOUTS = {1: ("sequences", "[channels, length]"), 2: ("images", "[channels, height, width]")}


class Sliding(Operation):
    """A window slides along one or two axes; the axis that is left is that of the channels."""

    directions: tuple[int, *tuple[int, ...]]  # numbers of axes it may run along; the last, without `along`

    def slid(self, site: Site) -> Type:
        """Return the output type, the channels being first."""
        raise TypeError(f"{self.name} has no shape rule")

    def related(self, site: Site) -> tuple[Relation, ...]:
        """Return the relations, the channels being first."""
        raise TypeError(f"{self.name} has no relations")

    def order(self, site: Site) -> tuple[int, ...]:
        """Return the places of the channels and of the directions."""
        real(site)
        given, along = site.inputs[0], site["along"]
        count = len(given.axes)
        if along is None:
            if count != self.directions[-1] + 1:
                raise self.not_laid_out(given)
            return tuple(range(count))
        found = positions(site, along)
        if len(found) not in self.directions:
            counts = " or ".join(map(str, self.directions))
            noun = "axis" if counts == "1" else "axes"
            raise ShapeProblem(
                f"runs along {counts} {noun}", expected=f"{counts} {noun}", found=f"{len(found)}"
            )
        left = [place for place in range(count) if place not in found]
        if len(left) != 1:
            raise ShapeProblem(
                "one axis is left for the channels, beside those it runs along",
                expected=f"{len(found) + 1} axes",
                found=str(given),
            )
        return (left[0], *found)

    def not_laid_out(self, given: Type) -> ShapeProblem:
        count = len(given.axes)
        what, layout = _LAYOUTS[self.directions[-1]]
        sizes = ", ".join(map(str, given.shape))
        help_text = f"`reshape([1, {sizes}])` adds a channel" if count == self.directions[-1] else None
        if len(self.directions) > 1 and count == 2:
            help_text = f"{help_text}; `along = 1` runs along one axis of two" if help_text else None
        words = {1: "two", 2: "three"}[self.directions[-1]]
        return ShapeProblem(
            f"works on {what}", expected=f"{words} axes: {layout}", found=str(given), help=help_text
        )

    def turned(self, site: Site) -> Site:
        """Return the site with the channels first."""
        order = self.order(site)
        moved = tuple(
            tuple(t.replace(axes=tuple(t.axes[place] for place in order)) for t in types)
            for types in (site.inputs, site.outputs)
        )
        return site.replace(inputs=moved[0], outputs=moved[1])

    def shape(self, site: Site) -> tuple[Type, ...]:
        order = self.order(site)
        try:
            made = self.slid(self.turned(site))
        except ShapeProblem as problem:
            problem.axes = tuple((index, order[place]) for index, place in problem.axes)
            raise
        back = sorted(range(len(order)), key=lambda place: order[place])
        return (made.replace(axes=tuple(made.axes[place] for place in back)),)

    def arranged(self, site: Site, text: str) -> str:
        order = self.order(site)
        names = tuple(str(place) for place in range(len(order)))
        return order_text(text, names, tuple(str(place) for place in order), site.batched)

    def restored(self, site: Site, text: str) -> str:
        order = tuple(str(place) for place in self.order(site))
        return order_text(text, order, tuple(str(place) for place in range(len(order))), site.batched)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        order, turned = self.order(site), self.turned(site)
        made = self.related(turned)
        if list(order) == sorted(order):
            return made
        inner = {m.tensor: m.tensor for m in made if isinstance(m, Middle)}
        names = {**inner, **{t.name: t.name for t in site.tensors}, "in0": "first", "out0": "last"}
        there = tuple(((old,), (new,)) for new, old in enumerate(order))
        return (
            Middle(tensor="first", shape=turned.inputs[0].shape),
            Middle(tensor="last", shape=turned.outputs[0].shape),
            Move(input="in0", output="first", groups=there),
            *(renamed(relation, names) for relation in made),
            Move(input="last", output="out0", groups=tuple((new, old) for old, new in there)),
        )


def several(value: Any, count: int) -> tuple[int, ...]:
    """Return a number for each direction, of an argument that is one number or a list of them."""
    if not isinstance(value, tuple):
        return (value,) * count
    listed = cast("tuple[int, ...]", value)
    if len(listed) != count:
        expected = "[h, w]" if count == 2 else "one number"
        raise ShapeProblem(
            "one number, or one for each direction", expected=expected, found=shape_text(listed)
        )
    return listed


def windowed(site: Site, kernel: tuple[int, ...], padding: tuple[int, ...]) -> tuple[Axis, ...]:
    """Return the directions after a window of this extent has slid over the padded input."""
    strides = several(site["stride"] or kernel, len(kernel))
    dilation = several(site.arguments.get("dilation", 1), len(kernel))
    places = range(1, len(kernel) + 1)
    numbers = zip(kernel, strides, dilation, padding, places, strict=True)
    return tuple(
        _slide(site.inputs[0].axes[place], extent, stride, spacing, border, place)
        for extent, stride, spacing, border, place in numbers
    )


def _slide(axis: Axis, kernel: int, stride: int, dilation: int, padding: int, place: int) -> Axis:
    extent = dilation * (kernel - 1) + 1
    room = axis.size + 2 * padding - extent
    if isinstance(room, int) and room < 0:
        padded = f"{axis.size} + 2 * {padding}" if padding else f"{axis.size}"
        spread = f" (dilated to {extent})" if dilation > 1 else ""
        raise ShapeProblem(
            f"the kernel is larger than the image: {padded} - {extent} = {room}",
            expected=f"a size of at least {extent - 2 * padding}",
            found=f"{axis.size}, under a kernel of {kernel}{spread}",
            axes=((0, place),),
            help='a smaller kernel, or `padding = "same"`',
        )
    size: Size = room // stride + 1
    # The very axis is passed on where nothing changes, with its name and its reason.
    return axis if size == axis.size else Axis(size=size, name=axis.name)
