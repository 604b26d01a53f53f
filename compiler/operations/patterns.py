"""Patterns of axes, `"T (h d) -> h T d"`: read, and laid on the axes of a tensor.

A side is a list of groups: a group of one name is an axis, one in parentheses is an axis that is the product of
several, in row-major order, `1` is an axis of size 1, `..` any number of axes. Patterns never name the batch.
"""

from __future__ import annotations

import re

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations.axes import factors, product, shape_text
from nnspec.compiler.operations.operation import ShapeProblem
from nnspec.dsl.dimensions import Size, exact_quotient
from nnspec.dsl.errors.shapes import WrongPattern
from nnspec.dsl.node import Node

REST = ".."
Group = tuple[str, ...]
Side = tuple[Group, ...]
_TOKEN = re.compile(r"\s*(\.\.\.?|->|[^\W\d]\w*|\d+|\S)")


class PatternProblem(ShapeProblem):
    """A pattern that cannot be read, or whose names do not agree."""

    error = WrongPattern


class Axes(Node):
    """A side laid on the axes of a tensor: its groups, with the axis that each name stands for."""

    groups: tuple[tuple[str, ...], ...]  # `..` has become one group a covered axis
    named: dict[str, Axis]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for group in self.groups for name in group)


def read(text: str, inputs: int = 1) -> tuple[tuple[Side, ...], Side]:
    """Return the sides before the arrow, one for each input, and the side after it."""
    left, arrow, right = text.partition("->")
    if not arrow or "->" in right:
        raise PatternProblem(
            "a pattern has one arrow", expected='"axes before -> axes after"', found=f'"{text}"'
        )
    sides = tuple(_side(part, text) for part in left.split(","))
    if len(sides) != inputs:
        raise PatternProblem(
            f"the pattern is for {len(sides)} input(s), and there are {inputs}",
            expected=f"{inputs} side(s) before the arrow",
            found=f'"{left.strip()}"',
        )
    return sides, _side(right, text)


def _side(text: str, pattern: str) -> Side:
    groups: list[Group] = []
    opened: list[str] | None = None
    for token in _TOKEN.findall(text):
        if token == "(" and opened is None:
            opened = []
        elif token == ")" and opened is not None:
            groups.append(tuple(opened))
            opened = None
        elif token == "1" and opened is None:
            groups.append(())
        elif token == REST and opened is None:
            groups.append((REST,))
        elif token[0].isalpha() or token[0] == "_":
            if opened is None:
                groups.append((token,))
            else:
                opened.append(token)
        else:
            raise PatternProblem(
                _unreadable(token), expected="names of axes, `1`, `..`, `( )`", found=f'"{pattern}"'
            )
    if opened is not None:
        raise PatternProblem("a parenthesis is not closed", expected="`)`", found=f'"{pattern}"')
    _once([name for group in groups for name in group], pattern)
    return tuple(groups)


def _unreadable(token: str) -> str:
    if token == "...":
        return "any number of axes is written `..`"
    if token in (REST, "1", "("):
        return f"`{token}` has no meaning within parentheses"
    if token.isdigit():
        return f"`{token}` is no name: a size is given beside the pattern, `h = {token}`"
    return f"`{token}` has no meaning here"


def _once(names: list[str], pattern: str) -> None:
    for name in names:
        if names.count(name) > 1:
            raise PatternProblem(
                f"`{name}` stands twice on one side", expected="different names", found=f'"{pattern}"'
            )


def lay(side: Side, given: Type, sizes: dict[str, Size], index: int = 0) -> Axes:
    """Lay a side on the axes of input `index`; solve for the one size in a group that is not known."""
    rest = sum(group == (REST,) for group in side)
    covered = len(given.axes) - len(side) + rest
    if covered < 0 or (not rest and covered):
        written = "at least " if rest else ""
        raise ShapeProblem(
            f"the pattern names {written}{len(side) - rest} axes, and its input has {len(given.axes)}",
            expected=f"{written}{len(side) - rest} axes",
            found=str(given),
            help="patterns never name the batch" if covered == -1 else None,
        )
    groups: list[Group] = []
    named: dict[str, Axis] = {}
    for group in side:
        if group == (REST,):
            for place in range(covered):
                named[f"{REST}{place}"] = given.axes[len(groups)]
                groups.append((f"{REST}{place}",))
            continue
        place = len(groups)
        groups.append(group)
        named.update(_solve(group, given.axes[place], sizes, (index, place)))
    return Axes(groups=tuple(groups), named=named)


def _solve(group: Group, axis: Axis, sizes: dict[str, Size], place: tuple[int, int]) -> dict[str, Axis]:
    unknown = [name for name in group if name not in sizes]
    known = product(tuple(sizes[name] for name in group if name in sizes))
    if len(group) == 1 and unknown:
        return {group[0]: axis}
    if len(unknown) > 1:
        first, second = unknown[:2]
        raise ShapeProblem(
            f"the sizes of `{first}` and `{second}` do not follow from {axis.size}",
            expected=f"the size of one of them, such as `{first} = 4`",
            found=f"({' '.join(group)}), an axis of {axis.size}",
            axes=(place,),
        )
    rest = _quotient(axis.size, known)
    if rest is None or (not unknown and rest != 1):
        text = " * ".join(f"{name}" for name in group) or "1"
        raise ShapeProblem(
            f"{axis.size} is not {text}, with {_sizes_text(group, sizes)}"
            if any(name in sizes for name in group)
            else f"{axis.size} is not {text}",
            expected=f"a multiple of {known}" if unknown else str(known),
            found=str(axis.size),
            axes=(place,),
        )
    if len(group) == 1:
        return {group[0]: axis}
    return {name: Axis(size=sizes.get(name, rest)) for name in group}


def _sizes_text(group: Group, sizes: dict[str, Size]) -> str:
    return ", ".join(f"{name} = {sizes[name]}" for name in group if name in sizes)


def _quotient(size: Size, known: Size) -> Size | None:
    """Return size / known if that is certainly whole."""
    if size == known:
        return 1
    if isinstance(known, int):
        return exact_quotient(size, known) if known else None
    found = size // known
    return found if found * known == size else None


def sizes_of(given: tuple[tuple[str, object], ...], pattern: str) -> dict[str, Size]:
    """Return the sizes given beside a pattern; PatternProblem where one is no size or not in the pattern."""
    from nnspec.dsl.dimensions import Dim

    found: dict[str, Size] = {}
    names = set(_TOKEN.findall(pattern))
    for name, size in given:
        if name not in names:
            raise PatternProblem(
                f"the pattern has no axis `{name}`", expected=f'a name in "{pattern}"', found=f"`{name}`"
            )
        if isinstance(size, bool) or not isinstance(size, int | Dim) or (isinstance(size, int) and size < 1):
            raise PatternProblem(
                f"`{name}` must be a size", expected="a whole number of at least 1", found=str(size)
            )
        found[name] = size
    return found


def agree(left: Axes, right: Side, pattern: str, *, all_kept: bool) -> Side:
    """Return the groups after the arrow with `..` spelled out; refuse names that only one side has."""
    rest = tuple((name,) for name in left.named if name.startswith(REST))
    groups = tuple(found for group in right for found in (rest if group == (REST,) else (group,)))
    names = [name for group in groups for name in group]
    has_rest = any(name.startswith(REST) for name in left.names)
    if any(group == (REST,) for group in right) and not has_rest and REST not in pattern.partition("->")[0]:
        raise PatternProblem(
            "`..` stands after the arrow only", expected="`..` on both sides", found=f'"{pattern}"'
        )
    unknown = next((name for name in names if name not in left.named), None)
    if unknown is not None:
        raise PatternProblem(
            f"`{unknown}` stands after the arrow only", expected="names from before it", found=f'"{pattern}"'
        )
    lost = next((name for name in left.names if name not in names), None)
    if all_kept and lost is not None:
        shown = REST if lost.startswith(REST) else lost
        raise PatternProblem(
            f"`{shown}` does not come out",
            expected="every name on both sides",
            found=f'"{pattern}"',
            help='`reduce("..", mean)` makes axes disappear',
        )
    return groups


def grouped(groups: Side, named: dict[str, Axis]) -> tuple[Axis, ...]:
    """Return the axes after the arrow; merged ones know their factors."""
    made: list[Axis] = []
    for group in groups:
        if len(group) == 1:
            made.append(named[group[0]])
            continue
        parts = tuple(factor for name in group for factor in factors(named[name]))
        made.append(Axis(size=product(parts), factors=parts if len(parts) > 1 else ()))
    return tuple(made)


def shape_of(names: tuple[str, ...], named: dict[str, Axis]) -> tuple[Size, ...]:
    """Return the sizes of these axes."""
    return tuple(named[name].size for name in names)


def split_text(text: str, given: Axes, batched: bool) -> str:
    """Write how an input falls into the axes that the pattern names, from the last axis to the first."""
    for place in range(len(given.groups) - 1, -1, -1):
        group = given.groups[place]
        dim = place + batched
        if not group:
            text += f".squeeze({dim})"
        elif len(group) > 1:
            text += f".unflatten({dim}, ({', '.join(_pieces(shape_of(group, given.named)))}))"
    return text


def _pieces(sizes: tuple[Size, ...]) -> list[str]:
    free = [size for size in sizes if not isinstance(size, int)]
    if len(free) > 1:
        raise ShapeProblem(
            "only one of the sizes can be left open",
            expected="numbers, and one symbolic size",
            found=shape_text(sizes),
        )
    return [str(size) if isinstance(size, int) else "-1" for size in sizes]


def merge_text(text: str, groups: Side, batched: bool) -> str:
    """Write how the axes in the order of the output are merged, from the last to the first."""
    count = sum(len(group) for group in groups)
    end = count
    for group in reversed(groups):
        start = end - len(group)
        if not group:
            text += f".unsqueeze({start + batched})"
        elif len(group) > 1:
            last = "" if end == count else f", {end - 1 + batched}"
            text += f".flatten({start + batched}{last})"
            count -= len(group) - 1
        count += not group
        end = start
    return text


def order_text(text: str, before: tuple[str, ...], after: tuple[str, ...], batched: bool) -> str:
    """Write how axes change places; two that do are transposed."""
    order = [before.index(name) for name in after]
    moved = [place for place, old in enumerate(order) if place != old]
    if not moved:
        return text
    if len(moved) == 2:
        return f"{text}.transpose({moved[0] + batched}, {moved[1] + batched})"
    return (
        f"{text}.permute({', '.join([*(['0'] if batched else []), *(str(old + batched) for old in order)])})"
    )
