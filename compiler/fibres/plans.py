"""A function of a few coordinates, planned once and run at many points of them.

In: a function from coordinates [n, d] to numbers [n], made of tensor operations, each point by itself. Out: the same
function, quicker. It is traced into a graph of torch's basic operations, and that graph is rewritten: what no coordinate
touches is computed once; what is affine in the coordinates (all weights of a slice, and what a first linear map makes of
its inputs) is a combination of d + 1 values, for all points one matrix product; functions of entries write over what they
were given. Numbers are the same up to the order of sums and the last digits of `tanh`. torch is imported by the functions
that use it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.folding import fold
from nnspec.compiler.fibres.kinds import kind_of, name_of

if TYPE_CHECKING:
    from torch import Tensor

    Function = Callable[[Tensor], Tensor]

_MOST_HELD = 1 << 25  # numbers that the d + 1 values of one affine part may take
_RIGHT = 1e-9  # between a combination and the value itself, beside its size


def planned(function: Function, rows: int, dims: int, seed: int = 0) -> Function | None:
    """Return the function, run on so many points at once; None where it draws random numbers that follow a coordinate.

    Numbers that it draws in any other way are those of torch's generator at `seed`.
    """
    import torch

    rows = max(rows, dims + 2)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        plan = _Plan(function, rows, dims)
        if plan.is_random:
            return None
        plan.watch(seed)
        plan.hoist()
        plan.overwrite()
    code: Any = plan.traced
    code.recompile()

    def run(points: Tensor) -> Tensor:
        missing = -len(points) % rows
        with torch.no_grad():
            filled = torch.cat([points, points[-1:].expand(missing, dims)])
            found = [code(part) for part in filled.split(rows)] if len(points) else [points.new_zeros(0)]
            return torch.cat(found)[: len(points)]

    return run


class _Plan:
    """A traced function while it is rewritten. Nodes are those of torch.fx; `kinds` are "fixed", "affine" or "other"."""

    def __init__(self, function: Function, rows: int, dims: int) -> None:
        self.rows, self.dims = rows, dims
        self.traced = _traced(function, rows, dims)
        fold(self.traced)
        self.kinds: dict[Any, str] = {}
        for node in self.traced.graph.nodes:
            self.kinds[node] = kind_of(node, self.kinds)
        self.values: dict[
            Any, Tensor
        ] = {}  # fixed ones, and affine ones [d + 1, ..] at zero and at each unit vector
        self.axes: dict[Any, int] = {}  # which axis of an affine value runs over the points
        self.parents: dict[Any, Any] = {}  # of a view: the node whose memory it shares
        self.dense: dict[
            Any, tuple[Any, ...]
        ] = {}  # shape and number type of a value that does not overlap itself

    @property
    def is_random(self) -> bool:
        import torch

        own = torch.Tag.nondeterministic_seeded
        return any(own in getattr(n.target, "tags", ()) and k != "fixed" for n, k in self.kinds.items())

    # --------------------------------------------------------------------------------------------- watching

    def watch(self, seed: int) -> None:
        """Run the graph, and see which values share memory, how each lies in it, and what is fixed or combined."""
        import torch
        from torch.fx import Interpreter

        random = torch.Generator().manual_seed(1)
        points = torch.randn(self.rows, self.dims, generator=random, dtype=torch.float64)
        points[: self.dims + 1] = torch.eye(self.dims + 1, self.dims, dtype=torch.float64).roll(1, 0)
        see = self.see

        class Watch(Interpreter):
            def run_node(self, n: Any) -> Any:
                result = super().run_node(n)
                see(n, result, self.env, points)
                return result

        torch.default_generator.manual_seed(seed)
        Watch(self.traced).run(points)

    def see(self, node: Any, value: Any, others: Mapping[Any, Any], points: Tensor) -> None:
        import torch

        own = _memory(value)
        shared = (
            given for given in node.all_input_nodes if own is not None and own == _memory(others[given])
        )
        parent = next(shared, None)
        if parent is not None:
            self.parents[node] = parent
        if not isinstance(value, torch.Tensor):
            return
        if not any(step == 0 and size > 1 for step, size in zip(value.stride(), value.shape, strict=True)):
            self.dense[node] = (value.shape, value.dtype)
        read_by = {self.kinds[user] for user in node.users}
        if self.kinds[node] == "fixed" and node.op == "call_function" and read_by != {"fixed"}:
            self.values[node] = value.clone()
        elif self.kinds[node] == "affine" and node.op == "call_function" and "other" in read_by:
            self.see_affine(node, value, points)

    def see_affine(self, node: Any, value: Tensor, points: Tensor) -> None:
        """Keep what a value is combined of, if one axis runs over the points: that along which combinations are right."""
        if value.numel() // self.rows * (self.dims + 1) > _MOST_HELD:
            return
        axes = [axis for axis, size in enumerate(value.shape) if size == self.rows]
        right = [axis for axis in axes if _is_combined(value.movedim(axis, 0), points)]
        if len(right) == 1:
            own = value.movedim(right[0], 0)[: self.dims + 1]
            self.values[node], self.axes[node] = own.clone(), right[0]

    # ------------------------------------------------------------------------------------------- rewriting

    def hoist(self) -> None:
        """Put fixed values and combinations in the place of what made them."""
        edge = self.find_edge()
        graph = self.traced.graph
        given = next(node for node in graph.nodes if node.op == "placeholder")
        with graph.inserting_after(given):
            one = graph.call_function(_with_one, (given,))
        for number, (node, value) in enumerate(self.values.items()):
            name, moves = f"_held{number}", node in edge
            if not moves and self.kinds[node] != "fixed":
                continue
            held, view, order = _held(value, self.axes[node]) if moves else (value, (), ())
            self.traced.register_buffer(name, held)
            with graph.inserting_before(node):
                made = graph.get_attr(name)
                if moves:
                    made = graph.call_function(_combined, (one, made, (self.rows, *view), order))
            self.dense[made] = self.dense.get(node, ())
            self.parents.update({view: made for view, parent in self.parents.items() if parent is node})
            node.replace_all_uses_with(made)
        graph.eliminate_dead_code()

    def find_edge(self) -> list[Any]:
        """Return the affine values that something else reads; those that cannot be combined are made as they were."""
        while True:
            edge = [
                node
                for node, kind in self.kinds.items()
                if kind == "affine"
                and node.op != "placeholder"
                and any(self.kinds[user] == "other" for user in node.users)
            ]
            bad = [node for node in edge if node not in self.axes]
            if not bad:
                return edge
            for node in bad:
                self.kinds[node] = "other"
                self.kinds.update(
                    {after: "other" for after in _behind(node) if self.kinds[after] == "affine"}
                )

    def overwrite(self) -> None:
        """Let functions of entries write their result over an argument, where nothing reads that again."""
        nodes = list(self.traced.graph.nodes)
        roots, last = self.lives(nodes)
        for index, node in enumerate(nodes):
            for first in _written_over(node):
                root = roots.get(first)
                others = [given for given in node.all_input_nodes if given is not first]
                alike = bool(self.dense.get(first)) and self.dense.get(first) == self.dense.get(node)
                ends = root is not None and root.op == "call_function" and last[root] == index
                if not (alike and ends) or root in (roots[other] for other in others):
                    continue
                node.target = _in_place(node)
                if first is not node.args[0]:
                    node.args = node.args[::-1]
                last[root] = last.get(node, index)
                roots.update({other: root for other, was in roots.items() if was is node})
                break

    def lives(self, nodes: list[Any]) -> tuple[dict[Any, Any], dict[Any, int]]:
        """Return whose memory each value has, and where in the graph this memory is last read."""
        order = {node: index for index, node in enumerate(nodes)}
        roots: dict[Any, Any] = {}
        last: dict[Any, int] = {}
        for node in nodes:
            roots[node] = roots.get(self.parents.get(node), node)
            for user in node.users:
                last[roots[node]] = max(last.get(roots[node], 0), order[user])
        return roots, last


def _tanh(x: Tensor) -> Tensor:
    """tanh x = 2 sigmoid(2 x) - 1, a third of the time in double precision, to the last digit of 1."""
    return (2 * x).sigmoid() * 2 - 1


def _traced(function: Function, rows: int, dims: int) -> Any:
    import torch
    from torch.fx.experimental.proxy_tensor import make_fx

    quicker = {torch.ops.aten.tanh.default: _tanh}
    pure: Any = torch.func.functionalize(function)
    return make_fx(pure, decomposition_table=quicker)(torch.zeros(rows, dims, dtype=torch.float64))


def _behind(node: Any) -> set[Any]:
    found: set[Any] = set()
    open_ = [node]
    while open_:
        new = [user for user in open_.pop().users if user not in found]
        found.update(new)
        open_ += new
    return found


def _memory(value: Any) -> int | None:
    import torch

    value = value[0] if isinstance(value, (tuple, list)) and value else value
    return value.untyped_storage().data_ptr() if isinstance(value, torch.Tensor) else None


def _in_place(node: Any) -> Any:
    """Return the form of an operation that writes over its first argument, if torch has one."""
    import torch

    packet = getattr(torch.ops.aten, f"{name_of(node)}_", None) if name_of(node) else None
    return getattr(packet, getattr(node.target, "_overloadname", ""), None)


def _written_over(node: Any) -> tuple[Any, ...]:
    """Return the arguments over which a function of entries may be written: of a sum or product, either."""
    import torch

    if torch.Tag.pointwise not in getattr(node.target, "tags", ()) or _in_place(node) is None:
        return ()
    either = name_of(node) in ("add", "mul") and not node.kwargs
    return node.args[: 2 if either else 1]


def _held(value: Tensor, axis: int) -> tuple[Tensor, tuple[int, ...], tuple[int, ...]]:
    """Return a value [d + 1, ..] at 0 and its slopes, as they lie in memory, with how to view and to turn a combination."""
    import torch

    rest = sorted(range(1, value.dim()), key=lambda i: -value.stride(i))
    laid = value.permute(0, *rest)
    flat = laid.reshape(len(value), -1)
    held = torch.cat([flat[:1], flat[1:] - flat[:1]])
    back = [(0, *rest).index(i) for i in range(value.dim())]
    return held, tuple(laid.shape[1:]), tuple([*back[1 : axis + 1], back[0], *back[axis + 1 :]])


def _is_combined(value: Tensor, points: Tensor) -> bool:
    """Whether values [n, ..] are affine in points [n, d], the first of which are zero and the unit vectors."""
    import torch

    slopes = value[1 : points.shape[1] + 1] - value[:1]
    made = value[:1] + torch.tensordot(points, slopes, 1)
    return float((made - value).abs().max()) <= _RIGHT * (1 + float(value.abs().max()))


def _with_one(points: Tensor) -> Tensor:
    import torch

    return torch.cat([points.new_ones(len(points), 1), points], dim=1)


def _combined(points: Tensor, held: Tensor, view: tuple[int, ...], order: tuple[int, ...]) -> Tensor:
    return (points @ held).view(view).permute(order)
