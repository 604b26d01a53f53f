"""Blocks of `library.transformers` against twins written by hand, without any of torch's attention."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from nnspec.compiler.emit.load import function, module
from nnspec.compiler.ir import Graph
from nnspec.compiler.verify import verify
from nnspec.dsl.standard import defined

Build = Callable[..., Graph]


class CausalSelfAttention(nn.Module):
    """As in minGPT (Karpathy, 2020): one map for q, k, v, a mask of minus infinity, a softmax."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.heads = heads

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(x).split(width, dim=2)
        q, k, v = (t.view(batch, length, self.heads, width // self.heads).transpose(1, 2) for t in parts)
        scores = (q @ k.transpose(-2, -1)) * (1.0 / math.sqrt(k.size(-1)))
        allowed = torch.tril(torch.ones(length, length)).view(1, 1, length, length)
        shares = scores.masked_fill(allowed == 0, float("-inf")).softmax(-1)
        return self.out((shares @ v).transpose(1, 2).reshape(batch, length, width))


def gelu_new(x: Tensor) -> Tensor:
    """The activation of GPT-2 as its first code has it."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * torch.pow(x, 3))))


class GPT2Block(nn.Module):
    def __init__(self, width: int, heads: int, ratio: int = 4) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-5)
        self.attention = CausalSelfAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=1e-5)
        self.up = nn.Linear(width, ratio * width)
        self.down = nn.Linear(ratio * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.down(gelu_new(self.up(self.norm2(x))))


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)


def rotated(x: Tensor, base: float = 10000.0) -> Tensor:
    """x [batch, heads, T, d] turned as the code of Llama at Hugging Face does it."""
    width = x.shape[-1]
    frequencies = 1.0 / (base ** (torch.arange(0, width, 2).to(x.dtype) / width))
    angles = torch.outer(torch.arange(x.shape[-2]).to(x.dtype), frequencies)
    angles = torch.cat((angles, angles), dim=-1)
    half = torch.cat((-x[..., width // 2 :], x[..., : width // 2]), dim=-1)
    return x * angles.cos() + half * angles.sin()


class GroupedQueryAttention(nn.Module):
    """As in the code of Llama: keys and values repeated for the heads of their group."""

    def __init__(self, width: int, heads: int, groups: int) -> None:
        super().__init__()
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, groups * (width // heads), bias=False)
        self.v = nn.Linear(width, groups * (width // heads), bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.heads, self.groups = heads, groups

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        d = width // self.heads
        q = rotated(self.q(x).view(batch, length, self.heads, d).transpose(1, 2))
        k = rotated(self.k(x).view(batch, length, self.groups, d).transpose(1, 2))
        v = self.v(x).view(batch, length, self.groups, d).transpose(1, 2)
        k, v = (t.repeat_interleave(self.heads // self.groups, dim=1) for t in (k, v))
        hidden = torch.full((length, length), float("-inf"), dtype=x.dtype).triu(1)
        shares = (q @ k.transpose(2, 3) / math.sqrt(d) + hidden).softmax(-1)
        return self.out((shares @ v).transpose(1, 2).reshape(batch, length, width))


class SwiGLU(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        opening = self.gate(x)
        return self.down(opening * torch.sigmoid(opening) * self.up(x))


class LlamaBlock(nn.Module):
    def __init__(self, width: int, heads: int, groups: int, hidden: int) -> None:
        super().__init__()
        self.norm1 = RMSNorm(width)
        self.attention = GroupedQueryAttention(width, heads, groups)
        self.norm2 = RMSNorm(width)
        self.mlp = SwiGLU(width, hidden)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class LearnedPositions(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(6, 12))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


# name: (as written in a step, its twin); every block of the part has an entry.
TWINS: dict[str, tuple[str, Callable[[], nn.Module]]] = {
    "learned_positions": ("learned_positions", LearnedPositions),
    "causal_self_attention": ("causal_self_attention(3)", lambda: CausalSelfAttention(12, 3)),
    "grouped_query_attention": (
        "grouped_query_attention(6, groups = 3)",
        lambda: GroupedQueryAttention(12, 6, 3),
    ),
    "swiglu": ("swiglu(20)", lambda: SwiGLU(12, 20)),
    "gpt2_block": ("gpt2_block(3)", lambda: GPT2Block(12, 3)),
    "llama_block": ("llama_block(6, groups = 2, hidden = 20)", lambda: LlamaBlock(12, 6, 2, 20)),
}


def spec(step: str) -> str:
    return f"use library.transformers\nnetwork n {{\n  input x: real[6, 12]\n  output y = x -> {step}\n}}\n"


def test_every_block_has_a_twin_here() -> None:
    assert {name for name, part in defined().items() if part == "transformers"} == set(TWINS)


@pytest.mark.parametrize("name", TWINS)
def test_blocks_are_their_twins(build: Build, name: str) -> None:
    step, make = TWINS[name]
    graph = verify(build(spec(step)))
    torch.manual_seed(0)
    net, twin = module(graph).double().eval(), make().double()
    for value in net.state_dict().values():
        value.copy_(torch.randn_like(value))
    twin.load_state_dict({key.partition(".")[2]: value for key, value in net.state_dict().items()})
    x = torch.randn(4, 6, 12, dtype=torch.float64)
    expected = twin(x)
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(function(graph)(dict(net.state_dict()), x), expected)
    for own, theirs in zip(_gradients(net, x), _gradients(twin, x), strict=True):
        torch.testing.assert_close(own, theirs)


def _gradients(net: nn.Module, x: Tensor) -> list[Any]:
    weights = torch.linspace(-1, 1, x.numel(), dtype=x.dtype).view(x.shape)
    net.zero_grad()
    (net(x) * weights).sum().backward()
    return [parameter.grad for parameter in net.parameters()]


@pytest.mark.parametrize("step", ["gpt2_block(3)", "llama_block(6, groups = 2, hidden = 20)"])
def test_no_position_sees_a_later_one(build: Build, step: str) -> None:
    net = module(build(spec(step)))
    x = torch.randn(1, 6, 12)
    jacobian: Any = torch.autograd.functional.jacobian(lambda x: net(x[None])[0], x[0])
    seen = jacobian.abs().amax((1, 3))  # [position of the output, position of the input]
    assert torch.equal(seen > 0, torch.ones(6, 6, dtype=torch.bool).tril())


def test_dropout_stands_on_both_branches(build: Build) -> None:
    net = module(build(spec("gpt2_block(3, rate = 0.5)"))).train()
    assert sum(isinstance(part, nn.Dropout) for part in net.modules()) == 2
    x = torch.randn(2, 6, 12)
    assert not torch.equal(net(x), net(x))
