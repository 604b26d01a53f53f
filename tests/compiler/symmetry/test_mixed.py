"""Random networks over many operations: what is derived is always a subgroup.

Norms, gates, joins, reshapes, ties, shared layers and constraints in any order. Generators leave outputs as
they are, the dimension is at most the Jacobian's nullity, and equal to it where exactness is claimed.
"""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group

SMOOTH = ("tanh", "gelu", "sigmoid", "softplus", "silu", "sin", "cos", "square")
KINKED = ("relu", "leaky_relu", "abs", "elu", "hard_sigmoid")
NORMS = ("layernorm", "layernorm(affine = false)", "rmsnorm", "rmsnorm(affine = false)", "batchnorm")
ALONG = ("softmax", "log_softmax", "identity")
ACTIVATIONS = SMOOTH + KINKED + NORMS + ALONG

CONSTRAINTS = """
constraint squared { w => w * abs(w) }
constraint ternary(t: real = 0.05) {
  w => sign(w) * (abs(w) > t)
  gradient straight_through(clip = 1.0)
}
"""


class Writer:
    """Writes one network, line by line."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        width = self.draw.randint(2, 5)
        self.input = f"input x: real[{width}]"
        self.shared: list[str] = []
        self.lines: list[str] = []
        self.constraints: list[str] = []
        self.values = [("x", width)]

    def dense(self, width: int) -> str:
        return f"dense({width})" if self.draw.random() < 0.6 else f"dense({width}, bias = false)"

    def step(self, number: int) -> None:
        """Write a line that makes `v1`, `v2`, .. from a value made before."""
        d = self.draw
        value, width = self.values[-1] if d.random() < 0.7 else d.choice(self.values)
        out, f = d.randint(2, 5), d.choice(ACTIVATIONS)
        name = f"v{number}"
        kind = d.choice(sorted(KINDS))
        text, size = KINDS[kind](self, value, width, out, f, number)
        self.lines.append(f"{name} = {text}")
        self.values.append((name, size))

    def spec(self) -> str:
        for number in range(1, self.draw.randint(2, 5) + 1):
            self.step(number)
        end = self.draw.choice(["", "", " -> softmax"])
        self.lines.append(f"output y = {self.values[-1][0]} -> {self.dense(self.draw.randint(1, 4))}{end}")
        body = "\n  ".join([self.input, *self.shared, *self.lines, *self.constraints])
        return f"{CONSTRAINTS}\nnetwork n {{\n  {body}\n}}\n"

    def share(self, number: int, width: int) -> str:
        self.shared.append(f"shared s{number} = {self.dense(width)}")
        return f"s{number}"

    def constrain(self, path: str, constraint: str) -> None:
        self.constraints.append(f"constrain {path}.weight: {constraint}")


Made = tuple[str, int]


def _dense(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    return f"{v} -> {w.dense(m)} -> {f}", m


def _residual(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    return f"{v} + ({v} -> {w.dense(m)} -> {f} -> {w.dense(n)})", n


def _normed(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    norm = w.draw.choice(NORMS)
    return f"{v} + ({v} -> {norm} -> {w.dense(m)} -> {f} -> {w.dense(n)})", n


def _gate(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    return f"({v} -> {w.dense(m)} -> {f}) * ({v} -> {w.dense(m)})", m


def _join(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    other, size = w.draw.choice(w.values)
    return f"concat({v}, {other})", n + size


def _shared(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    name = w.share(k, n)
    return f"{v} -> {name} -> {f} -> {name}", n


def _tied(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    w.constrain(f"d{k}", f"tied(e{k}.weight, transpose = true)")
    return f"{v} -> {w.dense(m)} as e{k} -> {f} -> {w.dense(n)} as d{k}", n


def _constrained(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    w.constrain(f"b{k}", w.draw.choice(["binary", "squared", "ternary"]))
    return f"{v} -> {w.dense(m)} as b{k} -> {f}", m


def _constant(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    form = w.draw.choice(["2 * {}", "{} + 1", "1 - {}", "-{}", "{} / 3", "{} ^ 2"])
    return form.format(v), n


def _blocks(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    inner = w.draw.choice(["tanh", "relu", "identity", "permute([1, 0])"])
    return f"{v} -> {w.dense(6)} -> reshape([2, 3]) -> {inner} -> flatten", 6


def _mixed(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    end = w.draw.choice(["mean(axis = 0)", "sum(axis = 0)"])
    plain = w.draw.choice(SMOOTH + KINKED)
    return f"{v} -> {w.dense(6)} -> reshape([2, 3]) -> {w.dense(m)} -> {plain} -> {end}", m


def _difference(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    return f"({v} -> {w.dense(m)}) - ({v} -> {w.dense(m)} -> {f})", m


def _slice(w: Writer, v: str, n: int, m: int, f: str, k: int) -> Made:
    return f"{v}[0..{max(0, n - 2)}]", max(1, n - 1)


KINDS: dict[str, Callable[[Writer, str, int, int, str, int], Made]] = {
    "dense": _dense,
    "residual": _residual,
    "normed": _normed,
    "gate": _gate,
    "join": _join,
    "shared": _shared,
    "tied": _tied,
    "constrained": _constrained,
    "constant": _constant,
    "blocks": _blocks,
    "mixed": _mixed,
    "difference": _difference,
    "slice": _slice,
}


@pytest.mark.parametrize("start", range(0, 160, 20))
def test_what_is_derived_is_a_subgroup(build: Callable[..., Graph], start: int) -> None:
    from nnspec.compiler.symmetry.guards import verify_group

    for seed in range(start, start + 20):
        text = Writer(seed).spec()
        graph = build(text)
        group = symmetry_group(graph)
        assert min(group.families.values()) >= 0, text
        verified = [verify_group(graph, group, seed)]
        assert verified[0].max_output_error < 1e-9, text
        while group.is_exact and verified[-1].nullity != group.continuous_dimension and len(verified) < 6:
            verified.append(verify_group(graph, group, seed + 1000 * len(verified)))
        nullity = min(item.nullity for item in verified)
        assert group.continuous_dimension <= nullity, text
        assert group.continuous_dimension == nullity or not group.is_exact, text
