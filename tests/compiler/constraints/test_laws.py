"""Laws over every registered constraint: its set, the maps onto it and back, its numbers, and what is emitted."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import pytest
import torch
from constraint_cases import SQUARE, USES, WITHOUT_LAWS, Case, every_case, names, typed
from torch import Tensor
from torch.nn.functional import conv2d, linear

from nnspec.compiler.constraints.constraint import KINDS
from nnspec.compiler.constraints.registry import conflict, constraints
from nnspec.compiler.emit.export import exported
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.ir import Constraint as Laid
from nnspec.compiler.ir import Frozen, Penalty, Projection, WeightMap
from nnspec.compiler.rewrites.hard import hard, hard_state, is_soft
from nnspec.compiler.runtime.after_step import AfterStep
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.guards import verify_group

CASES = every_case()
every_use = pytest.mark.parametrize("case", CASES, ids=lambda c: f"{c.written} {c.shape}")
every_map = pytest.mark.parametrize(
    "case", [case for case in CASES if case.map is not None], ids=lambda c: f"{c.written} {c.shape}"
)


def test_every_registered_constraint_is_tried() -> None:
    assert set(USES) | set(WITHOUT_LAWS) == names()
    for name, uses in USES.items():
        assert uses[0][1] == SQUARE, name
        assert all(written.split("(")[0] == name for written, _ in uses)


def test_every_constraint_says_what_it_is() -> None:
    for rule in constraints():
        assert rule.kind in KINDS and rule.doc and type(rule).__module__ != "builtins"
        assert all(why.strip() == why and not why.endswith(".") for why in rule.refuses.values())


# ------------------------------------------------------------------------------------------- the set


@every_use
def test_projecting_gives_a_member_and_leaves_members_alone(case: Case) -> None:
    weight = case.normal()
    kept = case.kept(case.begin(weight))
    member = case.rule.project(case.site, weight, kept)
    assert member.shape == weight.shape and member.dtype == weight.dtype
    assert torch.allclose(case.rule.project(case.site, member, kept), member, rtol=0, atol=1e-9)
    assert case.rule.residual(case.site, member, kept) < 1e-9


@every_use
def test_samples_are_members_that_differ(case: Case) -> None:
    kept = case.kept(case.begin(case.normal()))
    first, second = (case.rule.sample(case.site, case.generator, kept) for _ in range(2))
    assert first.shape == case.shape
    assert case.rule.residual(case.site, first, kept) < 1e-9
    assert not torch.equal(first, second)


@every_map
def test_a_weight_that_does_not_obey_has_a_residual(case: Case) -> None:
    weight = 3 * case.normal()
    assert case.rule.residual(case.site, weight, case.kept(case.begin(weight))) > 1e-3


@every_use
def test_what_it_keeps_leads_from_the_set_to_itself(case: Case) -> None:
    kept = case.kept(case.begin(case.normal()))
    keeps = case.rule.keeps if case.map is None else case.map.keeps
    assert set(case.rule.keeps) <= set(keeps)
    for what in keeps:
        member = case.rule.sample(case.site, case.generator, kept)
        for act in _actions(case, what):
            assert case.rule.residual(case.site, act(member), kept) < 1e-9, what


@every_map
def test_a_map_without_tensors_of_its_own_commutes_with_what_it_keeps(case: Case) -> None:
    item = case.map
    assert item is not None
    if item.stored or item.replaces:
        return
    for what in item.keeps:
        weight = case.normal()
        if "mirrored" in item.keeps:  # of what is stored half is idle: an action is that on a member
            weight = case.effective({"weight": weight})
        for act in _actions(case, what):
            moved = case.effective({"weight": act(weight)})
            assert torch.allclose(moved, act(case.effective({"weight": weight})), rtol=0, atol=1e-12), what


# ------------------------------------------------------------------------------------------- the maps


@every_map
def test_the_map_leads_into_the_set_from_everywhere(case: Case) -> None:
    stored = case.begin(case.normal())
    for size in (0.0, 0.1, 1.0):
        moved = case.moved(stored, size)
        weight = case.effective(moved)
        assert weight.shape == case.shape and weight.dtype == torch.float64
        assert case.rule.residual(case.site, weight, case.kept(moved)) < 1e-9


@every_map
def test_the_start_is_a_right_inverse(case: Case) -> None:
    stored = case.begin(case.normal())
    member = case.rule.sample(case.site, case.generator, case.kept(stored))
    again = case.begin(member)
    if case.rule.kind == "topology":  # which entries there are was decided before
        again |= {name: value for name, value in stored.items() if name not in case.learned(stored)}
    assert torch.allclose(case.effective(again), member, rtol=0, atol=1e-9)


@every_map
def test_gradients_are_those_of_finite_differences_or_pass_straight_through(case: Case) -> None:
    item = case.map
    assert item is not None
    stored = case.moved(case.begin(case.normal()))
    wanted = case.learned(stored)
    inputs = tuple(stored[name].clone().requires_grad_() for name in wanted)

    def weight(*given: Tensor) -> Tensor:
        return case.effective({**stored, **dict(zip(wanted, given, strict=True))})

    if not item.straight_through:
        assert torch.autograd.gradcheck(weight, inputs)
    elif case.rule.free(case.site) == 0:  # scaled ones: in test_discrete.py
        (latent,) = inputs
        gradient = case.normal()
        (found,) = torch.autograd.grad(weight(latent), latent, gradient)
        window = 1.0 if item.clip is None else (latent.detach().abs() <= item.clip)
        assert torch.equal(found, gradient * window)


@every_map
def test_free_numbers_are_the_rank_of_the_map(case: Case) -> None:
    stored = case.begin(case.normal())
    # Near zero too, where a bound does not bind.
    sizes = [
        {n: size * v if n in case.learned(stored) else v for n, v in stored.items()} for size in (0.01, 1)
    ]
    points = [case.moved(point, size) for point, size in zip(sizes, (0.01, 0.1), strict=True)]
    assert max(_rank(case, point) for point in points) == case.rule.free(case.site)


def _rank(case: Case, stored: Mapping[str, Tensor]) -> int:
    """The rank of the map's derivative, by central differences."""
    columns: list[Tensor] = []
    for name in case.learned(stored):
        for place in range(stored[name].numel()):
            step = torch.zeros(stored[name].numel(), dtype=torch.float64)
            step[place] = 1e-7
            step = step.view_as(stored[name])
            ends = [case.effective({**stored, name: stored[name] + sign * step}) for sign in (1, -1)]
            columns.append((ends[0] - ends[1]).flatten() / 2e-7)
    return int(torch.linalg.matrix_rank(torch.stack(columns, 1), atol=1e-5))


# ------------------------------------------------------------------------------------------- what is emitted


@every_use
def test_emitted_forms_agree_with_the_effective_weight(case: Case) -> None:
    torch.manual_seed(1)
    net = module(case.graph).double()
    _step(net)
    x = _input(case, 3)
    expected = _layer(case, x, _effective(case, net.state_dict()))
    assert torch.allclose(net(x), expected, rtol=0, atol=1e-10)
    assert torch.allclose(function(case.graph)(net.state_dict(), x), expected, rtol=0, atol=1e-10)
    other = module(case.graph).double()
    other.load_state_dict(net.state_dict())
    assert torch.equal(other(x), net(x))


@every_use
def test_training_stays_in_the_set(case: Case) -> None:
    net = module(case.graph)
    after_step = AfterStep(case.graph)
    for _ in range(3):
        _step(net)
        after_step(net.state_dict(), 0.1)
    stored = {key.removeprefix("f."): value for key, value in net.state_dict().items()}
    residual = case.rule.residual(case.site, _effective(case, net.state_dict()), case.kept(stored))
    assert residual < 1e-5
    assert all(parameter.grad is not None for parameter in net.parameters() if parameter.requires_grad)


@every_map
def test_it_begins_where_a_plain_layer_begins_if_that_obeys(case: Case) -> None:
    torch.manual_seed(2)
    plain = Case("frozen", case.shape)
    start = module(plain.graph).state_dict()["f.weight"].double()
    torch.manual_seed(2)
    state = {
        k: v.double() if v.is_floating_point() else v for k, v in module(case.graph).state_dict().items()
    }
    stored = case.begin(start)
    if case.rule.kind == "topology":  # which entries there are is drawn anew
        stored |= {n: state[f"f.{n}"] for n in stored if n not in case.learned(stored)}
    assert torch.allclose(_effective(case, state), case.effective(stored), rtol=0, atol=2e-5)


@every_use
def test_it_exports_and_runs_as_many(case: Case) -> None:
    net = module(case.graph)
    x = _input(case, 2).float()
    program = exported(case.graph).module()
    program.load_state_dict(net.state_dict(), strict=False)
    alone = function(case.graph)
    states = [net.state_dict(), module(case.graph).state_dict()]
    stacked = {key: torch.stack([state[key] for state in states]) for key in states[0]}
    both = torch.func.vmap(lambda state: alone(state, x))(stacked)
    for given, found in zip(states, both, strict=True):
        assert torch.allclose(found, alone(given, x), atol=1e-5)
    real = {key: value for key, value in stacked.items() if value.is_floating_point()}
    rest = {key: value for key, value in stacked.items() if key not in real}

    def loss(real: dict[str, Tensor], rest: dict[str, Tensor]) -> Tensor:
        return alone({**real, **rest}, x).square().sum()

    gradient = torch.func.vmap(torch.func.grad(loss))(real, rest)
    assert all(torch.isfinite(value).all() for value in gradient.values())


@every_map
def test_mixed_precision_leaves_the_weight_what_it_is(case: Case) -> None:
    begun = case.moved(case.begin(case.normal()))
    stored = {name: t.float() if t.is_floating_point() else t for name, t in begun.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = case.effective(stored)
    assert torch.allclose(mixed.float(), case.effective(stored), rtol=0.02, atol=0.02)


@pytest.mark.parametrize("name", sorted(USES))
def test_it_compiles_without_a_break(name: str) -> None:
    case = Case(*USES[name][-1])
    torch.compiler.reset()
    net = module(case.graph)
    x = _input(case, 2).float()
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(x), net(x), atol=1e-5)


# ------------------------------------------------------------------------------------------- in a network


@pytest.mark.parametrize("name", sorted(USES))
def test_the_derived_symmetries_leave_outputs_unchanged(name: str) -> None:
    """With permutations and scales before it and behind it, and with shifts that pass it."""
    written = USES[name][0][0]
    for chain in ("relu -> dense(5) as f -> relu", "dense(5) as f -> tanh"):
        graph = typed(f"""network n {{
          input  x: real[5]
          output y = x -> dense(5) -> {chain} -> dense(3)
          constrain f.weight: {written}
        }}""")
        group = symmetry_group(graph)
        verified = verify_group(graph, group)
        assert verified.generators > 0 and verified.max_output_error < 1e-9
        assert group.continuous_dimension <= verified.nullity


@every_use
def test_the_hard_network_computes_the_same(case: Case) -> None:
    state = _doubled(module(case.graph).state_dict())
    deployed, x = hard(case.graph), _input(case, 3)
    found = function(deployed)(hard_state(case.graph, state), x)
    assert torch.allclose(found, function(case.graph)(state, x), rtol=0, atol=1e-12)
    assert not is_soft(deployed)


# ------------------------------------------------------------------------------------------- together


PAIRS = [
    pytest.param(one, other, id=f"{one} & {other}")
    for one, other in combinations(sorted(uses[0][0] for uses in USES.values()), 2)
]


@pytest.mark.parametrize(("one", "other"), PAIRS)
def test_two_together_are_refused_with_a_reason_or_both_hold(one: str, other: str) -> None:
    alone = sorted((Case(one, SQUARE), Case(other, SQUARE)), key=lambda case: KINDS.index(case.rule.kind))
    first, second = (case.primitive.constraints[0] for case in alone)
    why = conflict(first, second)
    assert why == conflict(*_swapped(first, second)) or first.rule.kind == second.rule.kind
    if why is not None:
        assert len(why) > 15 and not why.endswith(".")
        return
    case = Case(f"{other} & {one}", SQUARE)
    stored = case.moved(case.begin(case.normal()), 0.3)
    weight = case.effective(stored)
    kept = case.kept(stored)
    for rule, site in case.laid:
        if isinstance(rule.part(site, None), WeightMap):
            there = weight
            if rule.kind == "values" and "mask" in kept:  # said of the entries that there are
                there = torch.where(kept["mask"], weight, case.so_far(case.weight.maps[-1], stored))
            assert rule.residual(site, there, kept) < 1e-9, rule.name


def _swapped(first: Laid, second: Laid) -> tuple[Laid, Laid]:
    return (second, first) if first.rule.kind == second.rule.kind else (first, second)


def test_parts_are_of_known_kinds() -> None:
    for case in CASES:
        part = case.rule.part(case.site, None)
        assert isinstance(part, WeightMap | Projection | Penalty | Frozen)


# ------------------------------------------------------------------------------------------- means


def _actions(case: Case, what: str) -> list:
    """Random actions on outputs and on inputs; the same on both of a mirrored weight."""
    rows, columns = case.shape[:2]
    if what == "mirrored":
        return []

    if what == "multiples":
        return [lambda weight, number=number: number * weight for number in (-1.7, 0.3)]

    def act(left: Tensor, right: Tensor):
        return lambda weight: torch.einsum("ij,jk...,kl->il...", left, weight, right)

    def one(size: int) -> Tensor:
        eye = torch.eye(size, dtype=torch.float64)
        if what == "permutations":
            return eye[torch.randperm(size, generator=case.generator)]
        if what == "signs":
            return torch.diag(case.normal(size).sign())
        if what == "scales":
            return torch.diag(case.normal(size).exp())
        if what == "rotations":
            return torch.linalg.qr(case.normal(size, size))[0]
        assert what == "matrices"
        return case.normal(size, size)

    if "mirrored" in case.rule.keeps:
        both = one(rows)
        return [act(both, both.T)]
    still = [torch.eye(size, dtype=torch.float64) for size in (rows, columns)]
    return [act(one(rows), still[1]), act(still[0], one(columns)), act(one(rows), one(columns))]


def _doubled(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state in double precision; masks and indices stay as they are."""
    return {k: v.double() if v.is_floating_point() else v for k, v in state.items()}


def _effective(case: Case, state: Mapping[str, Tensor]) -> Tensor:
    return case.effective({key.removeprefix("f."): value for key, value in state.items()})


def _input(case: Case, batch: int) -> Tensor:
    image = (5, 5) if len(case.shape) == 4 else ()
    return case.normal(batch, case.shape[1], *image)


def _layer(case: Case, x: Tensor, weight: Tensor) -> Tensor:
    return conv2d(x, weight) if len(case.shape) == 4 else linear(x, weight)


def _step(net: torch.nn.Module) -> None:
    """One step of descent on a random loss."""
    if not any(parameter.requires_grad for parameter in net.parameters()):
        return
    net.zero_grad()
    first = next(iter(net.state_dict().values()))
    layer = net.f
    size = (4, layer.in_channels, 5, 5) if hasattr(layer, "in_channels") else (4, layer.in_features)
    net(torch.randn(*size, dtype=first.dtype)).square().mean().backward()
    with torch.no_grad():
        for parameter in net.parameters():
            if parameter.grad is not None:
                parameter -= 0.1 * parameter.grad
