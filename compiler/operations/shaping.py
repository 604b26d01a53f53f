"""Operations that move numbers without changing them: flatten, reshape, permute, transpose, slice, select."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import (
    elements,
    factors,
    position,
    product,
    shape_text,
    size_text,
    whole,
)
from nnspec.compiler.operations.operation import Operation, ShapeProblem, Site, last_axis
from nnspec.compiler.relations import Move, Part, Relation
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size, exact_quotient


class Flatten(Operation):
    name = "flatten"
    doc = """All axes from `start` on become one, in row-major order: [8, 8] gives [64]. The batch stays."""
    arguments = (Argument(name="start", kind="axis", doc="the first axis that is merged", default=0),)
    example = "x = image -> flatten"

    def shape(self, site: Site) -> tuple[Type, ...]:
        last_axis(site)
        start = position(site, site["start"])
        given = site.inputs[0]
        merged = given.axes[start:]
        if len(merged) == 1:
            return (given,)
        parts = tuple(factor for axis in merged for factor in factors(axis))
        return (given.replace(axes=(*given.axes[:start], Axis(size=product(parts), factors=parts))),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        start = position(site, site["start"])
        if start == len(site.inputs[0].axes) - 1:
            return inputs[0]
        return f"torch.flatten({inputs[0]}, {start + site.batched})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        start, count = position(site, site["start"]), len(site.inputs[0].axes)
        kept = tuple(((place,), (place,)) for place in range(start))
        merged = (tuple(range(start, count)), (start,))
        return (Move(input="in0", output="out0", groups=(*kept, merged)),)


class Reshape(Operation):
    name = "reshape"
    doc = """The same numbers in row-major order under other axes; one size may be -1 and is worked out."""
    arguments = (Argument(name="shape", kind="size", doc="the new sizes", listed="yes"),)
    example = "image = x -> reshape([1, 8, 8])"

    def shape(self, site: Site) -> tuple[Type, ...]:
        given = site.inputs[0]
        shape = self.target(site)
        self.texts(site, shape, "x")  # symbolic sizes that no code can tell are refused here
        return (given.replace(axes=_regrouped(given.axes, shape)),)

    def target(self, site: Site) -> tuple[Size, ...]:
        """Return the sizes with -1 worked out."""
        wanted: tuple[Size, ...] = site["shape"]
        total = elements(site.inputs[0])
        for size in wanted:
            if isinstance(size, int) and size < 1 and size != -1:
                raise ShapeProblem("sizes are at least 1", expected="sizes, or one -1", found=str(size))
        known = product(tuple(size for size in wanted if size != -1))
        missing = sum(size == -1 for size in wanted)
        if missing > 1:
            raise ShapeProblem("only one size can be -1", expected="one -1", found=shape_text(wanted))
        if not missing:
            if known != total:
                raise self.mismatch(site, total, known)
            return wanted
        rest = _missing(site.inputs[0].shape, wanted)
        if rest is None:
            raise self.mismatch(site, total, known)
        return tuple(rest if size == -1 else size for size in wanted)

    def mismatch(self, site: Site, total: Size, known: Size) -> ShapeProblem:
        given = site.inputs[0]
        return ShapeProblem(
            f"the numbers of entries differ: {_product_text(given.shape)} and {_product_text(site['shape'])}",
            expected=f"{total} entries, as {shape_text(given.shape)} has",
            found=f"{known} in {shape_text(site['shape'])}"
            if -1 not in site["shape"]
            else f"{shape_text(site['shape'])}, a multiple of {known}",
            axes=tuple((0, axis) for axis in range(len(given.axes))),
        )

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        batch = [f"{inputs[0]}.shape[0]"] if site.batched else []
        sizes = self.texts(site, self.target(site), inputs[0])
        return f"{inputs[0]}.reshape({', '.join([*batch, *sizes]) or '()'})"

    def texts(self, site: Site, shape: tuple[Size, ...], name: str) -> list[str]:
        """Write the sizes as Python: one may be left to torch, symbolic ones are read off the input."""
        given = site.inputs[0]
        free = [size for size in shape if not isinstance(size, int) and size not in given.shape]
        return [
            "-1" if len(free) == 1 and size in free else size_text(size, given, name, site.batched)
            for size in shape
        ]

    def relate(self, site: Site) -> tuple[Relation, ...]:
        return (Move(input="in0", output="out0", groups=_runs(site.inputs[0].shape, self.target(site))),)


class Permute(Operation):
    name = "permute"
    doc = """The axes in another order, by number or by name: permute([1, 0]) swaps two."""
    arguments = (Argument(name="axes", kind="axis", doc="every axis, in the new order", listed="yes"),)
    example = "tokens = image -> permute([1, 2, 0])"

    def order(self, site: Site) -> tuple[int, ...]:
        """Return the order as numbers."""
        found = tuple(position(site, axis) for axis in site["axes"])
        count = len(site.inputs[0].axes)
        if sorted(found) != list(range(count)):
            raise ShapeProblem(
                "every axis is named once",
                expected=f"the {count} axes of {site.inputs[0]}",
                found=shape_text(site["axes"]),
            )
        return found

    def shape(self, site: Site) -> tuple[Type, ...]:
        given = site.inputs[0]
        return (given.replace(axes=tuple(given.axes[axis] for axis in self.order(site))),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        batch = ["0"] if site.batched else []
        order = [str(axis + site.batched) for axis in self.order(site)]
        return f"{inputs[0]}.permute({', '.join(batch + order)})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        return (_reordered(self.order(site)),)


class Transpose(Operation):
    name = "transpose"
    doc = """The last two axes change places: [n, m] gives [m, n]."""
    example = "scores = q @ transpose(k)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        given = site.inputs[0]
        if len(given.axes) < 2:
            raise ShapeProblem("needs two axes", expected="at least two axes", found=str(given))
        return (given.replace(axes=(*given.axes[:-2], given.axes[-1], given.axes[-2])),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"{inputs[0]}.transpose(-2, -1)"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        count = len(site.inputs[0].axes)
        return (_reordered((*range(count - 2), count - 1, count - 2)),)


class Slice(Operation):
    name = "slice"
    doc = """The entries `start` to `stop` of an axis, both in; written x[0..3]. Negative ones count from
    the end, -1 being the last entry; no `stop` means to the end."""
    arguments = (
        Argument(name="axis", kind="axis", doc="the axis that is cut"),
        Argument(name="start", kind="int", doc="the first entry", default=0),
        Argument(name="stop", kind="int", doc="the last entry", default=None, nullable=True),
    )
    example = "first = x[0..3]"

    def size(self, site: Site) -> Size:
        """Return how many entries are kept."""
        axis = position(site, site["axis"])
        size, start = site.inputs[0].shape[axis], site["start"]
        stop = -1 if site["stop"] is None else site["stop"]
        if start >= 0 and stop < 0 and not isinstance(size, int):
            return size + (stop + 1) - start
        count = whole(size, "the size of an axis that is cut between fixed entries", ((0, axis),))
        first, last = start % count if start < 0 else start, stop + count if stop < 0 else stop
        if start < -count or not first <= last < count:
            raise ShapeProblem(
                f"entries {start} to {'the end' if site['stop'] is None else stop} are not all there",
                expected=f"a range within 0..{count - 1}",
                found=f"{start}..{'' if site['stop'] is None else stop}",
                axes=((0, axis),),
            )
        return last - first + 1

    def shape(self, site: Site) -> tuple[Type, ...]:
        axis = position(site, site["axis"])
        given, size = site.inputs[0], self.size(site)
        if size == given.shape[axis]:
            return (given,)
        return (given.replace(axes=(*given.axes[:axis], Axis(size=size), *given.axes[axis + 1 :])),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        axis = position(site, site["axis"])
        stop: int = -1 if site["stop"] is None else site["stop"]
        # Both ends are in; -1, the last entry, is no end for Python.
        to_the_end = stop == -1 or stop + 1 == site.inputs[0].shape[axis]
        if to_the_end and not site["start"]:
            return inputs[0]
        cut = f"{site['start'] or ''}:{'' if to_the_end else stop + 1}"
        return f"{inputs[0]}[{':, ' * (axis + site.batched)}{cut}]"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        axis = position(site, site["axis"])
        start = site["start"] if site["start"] >= 0 else site["start"] + site.inputs[0].shape[axis]
        return (Part(whole="in0", part="out0", axis=axis, start=start, part_axis=axis),)


class Select(Operation):
    name = "select"
    doc = """Entry `index` of an axis, which disappears; written x[2]. -1 is the last entry."""
    arguments = (
        Argument(name="axis", kind="axis", doc="the axis that disappears"),
        Argument(name="index", kind="int", doc="the entry that is kept"),
    )
    example = "last = states[-1]"

    def shape(self, site: Site) -> tuple[Type, ...]:
        axis = position(site, site["axis"])
        given = site.inputs[0]
        size = given.shape[axis]
        if isinstance(size, int) and not -size <= site["index"] < size:
            raise ShapeProblem(
                f"there is no entry {site['index']}",
                expected=f"an index from {-size} to {size - 1}",
                found=str(site["index"]),
                axes=((0, axis),),
            )
        return (given.replace(axes=(*given.axes[:axis], *given.axes[axis + 1 :])),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        before = position(site, site["axis"]) + site.batched
        return f"{inputs[0]}[{':, ' * before}{site['index']}]"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        axis = position(site, site["axis"])
        start = site["index"] if site["index"] >= 0 else site["index"] + site.inputs[0].shape[axis]
        return (Part(whole="in0", part="out0", axis=axis, start=start, part_axis=None),)


def _missing(given: tuple[Size, ...], wanted: tuple[Size, ...]) -> Size | None:
    """Return the size that -1 stands for in `wanted`, if it is certainly whole."""
    left = list(given)
    others: list[Size] = []
    for size in wanted:
        if size in left:
            left.remove(size)
        elif size != -1:
            others.append(size)
    total, known = product(tuple(left)), product(tuple(others))
    if isinstance(known, int):
        return exact_quotient(total, known)
    return 1 if total == known else None


def _product_text(shape: Any) -> str:
    return " * ".join("?" if size == -1 else str(size) for size in shape) or "1"


def _regrouped(axes: tuple[Axis, ...], shape: tuple[Size, ...]) -> tuple[Axis, ...]:
    """Return the new axes. Where old factors and new sizes agree, axes and factors are kept."""
    old = [(factor, axis) for axis in axes for factor in factors(axis)]
    new = list(shape)
    made: list[Axis] = []
    while new:
        if new[0] == 1 and not (old and old[0][0] == 1):
            made.append(Axis(size=new.pop(0)))
        elif new[0] != 1 and old and old[0][0] == 1:
            old.pop(0)
        else:
            taken, sizes = _equal_run(old, new)
            made.extend(_run_axes(taken, sizes))
            del old[: len(taken)], new[: len(sizes)]
    return tuple(made)


def _equal_run(old: list[tuple[Size, Axis]], new: list[Size]) -> tuple[list[tuple[Size, Axis]], list[Size]]:
    """Return the shortest beginnings of both lists whose products are equal, else all of both."""
    i = j = 1
    while i <= len(old) and j <= len(new):
        left, right = product(tuple(f for f, _ in old[:i])), product(tuple(new[:j]))
        if left == right:
            return old[:i], new[:j]
        if not (isinstance(left, int) and isinstance(right, int)):
            break
        i, j = (i + 1, j) if left < right else (i, j + 1)
    return old, new


def _run_axes(taken: list[tuple[Size, Axis]], sizes: list[Size]) -> list[Axis]:
    if len(sizes) > 1:
        return [Axis(size=size) for size in sizes]
    first = taken[0][1]
    if all(axis is first for _, axis in taken) and len(taken) == len(factors(first)):
        return [first]
    return [Axis(size=sizes[0], factors=tuple(f for f, _ in taken) if len(taken) > 1 else ())]


def _reordered(order: tuple[int, ...]) -> Move:
    return Move(input="in0", output="out0", groups=tuple(((old,), (new,)) for new, old in enumerate(order)))


def _runs(
    old: tuple[Size, ...], new: tuple[Size, ...]
) -> tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]:
    """Return the shortest runs of old and new axes that hold the same numbers."""
    found: list[tuple[tuple[int, ...], tuple[int, ...]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        taken, made = _equal_run([(size, Axis(size=size)) for size in old[i:]], list(new[j:]))
        found.append((tuple(range(i, i + len(taken))), tuple(range(j, j + len(made)))))
        i, j = i + len(taken), j + len(made)
    # What is left on one side has size 1.
    if i < len(old) or j < len(new):
        found.append((tuple(range(i, len(old))), tuple(range(j, len(new)))))
    return tuple(found)


OPERATIONS = (Flatten(), Reshape(), Permute(), Transpose(), Slice(), Select())
