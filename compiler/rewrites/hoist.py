"""Loop-invariant code motion: what does not depend on the states of a loop is computed once, before it.

In: a block. Out: the same block, whose loops hold only statements that change from step to step. What draws random
numbers, or keeps statistics, stays where it is.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import (
    Apply,
    Block,
    Call,
    Instance,
    Loop,
    Primitive,
    Pullback,
    Statement,
    only_plain,
    walked,
)
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Relation, Sum


def hoisted(block: Block) -> Block:
    """Return the block with the loop-invariant statements of its loops before them."""
    if not any(isinstance(statement, Loop) for statement in block.body):
        return block
    body = (part for statement in block.body for part in _parted(block, statement))
    return block.replace(body=tuple(body))


def _parted(block: Block, statement: Statement) -> tuple[Statement, ...]:
    if not isinstance(statement, Loop):
        return (statement,)
    statement = _without_copies(statement)
    before, within = invariant(block, statement)
    return (*before, statement.replace(body=within))


def copies(loop: Loop) -> dict[str, str]:
    """Return the values of a loop that are made as copies, and what they are copies of.

    Of an operation that gives what it takes, of a way back through nothing, of a product with 1.
    """
    same: dict[str, str] = {}
    ones: set[str] = set()

    def look(statements: tuple[Statement, ...]) -> None:
        for statement in statements:
            if isinstance(statement, Pullback):
                look(statement.through)
            found = _copied(reading(statement, same), same, ones)
            if found is not None:
                same[statement.outputs[0]] = found

    look(loop.body)
    return same


def _copied(statement: Statement, same: dict[str, str], ones: set[str]) -> str | None:
    """Return the value that a statement copies, if it does; note those that are 1 everywhere."""
    if isinstance(statement, Pullback):
        end = same.get(statement.end, statement.end)
        return statement.cotangent if statement.at == (end,) else None
    if not isinstance(statement, Apply):
        return None
    primitive = statement.operation
    if operation(primitive.operation).constant(primitive.options) == 1.0:
        ones.update(statement.outputs)
        return None
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    found = operation(primitive.operation).relate(site) or ()
    return _unchanged(statement, found[0], ones) if len(found) == 1 else None


def _unchanged(statement: Apply, relation: Relation, ones: set[str]) -> str | None:
    """Return the one input that an operation of this relation gives as it is."""
    (out,) = statement.operation.outputs
    if isinstance(relation, Sum) and relation.coefficients == (1.0,):
        left = [(statement.inputs[0], relation.terms[0])]
    elif isinstance(relation, Contract) and set(relation.powers) <= {1} and relation.bias is None:
        named = zip(statement.inputs, relation.terms, strict=False)
        left = [(value, term) for value, term in named if value not in ones]
        if len(relation.terms) != len(statement.inputs):
            return None
    else:
        return None
    same = [value for value, term in left if term.labels == relation.output.labels]
    kinds = dict(zip(statement.inputs, statement.operation.inputs, strict=True))
    return same[0] if len(left) == 1 and same and kinds[same[0]] == out else None


def _without_copies(loop: Loop) -> Loop:
    """Return the loop without operations that give what they take, as a division by a time constant of 1."""
    same = copies(loop)
    if not same:
        return loop

    def kept(statements: tuple[Statement, ...]) -> tuple[Statement, ...]:
        found = (reading(statement, same) for statement in statements if not same.keys() & statement.outputs)
        return tuple(
            own.replace(through=kept(own.through), end=same.get(own.end, own.end))
            if isinstance(own, Pullback)
            else own
            for own in found
        )

    def named(value: str | None) -> Any:
        return None if value is None else same.get(value, value)

    carried = tuple(s.replace(after=named(s.after), driven=named(s.driven)) for s in loop.carried)
    connections = tuple(
        c.replace(taken=named(c.taken), given=named(c.given), sources=tuple(map(named, c.sources)))
        for c in loop.connections
    )
    return loop.replace(body=kept(loop.body), carried=carried, connections=connections)


def reading(statement: Statement, new: dict[str, str]) -> Statement:
    """Return a statement that reads new values in the place of others."""

    def named(values: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(new.get(value, value) for value in values)

    if isinstance(statement, Pullback):
        through = tuple(reading(own, new) for own in statement.through)
        (cotangent,) = named((statement.cotangent,))
        return statement.replace(through=through, at=named(statement.at), cotangent=cotangent)
    plain = only_plain(statement)
    return plain.replace(inputs=named(plain.inputs))


def invariant(block: Block, loop: Loop) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
    """Return the statements of a loop's body that no step changes, and the others."""
    changing = {state.before for state in loop.carried}
    kept = {
        value for state in loop.carried for value in (state.after, state.driven)
    }  # pushes may enter there
    before: list[Statement] = []
    within: list[Statement] = []
    for statement in loop.body:
        if isinstance(statement, Pullback):
            fixed, through = _through(block, statement, changing)
            before.extend(fixed)
            statement = statement.replace(through=through)
        if (
            changing.intersection(statement.inputs)
            or kept.intersection(statement.outputs)
            or _is_random(block, statement)
        ):
            within.append(statement)
            changing.update(statement.outputs)
        else:
            before.append(statement)
    return tuple(before), tuple(within)


def _through(
    block: Block, pullback: Pullback, changing: set[str]
) -> tuple[tuple[Statement, ...], tuple[Statement, ...]]:
    """Return the statements that are pulled back which no step changes, and the others."""
    moved = {*changing, *pullback.at}
    before: list[Statement] = []
    within: list[Statement] = []
    for statement in pullback.through:
        if moved.intersection(statement.inputs) or _is_random(block, statement):
            within.append(statement)
            moved.update(statement.outputs)
        else:
            before.append(statement)
    return tuple(before), tuple(within)


def _is_random(block: Block, statement: Statement) -> bool:
    return any(_moves(instance) for inner in walked((statement,)) for instance in _used(block, inner))


def _used(block: Block, statement: Statement) -> tuple[Instance, ...]:
    if isinstance(statement, Call):
        return block.child(statement.child).instances
    found = getattr(statement, "operation", None)
    return (found,) if isinstance(found, Primitive) else ()


def _moves(instance: Instance) -> bool:
    """Return whether a second use may give something else: random numbers, or statistics of the batch."""
    if isinstance(instance, Primitive):
        rule = operation(instance.operation)
        return rule.draws or rule.batch_coupled
    if instance.updates:
        return True
    return any(_moves(own) for child in instance.children for own in child.instances)
