"""What must hold of every typed graph, as a table of invariants.

In: a typed graph, from the type stage or from a rewrite. A broken invariant is our own bug, never the
user's: `verify` raises InternalError naming all that are broken. Tests and rewrites run it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from nnspec.compiler.ir import (
    Apply,
    Block,
    Call,
    Graph,
    Instance,
    Loop,
    Primitive,
    Pullback,
    Statement,
    walked,
)
from nnspec.compiler.operations.registry import operations
from nnspec.dsl.diagnostics import InternalError

Invariant = Callable[[Block], Iterator[str]]


def verify(graph: Graph) -> Graph:
    """Return the graph if every invariant holds, else raise InternalError."""
    broken = list(violations(graph))
    if broken:
        shown = "; ".join(broken[:5])
        raise InternalError(f"the graph of {graph.name} is broken: {shown}")
    return graph


def violations(graph: Graph) -> Iterator[str]:
    """Yield what is wrong, naming block and invariant."""
    for block in _blocks(graph.root, {}):
        for name, invariant in INVARIANTS:
            for found in invariant(block):
                yield f"{block.name}: {name}: {found}"


def _blocks(block: Block, seen: dict[int, Block]) -> Iterator[Block]:
    """Yield each different block once, with those of constraints."""
    if id(block) in seen:
        return
    seen[id(block)] = block
    yield block
    for primitive in _primitives(block):
        for weight in primitive.weights:
            for item in (*weight.maps, *weight.projections, *weight.penalties):
                for inner in (item.block, getattr(item, "gradient", None)):
                    if inner is not None:
                        yield from _blocks(inner, seen)
    for child in block.children:
        for instance in child.instances:
            if isinstance(instance, Block):
                yield from _blocks(instance, seen)


def _primitives(block: Block) -> Iterator[Primitive]:
    for statement in walked(block.body):
        if isinstance(statement, Apply):
            yield statement.operation
    for child in block.children:
        for instance in child.instances:
            if isinstance(instance, Primitive):
                yield instance


def _defined_before_use(block: Block) -> Iterator[str]:
    known = {port.value for port in block.inputs}
    yield from _undefined(block.body, known)
    yield from (f"output `{port.name}`" for port in block.outputs if port.value not in known)


def _undefined(body: Iterable[Statement], known: set[str]) -> Iterator[str]:
    """Yield values that are read before they are known; what a body inside made is not known behind it."""
    for statement in body:
        yield from (f"`{value}`" for value in statement.inputs if value not in known)
        if isinstance(statement, Loop):
            inside = {*known, *(state.before for state in statement.carried)}
            yield from _undefined(statement.body, inside)
            read = (value for state in statement.carried for value in (state.after, state.driven))
            yield from (f"`{value}`" for value in read if value is not None and value not in inside)
        elif isinstance(statement, Pullback):
            inside = set(known)
            yield from _undefined(statement.through, inside)
            if statement.end not in inside:
                yield f"`{statement.end}`"
        known.update(statement.outputs)


def _one_name_one_value(block: Block) -> Iterator[str]:
    seen = {port.value for port in block.inputs}
    for statement in walked(block.body):
        own = [state.before for state in statement.carried] if isinstance(statement, Loop) else []
        for value in (*statement.outputs, *own):
            if value in seen:
                yield f"`{value}`"
            seen.add(value)


def _connections_fit(block: Block) -> Iterator[str]:
    """A connection is a child that the loop calls, between states and values that there are."""
    children = {child.name for child in block.children}
    for loop in (statement for statement in walked(block.body) if isinstance(statement, Loop)):
        inside = {value for own in walked(loop.body) for value in (*own.inputs, *own.outputs)}
        states = {state.name for state in loop.carried}
        for item in loop.connections:
            there = {*inside, *(state.before for state in loop.carried)}
            if item.child not in children or not {item.taken, item.given, *item.sources} <= there:
                yield f"`{item.child}`"
            if not set(item.targets) <= states:
                yield f"`{item.child}` leads to {item.targets}"


def _one_name_one_child(block: Block) -> Iterator[str]:
    names = [child.name for child in block.children]
    yield from (f"`{name}`" for name in sorted({name for name in names if names.count(name) > 1}))
    yield from (f"`{child.name}` is empty" for child in block.children if not child.instances)


def _calls_known(block: Block) -> Iterator[str]:
    children = {child.name for child in block.children}
    for statement in walked(block.body):
        if isinstance(statement, Call) and statement.child not in children:
            yield f"`{statement.child}`"


def _operations_known(block: Block) -> Iterator[str]:
    yield from (f"`{p.operation}`" for p in _primitives(block) if p.operation not in operations())


def _ports_match(block: Block) -> Iterator[str]:
    children = {child.name: child for child in block.children}
    for statement in walked(block.body):
        for taken, given in _arities(statement, children.get(getattr(statement, "child", ""))):
            if taken != given:
                yield f"{statement.inputs} -> {statement.outputs}"


def _arities(statement: Statement, child: object) -> Iterator[tuple[int, int]]:
    """Yield (what an instance has, what the statement says) for inputs and outputs."""
    if isinstance(statement, Loop | Pullback):
        if isinstance(statement, Pullback):
            yield len(statement.at), len(statement.outputs)
        return
    instances = (
        (statement.operation,) if isinstance(statement, Apply) else tuple(getattr(child, "instances", ()))
    )
    copies = len(instances) if getattr(child, "flow", "chain") != "chain" else 1
    for instance in instances:
        yield len(instance.inputs), len(statement.inputs)
        yield len(instance.outputs) * copies, len(statement.outputs)


def _types_present(block: Block) -> Iterator[str]:
    types = dict(block.types)
    values = [port.value for port in block.inputs]
    values += [value for statement in walked(block.body) for value in statement.outputs]
    loops = [statement for statement in walked(block.body) if isinstance(statement, Loop)]
    values += [state.before for loop in loops for state in loop.carried]
    yield from (f"`{value}`" for value in values if value not in types)


def _types_agree(block: Block) -> Iterator[str]:
    """Compare what an instance was typed with and the types of the values at its (first) call."""
    types = dict(block.types)
    for statement in walked(block.body):
        if isinstance(statement, Loop):
            for state in statement.carried:
                kinds = [
                    types[value].shape
                    for value in (state.before, state.after, state.result)
                    if value in types
                ]
                if any(shape != kinds[0] for shape in kinds):
                    yield f"{statement.name}.{state.name}: {kinds}"
        elif isinstance(statement, Apply):
            wanted = [kind.shape for kind in statement.operation.inputs]
            found = [types[value].shape for value in statement.inputs if value in types]
            if wanted != found:
                yield f"{statement.name}: {wanted} and {found}"


def _ties_exist(block: Block) -> Iterator[str]:
    owners: dict[str, Instance] = {
        child.name: child.instances[0] for child in block.children if child.instances
    }
    for primitive in _primitives(block):
        for weight in primitive.weights:
            if weight.tie is not None:
                owner = owners.get(weight.tie.child)
                names = [w.name for w in getattr(owner, "weights", ())]
                if weight.tie.weight not in names:
                    yield f"{weight.tie.child}.{weight.tie.weight}"
            elif not weight.stored:
                yield f"{primitive.operation}.{weight.name} is stored nowhere"


INVARIANTS: tuple[tuple[str, Invariant], ...] = (
    ("every value is defined before it is used", _defined_before_use),
    ("a value is defined once", _one_name_one_value),
    ("children have names of their own", _one_name_one_child),
    ("calls are of children that exist", _calls_known),
    ("operations are registered", _operations_known),
    ("as many values as ports", _ports_match),
    ("every value has a type", _types_present),
    ("operations stand at the types they were typed for", _types_agree),
    ("connections join states", _connections_fit),
    ("ties lead to weights that exist", _ties_exist),
)
