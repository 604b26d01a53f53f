"""Loop-invariant code motion: what does not depend on the states of a loop is computed once, before it.

In: a block. Out: the same block, whose loops hold only statements that change from step to step. What draws random
numbers, or keeps statistics, stays where it is.
"""

from __future__ import annotations

from nnspec.compiler.ir import Block, Call, Instance, Loop, Primitive, Pullback, Statement, walked
from nnspec.compiler.operations.registry import operation


def hoisted(block: Block) -> Block:
    """Return the block with the loop-invariant statements of its loops before them."""
    if not any(isinstance(statement, Loop) for statement in block.body):
        return block
    body = (part for statement in block.body for part in _parted(block, statement))
    return block.replace(body=tuple(body))


def _parted(block: Block, statement: Statement) -> tuple[Statement, ...]:
    if not isinstance(statement, Loop):
        return (statement,)
    before, within = invariant(block, statement)
    return (*before, statement.replace(body=within))


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
