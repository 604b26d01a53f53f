"""Axes by name: of declared dimensions, of named axes, and behind `..`."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nnspec.compiler.ir import Graph


@pytest.mark.parametrize("declared", ["T, m", "rows: 4, columns: 3", "rows: n, columns: m"])
@pytest.mark.parametrize("leading", ["", ".., "])
def test_an_axis_is_named_by_its_dimension_or_its_own_name(
    build: Callable[..., Graph], declared: str, leading: str
) -> None:
    name = declared.split(",")[0].split(":")[0]
    given = "2, 4, 3" if leading else "4, 3"
    graph = build(f"""
layer averaged {{
  input  x: real[{leading}{declared}]
  output y = x -> mean(axis = {name})
}}
network n {{
  input  x: real[{given}]
  output y = x -> averaged
}}
""")
    assert dict(graph.root.types)["y"].shape == ((2, 3) if leading else (3,))


def test_a_list_of_names(build: Callable[..., Graph]) -> None:
    graph = build("""
network n {
  input  x: real[rows: 4, columns: 3]
  output y = x -> permute([columns, rows])
}
""")
    assert dict(graph.root.types)["y"].shape == (3, 4)
