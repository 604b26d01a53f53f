"""Vector-Jacobian products as code: the transposed form where operations know it, else `torch.func.vjp`.

In: the writer of a body, and a pullback. Out: its lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.emit.loops import settle_weights, write_function
from nnspec.compiler.emit.text import lines
from nnspec.compiler.ir import Apply, Call, Port, Primitive, Pullback
from nnspec.compiler.operations.operation import Around
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
    chain: list[Apply | Call] = []
    made = {value: statement for statement in pullback.through for value in statement.outputs}
    value = pullback.end
    while value not in pullback.at:
        statement = made.get(value)
        if not isinstance(statement, Apply | Call) or len(statement.inputs) != 1:
            return None
        chain.append(statement)
        value = statement.inputs[0]
    found = [_instance(body, statement) for statement in chain]
    ones = body.is_ones(pullback.cotangent) and all(isinstance(statement, Apply) for statement in chain)
    text: str | None = "1.0" if ones and chain else body.read((pullback.cotangent,))[0]
    for statement, instance in zip(chain, found, strict=True):
        if text is None or instance is None:
            return None
        text = _step_back(body, statement, *instance, text)
    return text


def _instance(body: Body, statement: Apply | Call) -> tuple[Primitive, dict[str, str]] | None:
    """Return an operation with the texts of its weights; None for one that is no single matrix or map."""
    if isinstance(statement, Apply):
        return statement.operation, {}
    child = body.children[statement.child]
    instance = child.instances[0]
    if child.repeated or not isinstance(instance, Primitive):
        return None
    if any(body.product(weight) for weight in instance.weights):
        return None
    owner = body.form.owner(child.name)
    return instance, {w.name: body.weight(owner, w, inline=True) for w in instance.weights}


def _step_back(
    body: Body, statement: Apply | Call, primitive: Primitive, weights: dict[str, str], cotangent: str
) -> str | None:
    """Return the product of a cotangent with the Jacobian of one operation of one input."""
    given = body.variables.get(statement.inputs[0])
    around = Around(cotangent=cotangent, given=given, result=body.applied(primitive, statement.inputs[0]))
    return operation(primitive.operation).pullback(body.site(primitive), around, weights)
