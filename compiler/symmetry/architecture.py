"""Whether two networks are one architecture: isomorphism of their graphs of uses, whatever parts are called.

In: typed graphs; no weights. Nodes are uses of operations with their arguments, values, and weights with their
shapes and constraints; edges bear the role of what they join. Where the relations of a use say that its inputs
may be exchanged (a sum, a product of entries), their order does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from nnspec.compiler.flat import Held, Use, flatten
from nnspec.compiler.ir import Graph, state_key
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Sum

if TYPE_CHECKING:
    import networkx as nx

_MOST = 24  # isomorphisms that are tried
_SHOWN = 3  # differences in a message


def correspondences(ours: Graph, theirs: Graph) -> Iterator[dict[str, str]]:
    """Yield, for isomorphisms of two networks, the state-dict key of `ours` for each key of `theirs`.

    The one that keeps all names comes first where there is one; then at most 24 others.
    """
    import networkx as nx

    first, second = _drawn(ours), _drawn(theirs)
    weights = _weights(ours), _weights(theirs)
    if _is_same(first, second):
        yield {key: key for held in weights[1].values() for key in _keys(held)}
    found: Any = nx.vf2pp_all_isomorphisms(second, first, node_label="label")  # pyright: ignore[reportUnknownMemberType]
    for mapping in islice(found, _MOST):
        renamed: dict[str, str] = {}
        for name, held in weights[1].items():
            renamed |= dict(zip(_keys(held), _keys(weights[0][mapping[name]]), strict=True))
        yield renamed


def difference(ours: Graph, theirs: Graph) -> str | None:
    """Say what tells two architectures apart first; None if nothing does."""
    first, second = _drawn(ours), _drawn(theirs)
    counts = [Counter(one.nodes[node]["label"] for node in one) for one in (first, second)]
    for kind in ("value", "use", "weight"):
        own = [Counter({k: n for k, n in one.items() if k[0] == kind}) for one in counts]
        more, less = own[0] - own[1], own[1] - own[0]
        if more or less:
            parts = [f"only {g.name} has {_spoken(c)}" for g, c in ((ours, more), (theirs, less)) if c]
            return "; ".join(parts)
    if next(correspondences(ours, theirs), None) is None:
        return "they have the same parts, and connect them differently"
    return None


def _spoken(labels: Counter[Any]) -> str:
    listed = [f"{label[1]}{f' {n} times' if n > 1 else ''}" for label, n in labels.items()]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more


def _drawn(graph: Graph) -> nx.DiGraph[str]:
    import networkx as nx

    flat = flatten(graph)
    made: nx.DiGraph[str] = nx.DiGraph()
    for number, value in enumerate(flat.values):
        inputs = [str(i) for i, n in enumerate(flat.inputs) if n == number]
        outputs = [str(i) for i, n in enumerate(flat.outputs) if n == number]
        border = f" input {inputs}" * bool(inputs) + f" output {outputs}" * bool(outputs)
        made.add_node(f"%{number}", label=("value", f"a value {value.type}{border}"))
    for name, held in _weights(graph).items():
        made.add_node(name, label=("weight", _weight_label(held)))
    for number, use in enumerate(flat.uses):
        node = f"#{number}"
        made.add_node(node, label=("use", _use_label(use)))
        alike = _exchangeable(use)
        for place, value in enumerate(use.inputs):
            _join(made, f"%{value}", node, "in" if alike else f"in {place}", place)
        for place, value in enumerate(use.outputs):
            _join(made, node, f"%{value}", f"out {place}", place)
        for role, held in use.weights:
            turned = " transposed" if held.transposed else ""
            _join(made, f"weight {held.key}", node, f"{role}{turned}", 0)
    return made


def _join(made: nx.DiGraph[str], source: str, target: str, role: str, place: int) -> None:
    """Join two nodes by a node of its own for the edge, since one pair may be joined twice."""
    middle = f"{source} > {target} {role} {place}"
    made.add_node(middle, label=("edge", role))
    made.add_edge(source, middle)
    made.add_edge(middle, target)


def _use_label(use: Use) -> str:
    given = ", ".join(
        f"{name} = {value}" for name, value in use.primitive.arguments if isinstance(value, str | int | float)
    )
    rest = [item for item in use.primitive.arguments if not isinstance(item[1], str | int | float | None)]
    inside = f" {rest!r}" if rest else ""
    return f"`{use.word}({given})`{inside}"


def _weight_label(held: Held) -> str:
    weight = held.weight
    shape = " x ".join(map(str, weight.shape))
    names = [item.name for item in (*weight.maps, *weight.projections)]
    kinds = [f"{tensor.kind} {list(tensor.shape)}" for tensor in weight.stored]
    return f"a weight [{shape}]" + (f" under {' & '.join(names)}" if names else "") + f" ({', '.join(kinds)})"


def _exchangeable(use: Use) -> bool:
    """Whether the relations of a use are the same whatever the order of its inputs."""
    primitive = use.primitive
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    site = site.replace(tensors=operation(primitive.operation).tensors(site))
    relations = operation(primitive.operation).relate(site)
    if relations is None or len(relations) != 1 or len(use.inputs) < 2 or use.weights:
        return False
    (relation,) = relations
    if isinstance(relation, Sum):
        plain = len(set(relation.coefficients)) == 1
    elif isinstance(relation, Contract):
        plain = len(set(relation.powers)) < 2 and relation.bias is None
    else:
        return False
    return plain and len(relation.terms) == len(use.inputs) and len({t.labels for t in relation.terms}) == 1


def _weights(graph: Graph) -> dict[str, Held]:
    return {f"weight {held.key}": held for use in flatten(graph).uses for _, held in use.weights}


def _keys(held: Held) -> list[str]:
    """Return the keys of what a weight stores, and its own where a state may hold the few values that it takes."""
    names = [tensor.name for tensor in held.weight.stored]
    if held.weight.name not in names and any(item.has_own_gradient for item in held.weight.maps):
        names.append(held.weight.name)
    return [state_key(held.path, name) for name in names]


def _is_same(first: nx.DiGraph[str], second: nx.DiGraph[str]) -> bool:
    labels: list[Mapping[str, Any]] = [
        {node: one.nodes[node]["label"] for node in one} for one in (first, second)
    ]
    return labels[0] == labels[1] and set(first.edges) == set(second.edges)
