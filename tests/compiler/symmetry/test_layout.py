"""Layouts of axes: segments and factors against enumeration of their entries."""

from __future__ import annotations

import random

import pytest

from nnspec.compiler.symmetry.layout import cut_at, join, meet, total, unjoin, whole


def test_refinements_agree_or_are_refused() -> None:
    assert meet(whole(12), ((2, 6),)) == ((2, 6),)
    assert meet(((2, 6),), ((4, 3),)) == ((2, 2, 3),)
    assert meet(((8,), (4,)), ((3, 4),)) == ((2, 4), (4,))
    assert meet(((8,), (4,)), ((2, 6),)) is None
    assert meet(((2, 3),), ((3, 2),)) is None


def test_axes_are_cut_merged_and_taken_apart() -> None:
    assert cut_at(whole(12), 4, 3) == ((4,), (3,), (5,))
    assert join([((2,), (3,)), ((4,),)]) == ((2, 4), (3, 4))
    assert join([((4,),), ((2,), (3,))]) is None
    assert unjoin(((2, 4), (3, 4)), [5, 4]) == [((2,), (3,)), ((4,),)]
    assert unjoin(whole(24), [1, 24, 1]) == [((1,),), ((24,),), ((1,),)]


@pytest.mark.parametrize("seed", range(30))
def test_what_is_merged_comes_apart_again(seed: int) -> None:
    draw = random.Random(seed)
    sizes = [draw.randint(1, 5) for _ in range(draw.randint(1, 4))]
    merged = join([whole(size) for size in sizes])
    assert merged is not None
    assert total(merged) == _product(sizes)
    apart = unjoin(merged, sizes)
    assert apart is not None
    assert [total(layout) for layout in apart] == sizes
    assert join(apart) == merged


def _product(sizes: list[int]) -> int:
    found = 1
    for size in sizes:
        found *= size
    return found
