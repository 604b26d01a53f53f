"""Gains behind a norm fold into the maps that read them: rotations pass, and the gain's entries scale."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group

Build = Callable[..., Graph]

# chain from 7 numbers: the dimension, counted by hand.
DIMENSIONS = {
    # O(5) + 5 gains + 1 scale before the norm
    "dense(5, bias = false) -> rmsnorm -> dense(3, bias = false)": 10 + 5 + 1,
    # O(4) + 5 gains + 1 scale + 5 shifts by the shift behind the norm + 8 of the mean before it (7 + bias) + 3 behind
    "dense(5) -> layernorm -> dense(3)": 6 + 5 + 1 + 5 + 8 + 3,
    # The norm is read by a function of entries: no rotation, and a scale for each gain is not folded but balanced.
    "dense(5, bias = false) -> rmsnorm -> tanh -> dense(3)": 1,
}


@pytest.mark.parametrize("chain", DIMENSIONS)
def test_dimensions(build: Build, chain: str) -> None:
    graph = build(f"network n {{\n input x: real[7]\n output y = x -> {chain}\n}}\n")
    group = symmetry_group(graph)
    verified = verify_group(graph, group)
    assert group.continuous_dimension == verified.nullity == DIMENSIONS[chain]
    assert verified.max_output_error < 1e-10


def test_a_tied_read_out_keeps_the_stream_from_rotating(build: Build) -> None:
    """The table stands before the norm and behind its gain: only what commutes with the gain is left."""
    body = "h = x -> embedding(9, 4) as table\n  output y = (h -> rmsnorm) @ transpose(table.weight)"
    group = symmetry_group(build(f"network n {{\n  input x: int[3]\n  {body}\n}}\n"))
    assert not group.derivation.folds
    assert group.families["orthogonal"] == 0
