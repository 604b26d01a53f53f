"""`rearrange`, `reduce` and `einsum` against an index loop and against numpy, on random patterns."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nnspec.compiler.emit.load import function, module
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

Build = Callable[..., Graph]
NAMES = ("a", "b", "batch", "h", "T", "width_2")
REDUCTIONS: dict[str, Callable[[list[float]], float]] = {
    "sum": math.fsum,
    "mean": lambda v: math.fsum(v) / len(v),
    "max": max,
    "min": min,
    "norm": lambda v: math.sqrt(math.fsum(x * x for x in v)),
    "variance": lambda v: math.fsum((x - math.fsum(v) / len(v)) ** 2 for x in v) / len(v),
}
Groups = list[list[str]]


def made(text: str) -> Graph:
    bag = Bag()
    checked = check(Source("test.nnspec", text), bag)
    assert not bag.failed, ([(e.message, e.facts) for e in bag], text)
    graph = checked.graph(checked.networks()[-1])
    assert graph is not None, [(e.message, e.facts) for e in bag]
    return graph


def grouping(draw: st.DrawFn, names: list[str]) -> Groups:
    """Cut a list of names into groups, with an empty group, an axis of size 1, here and there."""
    groups: Groups = []
    left = list(names)
    while left:
        if draw(st.integers(0, 5)) == 0:
            groups.append([])
        take = draw(st.integers(1, min(3, len(left))))
        groups.append(left[:take])
        del left[:take]
    return groups or [[]]


def written(groups: Groups) -> str:
    return " ".join("1" if not g else g[0] if len(g) == 1 else f"({' '.join(g)})" for g in groups)


@st.composite
def patterns(draw: st.DrawFn, reducing: bool = False) -> tuple[Groups, Groups, dict[str, int]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=5, unique=True))
    sizes = {name: draw(st.integers(1, 3)) for name in names}
    kept = draw(st.permutations(names))
    if reducing:
        kept = kept[: draw(st.integers(0, len(kept) - 1))]
    return grouping(draw, names), grouping(draw, list(kept)) if kept else [], sizes


def shape(groups: Groups, sizes: dict[str, int]) -> tuple[int, ...]:
    return tuple(math.prod(sizes[name] for name in group) for group in groups)


def place(groups: Groups, at: dict[str, int], sizes: dict[str, int]) -> tuple[int, ...]:
    """Return the index of an entry: of each group its names in row-major order."""
    found: list[int] = []
    for group in groups:
        index = 0
        for name in group:
            index = index * sizes[name] + at[name]
        found.append(index)
    return tuple(found)


def by_hand(x: Any, left: Groups, right: Groups, sizes: dict[str, int], by: str = "sum") -> Any:
    names = list(sizes)
    collected: dict[tuple[int, ...], list[float]] = {}
    for indices in itertools.product(*(range(sizes[name]) for name in names)):
        at = dict(zip(names, indices, strict=True))
        collected.setdefault(place(right, at, sizes), []).append(float(x[place(left, at, sizes)]))
    out = np.zeros(shape(right, sizes))
    for index, values in collected.items():
        out[index] = REDUCTIONS[by](values)
    return out


def given_sizes(left: Groups, sizes: dict[str, int], hidden: int) -> str:
    """Write the sizes that are needed, leaving out one name a group."""
    needed = [n for g in left if len(g) > 1 for i, n in enumerate(g) if i != hidden % len(g)]
    return "".join(f", {name} = {sizes[name]}" for name in needed)


def agrees(call: str, inputs: dict[str, tuple[int, ...]], expected: Callable[..., Any]) -> None:
    lines = [f"  input {name}: real[{', '.join(map(str, size))}]" for name, size in inputs.items()]
    graph = made("network n {\n" + "\n".join(lines) + f"\n  output out_ = {call}\n}}\n")
    arrays = [torch.randn(2, *size) for size in inputs.values()]
    net = module(graph)
    found = net(*arrays)
    assert tuple(found.shape)[1:] == dict(graph.root.types)[graph.root.outputs[0].value].shape
    for sample in range(2):
        wanted = expected(*(array[sample].numpy() for array in arrays))
        np.testing.assert_allclose(found[sample].numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(found, function(graph)({}, *arrays))


@settings(max_examples=60)
@given(patterns(), st.integers(0, 2))
def test_rearrange(pattern: tuple[Groups, Groups, dict[str, int]], hidden: int) -> None:
    left, right, sizes = pattern
    text = f'x -> rearrange("{written(left)} -> {written(right)}"{given_sizes(left, sizes, hidden)})'
    agrees(text, {"x": shape(left, sizes)}, lambda x: by_hand(x, left, right, sizes))


@settings(max_examples=60)
@given(patterns(reducing=True), st.integers(0, 2), st.sampled_from(sorted(REDUCTIONS)))
def test_reduce(pattern: tuple[Groups, Groups, dict[str, int]], hidden: int, by: str) -> None:
    left, right, sizes = pattern
    text = f'x -> reduce("{written(left)} -> {written(right)}", {by}{given_sizes(left, sizes, hidden)})'
    agrees(text, {"x": shape(left, sizes)}, lambda x: by_hand(x, left, right, sizes, by))


@st.composite
def products(draw: st.DrawFn) -> tuple[list[list[str]], list[str], dict[str, int]]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True))
    terms = draw(
        st.lists(
            st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True), min_size=1, max_size=3
        )
    )
    used = sorted({name for term in terms for name in term})
    out = draw(st.lists(st.sampled_from(used), max_size=3, unique=True))
    return terms, out, {name: draw(st.integers(1, 3)) for name in used}


@settings(max_examples=60)
@given(products())
def test_einsum(product: tuple[list[list[str]], list[str], dict[str, int]]) -> None:
    terms, out, sizes = product
    number = {name: index for index, name in enumerate(sizes)}

    def expected(*arrays: Any) -> Any:
        operands = [p for a, term in zip(arrays, terms, strict=True) for p in (a, [number[n] for n in term])]
        return np.einsum(*operands, [number[n] for n in out])

    pattern = f"{', '.join(' '.join(term) for term in terms)} -> {' '.join(out)}"
    inputs = {f"x{index}": tuple(sizes[n] for n in term) for index, term in enumerate(terms)}
    agrees(f'einsum("{pattern}", {", ".join(inputs)})', inputs, expected)


def test_any_number_of_axes() -> None:
    def turned(x: Any) -> Any:
        return np.moveaxis(x, -1, 0)

    for size in ((4,), (3, 4), (2, 3, 4)):
        agrees('x -> rearrange(".. c -> c ..")', {"x": size}, turned)
        agrees('x -> reduce(".. c -> ..", mean)', {"x": size}, lambda x: x.mean(-1))
    agrees('einsum(".. i, .. i -> ..", x, y)', {"x": (2, 3, 4), "y": (2, 3, 4)}, lambda x, y: (x * y).sum(-1))
    agrees('einsum(".. i, i j -> .. j", x, y)', {"x": (2, 3, 4), "y": (4, 5)}, lambda x, y: x @ y)


def test_symbolic_sizes(build: Build) -> None:
    text = """
layer heads(count: int) {
  input  x: real[T, width]
  output y: real[count, T, width // count] = x -> rearrange("T (h d) -> h T d", h = count)
}
network n {
  input  x: real[T, 12]
  output y: real[T, 12] = x -> heads(3) -> rearrange("h T d -> T (h d)")
}
"""
    graph = build(text)
    x = torch.randn(2, 5, 12)
    assert torch.equal(module(graph)(x), x)
    merged = dict(graph.root.types)["y"].axes[1]
    assert merged.factors == (3, 4)


def test_parameters_have_no_batch(build: Build) -> None:
    text = """
layer mixing(rank: int) {
  input  x: real[T, width]
  parameter core: real[rank, width] = normal
  parameter tilt: real[width * rank] = normal
  low = einsum("T d, r d -> T r", x, core)
  turned = core -> rearrange("r d -> (d r)")
  gram = einsum("r d, s d -> r s", core, core) -> reduce("r s -> r", sum)
  output y = maximum(low, gram) + reduce(maximum(turned, tilt), "(d r) -> r", max, r = rank)
}
network n {
  input  x: real[5, 4]
  output y = x -> mixing(3)
}
"""
    graph = build(text)
    net = module(graph)
    x = torch.randn(2, 5, 4)
    core, tilt = (net.get_parameter(f"mixing.{name}") for name in ("core", "tilt"))
    wide = torch.maximum(core.T.reshape(-1), tilt).reshape(4, 3).amax(0)
    expected = torch.maximum(x @ core.T, (core @ core.T).sum(1)) + wide
    assert torch.allclose(net(x), expected, atol=1e-6)
    assert 'torch.einsum("bTd,rd->bTr", x, ' in emit(graph)


def test_the_emitted_code_is_plain_torch(build: Build) -> None:
    text = (
        "network n {\n  input x: real[5, 12]\n"
        '  output y = x -> rearrange("T (h d) -> h T d", h = 3) -> tanh -> rearrange("h T d -> T (h d)")\n}\n'
    )
    code = emit(build(text))
    assert "x.unflatten(2, (3, 4)).transpose(1, 2)" in code
    assert "x.transpose(1, 2).flatten(2)" in code


@pytest.mark.parametrize(
    ("call", "code", "words"),
    [
        ('rearrange("a b")', "N0416", "one arrow"),
        ('rearrange("a b -> b")', "N0416", "does not come out"),
        ('rearrange("a b -> b a c")', "N0416", "after the arrow only"),
        ('rearrange("a a -> a")', "N0416", "twice"),
        ('rearrange("(a (b -> a b")', "N0416", "within parentheses"),
        ('rearrange("(a b -> a b")', "N0416", "not closed"),
        ('rearrange("a ... -> a ...")', "N0416", "`..`"),
        ('rearrange("a 2 -> a 2")', "N0416", "beside the pattern"),
        ('rearrange("a -> a")', "N0401", "1 axes"),
        ('rearrange("a (b c) -> a b c")', "N0401", "do not follow"),
        ('rearrange("a (b c) -> a b c", b = 5)', "N0401", "12 is not b * c"),
        ('rearrange("a b -> b a", c = 5)', "N0416", "no axis `c`"),
        ('rearrange("a b -> b a", b = 5)', "N0401", "12 is not b"),
        ('rearrange("a (b c) -> a b c", b = 0)', "N0416", "must be a size"),
        ('reduce("a b -> a", median)', "N0201", "median"),
        ('einsum("a b, b -> a")', "N0416", "2 input(s)"),
        ('einsum("a (b c) -> a")', "N0416", "whole axes"),
    ],
)
def test_misuse(refuse: Callable[[str], list[Any]], call: str, code: str, words: str) -> None:
    errors = refuse(f"network n {{\n  input x: real[5, 12]\n  output y = x -> {call}\n}}\n")
    assert [error.code for error in errors] == [code], [(e.code, e.message) for e in errors]
    assert words in errors[0].message
