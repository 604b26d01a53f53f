"""Whether states may be complex numbers: all that they pass through has a complex derivative.

In: a typed system. Out: the first thing that has none, in words; None if there is none. Linear and multilinear steps are
known by their relations, functions of entries by the number kind that they give for complex numbers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from nnspec.compiler.ir import Apply, Block, Call, Graph, Primitive, Pullback, Statement
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Middle, Move, Part, Sum
from nnspec.compiler.rules.settled.scheme import loop_of
from nnspec.compiler.synapses import relations

_LINEAR = (Contract, Middle, Move, Part, Sum)


def kink(graph: Graph) -> str | None:
    """Say what in a system is not holomorphic."""
    loop = loop_of(graph)
    if loop.clip is not None:
        low, high = loop.clip
        return f"the states are kept between {low:g} and {high:g}, which complex numbers have no order for"
    after = graph.root.body[graph.root.body.index(loop) + 1 :]
    for name in _kinks(graph.root, (*loop.body, *after)):
        return f"`{name}` is not holomorphic"
    return None


def _kinks(block: Block, body: Iterable[Statement]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, Pullback):
            yield from _kinks(block, statement.through)
        elif isinstance(statement, Apply):
            if not _is_holomorphic(statement.operation):
                yield statement.operation.word or statement.operation.operation
        elif isinstance(statement, Call):
            yield from _of_child(block, statement.child)


def _of_child(block: Block, name: str) -> Iterator[str]:
    for instance in block.child(name).instances:
        if isinstance(instance, Block):
            inner = list(_kinks(instance, instance.body))
            yield from [instance.name] if inner and instance.function else inner
        elif not _is_holomorphic(instance):
            yield name


def _is_holomorphic(primitive: Primitive) -> bool:
    if operation(primitive.operation).is_holomorphic:
        return True
    stated = relations(primitive)
    return bool(stated) and all(isinstance(relation, _LINEAR) for relation in stated)
