"""What depends on the order along an axis: `argmax`, `argmin`, `top_k`, `cumsum`."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import dimension, elements, ordered, position
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site, last_axis
from nnspec.compiler.relations import Contract, Elementwise, Fixed, Middle, Relation, Term, axes_of
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size

_AXIS = Argument(name="axis", kind="axis", doc="the axis along which it runs", default=-1)


def told_apart(site: Site, axis: int, degrees: tuple[float, ...]) -> tuple[Relation, ...]:
    """Return relations of functions of each row along an axis, whose positions they tell apart.

    There is a degree for each output: f(a x) = a^degree f(x) for a > 0.
    """
    labels = axes_of(len(site.inputs[0].axes))
    given = Term(tensor="in0", labels=labels)
    made: list[Relation] = [Fixed(tensor="in0", axes=(axis,), why="its positions are told apart")]
    for index, (output, degree) in enumerate(zip(site.outputs, degrees, strict=True)):
        each = given.replace(tensor=f"each{index}")
        place = ("#out",) if len(output.axes) == len(labels) else ()
        out = Term(tensor=f"out{index}", labels=(*labels[:axis], *place, *labels[axis + 1 :]))
        made += [
            Middle(tensor=each.tensor, shape=site.inputs[0].shape),
            Elementwise(terms=(given,), output=each, degree=degree),
            Contract(terms=(each,), output=out, uniform=False),
        ]
    return tuple(made)


class ArgExtreme(Operation):
    """Where along an axis the largest or the smallest number stands."""

    arguments = (_AXIS,)

    def __init__(self, name: str, word: str) -> None:
        self.name = name
        self.doc = f"The place of the {word} number along an axis, from 0; the axis disappears."
        self.example = f"chosen = scores -> {name}"

    def shape(self, site: Site) -> tuple[Type, ...]:
        ordered(site)
        last_axis(site)
        axis, given = position(site, site["axis"]), site.inputs[0]
        return (Type(axes=(*given.axes[:axis], *given.axes[axis + 1 :]), dtype="int"),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"{inputs[0]}.{self.name}({dimension(site, position(site, site['axis']))})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        return told_apart(site, position(site, site["axis"]), (0.0,))


class TopK(Operation):
    name = "top_k"
    doc = """The k largest numbers along an axis, in falling order, and their places, from 0: two values."""
    arguments = (Argument(name="k", kind="size", doc="how many", at_least=1), _AXIS)
    example = "values, places = scores -> top_k(3)"

    def outputs(self, arguments: dict[str, Any]) -> int:
        return 2

    def shape(self, site: Site) -> tuple[Type, ...]:
        ordered(site)
        last_axis(site)
        axis, given, k = position(site, site["axis"]), site.inputs[0], site["k"]
        size: Size = given.shape[axis]
        if isinstance(size, int) and isinstance(k, int) and k > size:
            raise ShapeProblem(
                f"there are only {size} numbers along axis {axis}",
                expected=f"at most {size}",
                found=f"k = {k}",
                axes=((0, axis),),
            )
        kept = Type(axes=(*given.axes[:axis], Axis(size=k), *given.axes[axis + 1 :]), dtype=given.dtype)
        return (kept, kept.replace(dtype="int"))

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"{inputs[0]}.topk({site['k']}, dim={dimension(site, position(site, site['axis']))})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        return told_apart(site, position(site, site["axis"]), (1.0, 0.0))


class CumulativeSum(Operation):
    name = "cumsum"
    doc = "The running sum along an axis: y_i = x_0 + .. + x_i."
    arguments = (_AXIS,)
    example = "position = velocity -> cumsum(axis = T)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        if site.inputs[0].dtype == "bool":
            ordered(site)
        last_axis(site)
        position(site, site["axis"])
        return site.inputs

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"{inputs[0]}.cumsum({dimension(site, position(site, site['axis']))})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        axis, labels = position(site, site["axis"]), axes_of(len(site.inputs[0].axes))
        before, after = ((*labels[:axis], label, *labels[axis + 1 :]) for label in ("#in", "#out"))
        given, out = Term(tensor="in0", labels=before), Term(tensor="out0", labels=after)
        return (Contract(terms=(given,), output=out, uniform=False),)


OPERATIONS = (ArgExtreme("argmax", "largest"), ArgExtreme("argmin", "smallest"), TopK(), CumulativeSum())
