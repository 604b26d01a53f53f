"""`units`: each function acts on its share of the last axis, and only units of one kind change places."""

from __future__ import annotations

from collections.abc import Callable
from math import factorial
from typing import Any

import torch

from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.verify import verify

Build = Callable[..., Graph]


def net(kinds: str, size: str) -> str:
    return f"activation cube {{ x => x ^ 3 }}\nnetwork n {{\n  input x: real[{size}]\n  output y = x -> units([{kinds}])\n}}\n"


def test_each_function_takes_its_share(build: Build) -> None:
    graph = verify(build(net("sin, square, identity * 4, product * 2, cube, 2 * leaky_relu(0.5)", "3, 13")))
    x = torch.randn(5, 3, 13)
    expected = torch.cat(
        [
            x[..., :1].sin(),
            x[..., 1:2] ** 2,
            x[..., 2:6],
            x[..., 6:8] * x[..., 8:10],
            x[..., 10:11] ** 3,
            torch.where(x[..., 11:] > 0, x[..., 11:], x[..., 11:] / 2),
        ],
        -1,
    )
    assert torch.allclose(module(graph)(x), expected)
    assert torch.equal(module(graph)(x), function(graph)({}, x))
    assert "x.split([1, 1, 4, 4, 1, 2], dim=-1)" in emit(graph)


def test_one_kind(build: Build) -> None:
    x = torch.randn(5, 4)
    assert torch.equal(module(build(net("tanh * 4", "4")))(x), x.tanh())


def test_only_units_of_one_kind_change_places(build: Build) -> None:
    text = """network n {
  input  x: real[3]
  output y = x -> dense(9) -> units([tanh * 4, cos * 3, softplus * 2]) -> dense(2)
}"""
    group = symmetry_group(build(text))
    # tanh is odd, cos is even: a sign for each of these units.
    assert group.order == factorial(4) * 2**4 * factorial(3) * 2**3 * factorial(2)


def test_misuse(refuse: Callable[[str], list[Any]]) -> None:
    cases = {
        ("sin, square", "3"): ("N0401", "units"),
        ("softmax, sin", "2"): ("N0320", "softmax"),
        ("dense(3), sin", "4"): ("N0320", "dense"),
        ("sin * 0", "1"): ("N0320", "0"),
        ("sin * 1.5", "1"): ("N0320", "1.5"),
        ("3", "3"): ("N0320", "3"),
        ("", "3"): ("N0320", "empty"),
        ("sin(x)", "3"): ("N0320", "tensor"),
        ("product", "3"): ("N0401", "units"),
    }
    for (kinds, size), (code, word) in cases.items():
        errors = refuse(net(kinds, size))
        assert [error.code for error in errors] == [code], (kinds, [(e.code, e.message) for e in errors])
        assert word in errors[0].message, (kinds, errors[0].message)
