"""Several tensors into one and one into several: `concat`, `stack`, `split`."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import dimension, new_position, position, shape_text, whole
from nnspec.compiler.operations.operation import Operation, ShapeProblem, Site, last_axis
from nnspec.compiler.relations import Part, Relation
from nnspec.dsl.catalog import Argument


def alike(site: Site, apart: int | None) -> None:
    """Refuse inputs that differ in kind, in the number of axes, or in any axis but `apart`."""
    first = site.inputs[0]
    for index, other in enumerate(site.inputs[1:], start=1):
        if other.dtype != first.dtype or len(other.axes) != len(first.axes):
            raise ShapeProblem(
                "its inputs differ in kind or in their number of axes",
                expected=f"{first}, as its input 1",
                found=f"{other}, as its input {index + 1}",
            )
        for place, (mine, theirs) in enumerate(zip(first.axes, other.axes, strict=True)):
            if place != apart and mine.size != theirs.size:
                raise ShapeProblem(
                    f"{mine.size} and {theirs.size} differ in axis {place}",
                    expected=f"{first}, as its input 1",
                    found=f"{other}, as its input {index + 1}",
                    axes=((0, place), (index, place)),
                )


class Concat(Operation):
    name = "concat"
    doc = """The inputs one after another along an axis: [3] and [5] give [8]. Other axes must agree."""
    inputs = (1, None)
    arguments = (Argument(name="axis", kind="axis", doc="the axis that grows", default=-1),)
    example = "both = concat(left, right)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        last_axis(site)
        axis = position(site, site["axis"])
        alike(site, apart=axis)
        given = site.inputs[0]
        if len(site.inputs) == 1:
            return (given,)
        parts = [other.shape[axis] for other in site.inputs]
        total = sum(parts[1:], parts[0])
        grown = Axis(size=total, name=given.axes[axis].name)
        return (given.replace(axes=(*given.axes[:axis], grown, *given.axes[axis + 1 :])),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        if len(inputs) == 1:
            return inputs[0]
        axis = position(site, site["axis"])
        return f"torch.cat(({', '.join(inputs)}), dim={dimension(site, axis)})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        axis, start = position(site, site["axis"]), 0
        made: list[Relation] = []
        for index, given in enumerate(site.inputs):
            made.append(Part(whole="out0", part=f"in{index}", axis=axis, start=start, part_axis=axis))
            start = start + given.shape[axis]
        return tuple(made)


class Stack(Operation):
    name = "stack"
    doc = """The inputs side by side along a new axis: three [5] give [3, 5]. All must have one shape."""
    inputs = (1, None)
    arguments = (Argument(name="axis", kind="int", doc="where the new axis stands", default=0),)
    example = "pair = stack(left, right)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        alike(site, apart=None)
        given, place = site.inputs[0], new_position(site)
        new = Axis(size=len(site.inputs))
        return (given.replace(axes=(*given.axes[:place], new, *given.axes[place:])),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        dim = dimension(site, new_position(site), len(site.inputs[0].axes) + 1)
        comma = "," if len(inputs) == 1 else ""
        return f"torch.stack(({', '.join(inputs)}{comma}), dim={dim})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        place = new_position(site)
        return tuple(
            Part(whole="out0", part=f"in{index}", axis=place, start=index, part_axis=None)
            for index in range(len(site.inputs))
        )


class Split(Operation):
    name = "split"
    doc = """Cuts an axis into pieces, which come out as a list: split(3) into three equal ones, split([2, 6])
    into pieces of these sizes."""
    arguments = (
        Argument(name="parts", kind="int", doc="how many, or their sizes", listed="either", at_least=1),
        Argument(name="axis", kind="axis", doc="the axis that is cut", default=-1),
    )
    example = "q, k, v = x -> dense(192) -> split(3)"

    def outputs(self, arguments: dict[str, Any]) -> int:
        parts: int | tuple[int, ...] = arguments["parts"]
        return len(parts) if isinstance(parts, tuple) else parts

    def sizes(self, site: Site) -> tuple[int, ...]:
        """Return the sizes of the pieces."""
        last_axis(site)
        axis = position(site, site["axis"])
        parts: int | tuple[int, ...] = site["parts"]
        size = whole(site.inputs[0].shape[axis], "the size of an axis that is cut", ((0, axis),))
        if isinstance(parts, tuple):
            if sum(parts) != size:
                raise ShapeProblem(
                    f"the pieces make {' + '.join(map(str, parts))} = {sum(parts)}",
                    expected=f"pieces that make {size}",
                    found=shape_text(parts),
                    axes=((0, axis),),
                )
            return parts
        if size % parts:
            raise ShapeProblem(
                f"{size} is not a multiple of {parts}: {size} = {parts} * {size // parts} + {size % parts}",
                expected=f"a multiple of {parts}",
                found=str(size),
                axes=((0, axis),),
            )
        return (size // parts,) * parts

    def shape(self, site: Site) -> tuple[Type, ...]:
        given, sizes = site.inputs[0], self.sizes(site)
        axis = position(site, site["axis"])
        return tuple(
            given.replace(axes=(*given.axes[:axis], Axis(size=size), *given.axes[axis + 1 :]))
            for size in sizes
        )

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        axis = dimension(site, position(site, site["axis"]))
        parts: int | tuple[int, ...] = site["parts"]
        if isinstance(parts, tuple):
            text = f"{inputs[0]}.split({list(parts)}, dim={axis})"
        else:
            text = f"{inputs[0]}.chunk({parts}, dim={axis})"
        # One piece is still a tuple in torch; one value is assigned.
        return f"{text}[0]" if self.outputs(site.arguments) == 1 else text

    def relate(self, site: Site) -> tuple[Relation, ...]:
        axis, start = position(site, site["axis"]), 0
        made: list[Relation] = []
        for index, size in enumerate(self.sizes(site)):
            made.append(Part(whole="in0", part=f"out{index}", axis=axis, start=start, part_axis=axis))
            start += size
        return tuple(made)


OPERATIONS = (Concat(), Stack(), Split())
