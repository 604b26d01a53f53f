"""What the equations of a rule see of a network: its junctions, and the parameters that are at none.

In: a typed graph. Out: `Scheme`. A `Junction` is one use of a linear map with a weight: of a feed-forward network a
synapse of `compiler/synapses.py`, of a system one connection between groups of neurons. Imports no torch.
"""

from __future__ import annotations

from nnspec.compiler.flat import Flat, Held, Use, flatten
from nnspec.compiler.ir import Graph, Primitive, Type, state_key
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract
from nnspec.compiler.rewrites.system import is_system
from nnspec.compiler.synapses import Synapse, Wiring, linear_weight, synapses
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span


class Junction(Node):
    """One use of a linear map. Types are without the batch."""

    path: str
    weight: Held  # of a bias by itself, that bias
    bias: Held | None
    primitive: Primitive
    names: tuple[str, str | None]  # what the operation calls the weight and the bias
    pre: Type
    drive: Type
    matrix: bool  # drive[.., o] = sum_i weight[o, i] pre[.., i]: an outer product is its weight's gradient
    bias_axis: int | None  # the axis of the drive that the bias goes along, without the batch
    output: int | None = None  # which of the network's outputs its post is
    post: int | None = None  # its post, in the flat graph
    end: int | None = None  # what the outermost instance that it stands in gives, in the flat graph
    map: Graph | None = None  # of a connection: its steps as a network, whose weights are those in force
    both: bool = False  # of a connection: its weight is used both ways
    within: bool = False  # and leads from some states to themselves, so that it holds each pair twice
    misfits: tuple[str, ...] = ()  # why a rule that needs `post` to be a function of the drive cannot be used
    span: Span | None = None

    @property
    def has_weight(self) -> bool:
        """Whether it is more than a bias by itself."""
        return bool(self.names[0])

    @property
    def keys(self) -> tuple[str, ...]:
        """The state-dict keys of what the weight stores."""
        return stored_keys(self.weight) if self.has_weight else ()

    @property
    def bias_keys(self) -> tuple[str, ...]:
        """The state-dict keys of what the bias stores."""
        return () if self.bias is None else stored_keys(self.bias)


class Scheme(Node):
    """A network as a rule sees it. `wiring` is None for a system."""

    graph: Graph
    junctions: tuple[Junction, ...]
    wiring: Wiring | None = None
    read: tuple[
        int, ...
    ] = ()  # values of the flat graph that the loss reads: the outputs, and what else it names

    @property
    def keys(self) -> frozenset[str]:
        """The keys of all that is at a junction."""
        return frozenset(key for own in self.junctions for key in (*own.keys, *own.bias_keys))


def _layered(graph: Graph, read: Graph) -> Scheme:
    wiring = synapses(graph)
    flat = wiring.flat
    found = tuple(
        Junction(
            path=own.path,
            weight=own.weight,
            bias=own.bias,
            primitive=flat.uses[own.use].primitive,
            names=_names(flat.uses[own.use].primitive),
            pre=flat.values[own.pre].type,
            drive=flat.values[own.drive].type,
            matrix=is_matrix(flat.uses[own.use]),
            bias_axis=_bias_axis(flat.uses[own.use]),
            output=flat.outputs.index(own.post) if own.post in flat.outputs else None,
            post=own.post,
            end=_end(flat, own),
            misfits=own.misfits,
            span=flat.uses[own.use].span,
        )
        for own in wiring.synapses
    )
    returned = flat.outputs if read is graph else flatten(read).outputs
    return Scheme(graph=graph, junctions=found, wiring=wiring, read=returned)


def _end(flat: Flat, own: Synapse) -> int | None:
    """Return what the outermost instance around a synapse gives: its post if it stands alone, None if it gives several."""
    module, inner, _ = own.path.partition(".")
    if not inner:
        return own.post
    inside = {number for number, use in enumerate(flat.uses) if use.path.startswith(f"{module}.")}
    made = {value for number in inside for value in flat.uses[number].outputs}
    read = {value for number, use in enumerate(flat.uses) if number not in inside for value in use.inputs}
    ends = made & (read | set(flat.outputs))
    return ends.pop() if len(ends) == 1 else None


def _names(primitive: Primitive) -> tuple[str, str | None]:
    found = linear_weight(primitive)
    assert found is not None
    held = {weight.name for weight in primitive.weights}
    name = next(term.tensor for term in found.terms if term.tensor in held)
    return name, None if found.bias is None else found.bias.tensor


def scheme(graph: Graph, read: Graph | None = None) -> Scheme:
    """Return what rules see of a typed graph. `read` is the same with all that the loss reads among its outputs."""
    if not is_system(graph):
        return _layered(graph, read or graph)
    from nnspec.compiler.rules.settled.scheme import system_scheme

    return system_scheme(graph)


def stored_keys(held: Held) -> tuple[str, ...]:
    """Return the state-dict keys of what a weight stores and learns."""
    return tuple(
        state_key(held.path, tensor.name) for tensor in held.weight.stored if tensor.kind == "learned"
    )


def contraction(use: Use) -> Contract | None:
    """Return the relation of a use that is one plain contraction of its input with a weight."""
    primitive = use.primitive
    tensors = operation(primitive.operation).tensors(_site(primitive))
    site = _site(primitive).replace(tensors=tensors)
    relations = operation(primitive.operation).relate(site) or ()
    if len(relations) == 1 and isinstance(relations[0], Contract) and relations[0].output.tensor == "out0":
        return relations[0]
    return None


def is_matrix(use: Use) -> bool:
    """Return whether a use multiplies the last axis of its input by a matrix."""
    relation = contraction(use)
    if relation is None or relation.powers or len(relation.terms) != 2:
        return False
    terms = {term.tensor: term.labels for term in relation.terms}
    inner = terms.pop("in0", None)
    (weight,) = terms.values()
    if not inner or len(weight) != 2 or weight[1] != inner[-1]:
        return False
    return relation.output.labels == (*inner[:-1], weight[0])


def _bias_axis(use: Use) -> int | None:
    relation = contraction(use)
    if relation is None or relation.bias is None:
        return None
    labels = relation.bias.labels
    return relation.output.labels.index(labels[0]) if len(labels) == 1 else None


def _site(primitive: Primitive) -> Site:
    return Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
