"""Reused variables never hide a value that is still needed: random graphs against a naive evaluation."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from nnspec.compiler.emit.load import function, module

WIDTH = 3
UNARY = {"sin": torch.sin, "cos": torch.cos, "tanh": torch.tanh, "identity": lambda x: x}
BINARY = {"add": torch.add, "multiply": torch.mul, "subtract": torch.sub}
NAMES = ["x", "y", "z", "u", "x_2", "layer", "index", "dtype", "h", "class", "F"]


def cell(hand: Any) -> Any:
    """A block of two inputs and two outputs: (a, b) -> (b, sin(a) + b)."""
    b = hand.network("cell", inline=True)
    left, right = b.input("a", (WIDTH,)), b.input("b", (WIDTH,))
    b.output("b", right)
    b.output("a", b.op("add", b.op("sin", left), right))
    return b.block()


@pytest.mark.parametrize("seed", range(150))
def test_random_graphs(seed: int, hand: Any) -> None:
    draw = random.Random(seed)
    b = hand.network("graph")
    names = draw.sample(NAMES, 8)
    known: dict[str, torch.Tensor] = {}
    for _ in range(draw.randint(1, 3)):
        name = names.pop()
        known[b.input(name, (WIDTH,))] = torch.randn(2, WIDTH)
    inputs = list(known.values())

    def name() -> str | None:
        return names.pop() if names and draw.random() < 0.4 else None

    for step in range(draw.randint(3, 12)):
        kind = draw.choice(["unary", "binary", "split", "where", "repeat"])
        one, two = draw.choice(list(known)), draw.choice(list(known))
        if kind == "unary":
            which = draw.choice(list(UNARY))
            known[b.op(which, one, to=name())] = UNARY[which](known[one])
        elif kind == "binary":
            which = draw.choice(list(BINARY))
            known[b.op(which, one, two, to=name())] = BINARY[which](known[one], known[two])
        elif kind == "split":
            both = b.op("concat", one, two)
            left, right = b.op("split", both, parts=2, outs=2, to=(name(), name()))
            known[left], known[right] = known[one], known[two]
        elif kind == "where":
            above = b.op("greater", one, constant=0.1)
            chosen = b.op("where", above, then=1, otherwise=-1, to=name())
            known[chosen] = torch.where(known[one] > 0.1, 1.0, -1.0)
        else:
            block = cell(hand)
            b.add(f"cells_{step}", *[block] * draw.randint(1, 3), repeated=True)
            count = len(b.children[-1].instances)
            left, right = b.call(f"cells_{step}", one, two, outs=2, to=(name(), name()))
            p, q = known[one], known[two]
            for _ in range(count):
                p, q = q, torch.sin(p) + q
            known[left], known[right] = p, q
    chosen = draw.sample(list(known), min(len(known), draw.randint(1, 3)))
    for place, value in enumerate(chosen):
        b.output(f"out_{place}", value)
    graph = b.graph()
    found = module(graph)(*inputs)
    pure = function(graph)({}, *inputs)
    results = [found] if len(chosen) == 1 else list(found)
    again = [pure] if len(chosen) == 1 else list(pure)
    for value, ours, theirs in zip(chosen, results, again, strict=True):
        assert torch.allclose(ours, known[value], atol=1e-6) and torch.equal(ours, theirs), value
