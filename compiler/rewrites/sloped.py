"""The network with slopes where its functions may be flat: each homogeneous f becomes f(x) - c f(-x).

In: a typed graph. Out: a graph with the same weights and the same symmetries, without dead units. f(x) - c f(-x) is
homogeneous of the same degree and, if f is flat on one side, is flat on none: of the positive part it makes a
leaky one. Functions that are odd or even are left alone, and so are those of no degree.
"""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.flat import function_primitive
from nnspec.compiler.ir import Apply, Block, Call, Graph, Instance, Primitive, Statement, Type
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Elementwise
from nnspec.compiler.verify import verify

SLOPE = 0.1  # c


def sloped(graph: Graph) -> Graph:
    """Return the network in which no homogeneous function has a flat side."""
    return verify(graph.replace(root=_Sloped().block(graph.root)))


class _Sloped:
    def __init__(self) -> None:
        self.known: dict[int, Block] = {}

    def block(self, given: Block) -> Block:
        if id(given) not in self.known:
            self.known[id(given)] = given if given.function else self.body(given)
        return self.known[id(given)]

    def body(self, given: Block) -> Block:
        children = tuple(
            child.replace(instances=tuple(map(self.instance, child.instances))) for child in given.children
        )
        types = dict(given.types)
        body: list[Statement] = []
        for statement in given.body:
            if not _may_be_flat(given, statement):
                body.append(statement)
                continue
            kind = types[statement.outputs[0]]
            for step in _mirrored(statement, kind):
                body.append(step)
                types.setdefault(step.outputs[0], kind)
        return given.replace(children=children, body=tuple(body), types=tuple(types.items()))

    def instance(self, given: Instance) -> Instance:
        return self.block(given) if isinstance(given, Block) else given


def _may_be_flat(block: Block, statement: Statement) -> bool:
    primitive = _function(block, statement)
    if primitive is None or [t.shape for t in primitive.inputs] != [t.shape for t in primitive.outputs]:
        return False
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    stated = operation(primitive.operation).relate(site) or ()
    match stated:
        case (Elementwise(terms=(_,), parity="none", degree=float() | int() as degree),):
            return degree >= 1 and float(degree).is_integer()
        case _:
            return False


def _function(block: Block, statement: Statement) -> Primitive | None:
    """Return the function of one value that a statement applies, None if it does something else."""
    if isinstance(statement, Apply):
        return statement.operation if len(statement.inputs) == len(statement.outputs) == 1 else None
    if not isinstance(statement, Call):
        return None
    child = block.child(statement.child)
    instance = child.instances[0]
    pure = isinstance(instance, Block) and instance.is_pure and not child.repeated
    return function_primitive(instance) if pure and isinstance(instance, Block) else None


def _mirrored(statement: Statement, kind: Type) -> Iterator[Statement]:
    """Yield the steps of y = f(x) - c f(-x); `kind` is the type of x and y."""
    (given,), (result,) = statement.inputs, statement.outputs
    turned, right, left, small = (f"{result}_{word}" for word in ("turned", "right", "left", "small"))
    yield _arithmetic("multiply", kind, (given,), turned, -1.0)
    yield statement.replace(outputs=(right,))
    yield _again(statement, turned, left)
    yield _arithmetic("multiply", kind, (left,), small, SLOPE)
    yield _arithmetic("subtract", kind, (right, small), result, None)


def _again(statement: Statement, given: str, result: str) -> Statement:
    found = statement.replace(inputs=(given,), outputs=(result,))
    return found.replace(name=f"{found.name}_left") if isinstance(found, Apply) else found


def _arithmetic(word: str, kind: Type, inputs: tuple[str, ...], result: str, constant: float | None) -> Apply:
    primitive = Primitive(
        operation=word,
        arguments=(("constant", constant), ("reversed", False)),
        inputs=(kind,) * len(inputs),
        outputs=(kind,),
    )
    return Apply(name=result, operation=primitive, inputs=inputs, outputs=(result,))
