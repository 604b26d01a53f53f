"""Factors and summands of all entries, folded into the linear map before or behind them.

In: a traced graph of tensor operations. Out: the same graph, rewritten until no rule applies, with the same values up to
rounding. (x W + c) a is x (a W) + a c, and (a y + b) W is y (a W) + b (the sums of W along y): what is done with weights
is affine where they are, and costs a slice nothing (see `plans`), where a pass over all samples would. So `tanh` as
2 sigmoid(2 x) - 1 costs no more than `sigmoid`. Turned axes are moved behind what acts on entries, to meet and
undo each other there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnspec.compiler.fibres.kinds import kind_of, name_of

_STAY = frozenset(["reshape", "expand", "alias", "detach"])
_PRODUCTS = {"bmm": "baddbmm", "mm": "addmm"}  # and what adds something to them

Rule = Callable[[Any], Any]


def fold(traced: Any) -> None:
    """Rewrite the graph of a traced module."""
    folding = _Folding(traced.graph)
    folding.settle([folding.plain, folding.same, folding.turned_back, folding.turned_later])
    folding.settle([folding.scaled_behind, folding.read_behind, folding.gathered])
    folding.settle([folding.added])


class _Folding:
    """A graph while it is rewritten. A rule takes a node and returns what to put in its place, or None."""

    def __init__(self, graph: Any) -> None:
        import torch

        self.graph = graph
        self.kinds: dict[Any, str] = {}
        for node in graph.nodes:
            if name_of(node) in ("view", "_unsafe_view"):  # values may come to lie otherwise in memory
                node.target = torch.ops.aten.reshape.default
            self.kinds[node] = kind_of(node, self.kinds)
            node.meta["val"] = _without_numbers(node.meta.get("val"))

    def settle(self, rules: list[Rule]) -> None:
        """Apply rules until none changes anything."""
        while any([self.everywhere(rule) for rule in rules]):  # a list: all of them, not up to the first
            pass

    def everywhere(self, rule: Rule) -> bool:
        changed = False
        for node in list(self.graph.nodes):
            if node.op == "call_function" and self.kinds[node] == "other":
                with self.graph.inserting_before(node):
                    found = rule(node)
                if found is not None:
                    node.replace_all_uses_with(found)
                    changed = True
        self.graph.eliminate_dead_code()
        return changed

    def plain(self, node: Any) -> Any:
        """-y, y / a, y - c and c - y as products and sums."""
        name = name_of(node)
        if not _is_real(node) or node.kwargs or len(node.args) > 2:
            return None
        if name == "neg":
            return self.call("mul.Tensor", node.args[0], -1)
        if len(node.args) < 2:
            return None
        first, second = node.args
        if name == "div" and _is_number(second) and second:
            return self.call("mul.Tensor", first, 1 / second)
        if name == "rsub":
            first, second, name = second, first, "sub"
        if name != "sub":
            return None
        less = -second if _is_number(second) else self.call("mul.Tensor", second, -1)
        return self.call("add.Tensor", *((less, first) if _is_number(first) else (first, less)))

    # ---------------------------------------------------------------------------------------- turned axes

    def same(self, node: Any) -> Any:
        """A view of the shape that was there."""
        stays = name_of(node) in _STAY and _shape(node) == _shape(node.args[0])
        return node.args[0] if stays else None

    def turned_back(self, node: Any) -> Any:
        """Axes that are turned twice."""
        second = _order(node)
        first = second and _order(node.args[0])
        if not first or not second:
            return None
        given, both = node.args[0].args[0], tuple(first[axis] for axis in second)
        return given if both == tuple(range(len(both))) else self.turn(given, both)

    def turned_later(self, node: Any) -> Any:
        """A function of the entries of turned values, which is that of the values, turned."""
        import torch

        if torch.Tag.pointwise not in getattr(node.target, "tags", ()):
            return None
        moving = [given for given in node.all_input_nodes if self.kinds[given] == "other"]
        orders = {_order(given) for given in moving}
        same = len(orders) == 1 and all(_shape(given) == _shape(node) for given in moving)
        if not same or orders == {None}:
            return None
        order: Any = orders.pop()
        new = {
            given: given.args[0] if given in moving else self.turned(given, order)
            for given in node.all_input_nodes
        }
        args, named = _mapped((node.args, node.kwargs), lambda given: new[given])
        return self.turn(self.make(node.target, args, named), order)

    def turned(self, node: Any, order: tuple[int, ...]) -> Any:
        """Return a value so that turning it by the order makes it what it was, with as many axes as there are."""
        lifted = (1,) * (len(order) - len(_shape(node))) + _shape(node)
        back = tuple(order.index(axis) for axis in range(len(order)))
        return self.turn(self.call("reshape.default", node, lifted), back)

    def turn(self, node: Any, order: tuple[int, ...]) -> Any:
        return self.call("permute.default", node, order)

    # ------------------------------------------------------------------------------- factors and summands

    def scaled_behind(self, node: Any) -> Any:
        """(x W) a is x (W a), (y b) a is y (b a), and (y + c) a is y a + c a."""
        own = _scaled(node)
        if own is None or len(own[0].users) > 1:
            return None
        given, factor = own
        if (weight := self.weight_of(given)) is not None:
            return self.with_weight(given, weight, factor)
        if (inner := _scaled(given)) is not None:
            return self.call("mul.Tensor", inner[0], inner[1] * factor)
        if (terms := self.terms_of(given)) is not None:
            first, second = terms
            rest = second * factor if _is_number(second) else self.call("mul.Tensor", second, factor)
            return self.call("add.Tensor", self.call("mul.Tensor", first, factor), rest)
        return None

    def read_behind(self, node: Any) -> Any:
        """(a y) W is y (a W), and (y + b) W is y W + b (the sums of W along y)."""
        weight = self.weight_of(node)
        if weight is None:
            return None
        given = node.args[1 - weight]
        order = _order(given)
        given = given if order is None else given.args[0]
        scaled, terms = _scaled(given), self.terms_of(given)
        inner = scaled or (terms if terms and _is_number(terms[1]) else None)
        if inner is None:
            return None
        read = inner[0] if order is None else self.turn(inner[0], order)
        args = list(node.args)
        args[1 - weight] = read
        product = self.make(node.target, tuple(args), {})
        if scaled is not None:
            return self.with_weight(product, weight, inner[1])
        sums = self.call("sum.dim_IntList", node.args[weight], [-1 if weight == 0 else -2], True)
        return self.call("add.Tensor", product, self.call("mul.Tensor", sums, inner[1]))

    def gathered(self, node: Any) -> Any:
        """(y + c) + d is y + (c + d), if this is no larger than c and d are."""
        outer = self.terms_of(node)
        inner = outer and self.terms_of(outer[0])
        if outer is None or inner is None or len(outer[0].users) > 1:
            return None
        (_, second), (given, first) = outer, inner
        if _is_number(first) and _is_number(second):
            return self.call("add.Tensor", given, first + second)
        both = self.call("add.Tensor", *((second, first) if _is_number(first) else (first, second)))
        small = both.meta["val"].numel() <= max(_size(first), _size(second))
        return self.call("add.Tensor", given, both) if small else None

    def added(self, node: Any) -> Any:
        """x W + c as one operation."""
        product, other = self.terms_of(node) or (None, None)
        if product is None or _is_number(other) or self.weight_of(product) is None or len(product.users) > 1:
            return None
        return self.call(f"{_PRODUCTS[name_of(product)]}.default", other, *product.args)

    def terms_of(self, node: Any) -> tuple[Any, Any] | None:
        """Return the terms of a sum: a value of its shape, and a number or what is fixed or affine."""
        if name_of(node) != "add" or node.kwargs or not _is_real(node):
            return None
        given, other = node.args
        if self.kinds_of(node)[0] != "other":
            given, other = other, given
        still = _is_number(other) or self.kinds[other] != "other"
        return (given, other) if still and _shape(given) == _shape(node) else None

    def weight_of(self, node: Any) -> int | None:
        """Return which factor of a product is fixed or affine, if the other one is neither."""
        if name_of(node) not in _PRODUCTS or self.kinds_of(node).count("other") != 1:
            return None
        return 1 - self.kinds_of(node).index("other")

    def with_weight(self, product: Any, weight: int, factor: float) -> Any:
        args = list(product.args)
        args[weight] = self.call("mul.Tensor", args[weight], factor)
        return self.make(product.target, tuple(args), {})

    def kinds_of(self, node: Any) -> list[str]:
        return ["fixed" if _is_number(given) else self.kinds[given] for given in node.args]

    # ---------------------------------------------------------------------------------------- new nodes

    def call(self, name: str, *args: Any) -> Any:
        import torch

        packet, overload = name.split(".")
        return self.make(getattr(getattr(torch.ops.aten, packet), overload), args, {})

    def make(self, target: Any, args: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Add a node, with its kind and its shape."""
        node = self.graph.call_function(target, args, named)
        own, given = _mapped((args, named), lambda given: given.meta["val"])
        node.meta["val"] = target(*own, **given)
        self.kinds[node] = kind_of(node, self.kinds)
        return node


def _without_numbers(value: Any) -> Any:
    """Return tensors of the same shapes and types, to try operations on."""
    import torch
    from torch.utils._pytree import tree_map_only

    return tree_map_only(torch.Tensor, lambda t: torch.empty(t.shape, dtype=t.dtype, device="meta"), value)


def _mapped(given: Any, change: Callable[[Any], Any]) -> Any:
    from torch.fx.node import map_arg

    return map_arg(given, change)


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)


def _size(given: Any) -> int:
    return 1 if _is_number(given) else given.meta["val"].numel()


def _is_real(node: Any) -> bool:
    return bool(getattr(getattr(node.meta.get("val"), "dtype", None), "is_floating_point", False))


def _is_number(given: Any) -> bool:
    return isinstance(given, (int, float))


def _order(node: Any) -> tuple[int, ...] | None:
    """Return which axis of a value each axis of a turned one is; None for what does not turn axes."""
    name = name_of(node)
    if name not in ("permute", "transpose", "t"):
        return None
    order = list(range(len(_shape(node))))
    if name == "permute":
        return tuple(axis % len(order) for axis in node.args[1])
    first, second = node.args[1:] if name == "transpose" else (0, -1)
    order[first], order[second] = order[second], order[first]
    return tuple(order)


def _scaled(node: Any) -> tuple[Any, float] | None:
    """Return what a node multiplies by which number."""
    if name_of(node) != "mul" or node.kwargs or not _is_real(node):
        return None
    given, factor = node.args if _is_number(node.args[1]) else node.args[::-1]
    return (given, factor) if _is_number(factor) else None
