"""The tensors of a typed graph by their state-dict keys, and which of them a selector means."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnspec.compiler.ir import Graph, Tensor, instances, state_key
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.selectors import selected
from nnspec.compiler.values import Refused
from nnspec.dsl.errors.training import NotASelector, NothingLearned
from nnspec.dsl.syntax import (
    Expression,
    Index,
    ListOf,
    Member,
    Name,
    Pattern,
    Selection,
    Selector,
    SelectorPart,
)

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


def tensors(graph: Graph) -> Iterator[tuple[str, Tensor]]:
    """Yield every stored tensor with its key, in construction order."""
    for located in instances(graph.root):
        for weight in located.primitive.weights:
            for tensor in weight.stored:
                yield state_key(located.path, tensor.name), tensor


def learned_keys(graph: Graph) -> tuple[str, ...]:
    """Return the keys of all that a network learns."""
    return tuple(key for key, tensor in tensors(graph) if tensor.kind == "learned")


def tracked_keys(graph: Graph) -> tuple[str, ...]:
    """Return the keys of the numbers that say how far training has come."""
    return tuple(
        state_key(located.path, tensor.name)
        for located in instances(graph.root)
        if operation(located.primitive.operation).tracks
        for weight in located.primitive.weights
        for tensor in weight.stored
    )


def selected_keys(
    graph: Graph, selector: Selector, evaluator: Evaluator, kinds: tuple[str, ...] = ("learned",)
) -> tuple[str, ...]:
    """Return the keys of the tensors of some kinds that a selector means; Refused if there are none."""
    found: list[str] = []
    for path, primitive, name in selected(graph.root, selector, evaluator):
        weight = next((weight for weight in primitive.weights if weight.name == name), None)
        stored = () if weight is None else weight.stored
        found += [state_key(path, tensor.name) for tensor in stored if tensor.kind in kinds]
    if not found:
        raise Refused(NothingLearned(selector.span, text="".join(selector.span.text.split())))
    return tuple(found)


def selector_of(expression: Expression) -> Selector:
    """Return the selector that an argument means: a path, a pattern such as `encoder.**`, a list of these."""
    items = expression.items if isinstance(expression, ListOf) else (expression,)
    chosen = tuple(Selection(parts=_parts(item), span=item.span) for item in items)
    return Selector(chosen=chosen, span=expression.span)


def _parts(expression: Expression) -> tuple[SelectorPart, ...]:
    match expression:
        case Pattern(parts=parts):
            return parts
        case Name(name=name):
            return (SelectorPart(name=name, span=expression.span),)
        case Member(of=of, name=name):
            return (*_parts(of), SelectorPart(name=name, span=expression.span))
        case Index(of=of, items=(item,)) if item.name is None:
            *before, last = _parts(of)
            return (*before, last.replace(index=item.value))
        case _:
            raise Refused(NotASelector(expression.span))
