"""Elements of the group: random ones change no output, inverses undo them, products act one after another."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from symmetric_nets import NETS

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.elements import Element, act, random_element
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import idealised, largest_change, random_state
from nnspec.compiler.symmetry.moves import Permute

Build = Callable[..., Graph]


@pytest.mark.parametrize("name", NETS)
def test_random_elements_change_no_output_and_are_undone_by_their_inverse(build: Build, name: str) -> None:
    graph = idealised(build(NETS[name]))
    group = symmetry_group(graph)
    state = random_state(graph, group, 1)
    for seed in range(3):
        element = random_element(group, seed)
        moved = act(group.derivation, element, state)
        assert any(not torch.equal(moved[key], state[key]) for key in state)
        assert largest_change(graph, group, state, moved, seed) < 1e-9
        back = act(group.derivation, element.inverse(), moved)
        for key in state:
            torch.testing.assert_close(back[key], state[key], rtol=1e-9, atol=1e-9)


def test_a_product_acts_one_after_another_and_knows_its_permutation(build: Build) -> None:
    group = symmetry_group(build(NETS["tanh"]))
    d = group.derivation
    wire = next(wire for wire in group.wires if wire.size == 6)
    state = {"dense_2.weight": torch.arange(30.0).reshape(6, 5)}
    first, second = (
        Element(moves=(Permute(space=wire.space, order=order),))
        for order in ((1, 2, 3, 4, 5, 0), (0, 2, 1, 3, 5, 4))
    )
    both = first.then(second)
    moved = act(d, both, state)["dense_2.weight"]
    assert torch.equal(moved, act(d, second, act(d, first, state))["dense_2.weight"])
    assert torch.equal(moved, state["dense_2.weight"][list(both.permutation(wire.space, 6))])
    assert both.then(both.inverse()).permutation(wire.space, 6) == (0, 1, 2, 3, 4, 5)
