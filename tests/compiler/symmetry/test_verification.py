"""Verification: what each guard catches, over several seeds, at given weights, and of large networks in part."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.rank import decompose
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.registry import find
from nnspec.compiler.symmetry import guards, verification
from nnspec.compiler.symmetry.draws import idealised, random_state
from nnspec.compiler.symmetry.generators import Generator
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import jacobian_spectrum
from nnspec.dsl.diagnostics import InternalError, SpecError

Build = Callable[..., Graph]


def net(body: str, shape: str = "real[4]") -> str:
    return f"network n {{\n  input x: {shape}\n  {body}\n}}\n"


RELU = net("output y = x -> dense(6) -> relu -> dense(5) -> relu -> dense(3)")
TANH = net("output y = x -> dense(5) -> tanh -> dense(3)")
RESIDUAL = net("h = x -> dense(6)\n  a = h + (h -> dense(5) -> tanh -> dense(6))\n  output y = a -> dense(3)")
WIDE = net("output y = x -> dense(48) -> relu -> dense(40) -> relu -> dense(10)")


def test_the_dimension_is_reached_at_one_of_five_seeds(build: Build) -> None:
    for text in (RELU, TANH, RESIDUAL):
        graph = build(text)
        group = symmetry_group(graph)
        found = verification.verify(graph, group)
        assert [trial.seed for trial in found.trials] == [0, 1, 2, 3, 4]
        assert all(trial.nullity >= group.continuous_dimension for trial in found.trials)
        assert found.surplus == 0
        assert 0 < found.max_output_error < 1e-10


def test_a_dimension_above_the_nullity_is_a_bug(build: Build) -> None:
    graph = build(TANH)
    group = symmetry_group(graph)
    wrong = group.replace(families=group.families | {"scale": 1})
    with pytest.raises(InternalError, match="above the Jacobian's nullity"):
        verification.verify(graph, wrong)


def test_a_generator_that_changes_an_output_is_a_bug(build: Build, monkeypatch: Any) -> None:
    graph = build(RELU)
    group = symmetry_group(graph)

    def halved(state: dict[str, Any], t: float) -> dict[str, Any]:
        return state | {"dense.weight": state["dense.weight"] * (1 + 1e-6)}

    def wrong(*_: Any) -> Iterator[Generator]:
        yield Generator(family="scale", wire="dense", apply=halved)

    monkeypatch.setattr(guards, "generators", wrong)
    named = "family scale of the wire dense, which moves dense.weight, changes an output by"
    with pytest.raises(InternalError, match=named):
        verification.verify(graph, group)


def test_rounding_excuses_no_error_that_is_much_larger(build: Build, monkeypatch: Any) -> None:
    """Where weights amplify rounding so that an error of 1e-10 may be none, one of a thousand times rounding is."""
    graph = idealised(build(RELU))
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)

    def moved(state: dict[str, Any], t: float) -> dict[str, Any]:
        return state | {"dense.weight": state["dense.weight"] * (1 + 1e-8)}

    def wrong(*_: Any) -> Iterator[Generator]:
        yield Generator(family="scale", wire="dense", apply=moved)

    monkeypatch.setattr(guards, "generators", wrong)
    for rounding, passes in ((1e-9, True), (1e-12, False)):
        monkeypatch.setattr(guards, "rounding", lambda *_, own=rounding: own)
        if passes:
            assert guards.guarded_error(graph, group, 0, state)[1] > guards.ERROR_LIMIT
        else:
            with pytest.raises(InternalError):
                guards.guarded_error(graph, group, 0, state)


def test_dead_units_are_not_taken_for_symmetries(build: Build) -> None:
    """A dead unit leaves its 5 incoming and 3 outgoing weights flat. With a slope it is linear: beside its scale only
    its bias is free, which the biases behind take up."""
    graph = build(net("output y = x -> dense(6) -> relu -> dense(3)"))
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)
    state["dense.bias"][2] -= 100
    dimension = group.continuous_dimension
    assert jacobian_spectrum(idealised(graph), group, state, 0).nullity == dimension - 1 + 8
    assert guards.verify_group(graph, group, 0, state).nullity == dimension + 1


def test_slopes_are_those_of_the_mirrored_function(build: Build) -> None:
    import torch

    from nnspec.compiler.emit.load import function
    from nnspec.compiler.rewrites.sloped import SLOPE, sloped

    text = "activation bent {\n  x => where(x > 0, x ^ 2, 0)\n}\n" + net(
        "a = x -> bent\n  b = x -> relu\n  c = x -> tanh\n  output y = stack(a, b, c, x -> abs)"
    )
    graph = build(text)
    x = torch.randn(50, 4, dtype=torch.float64)
    found = function(sloped(graph))({}, x)
    positive, negative = x.clamp(min=0), x.clamp(max=0)
    wanted = [positive**2 - SLOPE * negative**2, positive + SLOPE * negative, x.tanh(), x.abs()]
    assert torch.allclose(found, torch.stack(wanted, dim=1))


def test_a_spectrum_is_that_of_the_jacobian(build: Build) -> None:
    """Of a linear map y = W x + b without symmetries, and of a chain of two whose rank is known."""
    graph = build(net("output y = x -> dense(3)"))
    group = symmetry_group(graph)
    found = jacobian_spectrum(graph, group, random_state(graph, group, 0), 0)
    assert (len(found.values), found.rank, found.gap) == (15, 15, float("inf"))
    chart = Chart(graph, random_state(graph, group, 0), entries={"dense.weight": torch.arange(4)})
    known = decompose(torch.tensor([2.0, 1.0, 1e-12, 0.0], dtype=torch.float64).diag(), chart, 1)
    assert known.nullity == 2 and known.gap == 1e12
    few = decompose(
        torch.tensor([[0.0, 3.0, 0.0, 4.0]], dtype=torch.float64), chart, 1
    )  # fewer outputs than weights
    assert (few.values, few.rank, few.nullity) == ((5.0, 0.0, 0.0, 0.0), 1, 3)


@pytest.fixture
def low_limit(monkeypatch: pytest.MonkeyPatch) -> int:
    """A limit above which networks are looked at in part that small ones are above: ranks take its cube."""
    monkeypatch.setattr(verification, "PARAMETER_LIMIT", 300)
    return 300


def test_large_networks_are_verified_in_part(build: Build, low_limit: int) -> None:
    graph = build(WIDE)
    group = symmetry_group(graph)
    found = verification.verify(graph, group)
    assert found.parameters == 2610 and found.nullity is None and not found.trials
    assert found.generators >= 4 and found.max_output_error < 1e-10
    assert found.sampled is not None
    assert 0 < found.sampled.derived <= found.sampled.nullity < found.sampled.columns <= low_limit


def test_large_networks_with_norms_are_verified_without_their_epsilon(build: Build, low_limit: int) -> None:
    """Beside it a scale before a norm changes outputs by some 1e-7: that is no bug of the group."""
    graph = build(net("output y = x -> dense(30) -> batchnorm -> relu -> dense(6)"))
    found = verification.verify(graph, symmetry_group(graph))
    assert found.parameters > low_limit and not found.trials and found.max_output_error < 1e-10


def test_a_part_shows_directions_that_a_group_cannot_have(build: Build, monkeypatch: Any) -> None:
    """Were its units homogeneous, this tanh network would have scales; a part of the Jacobian says no."""
    graph = build(WIDE.replace("relu", "tanh"))
    group = symmetry_group(graph)

    def one(*_: Any) -> int:
        return 1

    monkeypatch.setattr(type(group.derivation), "rank", one)
    with pytest.raises(InternalError, match="known in a part"):
        verification.verify(graph, group)


def test_weights_that_are_not_finite_are_named(build: Build) -> None:
    graph = build(TANH)
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)
    state["dense.bias"][1] = float("nan")
    with pytest.raises(SpecError) as refusal:
        verification.verify(graph, group, 0, [(0, state)])
    (error,) = refusal.value.errors
    assert error.code == "N0971" and "dense.bias" in error.message


def test_single_precision_is_taken_as_the_numbers_that_it_is(build: Build) -> None:
    graph = build(TANH)
    group = symmetry_group(graph)
    state = {name: value.float() for name, value in random_state(graph, group, 0).items()}
    (found,) = verification.verify(graph, group, 0, [(7, state)]).given
    assert (found.seed, found.nullity) == (7, 0) and found.max_output_error < 1e-12


def test_a_surplus_is_given_its_causes(build: Build) -> None:
    graph = build(net("output y = x -> dense(6) -> relu -> dense(3)"))
    group = symmetry_group(graph)
    state = random_state(graph, group, 0)
    state["dense.bias"][2] -= 100
    found = verification.verify(graph, group, 0, [(0, state)])
    assert dict(found.hidden)["trained, seed 0"] == {"dead unit": 7}


def test_networks_of_millions_are_refused(build: Build) -> None:
    graph = build(net("output y = x -> dense(30000) -> tanh -> dense(2000)"))
    with pytest.raises(SpecError) as refusal:
        find("symmetry").run(Subject(graph=graph), {"verify": True, "seed": 0})
    assert [error.code for error in refusal.value.errors] == ["N0961"]
    assert "20,000,000" in refusal.value.errors[0].message


def test_entries_that_a_mask_removes_are_a_family(build: Build) -> None:
    """Three blocks of two by two among six by six: 24 of 36 entries are no weights, and any change of them is flat."""
    text = net("output y = x -> dense(6) -> tanh -> dense(6) as b -> tanh -> dense(2)")
    graph = build(
        text.replace("dense(2)", "dense(2)\n  constrain b.weight: mask((i, j) => i // 2 == j // 2)")
    )
    group = symmetry_group(graph)
    found = verification.verify(graph, group)
    assert group.redundant == found.nullity == 24 and found.surplus == 0
    assert found.hidden == ()
    result = find("symmetry").run(Subject(graph=graph), {"verify": True, "seed": 0})
    assert "as many flat directions beside 24 stored numbers that constraints do not use" in result.summary
    assert not [table for table in result.tables if table.title.startswith("Hidden")]


def test_units_that_are_dead_at_some_random_weights_are_no_surplus(build: Build) -> None:
    """Rectifiers behind one another are dead at many of the seeds; with slopes no seed has a surplus."""
    graph = build(net("output y = x -> dense(6) -> relu -> dense(5) -> relu -> dense(5) -> relu -> dense(2)"))
    group = symmetry_group(graph)
    for seed in range(4):
        found = verification.verify(graph, group, seed)
        assert (found.surplus, found.hidden) == (0, ())


def test_a_surplus_at_every_seed_is_listed_in_full(build: Build) -> None:
    graph = build(RELU)
    group = symmetry_group(graph)
    fewer = group.replace(families=group.families | {"scale": group.families["scale"] - 2})
    found = verification.verify(graph, fewer)
    assert found.surplus == 2 and [sum(causes.values()) for _, causes in found.hidden] == [2]


@pytest.mark.parametrize("act", ["relu", "leaky_relu(0.3)"])
def test_a_surplus_behind_functions_with_slopes_has_causes(build: Build, act: str) -> None:
    """A weight in a box between two homogeneous wires: of eight scales one is derived, and the others end at the box."""
    text = (
        f"output y = x -> dense(4) -> {act} -> dense(4) as b -> {act} -> dense(2)\n"
        "  constrain b.weight: box(-1, 1)"
    )
    found = verification.verify(build(net(text)), symmetry_group(build(net(text))))
    assert found.surplus == 7
    ((label, causes),) = found.hidden
    assert label.startswith("random") and causes == {"inside a constraint": 7}


def test_scales_up_to_a_norm_are_derived(build: Build) -> None:
    """Rows of norm 1 between two homogeneous wires: columns are scaled by any numbers, and rows up to their norms."""
    text = (
        "output y = x -> dense(4) -> relu -> dense(4) as b -> relu -> dense(2)\n"
        "  constrain b.weight: normalized"
    )
    group = symmetry_group(build(net(text)))
    assert (group.continuous_dimension, group.redundant) == (4, 4)
    assert verification.verify(build(net(text)), group).surplus == 0


BUFFER = """layer keep(n: int) {
  input  x: real[n]
  buffer c: real[n] = ones
  update c = 0.9 * c + 0.1 * x
  output y = x - c
}

"""


@pytest.mark.parametrize(
    "text",
    [
        BUFFER + net("output y = x -> dense(3) -> keep(3) -> tanh -> dense(2)"),
        net("parameter p: real[3] = normal\n  output y = (x -> dense(3)) + tanh(p) -> tanh -> dense(2)"),
    ],
    ids=["buffer", "function of a parameter"],
)
def test_values_of_no_input_are_no_layers(build: Build, text: str) -> None:
    """They have no batch, and no theorem on layers speaks of them; a constant beside a bias is not its unit's."""
    graph = build(text)
    group = symmetry_group(graph)
    assert group.json()["completeness"].startswith("lower bound")
    found = verification.verify(graph, group)
    assert found.max_output_error < 1e-10 and found.surplus == 0


def test_units_that_nothing_reads_keep_a_dimension_from_being_exact(build: Build) -> None:
    group = symmetry_group(build(net("h = x -> dense(4) -> tanh\n  output y = h[0..2] -> dense(2)")))
    assert not group.is_exact and any("read by nothing" in note for note in group.notes)
    whole = symmetry_group(
        build(net("a, b = x -> dense(4) -> tanh -> split(2)\n  output y = (a -> dense(2)) + (b -> dense(2))"))
    )
    assert not any("read by nothing" in note for note in whole.notes)


@pytest.mark.parametrize(("bound", "scales"), [("0", 3), ("0.5", 0)])
def test_a_number_among_the_values_of_a_maximum_keeps_no_shift(build: Build, bound: str, scales: int) -> None:
    graph = build(net(f"output y = maximum(x -> dense(3), x -> dense(3), {bound}) -> dense(2)"))
    group = symmetry_group(graph)
    assert (group.families["scale"], group.families["shift"]) == (scales, 0)
    assert verification.verify(graph, group, 0).max_output_error < 1e-10


def test_conjugates_are_verified(build: Build) -> None:
    """The real part of z * conj(w): derivatives sample by sample pass through the conjugate."""
    text = net("""z = complex(x -> dense(2), x -> dense(2))
  w = complex(x -> dense(2), x -> dense(2))
  output y = z * conj(w) -> real""")
    found = verification.verify(build(text), symmetry_group(build(text)))
    assert all(trial.nullity > 0 for trial in found.trials) and found.max_output_error < 1e-10
