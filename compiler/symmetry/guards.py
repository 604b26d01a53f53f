"""The two guards of a derived group: its generators change no output, its dimension is that of a fibre.

In: a group, its graph, random weights in double precision. The nullity of the parameter Jacobian bounds the
derived dimension from above, for any weights; a violation is our bug. Only for small networks: the cost
grows with the cube of the number of parameters. Both are tried on the idealised network, in which norms
have no epsilon (with it, a scale before a norm holds only up to that), and on hard weights.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

from nnspec.compiler.ir import Apply, Block, Graph, Instance, Primitive, instances, state_key
from nnspec.compiler.relations import Normalize, Sum
from nnspec.compiler.rewrites.hard import hard, hard_state
from nnspec.compiler.symmetry.generators import generators, key_of
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.diagnostics import InternalError
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

PARAMETER_LIMIT = 1500
GENERATOR_LIMIT = 200
TOLERANCE = 1e-9  # of the largest singular value
TINY = 1e-60  # an epsilon that is lost beside any variance
_STEP = 0.3  # of the continuous generators


class Verified(Node):
    """How many generators were tried, the largest relative change of an output, and the nullity."""

    generators: int
    max_output_error: float
    nullity: int
    parameters: int
    gap: float  # smallest singular value kept over largest one dropped

    def json(self) -> dict[str, Any]:
        return {
            "generators": self.generators,
            "max_output_error": self.max_output_error,
            "nullity": self.nullity,
            "parameters": self.parameters,
            "gap": self.gap if isfinite(self.gap) else None,  # JSON has no infinity
        }


def verify_group(graph: Graph, group: SymmetryGroup, seed: int = 0) -> Verified:
    """Try the generators and count the nullity at random weights."""
    graph = idealised(graph)
    state = random_state(graph, group, seed)
    tried, worst = largest_error(graph, group, state, seed)
    nullity, parameters, gap = jacobian_nullity(graph, group, state, seed)
    if group.continuous_dimension > nullity:
        claimed = group.continuous_dimension
        raise InternalError(f"{graph.name}: dimension {claimed} is above the Jacobian's nullity {nullity}")
    return Verified(generators=tried, max_output_error=worst, nullity=nullity, parameters=parameters, gap=gap)


def idealised(graph: Graph) -> Graph:
    """Return a network whose norms have an epsilon too small to matter."""
    known: dict[int, Any] = {}

    def instance(given: Instance) -> Instance:
        if id(given) not in known:
            known[id(given)] = block(given) if isinstance(given, Block) else primitive(given)
        return known[id(given)]

    def primitive(given: Primitive) -> Primitive:
        arguments = tuple((n, TINY if n == "epsilon" else value) for n, value in given.arguments)
        return given.replace(arguments=arguments)

    def block(given: Block) -> Block:
        children = tuple(
            child.replace(instances=tuple(instance(item) for item in child.instances))
            for child in given.children
        )
        body = tuple(
            statement.replace(operation=primitive(statement.operation))
            if isinstance(statement, Apply)
            else statement
            for statement in given.body
        )
        return given.replace(children=children, body=body)

    return graph.replace(root=block(graph.root))


def random_state(graph: Graph, group: SymmetryGroup, seed: int) -> dict[str, Tensor]:
    """Return generic weights: normal, and positive where a buffer holds variances."""
    import torch

    from nnspec.compiler.emit.load import initial_state

    variances = {
        key_of(stated.relation.variance)
        for stated in group.derivation.related.stated
        if isinstance(stated.relation, Normalize) and stated.relation.variance is not None
    }
    random = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    for name, value in initial_state(graph, 0).items():
        if not value.dtype.is_floating_point:
            made[name] = value
            continue
        drawn = torch.randn(value.shape, generator=random, dtype=torch.float64)
        made[name] = drawn.abs() + 0.5 if name in variances else drawn
    return made


def random_inputs(graph: Graph, group: SymmetryGroup, count: int, seed: int) -> tuple[Tensor, ...]:
    """Return inputs of a network's declared types; symbolic sizes become 3, whole numbers name any row."""
    import torch

    random = torch.Generator().manual_seed(seed + 1)
    types = dict(graph.root.types)
    rows = min(_table_sizes(group), default=2)
    made: list[Tensor] = []
    for port in graph.root.inputs:
        kind = types[port.value]
        shape = (count, *(size if isinstance(size, int) else 3 for size in kind.shape))
        if kind.dtype in ("real", "complex"):
            number = torch.float64 if kind.dtype == "real" else torch.complex128
            made.append(1.5 * torch.randn(shape, generator=random, dtype=number))
        else:
            drawn = torch.randint(0, 2 if kind.dtype == "bool" else rows, shape, generator=random)
            made.append(drawn.bool() if kind.dtype == "bool" else drawn)
    return tuple(made)


def _table_sizes(group: SymmetryGroup) -> list[int]:
    """Return the numbers of rows of tables in which entries are looked up."""
    carriers = group.derivation.related.carriers
    return [
        size
        for stated in group.derivation.related.stated
        if isinstance(stated.relation, Sum)
        for term in stated.relation.terms
        for label, size in zip(term.labels, carriers[term.tensor].shape, strict=True)
        if label.startswith("#") and isinstance(size, int)
    ]


def _outputs(found: Any) -> Tensor:
    """Return every output as one vector a sample."""
    import torch

    listed = cast("tuple[Any, ...]", found if isinstance(found, tuple) else (found,))
    plain = [torch.view_as_real(item) if item.is_complex() else item for item in listed]
    return torch.cat([item.reshape(item.shape[0], -1) for item in plain], dim=1)


def largest_error(
    graph: Graph, group: SymmetryGroup, state: dict[str, Tensor], seed: int
) -> tuple[int, float]:
    """Return how many generators were applied and the largest relative change of an output."""
    changed = _change(graph, group, state, seed)
    worst, tried = 0.0, 0
    for generator in islice(generators(group, seed), GENERATOR_LIMIT):
        t = 1.0 if generator.family in ("permutation", "sign") else _STEP
        worst = max(worst, changed(generator(state, t)))
        tried += 1
    return tried, worst


def largest_change(
    graph: Graph, group: SymmetryGroup, state: dict[str, Tensor], other: dict[str, Tensor], seed: int
) -> float:
    """Return the largest relative change of an output on random inputs, from one state to another."""
    return _change(graph, group, state, seed)(other)


def _change(
    graph: Graph, group: SymmetryGroup, state: dict[str, Tensor], seed: int
) -> Callable[[dict[str, Tensor]], float]:
    forward = _with_same_draws(graph, seed)
    inputs = random_inputs(graph, group, 16, seed)
    before = _outputs(forward(state, *inputs))
    size = float(before.abs().max()) or 1.0
    return lambda other: float((_outputs(forward(other, *inputs)) - before).abs().max()) / size


def jacobian_nullity(
    graph: Graph, group: SymmetryGroup, state: dict[str, Tensor], seed: int
) -> tuple[int, int, float]:
    """Return nullity of the Jacobian, the number of parameters, and the gap in the spectrum.

    Weights with a straight-through constraint take few values; they stand still.
    """
    import torch

    learned = learned_keys(graph)
    graph, state = hard(graph), hard_state(graph, state)
    sizes = [state[name].numel() for name in learned]
    total = sum(sizes)
    inputs = random_inputs(graph, group, max(64, 3 * total), seed)
    forward = _with_same_draws(graph, seed)

    def outputs(flat: Tensor) -> Tensor:
        parts = zip(learned, torch.split(flat, sizes), strict=True)
        named = {name: part.view(state[name].shape) for name, part in parts}
        return _outputs(forward({**state, **named}, *inputs))

    point = torch.cat([state[name].flatten() for name in learned])
    jacobian = torch.func.jacfwd(outputs, randomness="same")(point).reshape(-1, total)
    rank, gap = _rank(jacobian)
    return total - rank, total, gap


def _with_same_draws(graph: Graph, seed: int) -> Callable[..., Any]:
    """Return the functional form, drawing the same numbers at every call; torch is left as it was."""
    import torch

    from nnspec.compiler.emit.load import forward_mode, function

    forward = function(graph)

    def seeded(*arguments: Any) -> Any:
        with torch.random.fork_rng(devices=[]), forward_mode():
            torch.default_generator.manual_seed(seed)
            return forward(*arguments)

    return seeded


def _rank(matrix: Tensor) -> tuple[int, float]:
    """Return the rank of a matrix, and the gap in its spectrum there."""
    import torch

    linear_algebra: Any = torch.linalg
    spectrum: list[float] = linear_algebra.svdvals(matrix).tolist()
    rank = sum(value > TOLERANCE * spectrum[0] for value in spectrum)
    dropped = spectrum[rank] if rank < len(spectrum) else 0.0
    return rank, spectrum[rank - 1] / dropped if dropped else float("inf")


def learned_keys(graph: Graph) -> list[str]:
    """Return the state-dict keys of the learned tensors that may move by any small step."""
    return [
        state_key(located.path, tensor.name)
        for located in instances(graph.root)
        for weight in located.primitive.weights
        for tensor in weight.stored
        if tensor.kind == "learned" and not any(item.has_own_gradient for item in weight.maps)
    ]
