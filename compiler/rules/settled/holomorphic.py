"""Whether states may be complex numbers: all that they pass through has a complex derivative.

In: a typed system. Out: the first thing that has none, in words, and its place in the network; None if there is none.
Linear and multilinear steps are known by their relations, functions of entries by the number kind that they give for
complex numbers. A slope within the equation of the units must have a closed form: autograd gives the conjugate of one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from nnspec.compiler.emit.form import site_of
from nnspec.compiler.ir import Apply, Block, Call, Graph, Primitive, Pullback, Statement
from nnspec.compiler.operations.operation import Around
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Middle, Move, Part, Sum
from nnspec.compiler.rules.settled.scheme import loop_of
from nnspec.compiler.synapses import relations
from nnspec.dsl.source import Span

_LINEAR = (Contract, Middle, Move, Part, Sum)


class Kink(NamedTuple):
    """What has no complex derivative: why, and where in the network."""

    why: str
    span: Span | None


def kink(graph: Graph) -> Kink | None:
    """Say what in a system is not holomorphic."""
    loop, root = loop_of(graph), graph.root
    if loop.clip is not None:
        low, high = loop.clip
        why = f"the states are kept between {low:g} and {high:g}, which complex numbers have no order for"
        return Kink(why, loop.span)
    if loop.energy is not None:
        why = "the states descend an energy, whose slope is taken at real states only; write the flow `s' = ..` out"
        return Kink(why, loop.span)
    after = root.body[root.body.index(loop) + 1 :]
    for statement in (*loop.body, *after):
        for why in _kinks(root, (statement,)):
            own = statement.span  # in a chain a place of its own; of an equation a place in the library
            is_here = own is not None and root.span is not None and own.source is root.span.source
            return Kink(why, own if is_here else loop.span)
    return None


def _kinks(block: Block, body: Iterable[Statement]) -> Iterator[str]:
    for statement in body:
        if isinstance(statement, Pullback):
            yield from _kinks(block, statement.through)
            yield from _without_slope(block, statement)
        elif isinstance(statement, Apply):
            if not _is_holomorphic(statement.operation):
                own = statement.operation
                yield _no(own.word or own.operation, own)
        elif isinstance(statement, Call):
            yield from _of_child(block, statement.child)


def _without_slope(block: Block, statement: Pullback) -> Iterator[str]:
    """Yield what is no linear map and whose slope has no closed form."""
    for own in statement.through:
        if not isinstance(own, Apply | Call):
            yield "a slope of a slope has no closed form, which complex states need"
            continue
        steps = (own.operation,) if isinstance(own, Apply) else block.child(own.child).instances
        for step in steps:
            if len(own.inputs) != 1 or not _has_slope(step):
                name = step.name if isinstance(step, Block) else step.word or step.operation
                yield f"the slope of `{name}` has no closed form, which complex states need"


def _has_slope(step: Block | Primitive) -> bool:
    if isinstance(step, Block):
        return False
    if _is_linear(step) or step.weights:
        return _is_linear(step)
    around = Around(cotangent="1.0", given="x", result=None)
    return operation(step.operation).pullback(site_of(step), around, {}) is not None


def _of_child(block: Block, name: str) -> Iterator[str]:
    for instance in block.child(name).instances:
        if isinstance(instance, Block):
            inner = list(_kinks(instance, instance.body))
            yield from [_no(instance.name)] if inner and instance.function else inner
        elif not _is_holomorphic(instance):
            yield _no(name, instance)


def _no(name: str, primitive: Primitive | None = None) -> str:
    rule = None if primitive is None else operation(primitive.operation)
    if primitive is None or rule is None or rule.takes != 1 or rule.kinks(primitive.options):
        return f"`{name}` is not holomorphic"
    return f"torch does not compute `{name}` for complex numbers"


def _is_holomorphic(primitive: Primitive) -> bool:
    return operation(primitive.operation).is_holomorphic or _is_linear(primitive)


def _is_linear(primitive: Primitive) -> bool:
    stated = relations(primitive)
    return bool(stated) and all(isinstance(relation, _LINEAR) for relation in stated)
