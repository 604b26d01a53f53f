"""What masks cut off, against products of matrices of truth values and against gradients."""

from __future__ import annotations

from collections.abc import Callable

import numpy
import pytest
import torch

from nnspec.compiler.emit.load import module
from nnspec.compiler.ir import Graph
from nnspec.compiler.reach import reach

Build = Callable[..., Graph]


def bits(units: int, size: int) -> list[bool]:
    return [bool(units >> number & 1) for number in range(size)]


@pytest.mark.parametrize("seed", range(20))
def test_in_a_chain_it_is_the_product_of_the_masks(build: Build, seed: int) -> None:
    random = numpy.random.default_rng(seed)
    sizes = (7, 6, 8, 5)
    numbers = [tuple(int(n) for n in random.integers(0, 5, 4)) for _ in sizes[1:]]
    layers = " -> ".join(f"dense({n})" for n in sizes[1:])
    names = ("dense", "dense_2", "dense_3")
    lines = [
        f"constrain {name}.weight: mask((i, j) => ({a} * i + {b} * j + {c} * i * j + {d}) % 7 <= {1 + seed % 2})"
        for name, (a, b, c, d) in zip(names, numbers, strict=True)
    ]
    masks = [
        (a * i + b * j + c * i * j + d) % 7 <= 1 + seed % 2
        for (a, b, c, d), m, n in zip(numbers, sizes[1:], sizes[:-1], strict=True)
        for i, j in [numpy.indices((m, n))]
    ]
    if not all(mask.any() for mask in masks):
        return
    spec = f"network n {{\n  input x: real[7]\n  output y = x -> {layers}\n  " + "\n  ".join(lines) + "\n}"
    found = reach(build(spec))
    assert found is not None
    alive, wanted = [numpy.ones(7, bool)], [numpy.ones(5, bool)]
    for mask in masks:
        alive.append(mask @ alive[-1])
    for mask in reversed(masks):
        wanted.insert(0, mask.T @ wanted[0])
    assert found.connected == alive[-1].any()
    if not found.connected:
        return
    for place, crossing in enumerate(found.crossings):
        assert bits(crossing.arriving, sizes[place]) == alive[place].tolist()
        assert bits(crossing.leaving, sizes[place + 1]) == alive[place + 1].tolist()
        assert bits(crossing.wanted, sizes[place + 1]) == wanted[place + 1].tolist()
        assert bits(crossing.read, sizes[place]) == wanted[place].tolist()
        assert crossing.hidden == (place > 0)


IMAGES = """
network n {
  input  image: real[2, 4, 4]
  output y = image -> conv2d(4, kernel = 3, padding = "same") -> flatten -> dense(6) -> tanh -> dense(3)
  constrain conv2d.weight: mask((o, i) => o < 2 and i == 0)
  constrain dense.weight: mask((i, j) => j // 16 >= 1 + i % 3)
}
"""

JOINED = """
network n {
  input  x: real[6]
  h = x -> dense(4)
  g = x -> dense(4)
  joined = concat(h, g)
  output y = joined[2..6] -> tanh -> dense(4)
  constrain dense.weight: mask((i, j) => i < 3)
  constrain dense_2.weight: mask((i, j) => i == 1 or i == 3)
  constrain dense_3.weight: mask((i, j) => i == j)
}
"""


@pytest.mark.parametrize("spec", [IMAGES, JOINED])
def test_what_is_cut_off_has_no_gradient(build: Build, spec: str) -> None:
    graph = build(spec)
    found = reach(graph)
    assert found is not None and found.connected
    net = module(graph).double()
    for parameter in net.parameters():
        torch.nn.init.uniform_(parameter, 0.01, 0.05)
    seen: dict[str, torch.Tensor] = {}
    for name, layer in net.named_children():
        layer.bias.register_hook(lambda gradient, name=name: seen.setdefault(name, gradient))
    shape = graph.root.types[0][1].shape
    x = torch.rand(1, *shape, dtype=torch.float64)
    net(x).sum().backward()
    for crossing in found.crossings:  # an output depends on a unit just if it does on the unit's bias
        assert bits(crossing.wanted, len(crossing.rows)) == (seen[crossing.path] != 0).tolist()
    assert {c.path: bits(c.leaving, len(c.rows)) for c in found.crossings} == ALIVE[len(found.crossings)]


# Units of the layers that depend on an input, by hand.
ALIVE = {
    2: {"conv2d": [True, True, False, False], "dense": [True, False, False, True, False, False]},
    3: {
        "dense": [True, True, True, False],
        "dense_2": [False, True, False, True],
        "dense_3": [True, False, False, True],
    },
}
