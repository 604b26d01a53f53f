"""What the laws of constraints are tried on: uses of every registered constraint, on weights of these shapes.

A constraint that is registered must stand here; its first use must fit a square matrix.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.constraints.registry import constraints
from nnspec.compiler.emit.load import code_function, effective_weight
from nnspec.compiler.ir import Graph, Primitive, Weight, WeightMap
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

Uses = tuple[tuple[str, tuple[int, ...]], ...]

SQUARE, TALL, WIDE, KERNEL = (5, 5), (6, 3), (3, 6), (4, 2, 3, 3)

USES: dict[str, Uses] = {
    "binary": (
        ("binary", SQUARE),
        ("binary(clip = none)", KERNEL),
        ('binary(scale = "tensor")', TALL),
        ('binary(scale = "channel")', KERNEL),
        ('binary(scale = "tensor", learned = true)', KERNEL),
        ('binary(scale = "channel", learned = true)', WIDE),
    ),
    "ternary": (
        ("ternary", SQUARE),
        ("ternary(threshold = 0.7, relative = true, clip = none)", WIDE),
        ('ternary(threshold = 0.7, relative = true, scale = "tensor")', TALL),
        ('ternary(threshold = 0.7, relative = true, scale = "channel")', KERNEL),
        ('ternary(threshold = 0.7, relative = true, scale = "channel", learned = true)', WIDE),
    ),
    "quantize": (
        ("quantize(bits = 4)", SQUARE),
        ('quantize(bits = 2, scale = "channel")', TALL),
        ('quantize(bits = 3, scale = "channel", learned = true)', WIDE),
        ("quantize(bits = 8, learned = true)", KERNEL),
    ),
    "values": (
        ("values([-1, 0.5, 2])", SQUARE),
        ("values([2, -2, 0, 0], clip = 0.5)", KERNEL),
    ),
    "orthogonal": tuple(
        (f'orthogonal(map = "{name}")', shape)
        for name in ("cayley", "exponential")
        for shape in (SQUARE, TALL, WIDE, KERNEL, (4, 1, 2, 2))
    ),
    "spectral": (("spectral(bound = 1.5)", SQUARE), ("spectral", WIDE), ("spectral(bound = 0.5)", KERNEL)),
    "normalized": (
        ("normalized", SQUARE),
        ('normalized(axis = "columns")', TALL),
        ("normalized", KERNEL),
        ('normalized(axis = "columns")', KERNEL),
    ),
    "low_rank": (
        ("low_rank(2)", SQUARE),
        ("low_rank(1)", TALL),
        ("low_rank(2)", WIDE),
        ("low_rank(2)", KERNEL),
    ),
    "symmetric": (("symmetric", SQUARE), ("symmetric(diagonal = false)", SQUARE)),
    "skew": (("skew", SQUARE),),
    "psd": (("psd", SQUARE), ("psd(rank = 2)", SQUARE)),
    "circulant": (("circulant", SQUARE), ("circulant", (4, 4))),
    "toeplitz": (("toeplitz", SQUARE), ("toeplitz", TALL), ("toeplitz", WIDE)),
    "nonnegative": (("nonnegative", SQUARE), ("nonnegative", KERNEL)),
    "box": (("box(-0.2, 0.3)", SQUARE), ("box(0.1, 0.2)", KERNEL)),
    "max_norm": (
        ("max_norm(0.5)", SQUARE),
        ('max_norm(0.4, axis = "columns")', TALL),
        ('max_norm(1, axis = "all")', WIDE),
        ("max_norm(0.2)", KERNEL),
        ('max_norm(0.2, axis = "columns")', KERNEL),
    ),
    "simplex": (
        ("simplex", SQUARE),
        ('simplex(axis = "columns")', TALL),
        ('simplex(axis = "all")', WIDE),
        ("simplex", KERNEL),
        ('simplex(axis = "columns")', KERNEL),
    ),
    "l1": (("l1(0.1)", SQUARE), ("l1(0.1)", KERNEL)),
    "l2": (("l2(0.1)", SQUARE), ("l2(0.1)", KERNEL)),
    "near_identity": (("near_identity(0.1)", SQUARE),),
    "group_lasso": (
        ("group_lasso(0.1)", SQUARE),
        ('group_lasso(0.1, group = "input")', TALL),
        ('group_lasso(0.1, group = "block", block = [1, 2])', WIDE),
        ('group_lasso(0.1, group = "block", block = [2, 1])', KERNEL),
        ('group_lasso(0.1, group = "layer")', KERNEL),
    ),
    "equivariant": (
        ("equivariant([[1, 0, 2, 4, 3]])", SQUARE),
        ("equivariant(cyclic(3))", TALL),
        ("equivariant(reflection(3))", WIDE),
    ),
    "sparse": (
        ("sparse(0.3)", SQUARE),
        ("sparse(0.5)", KERNEL),
        ('sparse(0.4, pattern = "fan_in")', WIDE),
        ('sparse(0.5, pattern = "fan_in")', KERNEL),
        ('sparse(0.5, pattern = "blocks", block = 3)', (3, 6)),
        ('sparse(pattern = "n_of_m", n = 1, m = 3)', TALL),
    ),
    "mask": (
        ("mask((i, j) => abs(i - j) <= 1)", SQUARE),
        ("mask((i, j) => i % 2 == j // 2 or i == 2)", TALL),
        ("mask((o, i) => o >= i)", KERNEL),
        ("mask((o, i, r, c) => r == 1 or c == 1)", KERNEL),
    ),
    "locally_connected": (
        ("locally_connected(3)", SQUARE),
        ("locally_connected(1)", WIDE),
        ("locally_connected([1, 2], inputs = [2, 2], outputs = [3, 1])", (6, 4)),
    ),
    "kst": (('kst("outer", terms = 5)', SQUARE), ('kst("inner", terms = 2)', TALL), ('kst("outer")', WIDE)),
    "frozen": (("frozen", SQUARE),),
}

# Those that say nothing of a weight by itself.
WITHOUT_LAWS = {
    "tied": "the weight is another instance's",
    "shared_with": "the weight is another instance's",
}


def typed(text: str) -> Graph:
    """Return the one network of a spec."""
    bag = Bag()
    checked = check(Source("case.nnspec", text), bag)
    assert not bag.failed, [repr(error) for error in bag]
    graph = checked.graph(checked.networks()[0], {})
    assert graph is not None
    return graph


@dataclass
class Case:
    """A constraint in use: the network of one layer whose weight it is laid on."""

    written: str
    shape: tuple[int, ...]
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    @cached_property
    def graph(self) -> Graph:
        rows, columns, *kernel = self.shape
        layer = (
            f"conv2d({rows}, kernel = {kernel[0]}, bias = false)"
            if kernel
            else f"dense({rows}, bias = false)"
        )
        taken = f"real[{columns}, 5, 5]" if kernel else f"real[{columns}]"
        text = f"network n {{\n  input x: {taken}\n  output y = x -> {layer} as f\n  constrain f.weight: {self.written}\n}}\n"
        return typed(text)

    @property
    def primitive(self) -> Primitive:
        found = self.graph.root.child("f").instances[0]
        assert isinstance(found, Primitive)
        return found

    @property
    def weight(self) -> Weight:
        return next(weight for weight in self.primitive.weights if weight.name == "weight")

    @property
    def laid(self) -> tuple[tuple[Constraint, WeightSite], ...]:
        """The constraints in canonical order, with their arguments."""
        return tuple(
            (laid.rule, WeightSite(name="weight", shape=self.shape, options=dict(laid.options)))
            for laid in self.primitive.constraints
        )

    @property
    def rule(self) -> Constraint:
        return self.laid[0][0]

    @property
    def site(self) -> WeightSite:
        return self.laid[0][1]

    @property
    def map(self) -> WeightMap | None:
        return next(iter(self.weight.maps), None)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*(shape or self.shape), generator=self.generator, dtype=torch.float64)

    def begin(self, weight: Tensor) -> dict[str, Tensor]:
        """Return what is stored when the weight has been initialised as `weight`, by names of tensors."""
        state = {"weight": weight}
        for item in self.weight.maps:
            if item.start is None:
                assert not item.stored
                continue
            started = code_function(item.start)(self.so_far(item, state))
            found = started if isinstance(started, tuple) else (started,)
            state |= {t.name: value for t, value in zip(item.stored, found, strict=True)}
        return {tensor.name: state[tensor.name] for tensor in self.weight.stored}

    def so_far(self, item: WeightMap, state: Mapping[str, Tensor]) -> Tensor:
        """Return the weight as the maps before one of them leave it."""
        before = self.weight.maps[: self.weight.maps.index(item)]
        return _effective(self.weight.replace(maps=before), state)

    def effective(self, stored: Mapping[str, Tensor]) -> Tensor:
        return _effective(self.weight, stored)

    def learned(self, stored: Mapping[str, Tensor]) -> list[str]:
        buffers = {t.name for t in self.weight.stored if t.kind == "buffer"}
        return [name for name in stored if name not in buffers]

    def kept(self, stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the buffers as a constraint is given them."""
        buffers = {t.name for t in self.weight.stored if t.kind == "buffer"}
        return {name.removeprefix("weight_"): stored[name] for name in stored if name in buffers}

    def moved(self, stored: Mapping[str, Tensor], size: float = 0.5) -> dict[str, Tensor]:
        """Return stored tensors after a random step."""
        steps = {name: size * self.normal(*stored[name].shape) for name in self.learned(stored)}
        return {name: value + steps[name] if name in steps else value for name, value in stored.items()}


def _effective(weight: Weight, stored: Mapping[str, Tensor]) -> Tensor:
    return effective_weight(weight, "f", {f"f.{name}": value for name, value in stored.items()})


def every_case() -> list[Case]:
    return [Case(written, shape) for uses in USES.values() for written, shape in uses]


def names() -> set[str]:
    return {rule.name for rule in constraints()}
