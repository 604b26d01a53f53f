"""Loops as code: solvers agree, gradients are those of the equilibrium, and nothing waits for the device."""

from __future__ import annotations

import ast
import warnings
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnspec.compiler.emit.functional import emit_functional
from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit

X = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))


def settled_by_hand(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Return s = tanh(U x + b + W s), iterated until nothing moves."""
    s = x.new_zeros(len(x), 6)
    for _ in range(2000):
        s = torch.tanh(x @ net.feed.weight.T + net.feed.bias + s @ net.rec.weight.T)
    return s


def made(graph: Any, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    net = module(graph).double()
    with torch.no_grad():
        net.rec.weight.mul_(0.9 / torch.linalg.matrix_norm(net.rec.weight, 2))
    return net


MAPS = ("fixed_point", "anderson", "broyden")
FLOWS = ("euler", "rk4")
ALL = [*(("map", name) for name in MAPS), *(("flow", name) for name in (*MAPS, *FLOWS))]


@pytest.mark.parametrize(("form", "solver"), ALL)
def test_every_solver_finds_the_fixed_point(systems: Any, form: str, solver: str) -> None:
    net = made(systems.cell(form=form, solver=systems.word(solver, steps=300, tolerance=1e-12)))
    assert (net(X) - settled_by_hand(net, X)).abs().max() < 1e-10
    assert net.residual <= 1e-12


@pytest.mark.parametrize(("form", "solver"), ALL)
@pytest.mark.parametrize("gradient", ["ift", "unrolled"])
def test_gradients_are_those_of_the_equilibrium(systems: Any, form: str, solver: str, gradient: str) -> None:
    """Against the implicit function theorem, solved as a dense linear system by hand."""
    graph = systems.cell(
        form=form,
        solver=systems.word(solver, steps=300, tolerance=1e-13),
        gradient=systems.word(gradient, **({"steps": 300, "tolerance": 1e-13} if gradient == "ift" else {})),
    )
    net = made(graph)
    weight = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (net(X) * weight).sum().backward()
    s = settled_by_hand(net, X).detach()
    slope = 1 - s**2
    expected = torch.zeros_like(net.rec.weight)
    for sample in range(5):
        jacobian = slope[sample, :, None] * net.rec.weight.detach()
        u = torch.linalg.solve(torch.eye(6, dtype=s.dtype) - jacobian.T, weight[sample])
        expected += torch.outer(u * slope[sample], s[sample])
    error = (net.rec.weight.grad - expected).norm() / expected.norm()
    assert error < 1e-8


@pytest.mark.parametrize("form", ["map", "flow"])
def test_implicit_gradients_agree_with_finite_differences(systems: Any, form: str) -> None:
    """Also where the clip holds some units at a border."""
    graph = systems.cell(
        form=form,
        clip=(0.0, 0.3),
        solver=systems.word("euler" if form == "flow" else "fixed_point", steps=400),
        gradient=systems.word("ift", steps=400),
    )
    net = made(graph, seed=2)
    loss = (net(X) ** 2).sum() + net(X)[:, 0].sum()
    loss.backward()
    held = (net(X) == 0.0) | (net(X) == 0.3)
    assert held.any() and not held.all()
    for name, index in (("rec.weight", (1, 2)), ("feed.weight", (0, 3)), ("feed.bias", (4,))):
        values = []
        for step in (1e-6, -1e-6):
            with torch.no_grad():
                parameter = net.get_parameter(name)
                parameter[index] += step
                values.append(float((net(X) ** 2).sum() + net(X)[:, 0].sum()))
                parameter[index] -= step
        expected = (values[0] - values[1]) / 2e-6
        found = float(net.get_parameter(name).grad[index])
        assert abs(found - expected) <= 1e-6 * max(1.0, abs(expected))


def test_one_step_of_a_phantom_gradient_ignores_the_recurrence(systems: Any) -> None:
    graph = systems.cell(
        solver=systems.word("fixed_point", steps=300), gradient=systems.word("phantom", steps=1)
    )
    net = made(graph)
    net(X).sum().backward()
    s = settled_by_hand(net, X).detach()
    expected = torch.einsum("bi,bj->ij", 1 - s**2, s)
    torch.testing.assert_close(net.rec.weight.grad, expected)


@pytest.mark.parametrize(("form", "solver"), ALL)
def test_the_functional_form_agrees_and_many_networks_are_one_vmap(
    systems: Any, form: str, solver: str
) -> None:
    graph = systems.cell(
        form=form,
        solver=systems.word(solver, steps=150, tolerance=1e-10),
        gradient=systems.word("ift", steps=150),
    )
    nets = [made(graph, seed) for seed in range(3)]
    forward = function(graph)
    stacked = {k: torch.stack([n.state_dict()[k] for n in nets]) for k in nets[0].state_dict()}

    def loss(parameters: dict[str, torch.Tensor]) -> torch.Tensor:
        return (forward(parameters, X) ** 2).sum()

    found = torch.vmap(torch.func.grad(loss))(stacked)
    for place, net in enumerate(nets):
        (net(X) ** 2).sum().backward()
        for name, parameter in net.named_parameters():
            torch.testing.assert_close(found[name][place], parameter.grad, rtol=1e-6, atol=1e-8)


class Syncs(TorchDispatchMode):
    """Counts the operations that wait for a number on the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default):
            self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize(("form", "solver"), ALL)
def test_without_a_tolerance_nothing_waits_for_the_device(systems: Any, form: str, solver: str) -> None:
    graph = systems.cell(
        form=form, solver=systems.word(solver, steps=30), gradient=systems.word("ift", steps=30)
    )
    net = made(graph)
    with Syncs() as syncs:
        net(X).sum().backward()
    assert syncs.count == 0


def test_with_a_tolerance_it_looks_every_ten_steps_and_once_at_the_end(systems: Any) -> None:
    net = made(systems.cell(solver=systems.word("fixed_point", steps=45, tolerance=1e-30)))
    with Syncs() as syncs, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        net(X)
    assert syncs.count <= 4 + 2  # the last reads the residual for the warning


def test_a_residual_above_the_tolerance_warns(systems: Any) -> None:
    net = made(systems.cell(solver=systems.word("fixed_point", steps=3, tolerance=1e-6)))
    with pytest.warns(RuntimeWarning, match="states not settled to 1e-06 after 3 steps"):
        net(X)
    assert net.residual > 1e-6


def test_what_no_step_changes_is_computed_once(systems: Any) -> None:
    for text in (emit(systems.cell()), emit_functional(systems.cell())):
        tree = ast.parse(text)
        step = next(n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name == "step")
        inside = ast.unparse(step)
        assert "feed" not in inside.replace("value_1", "")
        assert "rec" in inside


def test_constrained_weights_are_made_once_before_the_loop(hand: Any, systems: Any) -> None:
    b = hand.network("bound")
    x, s = b.input("x", (6,)), b.input("s", (6,))
    b.add("rec", hand.primitive("dense", (hand.laid(hand.binary()),), units=6, bias=False))
    after = b.op("tanh", b.op("add", b.call("rec", b.op("divide", s, constant=20.0)), x))
    b.output("y", after)
    graph = systems.looped(b.graph(), {"s": ("s", after)}, {"y": "s"})
    text = emit(graph)
    assert text.index("rec_weight = binary") < text.index("def step(")
    net = module(graph)
    net(torch.randn(2, 6)).sum().backward()
    assert net.rec.weight.grad.abs().sum() > 0


def test_a_connection_used_backwards_is_the_transposed_weight(hand: Any, systems: Any) -> None:
    """s1 = tanh(x + W' s2), s2 = tanh(W s1): written directly, and by autograd."""
    for indirect in (False, True):
        b = hand.network("pair")
        x, s1, s2 = b.input("x", (4,)), b.input("s1", (4,)), b.input("s2", (3,))
        up = b.layer("up", "dense", s1, units=3, bias=False)
        down = b.op("identity", x, to="down")
        first = b.op("tanh", b.op("add", x, down))
        second = b.op("tanh", up)
        b.output("y", second)
        root = b.graph()

        def change(body: Any, indirect: bool = indirect, s1: str = s1, s2: str = s2) -> Any:
            back = systems.transposed("down", body[0], s1, body[0].outputs[0], s2)
            if indirect:  # two uses of the value: no chain
                twice = hand.network("pair")
                back = back.replace(through=(*back.through, _doubled(body, back.end)), end="twice")
                del twice
            return tuple(back if s.outputs == ("down",) else s for s in body)

        types = dict(root.root.types)
        graph = systems.looped(
            root,
            {"s1": ("s1", first), "s2": ("s2", second)},
            {"y": "s2"},
            change=change,
            extra={"twice": types[second]},
        )
        text = emit(graph)
        assert ("torch.func.vjp" in text) is indirect
        net = module(graph).double()
        one, two = X.new_zeros(5, 4), X.new_zeros(5, 3)
        w = net.up.weight.detach()
        for _ in range(50):
            one, two = torch.tanh(X + (2 if indirect else 1) * two @ w), torch.tanh(one @ w.T)
        torch.testing.assert_close(net(X), two)
        net(X).sum().backward()
        assert net.up.weight.grad.abs().sum() > 0


def _doubled(body: Any, value: str) -> Any:
    """Return twice = value + value."""
    add = next(s for s in body if getattr(s, "operation", None) and s.operation.operation == "add")
    types = (add.operation.inputs[0].replace(axes=(add.operation.inputs[0].axes[0].replace(size=3),)),) * 2
    return add.replace(
        operation=add.operation.replace(inputs=types, outputs=types[:1]),
        inputs=(value, value),
        outputs=("twice",),
    )
