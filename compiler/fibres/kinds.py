"""How the values of a traced function depend on its coordinates: "fixed", "affine", or "other".

In: nodes of a torch.fx graph of torch's basic operations. What is affine in affine values is a sum, a view, or a product
of which one factor moves.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

# Arguments that are multiplied with each other: at most one of them may be affine for the result to be affine.
_PRODUCTS = {
    "mul": (0, 1),
    "div": (0, 1),
    "mm": (0, 1),
    "bmm": (0, 1),
    "mv": (0, 1),
    "dot": (0, 1),
    "addmm": (1, 2),
    "baddbmm": (1, 2),
    "convolution": (0, 1),
}
_SUMS = frozenset(
    ["add", "sub", "cat", "stack", "neg", "sum", "mean", "clone", "index", "constant_pad_nd", "avg_pool2d"]
)
_VIEWS = frozenset(
    [
        "view",
        "_unsafe_view",
        "reshape",
        "t",
        "permute",
        "transpose",
        "expand",
        "unsqueeze",
        "squeeze",
        "slice",
        "select",
        "split",
        "split_with_sizes",
        "unbind",
        "getitem",
        "alias",
        "detach",
        "lift_fresh_copy",
    ]
)


def name_of(node: Any) -> str:
    """Return the name of the operation of a node, the same for all its overloads; empty for what is no operation."""
    if node.target is operator.getitem:
        return "getitem"
    return str(getattr(node.target, "_opname", ""))


def kind_of(node: Any, kinds: Mapping[Any, str]) -> str:
    """Say how a value depends on the coordinates, from how what it is made of does."""
    if node.op != "call_function":
        return "affine" if node.op == "placeholder" else "fixed" if node.op == "get_attr" else "other"
    given = [kinds[argument] for argument in node.all_input_nodes]
    if all(kind == "fixed" for kind in given):
        return "fixed"
    name = name_of(node)
    if "other" in given or not (name in _PRODUCTS or name in _SUMS or name in _VIEWS):
        return "other"
    moving = [kinds.get(node.args[index]) == "affine" for index in _PRODUCTS.get(name, ())]
    return "other" if sum(moving) > 1 or (name == "div" and moving[1]) else "affine"
