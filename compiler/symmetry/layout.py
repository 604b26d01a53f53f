"""How an axis falls into segments, and a segment into factors.

An axis of size 12 may be two segments [8, 4] (after a concatenation), the first of them 2 x 4 (after a
reshape): layout `((2, 4), (4,))`. Layouts of axes that hold the same entries are refined until they agree;
a refinement that does not come out whole is None. Segments follow one another, factors are row-major. A
factor of 1 is never written, except as a whole segment.
"""

from __future__ import annotations

from math import prod
from typing import TypeAlias

Segment: TypeAlias = tuple[int, ...]
Layout: TypeAlias = tuple[Segment, ...]


def whole(size: int) -> Layout:
    """Return the layout of an axis that nothing cuts."""
    return ((size,),)


def total(layout: Layout) -> int:
    """Return the size of the axis."""
    return sum(map(prod, layout))


def meet(left: Layout, right: Layout) -> Layout | None:
    """Return the coarsest layout that refines both, None if there is none."""
    if left == right:
        return left
    ours, theirs = list(left), list(right)
    found: list[Segment] = []
    while ours and theirs:
        a, b = ours.pop(0), theirs.pop(0)
        if prod(a) > prod(b):
            pieces = _cut(a, prod(b))
            if pieces is None:
                return None
            a, rest = pieces
            ours.insert(0, rest)
        elif prod(b) > prod(a):
            pieces = _cut(b, prod(a))
            if pieces is None:
                return None
            b, rest = pieces
            theirs.insert(0, rest)
        factors = _refine(a, b)
        if factors is None:
            return None
        found.append(factors)
    return tuple(found) if not ours and not theirs else None


def cut_at(layout: Layout, start: int, size: int) -> Layout | None:
    """Return the layout with cuts before `start` and after `start + size`."""
    parts = [part for part in (start, size, total(layout) - start - size) if part]
    return meet(layout, tuple((part,) for part in parts))


def join(layouts: list[Layout]) -> Layout | None:
    """Return the layout of several axes merged in row-major order."""
    kept = [layout for layout in layouts if total(layout) != 1]
    if not kept:
        return ((1,),)
    if any(len(layout) > 1 for layout in kept[1:]):
        return None
    inner = tuple(factor for layout in kept[1:] for factor in layout[0])
    return tuple(_plain((*segment, *inner)) for segment in kept[0])


def unjoin(layout: Layout, sizes: list[int]) -> list[Layout] | None:
    """Return the layouts of axes of these sizes, whose merged layout is given."""
    found: list[Layout] = []
    rest: Layout = layout
    for size in reversed(sizes[1:]):
        peeled = [_peel(segment, size) for segment in rest]
        inner: Layout | None = ((size,),)
        heads: list[Segment] = []
        for piece in peeled:
            if piece is None or inner is None:
                return None
            heads.append(piece[0])
            inner = meet(inner, (piece[1],))
        if inner is None:
            return None
        found.append(inner)
        rest = tuple(heads)
    return [rest, *found[::-1]]


def _plain(segment: Segment) -> Segment:
    kept = tuple(factor for factor in segment if factor != 1)
    return kept or (1,)


def _cut(segment: Segment, size: int) -> tuple[Segment, Segment] | None:
    """Cut a segment after `size` entries; possible only between whole blocks of its inner factors."""
    inner = prod(segment[1:])
    if size % inner:
        return None
    head, tail = size // inner, segment[0] - size // inner
    return _plain((head, *segment[1:])), _plain((tail, *segment[1:]))


def _refine(left: Segment, right: Segment) -> Segment | None:
    ours, theirs = list(left), list(right)
    found: list[int] = []
    while ours and theirs:
        a, b = ours.pop(), theirs.pop()
        if a > b:
            if a % b:
                return None
            ours.append(a // b)
        elif b > a:
            if b % a:
                return None
            theirs.append(b // a)
        found.append(min(a, b))
    return _plain((*ours, *theirs, *found[::-1]))


def _peel(segment: Segment, size: int) -> tuple[Segment, Segment] | None:
    """Split off the innermost factors that make `size`."""
    if prod(segment) % size:
        return None
    refined = _refine(segment, _plain((prod(segment) // size, size)))
    if refined is None:
        return None
    inner: list[int] = []
    outer = list(refined)
    while prod(inner) < size:
        inner.insert(0, outer.pop())
    return _plain(tuple(outer)), _plain(tuple(inner))
