"""Probes: whole numbers reach every row of the table in which they are looked up, and of no smaller one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nnspec.compiler.fibres.probe import DEFAULT, draw_probe, table_rows
from nnspec.compiler.ir import Graph

Build = Callable[..., Graph]
CASES = {
    "two tables": (
        "input a: int[2]\n  input b: int\n  output y = (a -> embedding(4, 3) -> sum(axis = 0)) + (b -> embedding(7, 3))",
        (4, 7),
    ),
    "one input, two tables": (
        "input a: int[2]\n  output y = (a -> embedding(6, 3)) + (a -> embedding(5, 3))",
        (5,),
    ),
    "no table": ("input a: int[2]\n  output y = a * 2", (2,)),
    "another kind of input": (
        "input x: real[3]\n  input a: int\n  output y = (x -> dense(2)) + (a -> embedding(9, 2))",
        (2, 9),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_rows_are_those_of_the_tables_that_an_input_reaches(build: Build, name: str) -> None:
    body, rows = CASES[name]
    graph = build(f"network n {{\n  {body}\n}}\n")
    assert table_rows(graph) == rows
    for given, most in zip(draw_probe(graph, DEFAULT, 0, 400), rows, strict=True):
        if not given.is_floating_point():
            assert given.unique().tolist() == list(range(most))
