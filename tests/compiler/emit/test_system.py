"""Systems taken apart: settling in place is what one step after another gives, and linear parts are those of autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nnspec.compiler.emit.load import module
from nnspec.compiler.emit.static import static_source
from nnspec.compiler.emit.system import System, system
from nnspec.compiler.ir import Connection, Graph

X = torch.randn(5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
States = tuple[torch.Tensor, ...]


def begun(graph: Graph, seed: int = 0) -> tuple[System, Any, Any]:
    torch.manual_seed(seed)
    net = module(graph).double()
    run = system(graph)
    return run, net, run.begin(run.weights(net.state_dict()), X)


def drawn(run: System, given: Any, low: float = -0.5, high: float = 1.0) -> States:
    generator = torch.Generator().manual_seed(7)
    return tuple(torch.empty_like(s).uniform_(low, high, generator=generator) for s in run.start(given))


def one_by_one(
    run: System, given: Any, states: States, steps: int, size: float, clip: Any, push: Any = None
) -> States:
    """Settle by the differentiable step: s + size ds/dt, or (1 - size) s + size f(s), then the clip."""
    bring = (lambda s: s.clamp(*clip)) if clip else (lambda s: s)
    states = tuple(map(bring, states))
    for _ in range(steps):
        found = run.step(given, states, None if push is None else push(states))
        if run.loop.form == "flow":
            states = tuple(s + size * f for s, f in zip(states, found, strict=True))
        else:
            states = tuple((1 - size) * s + size * f for s, f in zip(states, found, strict=True))
        states = tuple(map(bring, states))
    return states


CASES = [
    ("cell", {"form": "map"}, 1.0),
    ("cell", {"form": "map", "clip": (0.0, 1.0), "act": "hard_sigmoid"}, 0.7),
    ("cell", {"form": "flow", "act": "sigmoid"}, 0.5),
    ("cell", {"form": "flow", "clip": (-0.5, 0.5)}, 0.3),
    ("pair", {"act": "hard_sigmoid", "clip": (0.0, 1.0)}, 0.5),
    ("pair", {"act": "hard_sigmoid"}, 0.5),
    ("pair", {"act": "tanh"}, 0.5),
    ("pair", {"act": "relu", "clip": (0.0, 2.0)}, 0.5),
]


def pushing(states: States) -> tuple[torch.Tensor | None, ...]:
    return (*(None for _ in states[:-1]), 0.3 * (1 - states[-1]))


@pytest.mark.parametrize(("kind", "options", "size"), CASES)
@pytest.mark.parametrize("push", [None, pushing])
def test_settling_in_place_is_one_step_after_another(
    systems: Any, kind: str, options: dict[str, Any], size: float, push: Any
) -> None:
    run, _, given = begun(getattr(systems, kind)(**options))
    states = drawn(run, given)
    kept = tuple(s.clone() for s in states)
    found = run.settle(given, states, steps=11, dt=size, damping=size, push=push)
    clip = run.loop.clip
    for mine, theirs in zip(found.states, one_by_one(run, given, states, 11, size, clip, push), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-12)
    before = one_by_one(run, given, states, 10, size, clip, push)
    moved = max(float((a - b).abs().max()) for a, b in zip(found.states, before, strict=True))
    assert abs(float(found.residual) - moved / size) < 1e-9
    assert all(torch.equal(a, b) for a, b in zip(states, kept, strict=True))
    names = frozenset(n for n in run.states[-1:] if push)
    assert static_source(run.root, run.loop, run.outer, names, clip, size == 1.0) is not None


@pytest.mark.parametrize(("kind", "options", "size"), CASES)
def test_a_system_settles_to_what_the_network_gives(
    systems: Any, kind: str, options: dict[str, Any], size: float
) -> None:
    graph = getattr(systems, kind)(**options)
    run, net, given = begun(graph)
    options = {"fixed_point": "damping", "euler": "dt"}
    own = graph.root.body[0].solver.options
    found = run.settle(given, run.start(given))
    assert found.steps == own["steps"] and options[graph.root.body[0].solver.name] in own
    torch.testing.assert_close(run.readout(given, found.states)[0], net(X))


def test_within_the_clip_a_hard_sigmoid_is_left_out(systems: Any) -> None:
    run = system(systems.pair(clip=(0.0, 1.0)))
    text = static_source(run.root, run.loop, run.outer, frozenset(), (0.0, 1.0), False)
    assert text is not None
    assert text.count("addmm") == 2 and "torch.clamp" not in text and ">=" not in text
    outside = static_source(run.root, run.loop, run.outer, frozenset(), (0.0, 2.0), False)
    assert outside is not None and "torch.clamp" in outside


class Syncs(TorchDispatchMode):
    """Counts the operations that wait for a number on the host."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def test_a_phase_waits_for_the_device_only_where_there_is_a_tolerance(systems: Any) -> None:
    run, _, given = begun(systems.pair(clip=(0.0, 1.0)))
    states = run.start(given)
    run.settle(given, states, steps=3, push=pushing)
    with Syncs() as syncs:
        run.settle(given, states, steps=40, push=pushing)
    assert syncs.count == 0
    with Syncs() as syncs:
        found = run.settle(given, states, steps=400, tolerance=1e-9, push=pushing)
    assert syncs.count == found.steps // 10 < 40 and found.residual <= 1e-9


def test_sums_over_the_steps(systems: Any) -> None:
    run, _, given = begun(systems.pair(clip=(0.0, 1.0)))
    states = drawn(run, given, 0.0, 1.0)
    found = run.settle(given, states, steps=5, dt=0.3, sums=lambda a, b: (b[0] - a[0], a[1] * 1.0))
    torch.testing.assert_close(found.sums[0], found.states[0] - states[0])
    total = sum(one_by_one(run, given, states, n, 0.3, (0.0, 1.0))[1] for n in range(5))
    torch.testing.assert_close(found.sums[1], total)


def test_jacobians_of_a_step(systems: Any) -> None:
    run, net, given = begun(systems.pair(act="tanh"))
    states = drawn(run, given)
    u, v = drawn(run, given, -1, 0), drawn(run, given, 0, 2)
    pulled, pushed = run.vjp(given, states, u), run.jvp(given, states, v)
    left = sum(float((a * b).sum()) for a, b in zip(pulled, v, strict=True))
    right = sum(float((a * b).sum()) for a, b in zip(u, pushed, strict=True))
    assert abs(left - right) < 1e-12
    step = 1e-6
    there, here = (
        run.step(given, tuple(s + sign * step * t for s, t in zip(states, v, strict=True)))
        for sign in (1, -1)
    )
    for a, b, c in zip(there, here, pushed, strict=True):
        torch.testing.assert_close((a - b) / (2 * step), c, rtol=1e-7, atol=1e-8)
    found = run.weight_vjp(given.weights, (X,), states, u)
    weights = {k: w.clone().requires_grad_() for k, w in given.weights.items()}
    values = run.step(run.begin(weights, X), states)
    torch.autograd.backward(values, u)
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight.grad)
    assert set(found) == {name for name, _ in net.named_parameters()}


def test_complex_states(systems: Any) -> None:
    """A holomorphic step: its slope along an imaginary direction is i times that along the real one."""
    run, _, given = begun(systems.pair(act="tanh"))
    given = run.begin({k: w.to(torch.complex128) for k, w in given.weights.items()}, X.to(torch.complex128))
    states = tuple(s.to(torch.complex128) for s in drawn(run, given))
    step = 1e-6
    base = run.step(given, states)
    real, imaginary = (
        [
            (a - b) / step
            for a, b in zip(run.step(given, (states[0] + d * step, states[1])), base, strict=True)
        ]
        for d in (1.0, 1.0j)
    )
    for a, b in zip(real, imaginary, strict=True):
        torch.testing.assert_close(1.0j * a, b, rtol=1e-5, atol=1e-5)
    found = run.settle(given, states, steps=9, dt=0.3)
    expected = one_by_one(run, given, states, 9, 0.3, None)
    torch.testing.assert_close(found.states[0], expected[0])


def test_what_arrives_and_what_leaves_over_the_connections(systems: Any) -> None:
    graph = systems.pair(act="tanh")
    (loop,) = graph.root.body
    up = next(s for s in loop.body if s.outputs == ("up",))
    connection = Connection(
        child="up", sources=("h",), targets=("o",), both=True, taken=up.inputs[0], given="up"
    )
    graph = graph.replace(root=graph.root.replace(body=(loop.replace(connections=(connection,)),)))
    run, net, given = begun(graph)
    h, o = drawn(run, given)
    w = net.up.weight.detach()
    for found in (run.incoming(given, (h, o)), run.outgoing(given, (h, o))):
        torch.testing.assert_close(found[0], o @ w)
        torch.testing.assert_close(found[1], h @ w.T)
    one_way = connection.replace(both=False)
    graph = graph.replace(root=graph.root.replace(body=(loop.replace(connections=(one_way,)),)))
    run, net, given = begun(graph)
    assert not run.incoming(given, (h, o))[0].any() and not run.outgoing(given, (h, o))[1].any()
    torch.testing.assert_close(run.incoming(given, (h, o))[1], h @ w.T)
    torch.testing.assert_close(run.outgoing(given, (h, o))[0], o @ w)


def test_values_of_the_body(systems: Any) -> None:
    run, net, given = begun(systems.pair(act="tanh"))
    h, o = drawn(run, given)
    found = run.values(given, (h, o))
    torch.testing.assert_close(found["up"], net.up(torch.tanh(h)))
    torch.testing.assert_close(found["drive_h"], net.feed(X) + torch.tanh(o) @ net.up.weight)


def test_a_recorded_step_serves_other_weights_inputs_and_states(systems: Any) -> None:
    """What a GPU replays, with a recording that runs the step itself: memory is the recording's own."""
    run, _, given = begun(systems.pair(clip=(0.0, 1.0)))
    recorded: list[Any] = []

    def record(advance: Any) -> Any:
        recorded.append(advance)
        return advance

    plain = [run.settle(given, drawn(run, given), steps=9)]
    other = run.begin({k: 0.5 * w for k, w in given.weights.items()}, 2 * X)
    plain.append(run.settle(other, run.start(other), steps=4))
    run.record = record
    first = run.settle(given, drawn(run, given), steps=9)
    kept = tuple(s.clone() for s in first.states)
    second = run.settle(other, run.start(other), steps=4)
    assert len(recorded) == 1
    assert all(torch.equal(a, b) for a, b in zip(first.states, kept, strict=True))
    for mine, theirs in zip((first, second), plain, strict=True):
        for a, b in zip(mine.states, theirs.states, strict=True):
            assert torch.equal(a, b)
        assert torch.equal(mine.residual, theirs.residual)
    pushed = run.settle(given, drawn(run, given), steps=3, push=pushing)
    assert len(recorded) == 1 and pushed.steps == 3  # what Python adds to a step is not recorded


BIASED = """
use library.dynamics
network biased {
  input  x: real[4]
  state  h: real[3]
  state  o: real[2]
  connect x -> h as feed
  connect h <-> o as up
  dynamics leaky(hard_sigmoid, solve = euler(dt = 0.5, steps = 20), clip = [0, 1])
  output y = o
}
"""


def test_sums_that_no_step_changes_are_made_anew_for_each_recorded_phase() -> None:
    """The drive of inputs and the bias are added once a phase: of other weights and inputs they are another sum."""
    import nnspec

    graph = nnspec.load(BIASED).network().graph
    (plain, recorded), found = (system(graph), system(graph)), []
    recorded.record = lambda advance: advance
    for seed in range(3):
        torch.manual_seed(seed)
        state = {name: torch.randn_like(t) for name, t in module(graph).double().state_dict().items()}
        for run in (plain, recorded):
            given = run.begin(run.weights(state), X * seed)
            found.append(run.settle(given, run.start(given)).states)
    for theirs, mine in zip(found[::2], found[1::2], strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))


def test_an_input_may_be_read_again_behind_the_loop(build: Any) -> None:
    graph = build("""
use library.dynamics
network n {
  input  x: real[4]
  state  h: real[3]
  connect x -> h as feed
  connect h -> h as rec
  dynamics rate(tanh, solve = fixed_point(steps = 5, tolerance = 0))
  output y = (h -> dense(2) as out) + (x -> dense(2, bias = false) as past)
}
""")
    net = module(graph).double()
    weights = dict(net.named_parameters())
    h = torch.zeros(5, 3, dtype=torch.float64)
    for _ in range(5):
        h = torch.tanh(X @ weights["feed.weight"].T + h @ weights["rec.weight"].T + weights["h.bias"])
    wanted = h @ weights["out.weight"].T + weights["out.bias"] + X @ weights["past.weight"].T
    assert torch.allclose(net(X), wanted, atol=1e-12)
