"""Theorems: what they cover, what breaks their conditions, and that a group larger than they allow is our bug."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial, prod
from typing import Any

import brute
import pytest
import torch

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.chain import Chain, chain_of
from nnspec.compiler.symmetry.completeness import Applied, completeness
from nnspec.compiler.symmetry.draws import random_state
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.theorems import THEOREMS
from nnspec.dsl.diagnostics import InternalError

Build = Callable[..., Graph]
State = dict[str, Any]
linear_algebra: Any = torch.linalg


def net(body: str, shape: str = "real[4]") -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


SHALLOW = net("output y = x -> dense(5) as a -> tanh -> dense(3) as b")
DEEP = net("output y = x -> dense(5) as a -> tanh -> dense(6) as b -> tanh -> dense(2) as c")
SMALL = net("output y = x -> dense(4) as a -> tanh -> dense(4) as b -> tanh -> dense(2) as c", "real[3]")
SHRINKING = net("output y = x -> dense(4) as a -> relu -> dense(3) as b -> relu -> dense(2) as c")
GROWING = net("output y = x -> dense(6) as a -> relu -> dense(5) as b")
WAIST = net("output y = x -> dense(3) as a -> relu -> dense(4) as b")
ATTENTION = net(
    "output y = attention(x -> dense(4) as q, x -> dense(4) as k, x -> dense(4) as v, heads = 2) -> dense(2) as o",
    "real[3, 5]",
)


def found(build: Build, text: str, change: Callable[[State], None] | None = None) -> dict[str, Applied]:
    """The theorems that cover a network, by name, tested on random weights that may be changed."""
    graph = build(text)
    group = symmetry_group(graph)
    state = random_state(graph, group, 1)
    if change is not None:
        change(state)
    return {one.theorem.name.split()[0].rstrip(","): one for one in completeness(group, (state,)).applied}


@pytest.mark.parametrize(
    ("text", "covering"),
    [
        (SHALLOW, ["Sussmann", "Vlačić", "Fefferman"]),
        (DEEP, ["Vlačić", "Fefferman"]),
        (SHRINKING, ["Phuong", "Grillo"]),
        (GROWING, ["Grigsby", "Grillo"]),
        (WAIST, ["Grillo"]),
        (ATTENTION, ["transformer"]),
        (SHALLOW.replace("tanh", "gelu"), []),
        (SHALLOW.replace("tanh", "sin"), []),
        (WAIST.replace("dense(3)", "dense(1)"), []),
        (SHRINKING.replace("dense(4) as a", "dense(4, bias = false) as a"), []),
    ],
)
def test_what_is_covered(build: Build, text: str, covering: list[str]) -> None:
    assert list(found(build, text)) == covering
    assert all(one.is_all for one in found(build, text).values())


def test_a_sigmoid_is_a_hyperbolic_tangent_whose_flips_the_biases_take_up(build: Build) -> None:
    """The theorem allows 2^5 flips s(-x) = 1 - s(x); where they are not derived, that is said."""
    text = SHALLOW.replace("tanh", "sigmoid")
    flips = symmetry_group(build(SHALLOW)).log10_order - symmetry_group(build(text)).log10_order
    assert found(build, text)["Sussmann"].is_all == (abs(flips) < 1e-9)
    assert "Sussmann" not in found(build, text.replace("dense(3)", "dense(3, bias = false)"))


def opposite(state: State) -> None:
    for name in ("a.weight", "a.bias"):
        state[name][1] = -state[name][0]


def proportional(state: State) -> None:
    for name in ("a.weight", "a.bias"):
        state[name][1] = 2 * state[name][0]


def cut(state: State) -> None:
    state["b.weight"][:, 2] = 0


def constant(state: State) -> None:
    state["a.weight"][2] = 0


def same_bias(state: State) -> None:
    state["a.bias"][1] = -state["a.bias"][0]


def dead(state: State) -> None:
    state["a.bias"][0] = -100


def always_on(state: State) -> None:
    state["a.bias"][0] = 100


def narrow(state: State) -> None:
    state["q.weight"][1] = state["q.weight"][0]


@pytest.mark.parametrize(
    ("text", "name", "change", "said"),
    [
        (SHALLOW, "Sussmann", opposite, "units 0 and 1 of `a` are equal up to sign"),
        (SHALLOW, "Sussmann", cut, "unit 2 of `a` has no outgoing weights"),
        (DEEP, "Vlačić", constant, "unit 2 of `a` has no incoming weights"),
        (DEEP, "Fefferman", same_bias, "`a` has biases of one magnitude"),
        (SHRINKING, "Phuong", proportional, "units 0 and 1 of `a` are equal up to scale"),
        (GROWING, "Grigsby", dead, "unit 0 of `a` is dead"),
        (GROWING, "Grillo", always_on, "unit 0 of `a` is always on"),
        (ATTENTION, "transformer", narrow, "`q.weight` is not of full rank"),
    ],
)
def test_conditions_are_tested_on_weights(
    build: Build, text: str, name: str, change: Callable[[State], None], said: str
) -> None:
    bad = found(build, text, change)[name]
    assert bad.holds is False and said in bad.violated
    assert said not in found(build, text)[name].violated


def test_what_is_not_settled_is_never_said_to_hold(build: Build) -> None:
    for text in (SHALLOW, DEEP, GROWING):
        for one in found(build, text).values():
            assert one.holds is (True if one.theorem.settled else None)
            assert one.json()["read"] in ("abstract", "summary")


def text_of(build: Build, text: str, *states: State) -> str:
    return completeness(symmetry_group(build(text)), states).text


def test_the_text_names_the_theorem_or_the_reason(build: Build) -> None:
    assert text_of(build, SHALLOW).startswith("complete by Sussmann 1992")
    graph = build(DEEP)
    state = random_state(graph, symmetry_group(graph), 1)
    assert "which hold on these weights" in text_of(build, DEEP, state)
    opposite(state)
    assert text_of(build, DEEP, state).startswith("lower bound on these weights: Vlačić and Bölcskei 2020")
    assert "some weights" in text_of(build, SHRINKING)
    tied = net(
        "output y = x -> dense(4) as a -> tanh -> dense(4) as b\n  constrain b.weight: tied(a.weight, transpose = true)"
    )
    assert "`a.weight^T` is not free" in text_of(build, tied)
    other = text_of(build, DEEP.replace("tanh", "gelu"))
    assert other.startswith("lower bound only: no theorem here speaks of its functions")
    residual = net("h = x -> dense(5)\n  output y = h + (h -> dense(6) -> tanh -> dense(5)) -> dense(2)")
    assert text_of(build, residual).startswith("lower bound only: ")
    binary = SHALLOW.replace("as b\n", "as b\n  constrain a.weight: binary\n")
    assert "`a.weight` is not free (binary)" in text_of(build, binary)


def test_attention_without_biases_is_covered_whole(build: Build) -> None:
    plain = ATTENTION.replace("dense(4)", "dense(4, bias = false)").replace(
        "dense(2)", "dense(2, bias = false)"
    )
    assert text_of(build, plain).startswith("complete by transformer gauge 2025")
    assert text_of(build, ATTENTION).startswith("lower bound only: ")
    graph = build(plain)
    state = random_state(graph, symmetry_group(graph), 1)
    assert "as far as they are known" in text_of(build, plain, state)


MASKED = {
    "triangle": (SMALL, "b.weight: mask((i, j) => i >= j)"),
    "band": (SMALL, "b.weight: mask((i, j) => abs(i - j) <= 1)"),
    "blocks": (SMALL, "b.weight: mask((i, j) => i // 2 == j // 2)"),
    "first": (SMALL, "a.weight: mask((i, j) => i >= j)"),
    "last": (SMALL, "c.weight: mask((i, j) => (i + j) % 2 == 0)"),
}


def masked(name: str) -> str:
    text, constraint = MASKED[name]
    return text.replace("\n}", f"\n  constrain {constraint}\n}}")


@pytest.mark.parametrize("name", MASKED)
def test_masked_networks_are_complete_by_a_theorem_and_brute_force_agrees(build: Build, name: str) -> None:
    graph = build(masked(name))
    group = symmetry_group(graph)
    state = random_state(graph, group, 1)
    known = completeness(group, (state,))
    assert known.text.startswith("complete by Vlačić and Bölcskei 2020"), known.text
    assert group.order == brute.signed_permutations(graph).order
    assert group.continuous_dimension == brute.fibre(graph).live == 0


def test_a_mask_that_cuts_units_off_is_the_reason_for_a_lower_bound(build: Build) -> None:
    for condition, said in {
        "i > j": "unit 0 of `b` reads nothing",
        "j > 0": "nothing of unit 0 before",
    }.items():
        text = DEEP.replace("as c\n", f"as c\n  constrain b.weight: mask((i, j) => {condition})\n")
        assert said in text_of(build, text) and text_of(build, text).startswith("lower bound only")


RESIDUAL = {
    "stream": "h = x -> dense(3)\n  output y = h + (h -> dense(3) -> tanh -> dense(3)) -> dense(3)",
    "two blocks": "h = x -> dense(3)\n  a = h + (h -> dense(3) as p -> tanh -> dense(3))\n"
    "  output y = a - (a -> dense(2) as q -> tanh -> dense(3)) -> dense(4)",
    "to the output": "output y = (x -> dense(4) -> tanh -> dense(2)) + (x -> dense(2, bias = false))",
    "branches": "output y = (x -> dense(3) -> tanh -> dense(2)) + (x -> dense(2) -> tanh -> dense(2))",
    "waist": "output y = x -> dense(4) -> tanh -> dense(2) -> dense(3) -> tanh -> dense(2)",
}


@pytest.mark.parametrize("name", RESIDUAL)
def test_units_of_residual_networks_are_complete_by_a_theorem(build: Build, name: str) -> None:
    """The theorem speaks of permutations and flips of units; the dimension is that of the linear maps between."""
    graph = build(net(RESIDUAL[name], "real[3]"))
    group = symmetry_group(graph)
    state = random_state(graph, group, 1)
    known = completeness(group, (state,))
    (one,) = (one for one in known.applied if one.theorem.name.startswith("Vlačić"))
    assert one.is_all and not one.violated and len(one.wires) > 0
    assert f"{one.wires[0]}" in known.text and "complete by Vlačić" in known.text
    linear = sum(strand.copies for strand in group.derivation.of_group("linear", "orthogonal", "centred"))
    within = [s.size for s in group.derivation.of_group("linear") for _ in range(s.copies)]  # no components
    finite = brute.signed_permutations(graph).order // prod(factorial(n) * 2**n for n in within)
    if name == "branches":  # entries of two biases that add up change places
        finite //= 2**2
    assert round(10**group.log10_order / 2**linear) == finite
    assert group.continuous_dimension == brute.fibre(graph).live


def test_sums_of_units_themselves_are_not_claimed(build: Build) -> None:
    """A stream of units that others are added to has one permutation at all depths; the theorem allows one for each."""
    text = net("h = x -> dense(4) as a -> tanh\n  output y = h + (h -> dense(4) as b -> tanh) -> dense(2)")
    assert "complete by" not in text_of(build, text)
    assert "allows more than was derived" in text_of(build, text)


def unheard(state: State) -> None:
    state["down.weight"][:, 1] = 0


def copied(state: State) -> None:
    state["up.weight"][2], state["up.bias"][2] = -state["up.weight"][0], -state["up.bias"][0]


def skipping(state: State) -> None:
    """The second block reads what the stream was made of, and nothing that the first one added."""
    state["low.weight"] -= (
        state["low.weight"] @ state["down.weight"] @ linear_algebra.pinv(state["down.weight"])
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (unheard, "unit 1 of `up` has no outgoing weights"),
        (copied, "units 0 and 2 of `up` are equal up to sign"),
        (skipping, "unit 0 of `low` reads no unit of the layer before it"),
    ],
)
def test_conditions_are_tested_on_composite_maps(
    build: Build, change: Callable[[State], None], said: str
) -> None:
    text = net(
        "h = x -> dense(6) as stem\n  a = h + (h -> dense(3) as up -> tanh -> dense(6) as down)\n"
        "  output y = a + (a -> dense(4) as low -> tanh -> dense(6)) -> dense(6)"
    )
    bad = found(build, text, change)["Vlačić"]
    assert bad.holds is False and said in bad.violated
    assert found(build, text)["Vlačić"].violated == ()


def test_more_than_a_theorem_allows_is_a_bug(build: Build) -> None:
    group: SymmetryGroup = symmetry_group(build(DEEP))
    wrong = group.replace(families=group.families | {"scale": 3})
    with pytest.raises(InternalError, match="more was derived than"):
        completeness(wrong)


def test_chains_are_read_off_the_relations(build: Build) -> None:
    flat = net("output y = x -> flatten -> dense(3) -> relu -> dense(2)", "real[2, 4]")
    chain = chain_of(symmetry_group(build(flat)).derivation.related)
    assert isinstance(chain, Chain) and chain.widths == (8, 3, 2)
    for body, why in {
        "shared w = dense(4)\n  output y = x -> w -> tanh -> w": "used twice",
        "output y = x -> dense(4) -> dense(3)": "no function between",
        "output y = x -> dense(4) -> tanh": "behind the last layer",
        "output y = x -> dense(4) -> layernorm -> tanh -> dense(2)": "neither",
    }.items():
        reason = chain_of(symmetry_group(build(net(body))).derivation.related)
        assert isinstance(reason, str) and why in reason


def test_every_theorem_says_what_it_is() -> None:
    for theorem in THEOREMS:
        assert theorem.citation and theorem.statement and theorem.condition
