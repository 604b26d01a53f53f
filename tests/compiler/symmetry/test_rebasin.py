"""Trained networks: alignment against weight matching as published, written out here from the paper.

Ainsworth, Hayase and Srinivasa, "Git Re-Basin: merging models modulo permutation symmetries" (2023), algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from sklearn.datasets import load_digits
from symmetric_nets import net

from nnspec.compiler.emit.load import module
from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.align import align, distance
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.places import State

Build = Callable[..., Graph]

WIDTH = 24
LAYERS = ("dense", "dense_2", "dense_3")


def trained(graph: Graph, seed: int, steps: int = 80) -> tuple[State, float]:
    """Return weights after some steps of Adam on the digits, and the share of these digits that they tell."""
    digits = load_digits()
    images, labels = torch.tensor(digits.data[:500] / 16).float(), torch.tensor(digits.target[:500])
    torch.manual_seed(seed)
    network = module(graph)
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images), labels).backward()
        optimizer.step()
    told = (network(images).argmax(dim=1) == labels).double().mean()
    return {key: own.detach().double() for key, own in network.state_dict().items()}, float(told)


def weight_matching(ours: State, theirs: State, seed: int) -> State:
    """Return `theirs` with its units permuted: in a random order of layers each is assigned, until none moves."""
    random = np.random.default_rng(seed)
    a, b = ({k: v.numpy() for k, v in state.items()} for state in (ours, theirs))
    sizes = [b["dense.weight"].shape[1], WIDTH, WIDTH, b["dense_3.weight"].shape[0]]
    orders = [np.arange(size) for size in sizes]  # of inputs, of two hidden layers, of outputs
    moved = True
    while moved:
        moved = False
        for level in 1 + random.permutation(2):
            here, there = LAYERS[level - 1], LAYERS[level]
            scores = a[f"{here}.weight"] @ b[f"{here}.weight"][:, orders[level - 1]].T
            scores += np.outer(a[f"{here}.bias"], b[f"{here}.bias"])
            scores += a[f"{there}.weight"].T @ b[f"{there}.weight"][orders[level + 1]]
            _, order = linear_sum_assignment(scores, maximize=True)
            gain = scores[np.arange(WIDTH), order].sum() - scores[np.arange(WIDTH), orders[level]].sum()
            moved |= gain > 1e-9
            orders[level] = order
    found = {}
    for level, name in enumerate(LAYERS, 1):
        found[f"{name}.weight"] = torch.tensor(b[f"{name}.weight"][orders[level]][:, orders[level - 1]])
        found[f"{name}.bias"] = torch.tensor(b[f"{name}.bias"][orders[level]])
    return found


@pytest.mark.parametrize("function", ["relu", "tanh"])
def test_trained_networks_come_at_least_as_near_as_by_weight_matching(build: Build, function: str) -> None:
    """The hyperbolic tangent has signs and ReLU scales besides the permutations."""
    body = f"output y = x -> dense({WIDTH}) -> {function} -> dense({WIDTH}) -> {function} -> dense(10)"
    graph = build(net(body, "real[64]"))
    group = symmetry_group(graph)
    (ours, first), (theirs, second) = (trained(graph, seed) for seed in (0, 1))
    assert min(first, second) > 0.9
    found = align(group, ours, theirs)
    matched = [distance(group.derivation, ours, weight_matching(ours, theirs, seed)) for seed in range(5)]
    assert found.after < 0.995 * min(matched) < found.before
