"""What a unit sends along its connections: the expression of `incoming(e)`, as a function of the unit's own state.

In: a system. Out: the function, which is the same for all units; None where they send their states themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nnspec.compiler.flat import function_primitive
from nnspec.compiler.ir import Apply, Block, Call, Port, Primitive, Statement, walked
from nnspec.compiler.synapses import is_elementwise

if TYPE_CHECKING:
    from torch import Tensor


@lru_cache(maxsize=16)
def sending(system: Any) -> Callable[..., Tensor] | None:
    """Return what a unit sends as a function of (weights, state); None for the state itself."""
    loop = system.loop
    makers = {value: statement for statement in walked(loop.body) for value in statement.outputs}
    befores = {state.before for state in loop.carried}
    for connection in loop.connections:
        if befores & set(connection.sources):
            steps = _steps(system.root, connection.taken, makers, befores)
            if not steps:
                return None
            return _function(system, steps)
    return None


def _steps(
    root: Block, value: str, makers: Mapping[str, Statement], befores: set[str]
) -> tuple[Statement, ...]:
    """Return the functions of single entries that lead from a state to what enters a connection."""
    found: list[Statement] = []
    while value not in befores:
        statement = makers.get(value)
        if statement is None or not isinstance(statement, Apply | Call):
            return ()
        if _is_function(root, statement):
            found.append(statement)
        given = [v for v in statement.inputs if v in befores or v in makers]
        if not given:
            return ()
        value = given[0]
    return tuple(reversed(found))


def _is_function(root: Block, statement: Apply | Call) -> bool:
    if isinstance(statement, Apply):
        return is_elementwise(statement.operation)
    instance = root.child(statement.child).instances[0]
    primitive = instance if isinstance(instance, Primitive) else function_primitive(instance)
    return is_elementwise(primitive)


def _function(system: Any, steps: tuple[Statement, ...]) -> Callable[..., Tensor]:
    """Return steps one after another as a function; of entries, so that any shape of states will do."""
    chained: list[Statement] = []
    value = steps[0].inputs[0]
    for step in steps:
        chained.append(step.replace(inputs=(value,)))
        (value,) = step.outputs
    run = system.made("rate", tuple(chained), (Port(name="s", value=steps[0].inputs[0]),), (value,))

    def computed(weights: Any, state: Any) -> Tensor:
        found = run(weights, state)
        return found[0] if isinstance(found, tuple) else found

    return computed
