"""Declared types against actual ones: `real[.., width]` binds `width` and whatever axes stand before it.

In: types as a spec writes them, with symbols, and the types that flow. Out: the sizes that the symbols of a
block are bound to for one use of it, and the texts that errors show.
"""

from __future__ import annotations

from nnspec.compiler.ir import Axis, Type
from nnspec.dsl.dimensions import Size, bind, symbols


class Bindings:
    """What the symbolic dimensions of a block stand for in one use of it."""

    def __init__(self, sizes: dict[str, Size]) -> None:
        self.sizes = sizes
        self.rest: tuple[Axis, ...] | None = None

    def matches(self, declared: Type, actual: Type) -> bool:
        """Bind the declared type's free dimensions so that it equals the actual one."""
        if declared.dtype != actual.dtype:
            return False
        split = next((i for i, axis in enumerate(declared.axes) if axis.rest), None)
        if split is None:
            return len(declared.axes) == len(actual.axes) and self.same_sizes(declared.axes, actual.axes)
        after = len(declared.axes) - split - 1
        middle = actual.axes[split : len(actual.axes) - after]
        if len(actual.axes) < split + after or not self.same_rest(middle):
            return False
        outer = actual.axes[:split] + actual.axes[len(actual.axes) - after :]
        return self.same_sizes(declared.axes[:split] + declared.axes[split + 1 :], outer)

    def same_rest(self, axes: tuple[Axis, ...]) -> bool:
        if self.rest is None:
            self.rest = axes
        return [axis.size for axis in self.rest] == [axis.size for axis in axes]

    def same_sizes(self, declared: tuple[Axis, ...], actual: tuple[Axis, ...]) -> bool:
        # Symbols that stand alone are bound first, so that `[2 * n, n]` works in either order.
        pairs = sorted(zip(declared, actual, strict=True), key=lambda pair: _complexity(pair[0].size))
        return all(bind(d.size, a.size, self.sizes) for d, a in pairs)

    def describe(self, declared: Type) -> str:
        """Write a declared type, with what its symbols are bound to where that says more."""
        bound = {name: size for name, size in self.sizes.items() if name in _names(declared)}
        note = ", ".join(f"{name} = {size}" for name, size in sorted(bound.items()))
        return f"{declared_text(declared)}" + (f" where {note}" if note else "")


def with_names(declared: Type | None, actual: Type) -> Type:
    """Give axes the names that the declaration gives them."""
    if declared is None:
        return actual
    names: list[str | None] = [axis.name for axis in declared.axes]
    split = next((i for i, axis in enumerate(declared.axes) if axis.rest), None)
    if split is not None:
        names[split : split + 1] = [None] * (len(actual.axes) - len(declared.axes) + 1)
    pairs = zip(names, actual.axes, strict=True)
    return actual.replace(axes=tuple(axis.replace(name=name or axis.name) for name, axis in pairs))


def declared_text(declared: Type) -> str:
    """Write a type as it stands in a spec."""
    inside = ", ".join(_axis_text(axis) for axis in declared.axes)
    return f"{declared.dtype}[{inside}]" if declared.axes else declared.dtype


def shape_text(shape: tuple[Size, ...]) -> str:
    """Write a shape: `[64, 10]`."""
    return "[" + ", ".join(str(size) for size in shape) + "]"


def leading_help(declared: Type, actual: Type) -> str | None:
    """A layer written for [width] that is given [T, width] can say so."""
    if any(axis.rest for axis in declared.axes) or len(declared.axes) >= len(actual.axes):
        return None
    if not declared.axes or declared.axes[-1].size != actual.axes[-1].size:
        return None
    inside = ", ".join(_axis_text(axis) for axis in declared.axes)
    return f"to take any leading axes, declare the input `{declared.dtype}[.., {inside}]`"


def _axis_text(axis: Axis) -> str:
    if axis.rest:
        return ".."
    return f"{axis.name}: {axis.size}" if axis.name and axis.name != str(axis.size) else str(axis.size)


def _names(declared: Type) -> frozenset[str]:
    return frozenset[str]().union(*(symbols(axis.size) for axis in declared.axes))


def _complexity(size: Size) -> int:
    return 0 if isinstance(size, int) else len(str(size))
