"""Synapses: what a learning rule sees of a network.

In: a typed graph. Out: one `Synapse` for each use of a linear map that owns a weight: what comes in (`pre`), what
the map gives (`drive`), and `post`, the value behind the longest chain of elementwise functions of one input
after the map (the drive itself if there is none). Shared instances give one synapse a use; what a rule
computes for them adds up. Linear maps and elementwise functions are known by their relations, not by
name.
"""

from __future__ import annotations

from collections.abc import Iterable

from nnspec.compiler.flat import Flat, Held, Use, flatten
from nnspec.compiler.ir import Graph, Primitive
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Elementwise, Move, Relation, Sum, Term
from nnspec.dsl.node import Node


class Synapse(Node):
    """One use of a weight. Values and uses are numbers of the `Flat` graph."""

    path: str  # of the instance that is used: `repeat[1].block.conv2d`
    weight: Held  # the effective weight
    bias: Held | None
    use: int  # the linear map
    pre: int
    drive: int
    post: int
    functions: tuple[int, ...]  # the uses from drive to post, in order
    misfits: tuple[str, ...]  # why a rule that needs `post` to be a function of `drive` alone cannot be used


class Wiring(Node):
    """The synapses of a network, with the flat graph whose numbers they speak of."""

    flat: Flat
    synapses: tuple[Synapse, ...]


def synapses(graph: Graph) -> Wiring:
    """Return the synapses of a typed graph in the order of evaluation."""
    flat = flatten(graph)
    readers = _readers(flat)
    found = tuple(
        _synapse(flat, readers, index, use)
        for index, use in enumerate(flat.uses)
        if linear_weight(use.primitive) is not None
    )
    return Wiring(flat=flat, synapses=found)


def _synapse(flat: Flat, readers: dict[int, list[int]], index: int, use: Use) -> Synapse:
    contract = linear_weight(use.primitive)
    assert contract is not None
    held = dict(use.weights)
    weight = next(term.tensor for term in contract.terms if term.tensor in held)
    functions, post = _functions(flat, readers, use.outputs[0])
    bias = None if contract.bias is None else held.get(contract.bias.tensor)
    return Synapse(
        path=use.path,
        weight=held[weight],
        bias=bias,
        use=index,
        pre=use.inputs[0],
        drive=use.outputs[0],
        post=post,
        functions=functions,
        misfits=_misfits(flat, readers, use, functions),
    )


def _functions(flat: Flat, readers: dict[int, list[int]], drive: int) -> tuple[tuple[int, ...], int]:
    """Follow elementwise functions of one input for as long as each alone reads the value before it."""
    found: list[int] = []
    value = drive
    while len(readers[value]) == 1 and value not in flat.outputs:
        (reader,) = readers[value]
        if not _is_elementwise(flat.uses[reader]):
            break
        found.append(reader)
        value = flat.uses[reader].outputs[0]
    return tuple(found), value


def _misfits(
    flat: Flat, readers: dict[int, list[int]], synapse: Use, functions: tuple[int, ...]
) -> tuple[str, ...]:
    reading = [flat.uses[reader] for reader in readers[synapse.outputs[0]]]
    if len(reading) > 1 and any(_is_elementwise(use) for use in reading):
        paths = " and ".join(f"`{use.path}`" for use in reading)
        return (f"the drive of `{synapse.path}` is read by {paths}, so its post is not one value",)
    if not functions and len(reading) == 1 and _multiplies(reading[0]):
        return (f"the drive of `{synapse.path}` enters the gate `{reading[0].path}`",)
    return ()


def _readers(flat: Flat) -> dict[int, list[int]]:
    """Return which uses read a value, but for those that penalties and updates of buffers alone need."""
    found: dict[int, list[int]] = {number: [] for number in range(len(flat.values))}
    apart = _needed(flat, flat.beside) - _needed(flat, flat.outputs)
    for index, use in enumerate(flat.uses):
        for value in use.inputs if index not in apart else ():
            found[value].append(index)
    return found


def _needed(flat: Flat, values: Iterable[int]) -> set[int]:
    """Return the uses on which values depend."""
    wanted, found = set(values), set[int]()
    for index in range(len(flat.uses) - 1, -1, -1):
        if wanted.intersection(flat.uses[index].outputs):
            found.add(index)
            wanted.update(flat.uses[index].inputs)
    return found


def relations(primitive: Primitive) -> tuple[Relation, ...]:
    """Return the relations of a typed primitive; none where it states none."""
    tensors = tuple(tensor for weight in primitive.weights for tensor in weight.stored)
    site = Site(
        arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs, tensors=tensors
    )
    return operation(primitive.operation).relate(site) or ()


def linear_weight(primitive: Primitive) -> Contract | None:
    """Return the contraction of the input with an owned weight, if the primitive is such a map.

    Axes may be parted before it, as by groups of channels: tensors are called what they are outside.
    """
    held = {weight.name for weight in primitive.weights}
    stated = relations(primitive) if held else ()
    outside = {relation.output: relation.input for relation in stated if isinstance(relation, Move)}
    for relation in stated:
        if isinstance(relation, Contract):
            terms = tuple(_called(term, outside) for term in relation.terms)
            tensors = {term.tensor for term in terms}
            if "in0" in tensors and tensors & held:
                bias = None if relation.bias is None else _called(relation.bias, outside)
                return relation.replace(terms=terms, bias=bias)
    return None


def _called(term: Term, outside: dict[str, str]) -> Term:
    return term.replace(tensor=outside.get(term.tensor, term.tensor))


def is_elementwise(primitive: Primitive) -> bool:
    """Return whether each entry of what comes out is a function of the same entry of the one input alone."""
    stated = relations(primitive) if len(primitive.inputs) == 1 else ()
    return bool(stated) and all(_is_entrywise(relation) for relation in stated)


def _is_elementwise(use: Use) -> bool:
    return not use.weights and is_elementwise(use.primitive)


def _is_entrywise(relation: Relation) -> bool:
    """Whether each entry of the output comes from the same entry of the one input (not so for pooling)."""
    if not isinstance(relation, (Elementwise, Sum)) or len(relation.terms) != 1:
        return False
    labels = relation.output.labels
    return relation.terms[0].labels == labels and not any(label.startswith("#") for label in labels)


def _multiplies(use: Use) -> bool:
    return (
        any(isinstance(r, Contract) and len(r.terms) > 1 for r in relations(use.primitive))
        and not use.weights
    )
