"""What the guards of a group try it on: random weights and inputs, and the network as a pure function of them.

In: a typed graph and its group. Weights are generic and in double precision; inputs are of the declared types. The
network may be idealised: its norms get an epsilon that is lost beside any variance (with it, a scale before a norm
holds only up to that). States of a system begin at zero and take a fixed number of plain steps, all of which are
differentiated: that is a function which the group keeps exactly, settled or not.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any, cast

from nnspec.compiler.experiment import Choice
from nnspec.compiler.fibres.probe import draw_probe
from nnspec.compiler.ir import (
    Apply,
    Block,
    Graph,
    Instance,
    Loop,
    Primitive,
    Pullback,
    Statement,
    instances,
    state_key,
)
from nnspec.compiler.relations import Normalize
from nnspec.compiler.solvers import default_word
from nnspec.compiler.symmetry.generators import key_of
from nnspec.compiler.symmetry.record import SymmetryGroup

if TYPE_CHECKING:
    import torch
    from torch import Tensor

_PROBE = Choice(family="probe", name="gaussian", arguments=(("samples", 16), ("scale", 1.5)))
TINY = 1e-60  # an epsilon that is lost beside any variance
_STEPS = 30  # of a system
_GAIN = 0.5  # of random weights where states settle: with larger ones they would not


def idealised(graph: Graph) -> Graph:
    """Return a network whose norms have an epsilon too small to matter, and whose systems take plain steps."""
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
        return given.replace(children=children, body=tuple(map(statement, given.body)))

    def statement(own: Statement) -> Statement:
        match own:
            case Apply():
                return own.replace(operation=primitive(own.operation))
            case Pullback():
                return own.replace(through=tuple(map(statement, own.through)))
            case Loop():
                carried = tuple(state.replace(start=None) for state in own.carried)
                plain = default_word("fixed_point" if own.form == "map" else "euler")
                steps = {**plain.options, "steps": _STEPS, "tolerance": 0.0}
                return own.replace(
                    carried=carried,
                    body=tuple(map(statement, own.body)),
                    solver=plain.replace(arguments=tuple(sorted(steps.items()))),
                    gradient=default_word("unrolled"),
                )
            case _:
                return own

    return graph.replace(root=block(graph.root))


def random_state(graph: Graph, group: SymmetryGroup, seed: int, *, calm: bool = False) -> dict[str, Tensor]:
    """Return generic weights: normal, and positive where a buffer holds variances.

    Those of a `calm` state are over the root of their fan-in, so that a deep network does not amplify rounding.
    """
    import torch

    from nnspec.compiler.emit.load import initial_state

    variances = {
        key_of(stated.relation.variance)
        for stated in group.derivation.related.stated
        if isinstance(stated.relation, Normalize) and stated.relation.variance is not None
    }
    random = torch.Generator().manual_seed(seed)
    made: dict[str, Tensor] = {}
    loops = group.derivation.related.loops
    for name, value in initial_state(graph, 0).items():
        if not value.dtype.is_floating_point:
            made[name] = value
            continue
        drawn = torch.randn(value.shape, generator=random, dtype=torch.float64)
        fan_in = prod(value.shape[1:]) if calm or loops else 1
        drawn = drawn * (_GAIN if loops else 1)
        made[name] = drawn.abs() + 0.5 if name in variances else drawn / fan_in**0.5
    made.update(buffers_of_constraints(graph, random))
    return made


def buffers_of_constraints(graph: Graph, random: torch.Generator) -> dict[str, Tensor]:
    """Return the real buffers that constraints make of a weight, such as the base of an orthogonal one."""
    import torch

    from nnspec.compiler.emit.load import code_function

    found: dict[str, Tensor] = {}
    for located in instances(graph.root):
        for weight in located.primitive.weights:
            for item in weight.maps:
                held = [t for t in item.stored if t.kind == "buffer" and t.dtype == "real"]
                if not held or item.start is None:
                    continue
                sizes = [size for size in weight.shape if isinstance(size, int)]
                drawn = torch.randn(sizes, generator=random, dtype=torch.float64)
                given: Any = code_function(item.start)(drawn)
                parts = cast("tuple[Tensor, ...]", given if isinstance(given, tuple) else (given,))
                made = dict(zip((t.name for t in item.stored), parts, strict=True))
                found.update({state_key(located.path, t.name): made[t.name] for t in held})
    return found


def random_inputs(graph: Graph, count: int, seed: int) -> tuple[Tensor, ...]:
    """Return inputs of a network's declared types; symbolic sizes become 3, whole numbers name any row."""
    return draw_probe(graph, _PROBE, seed + 1, count)


def statistics_of(group: SymmetryGroup) -> tuple[str, ...]:
    """Return the keys of the means and variances that norms keep."""
    norms = (s.relation for s in group.derivation.related.stated if isinstance(s.relation, Normalize))
    names = dict.fromkeys(name for norm in norms for name in (norm.mean, norm.variance) if name is not None)
    return tuple(key_of(name) for name in names)


def outputs_of(found: Any) -> Tensor:
    """Return every output as one vector a sample."""
    import torch

    listed = cast("tuple[Any, ...]", found if isinstance(found, tuple) else (found,))
    plain = [torch.view_as_real(item) if item.is_complex() else item for item in listed]
    rows = [item.reshape(item.shape[0], -1) for item in plain]
    return rows[0] if len(rows) == 1 else torch.cat(rows, dim=1)


def with_same_draws(graph: Graph, seed: int) -> Callable[..., Any]:
    """Return the functional form, drawing the same numbers at every call; torch is left as it was."""
    import torch

    from nnspec.compiler.emit.load import function, plain_attention, plain_norms

    forward = function(graph)

    def seeded(*arguments: Any) -> Any:
        random: Any = torch.random
        with random.fork_rng(devices=[]), plain_attention(), plain_norms():
            torch.default_generator.manual_seed(seed)
            return forward(*arguments)

    return seeded


def learned_keys(graph: Graph) -> list[str]:
    """Return the state-dict keys of the learned tensors that may move by any small step."""
    return [
        state_key(located.path, tensor.name)
        for located in instances(graph.root)
        for weight in located.primitive.weights
        for tensor in weight.stored
        if tensor.kind == "learned" and not any(item.has_own_gradient for item in weight.maps)
    ]
