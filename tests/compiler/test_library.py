"""The standard library: every definition against torch or against its formula, and `use library.NAME`."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.compiler.verify import verify
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.format import format
from nnspec.dsl.load import load_source
from nnspec.dsl.parse import parse
from nnspec.dsl.standard import defined, parts

Build = Callable[..., Graph]


def spec(steps: str, shape: str = "8", use: str = "use library.activations\nuse library.blocks\n") -> str:
    return f"{use}network n {{\n  input  x: real[{shape}]\n  output y = x -> {steps}\n}}\n"


# name: (as written in a step, by hand); every activation of the library has an entry.
ACTIVATIONS: dict[str, tuple[str, Any]] = {
    "swish": ("swish(beta = 2)", lambda x: x * torch.sigmoid(2 * x)),
    "mish": ("mish", F.mish),
    "hard_swish": ("hard_swish", F.hardswish),
    "softsign": ("softsign", F.softsign),
    "squareplus": ("squareplus", lambda x: (x + torch.sqrt(x * x + 4)) / 2),
    "snake": ("snake(3)", lambda x: x + (1 - torch.cos(6 * x)) / 6),
    "selu": ("selu", F.selu),
    "relu_squared": ("relu_squared", lambda x: x.clamp(min=0) ** 2),
    "gaussian": ("gaussian(width = 2)", lambda x: torch.exp(-x * x / 8)),
    "shrink": ("shrink", F.softshrink),
    "prelu": ("prelu(0.3)", lambda x: F.leaky_relu(x, 0.3)),
    "learned_swish": ("learned_swish(2)", lambda x: x * torch.sigmoid(2 * x)),
    "learned_snake": ("learned_snake(frequency = 3)", lambda x: x + (1 - torch.cos(6 * x)) / 6),
    "scaled": ("scaled(tanh, gain = 2, shift = 1)", lambda x: 2 * torch.tanh(x) + 1),
    "hard_tanh": ("hard_tanh(0.7)", lambda x: F.hardtanh(x, -0.7, 0.7)),
}


def test_every_activation_has_a_formula_here() -> None:
    assert {name for name, part in defined().items() if part == "activations"} == {*ACTIVATIONS, "cubic"}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_their_formulas(build: Build, name: str) -> None:
    step, by_hand = ACTIVATIONS[name]
    x = 3 * torch.randn(5, 8, dtype=torch.float64)
    torch.testing.assert_close(module(build(spec(step))).double()(x), by_hand(x))


class Gated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_map = nn.Linear(8, 5)
        self.value_map = nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(self.gate_map(x)) * self.value_map(x)


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.up = nn.Linear(width, hidden)
        self.down = nn.Linear(hidden, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(F.gelu(self.up(x)))


class PreNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(8)
        self.block = FeedForward(8, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(self.norm(x))


class ResidualMLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.pre_norm = PreNorm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pre_norm(x)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.block(x)


class SqueezeExcite(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.squeeze = nn.Linear(8, 2)
        self.excite = nn.Linear(2, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights = torch.sigmoid(self.excite(F.relu(self.squeeze(x.mean((2, 3))))))
        return x * weights[:, :, None, None]


class Highway(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.transform = nn.Linear(8, 8)
        self.block = nn.Linear(8, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        carry = torch.sigmoid(self.transform(x))
        return carry * self.block(x) + (1 - carry) * x


class Edges(nn.Module):
    """Each edge by itself, in loops."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("copies", torch.ones(5, 1))
        self.act = nn.Module()
        self.act.w = nn.Parameter(torch.zeros(5, 8, 3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        weights: Any = self.act.w
        columns = [
            sum(sum(weights[j, i, k] * x[..., i] ** (k + 1) for k in range(3)) for i in range(8))
            for j in range(5)
        ]
        return torch.stack(columns, -1)


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.repeat = nn.ModuleList([self.one() for _ in range(3)])

    @staticmethod
    def one() -> nn.Module:
        made = nn.Module()
        made.block = Residual()
        return made

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for made in self.repeat:
            block: Any = made.block
            x = block(x)
        return x


# name: (as written in a step, a twin, the shape of the input); every block of the library has an entry.
BLOCKS: dict[str, tuple[str, type[nn.Module] | Callable[[], nn.Module], str]] = {
    "residual": ("residual(dense(8))", Residual, "8"),
    "pre_norm": ("pre_norm(feed_forward(16))", PreNorm, "8"),
    "feed_forward": ("feed_forward(16)", lambda: FeedForward(8, 16), "3, 8"),
    "residual_mlp": ("residual_mlp(16)", ResidualMLP, "3, 8"),
    "gated": ("gated(5, gate = silu)", Gated, "3, 8"),
    "squeeze_excite": ("squeeze_excite", SqueezeExcite, "8, 5, 4"),
    "highway": ("highway(dense(8))", Highway, "8"),
    "edges": ("edges(cubic, 5)", Edges, "3, 8"),
    "tower": ("tower(residual(dense(8)), 3)", Tower, "8"),
}


def test_every_block_has_a_twin_here() -> None:
    assert {name for name, part in defined().items() if part == "blocks"} == set(BLOCKS)


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_are_their_twins(build: Build, name: str) -> None:
    step, make, shape = BLOCKS[name]
    graph = verify(build(spec(step, shape)))
    net, twin = module(graph), make()
    own = {key.partition(".")[2]: value for key, value in net.state_dict().items()}
    twin.load_state_dict(own)
    x = torch.randn(4, *map(int, shape.split(",")))
    torch.testing.assert_close(net.eval()(x), twin(x))
    torch.testing.assert_close(function(graph)(dict(net.state_dict()), x), twin(x))


@pytest.mark.parametrize("part", parts())
def test_parts_are_canonical_and_each_definition_says_what_it_is(part: str) -> None:
    bag = Bag()
    source = load_source(parts()[part], bag)
    assert source is not None
    file = parse(source, bag)
    assert not bag.failed and file.doc
    assert format(file) == source.text
    assert all(getattr(item, "doc", None) for item in file.items)
    check(source, bag)
    assert not len(bag)


def test_a_part_under_a_name_and_the_place_of_a_line(build: Build) -> None:
    graph = build(spec("b.gated(3)", use="use library.blocks as b\n"))
    assert re.search(r"self\.gate_map = .*# library\.blocks:\d+\n", emit(graph))


def test_a_library_definition_does_not_hide_one_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.nnspec"
    path.write_text(spec("swish", use="use library.activations\nactivation swish { x => x }\n"))
    bag = Bag()
    source = load_source(path, bag)
    assert source is not None
    check(source, bag)
    assert [error.code for error in bag] == ["N0202"]
