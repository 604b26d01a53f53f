"""`rotary`: positions as turns of pairs of entries (RoFormer, Su et al., 2021)."""

from __future__ import annotations

from nnspec.compiler.ir import Code, Type
from nnspec.compiler.operations.axes import elements, python, real, whole
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Fixed, Middle, Move, Planes, Relation
from nnspec.dsl.catalog import Argument
from nnspec.dsl.errors.shapes import HeadsMisfit


class PairsProblem(ShapeProblem):
    """Heads that do not divide the axis, or whose width is odd."""

    error = HeadsMisfit


class Rotary(Operation):
    name = "rotary"
    doc = """Rotary position embedding (Su et al. 2021): pairs of entries are turned by angles that grow with the position.

    In [T, heads * d] the i-th pair of each head is turned by t / base^(2 i / d) at position t, counted from 0, so that
    the product of a query and a key depends on how far apart they are. With "halves" (Llama, GPT-NeoX) the pairs are
    entries i and i + d / 2, with "interleaved" (RoFormer) 2 i and 2 i + 1. Axes before these are kept. Use it on queries
    and keys before `attention`."""
    arguments = (
        Argument(name="heads", kind="size", doc="how many heads share the last axis", default=1, at_least=1),
        Argument(
            name="base",
            kind="real",
            doc="the larger, the slower the slowest pair turns",
            default=10000.0,
            above=1.0,
        ),
        Argument(
            name="pairs",
            kind="choice",
            doc="which entries of a head are a pair",
            default="halves",
            choices=("halves", "interleaved"),
        ),
    )
    example = "q = x -> dense(64) as query -> rotary(heads = 4)"

    def heads(self, site: Site) -> int:
        """Return how many heads there are."""
        return whole(site["heads"], "the number of heads")

    def width(self, site: Site) -> int:
        """Return the width of a head."""
        return whole(site.inputs[0].shape[-1], "the last axis") // self.heads(site)

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        given, heads = site.inputs[0], self.heads(site)
        if len(given.axes) < 2:
            raise ShapeProblem(
                "needs an axis of positions and one of entries",
                expected="[positions, entries]",
                found=str(given),
            )
        size = whole(given.shape[-1], "the size of the last axis", ((0, -1),))
        if size % (2 * heads):
            raise PairsProblem(
                f"{size} entries are not heads of pairs: {heads} * 2 = {2 * heads} does not divide {size}",
                expected=f"a multiple of {2 * heads} as the last axis",
                found=str(given),
                axes=((0, -1),),
            )
        return (given,)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=3 * elements(site.inputs[0]))

    def code(self, site: Site) -> Code:
        return Code(file="rotary", name="rotary")

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        options = [f"heads={site['heads']}", f"base={python(float(site['base']))}"]
        options += ["interleaved=True"] if site["pairs"] == "interleaved" else []
        return f"{weights['function']}({', '.join((inputs[0], *options))})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        (*outer, _), heads = site.inputs[0].shape, self.heads(site)
        last, pairs = len(outer), self.width(site) // 2
        halves = site["pairs"] == "halves"
        shape = (*outer, heads, 2, pairs) if halves else (*outer, heads, pairs, 2)
        plane, frequency = (last + 1, last + 2) if halves else (last + 2, last + 1)
        split = (*(((axis,), (axis,)) for axis in range(last)), ((last,), (last, last + 1, last + 2)))
        why = "positions are told apart by how far they are turned"
        return (
            Middle(tensor="heads", shape=shape),
            Middle(tensor="turned", shape=shape),
            Move(input="in0", output="heads", groups=split),
            Planes(input="heads", output="turned", plane=plane, frequency=frequency),
            *(Fixed(tensor=name, axes=(last - 1,), why=why) for name in ("heads", "turned")),
            Move(input="turned", output="out0", groups=tuple((outs, ins) for ins, outs in split)),
        )


OPERATIONS = (Rotary(),)
