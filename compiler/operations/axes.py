"""What shape and call rules share: finding an axis, whole sizes, broadcasting, and the batch axis.

Axes count without the batch. In emitted code the batch is axis 0, so that axis k of a type is
dimension k + 1 there; in the map of a constraint there is no batch (`Site.batched` is false).
"""

from __future__ import annotations

from functools import reduce
from typing import Any

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.operation import ShapeProblem, Site
from nnspec.dsl.dimensions import Size, exact_quotient


def position(site: Site, axis: int | str, index: int = 0) -> int:
    """Return the number, from 0, of an axis given by number or name; ShapeProblem if there is none."""
    given = site.inputs[index]
    count = len(given.axes)
    if isinstance(axis, str):
        found = [i for i, own in enumerate(given.axes) if axis in (own.name, str(own.size))]
        if len(found) == 1:
            return found[0]
        why = "no axis" if not found else f"{len(found)} axes"
        raise ShapeProblem(f"{why} called `{axis}` here", expected=f"one axis `{axis}`", found=str(given))
    if -count <= axis < count:
        return axis % count
    raise (
        ShapeProblem(
            f"there is no axis {axis}", expected=f"an axis from {-count} to {count - 1}", found=str(given)
        )
        if count
        else ShapeProblem("needs at least one axis", expected="an axis", found="a single number")
    )


def new_position(site: Site) -> int:
    """Return the place, from 0, of the new axis that the argument `axis` asks for; ShapeProblem if there is none."""
    count, axis = len(site.inputs[0].axes) + 1, site["axis"]
    if not -count <= axis < count:
        raise ShapeProblem(
            f"there is no place {axis} for the new axis",
            expected=f"a place from {-count} to {count - 1}",
            found=str(axis),
        )
    return axis % count


def positions(site: Site, axis: int | str | tuple[int | str, ...] | None, index: int = 0) -> tuple[int, ...]:
    """Return the numbers of several axes: none means all of them."""
    if axis is None:
        return tuple(range(len(site.inputs[index].axes)))
    listed = axis if isinstance(axis, tuple) else (axis,)
    found = tuple(position(site, item, index) for item in listed)
    if len(set(found)) < len(found):
        raise ShapeProblem("an axis is named twice", expected="different axes", found=str(list(listed)))
    return found


def dimension(site: Site, axis: int, count: int | None = None) -> int:
    """Return the torch dimension of axis `axis` of a tensor with `count` axes; -1 for the last."""
    if count is None:
        count = len(site.inputs[0].axes)
    return -1 if axis == count - 1 else axis + site.batched


def whole(size: Size, what: str, axes: tuple[tuple[int, int], ...] = ()) -> int:
    """Return a size that must be a number; ShapeProblem if it is symbolic."""
    if isinstance(size, int):
        return size
    raise ShapeProblem(
        f"{what} must be a number",
        expected="a number",
        found=f"the symbolic dimension {size}",
        axes=axes,
        help=f"write a number where `{size}` is declared, or give the parameter it comes from a value",
    )


_TO_REAL = {
    "int": "`embedding(count, width)` turns whole numbers into vectors",
    "bool": "`where(condition, 1, 0)` turns truth values into numbers",
    "complex": "`abs`, `angle`, `real` and `imag` turn complex numbers into real ones",
}


def real(site: Site, *indices: int) -> None:
    """Refuse inputs that are not real numbers."""
    for index in indices or range(len(site.inputs)):
        given = site.inputs[index]
        if given.dtype != "real":
            raise ShapeProblem(
                "works on real numbers",
                expected=str(given.replace(dtype="real")),
                found=str(given),
                help=_TO_REAL.get(given.dtype),
            )


def ordered(site: Site) -> None:
    """Refuse inputs whose numbers have no order: complex numbers and truth values."""
    for given in site.inputs:
        if given.dtype not in ("real", "int"):
            raise ShapeProblem(
                "compares numbers",
                expected=str(given.replace(dtype="real")),
                found=str(given),
                help=_TO_REAL.get(given.dtype),
            )


def product(sizes: tuple[Size, ...]) -> Size:
    """Return the product of sizes; 1 for none."""
    return reduce(lambda left, right: left * right, sizes, 1)


def elements(given: Type) -> Size:
    """Return how many numbers one sample of a type holds."""
    return product(given.shape)


def shape_text(shape: tuple[Size, ...]) -> str:
    """Write a shape: `[8, 8]`."""
    return "[" + ", ".join(str(size) for size in shape) + "]"


def factors(axis: Axis) -> tuple[Size, ...]:
    """Return the factors of an axis, at least one."""
    return axis.factors or (axis.size,)


def broadcast(site: Site) -> tuple[Axis, ...]:
    """Return the axes of inputs combined entry by entry: right-aligned, only a literal 1 stretches."""
    rank = max(len(given.axes) for given in site.inputs)
    return tuple(_stretch(site, place - rank) for place in range(rank))


def _stretch(site: Site, place: int) -> Axis:
    """Return the axis at a place counted from the right (-1 is the last)."""
    present = [(i, given.axes[place]) for i, given in enumerate(site.inputs) if len(given.axes) >= -place]
    first, axis = next(((i, a) for i, a in present if a.size != 1), present[0])
    for index, other in present:
        if other.size not in (1, axis.size):
            left, right = site.inputs[first], site.inputs[index]
            raise ShapeProblem(
                f"{axis.size} and {other.size} differ in axis {place}",
                expected=f"{left}, as its input {first + 1}",
                found=f"{right}, as its input {index + 1}",
                axes=((first, place), (index, place)),
                help=_symbol_help(axis.size, other.size),
            )
    return axis


def _symbol_help(left: Size, right: Size) -> str | None:
    if isinstance(left, int) and isinstance(right, int):
        return None
    return f"if {left} and {right} are always equal, declare both by one name"


def aligned(site: Site, inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return input expressions with axes inserted after the batch, so that torch aligns them as we do.

    Inputs without a batch axis need none: torch aligns from the right too.
    """
    rank = max(len(given.axes) for given in site.inputs)
    return tuple(
        f"{text}[:{', None' * (rank - len(given.axes))}]"
        if site.batched and given.batched and len(given.axes) < rank
        else text
        for text, given in zip(inputs, site.inputs, strict=True)
    )


def python(value: Any) -> str:
    """Write an argument as Python, texts in double quotes."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def size_text(size: Size, given: Type, name: str, batched: bool) -> str:
    """Write one size as Python, `x.shape[1]` where it is a symbolic dimension of the tensor."""
    if isinstance(size, int):
        return str(size)
    for place, own in enumerate(given.shape):
        if own == size:
            return f"{name}.shape[{place + batched}]"
    raise ShapeProblem(
        f"the size {size} is not that of any axis of its input",
        expected="numbers, sizes of input axes, and at most one -1",
        found=str(size),
    )


def exact_half(site: Site) -> Size:
    """Return half the size of the last axis; ShapeProblem if that is not whole."""
    given = site.inputs[0]
    if not given.axes:
        raise ShapeProblem(
            "needs at least one axis", expected="an axis of even size", found="a single number"
        )
    half = exact_quotient(given.shape[-1], 2)
    if half is None:
        raise ShapeProblem(
            f"{given.shape[-1]} entries are not two halves",
            expected="an even size of the last axis",
            found=str(given),
            axes=((0, len(given.axes) - 1),),
        )
    return half
