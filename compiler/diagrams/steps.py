"""The body of a block as a picture shows it: what gets a node of its own, and what stands in another's.

In: a typed block. Out: its statements in order, each with the functions of one input that alone read what it
gives and keep its shape (or flatten it): `dense 128 · relu` is one node. A block that comes to one such step
is a node too, not a frame around one. Copies of a repeat that look the same come as one run. The identity is
drawn nowhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from nnspec.compiler.diagrams.labels import is_plain
from nnspec.compiler.flat import function_primitive
from nnspec.compiler.ir import Apply, Block, Call, Child, Instance, Primitive, Statement, Type
from nnspec.dsl.node import Node


class Step(Node):
    """A statement and the functions that stand in its node."""

    statement: Statement
    functions: tuple[Apply, ...]

    @property
    def last(self) -> str:
        """The value that leaves the node (a statement of several outputs has no functions)."""
        return (self.functions[-1] if self.functions else self.statement).outputs[0]


class Reading:
    """Reads the blocks of one graph; what it found is kept, as blocks are met inside others again."""

    def __init__(self) -> None:
        self._steps: dict[int, tuple[Step, ...]] = {}
        self._only: dict[int, tuple[Step, Child | None] | None] = {}

    def steps(self, block: Block) -> tuple[Step, ...]:
        """Return what a block's picture consists of, in order."""
        if id(block) not in self._steps:
            nodes = {child.name for child in block.children if self._is_node(child)}
            self._steps[id(block)] = _steps(block, nodes)
        return self._steps[id(block)]

    def only_step(self, block: Block) -> tuple[Step, Child | None] | None:
        """Return the one step of a block and the child that it calls (None: an operation that owns nothing),
        if that is all there is."""
        if id(block) not in self._only:
            self._only[id(block)] = self._find_only_step(block)
        return self._only[id(block)]

    def _find_only_step(self, block: Block) -> tuple[Step, Child | None] | None:
        children = [child for child in block.children if not _is_pure(child)]
        if len(block.outputs) != 1 or len(children) > 1:
            return None
        found = self.steps(block)
        if len(found) != 1 or found[0].last != block.outputs[0].value:
            return None
        if not isinstance(found[0].statement, Apply | Call):
            return None
        child = children[0] if children else None
        return (found[0], child) if child is None or self._is_node(child) else None

    def _is_node(self, child: Child) -> bool:
        """Whether a call of a child is drawn as one node whatever the depth."""
        if child.repeated:
            return False
        instance = child.instances[0]
        return isinstance(instance, Primitive) or instance.function or self.only_step(instance) is not None


def runs(child: Child) -> tuple[tuple[Instance, int], ...]:
    """Return a child's instances, those in a row that look the same as one with their number."""
    found: list[tuple[Instance, int]] = []
    for instance in child.instances:
        if found and _alike(found[-1][0], instance):
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((instance, 1))
    return tuple(found)


def only_frame(block: Block) -> Child | None:
    """Return the one block that the body of a repeat consists of, if all it does is to pass its input on to that."""
    if not block.inline or len(block.body) != 1 or not isinstance(block.body[0], Call):
        return None
    call = block.body[0]
    child = block.child(call.child)
    passed = call.inputs == tuple(port.value for port in block.inputs)
    returned = call.outputs == tuple(port.value for port in block.outputs)
    is_block = isinstance(child.instances[0], Block)
    return child if passed and returned and is_block and not child.repeated else None


def output_paths(path: str, count: int) -> list[str]:
    """Return the paths of the values that a use gives, as a flat graph calls them."""
    return [path] if count == 1 else [f"{path}[{index}]" for index in range(count)]


def value_path(block: Block, value: str, prefix: str, given: Mapping[str, str]) -> str:
    """Return the path of the use that gives a value of a block whose instance has the path `prefix` (with its dot);
    `given` has those of its inputs."""
    statement = next((own for own in block.body if value in own.outputs), None)
    if statement is None:
        return given[value]
    place = statement.outputs.index(value)
    if not isinstance(statement, Call):
        return output_paths(f"{prefix}{statement.name}", len(statement.outputs))[place]
    child = block.child(statement.child)
    count = len(child.instances)
    number, output = (count - 1, place) if child.flow == "chain" else (place % count, place // count)
    instance = child.instances[number]
    path = f"{prefix}{child.name}[{number}]" if child.repeated else f"{prefix}{child.name}"
    if isinstance(instance, Primitive) or instance.function:
        return output_paths(path, len(instance.outputs))[output]
    passed = (value_path(block, own, prefix, given) for own in statement.inputs)
    inner = dict(zip((port.value for port in instance.inputs), passed, strict=True))
    return value_path(instance, instance.outputs[output].value, f"{path}.", inner)


def _alike(one: Instance, other: Instance) -> bool:
    """Whether two instances are the same in a picture: all but the names of axes, which tell where from."""
    if one is other:
        return True
    if isinstance(one, Primitive):
        return isinstance(other, Primitive) and _look(one) == _look(other)
    return (
        isinstance(other, Block)
        and one.name == other.name
        and (one.inputs, one.outputs) == (other.inputs, other.outputs)
        and len(one.body) == len(other.body)
        and all(map(_same_statement, one.body, other.body))
        and len(one.children) == len(other.children)
        and all(map(_same_child, one.children, other.children))
        and [t.shape for _, t in one.types] == [t.shape for _, t in other.types]
    )


def _look(primitive: Primitive) -> tuple[object, ...]:
    shapes = [given.shape for given in (*primitive.inputs, *primitive.outputs)]
    return primitive.operation, primitive.arguments, primitive.weights, shapes


def _same_statement(one: Statement, other: Statement) -> bool:
    if isinstance(one, Apply) and isinstance(other, Apply):
        same = (one.name, one.inputs, one.outputs) == (other.name, other.inputs, other.outputs)
        return same and _alike(one.operation, other.operation)
    return one == other


def _same_child(one: Child, other: Child) -> bool:
    return (one.name, one.repeated, one.flow, one.shared, len(one.instances)) == (
        other.name,
        other.repeated,
        other.flow,
        other.shared,
        len(other.instances),
    ) and all(map(_alike, one.instances, other.instances))


def _steps(block: Block, nodes: set[str]) -> tuple[Step, ...]:
    """The steps of a block; `nodes` are the children that are drawn as one node."""
    types, readers = dict(block.types), _readers(block)
    body = tuple(_as_operation(block, statement) for statement in block.body)
    functions: dict[int, list[Apply]] = {}  # by the place of the statement whose node they stand in
    place: dict[str, int] = {}  # of the statement whose node a value leaves, if functions may join it
    made: dict[str, int] = {}  # of the statement that a value comes from
    merged: set[int] = set()
    for index, statement in enumerate(body):
        taken = statement.inputs[0] if statement.inputs else ""
        if isinstance(statement, Apply) and is_copy(statement) and taken in made:
            functions.setdefault(made[taken], []).append(statement)
            merged.add(index)
            made[statement.outputs[0]] = made[taken]
            if taken in place and readers[taken] == 1:
                place[statement.outputs[0]] = place[taken]
            continue
        made.update(dict.fromkeys(statement.outputs, index))
        head = place.get(taken)
        if head is not None and isinstance(statement, Apply) and _joins(statement, types, readers):
            functions.setdefault(head, []).append(statement)
            merged.add(index)
            place[statement.outputs[0]] = made[statement.outputs[0]] = head
        elif len(statement.outputs) == 1 and _is_node(statement, nodes):
            place[statement.outputs[0]] = index
    return tuple(
        Step(statement=statement, functions=tuple(functions.get(index, ())))
        for index, statement in enumerate(body)
        if index not in merged
    )


def _is_node(statement: Statement, nodes: set[str]) -> bool:
    """Whether a statement is drawn as one node, in which functions behind it may stand."""
    return isinstance(statement, Apply) or (isinstance(statement, Call) and statement.child in nodes)


def _as_operation(block: Block, statement: Statement) -> Statement:
    """An activation that stores nothing looks like any other function."""
    if not isinstance(statement, Call):
        return statement
    child = block.child(statement.child)
    instance = child.instances[0]
    if not isinstance(instance, Block) or not _is_pure(child):
        return statement
    return Apply(
        name=child.name,
        operation=function_primitive(instance),
        inputs=statement.inputs,
        outputs=statement.outputs,
        span=statement.span,
    )


def _is_pure(child: Child) -> bool:
    instance = child.instances[0]
    return not child.repeated and isinstance(instance, Block) and instance.is_pure


def is_copy(statement: Apply) -> bool:
    """Return whether a statement gives its input as it is, which needs no picture."""
    return statement.operation.operation == "identity"


def _joins(statement: Apply, types: dict[str, Type], readers: dict[str, int]) -> bool:
    """A function without arguments that keeps or flattens the shape, of a value that nothing else reads."""
    if len(statement.inputs) != 1 or len(statement.outputs) != 1 or readers[statement.inputs[0]] != 1:
        return False
    if not is_plain(statement.operation):
        return False
    taken, given = types[statement.inputs[0]].shape, types[statement.outputs[0]].shape
    sizes = [size for size in taken if isinstance(size, int)]
    return taken == given or (len(sizes) == len(taken) and given == (prod(sizes),))


def _readers(block: Block) -> dict[str, int]:
    """How often each value of a block is read."""
    count: dict[str, int] = {}
    for statement in block.body:
        for value in statement.inputs:
            count[value] = count.get(value, 0) + 1
    for port in block.outputs:
        count[port.value] = count.get(port.value, 0) + 1
    return count
