"""Axes of size 1: `squeeze` drops them, `unsqueeze` adds one."""

from __future__ import annotations

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import dimension, new_position, positions
from nnspec.compiler.operations.operation import Operation, ShapeProblem, Site
from nnspec.compiler.relations import Move, Relation
from nnspec.dsl.catalog import Argument


class Squeeze(Operation):
    name = "squeeze"
    doc = "Axes of size 1 disappear: those named, or all of them; [3, 1] gives [3]."
    arguments = (
        Argument(
            name="axis",
            kind="axis",
            doc="the axes that disappear; none for all of size 1",
            default=None,
            listed="either",
            nullable=True,
        ),
    )
    example = "y = x -> dense(1) -> squeeze"

    def gone(self, site: Site) -> tuple[int, ...]:
        """Return the axes that disappear."""
        given = site.inputs[0]
        if site["axis"] is None:
            return tuple(place for place, size in enumerate(given.shape) if size == 1)
        found = positions(site, site["axis"])
        for place in found:
            if given.shape[place] != 1:
                raise ShapeProblem(
                    f"axis {place} has {given.shape[place]} entries",
                    expected="an axis of size 1",
                    found=str(given),
                    axes=((0, place),),
                    help="`x[i]` takes one entry, `mean(axis = ..)` all of them",
                )
        return tuple(sorted(found))

    def shape(self, site: Site) -> tuple[Type, ...]:
        given, gone = site.inputs[0], self.gone(site)
        return (given.replace(axes=tuple(a for place, a in enumerate(given.axes) if place not in gone)),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        dims = [dimension(site, place) for place in self.gone(site)]
        if not dims:
            return inputs[0]
        return f"{inputs[0]}.squeeze({dims[0] if len(dims) == 1 else tuple(dims)})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        gone = self.gone(site)
        kept = [place for place in range(len(site.inputs[0].axes)) if place not in gone]
        groups = tuple(((old,), (new,)) for new, old in enumerate(kept))
        return (Move(input="in0", output="out0", groups=(*groups, (gone, ())) if gone else groups),)


class Unsqueeze(Operation):
    name = "unsqueeze"
    doc = "A new axis of size 1: [3] gives [1, 3], or [3, 1] with axis = -1."
    arguments = (Argument(name="axis", kind="int", doc="where the new axis stands", default=0),)
    example = "image = x -> unsqueeze(0)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        given, place = site.inputs[0], new_position(site)
        return (given.replace(axes=(*given.axes[:place], Axis(size=1), *given.axes[place:])),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"{inputs[0]}.unsqueeze({dimension(site, new_position(site), len(site.inputs[0].axes) + 1)})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        place, count = new_position(site), len(site.inputs[0].axes)
        groups = tuple(((old,), (old + (old >= place),)) for old in range(count))
        return (Move(input="in0", output="out0", groups=(*groups, ((), (place,)))),)


OPERATIONS = (Squeeze(), Unsqueeze())
