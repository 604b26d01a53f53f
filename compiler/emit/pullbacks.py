"""Vector-Jacobian products as code: the transposed form where operations know it, else `torch.func.vjp`.

In: the writer of a body, and a pullback. Out: its lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.emit.loops import settle_weights, write_function
from nnspec.compiler.emit.text import lines
from nnspec.compiler.ir import Apply, Call, Port, Primitive, Pullback, Statement
from nnspec.compiler.operations.registry import operation

if TYPE_CHECKING:
    from nnspec.compiler.emit.body import Body


def write_pullback(body: Body, index: int, pullback: Pullback) -> None:
    """Write a pullback: as one expression if every step back is one, else through a function."""
    settle_weights(body, pullback.through)
    text = _direct(body, pullback)
    if text is not None:
        (target,) = body.targets(index, pullback)
        body.lines += lines(f"{target} = {text}")
        return
    ports = tuple(Port(name=f"at_{place}", value=value) for place, value in enumerate(pullback.at))
    name = write_function(body, "through", pullback.through, ports, (Port(name="end", value=pullback.end),))
    at, (cotangent,) = body.read(pullback.at), body.read((pullback.cotangent,))
    back = body.names.claim("back")
    body.lines += lines(f"_, {back} = torch.func.vjp({', '.join((name, *at))})")
    targets = body.targets(index, pullback)
    left = f"({targets[0]},)" if len(targets) == 1 else ", ".join(targets)
    body.lines += lines(f"{left} = {back}({cotangent})")


def _direct(body: Body, pullback: Pullback) -> str | None:
    """Return the expression of a chain of operations that each have one; None otherwise."""
    if len(pullback.at) > 1:
        return None
    made = {value: statement for statement in pullback.through for value in statement.outputs}
    value, text = pullback.end, body.variables[pullback.cotangent]
    while value not in pullback.at:
        statement = made.get(value)
        found = None if statement is None else _step_back(body, statement, text)
        if statement is None or found is None:
            return None
        value, text = statement.inputs[0], found
    return text


def _step_back(body: Body, statement: Statement, cotangent: str) -> str | None:
    """Return the product of a cotangent with the Jacobian of one operation of one input."""
    if not isinstance(statement, Apply | Call) or len(statement.inputs) != 1:
        return None
    weights: dict[str, str] = {}
    if isinstance(statement, Apply):
        primitive = statement.operation
    else:
        child = body.children[statement.child]
        instance = child.instances[0]
        if child.repeated or not isinstance(instance, Primitive):
            return None
        if any(body.product(weight) for weight in instance.weights):
            return None
        primitive = instance
        owner = body.form.owner(child.name)
        weights = {w.name: body.weight(owner, w, inline=True) for w in primitive.weights}
    given = body.variables.get(statement.inputs[0])
    return operation(primitive.operation).pullback(body.site(primitive), given, cotangent, weights)
