"""A network without the function at its output: what is analysed where that function hides differences.

A function that bends (it clips, saturates, or forgets a shift) makes different networks look alike. In: a typed
graph. Out: the same graph whose outputs are the values before such functions, and the paths of these. An
output that a block gives is left as it is.
"""

from __future__ import annotations

from nnspec.compiler.flat import function_primitive
from nnspec.compiler.ir import Apply, Block, Call, Graph, Plain, Port, Primitive
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Elementwise, Softmax


def before_output(graph: Graph) -> tuple[Graph, tuple[str, ...]]:
    """Return the network before the functions at its outputs, and what they are."""
    root = graph.root
    ports: list[Port] = []
    removed: list[str] = []
    for port in root.outputs:
        value = port.value
        while (found := _bending(root, value)) is not None:
            word, value = found
            removed.append(word)
        ports.append(port if value == port.value else port.replace(value=value, declared=None))
    if not removed:
        return graph, ()
    return graph.replace(root=root.replace(outputs=tuple(ports))), tuple(removed)


def _bending(root: Block, value: str) -> tuple[str, str] | None:
    """Return the function that makes a value, and the value before it, if it bends and owns nothing."""
    maker = next((item for item in root.body if value in item.outputs), None)
    maker = maker if isinstance(maker, Apply | Call) else None
    primitive = None if maker is None else _primitive(root, maker)
    if maker is None or primitive is None or primitive.weights or len(maker.inputs) != 1:
        return None
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    relations = operation(primitive.operation).relate(site) or ()
    bends = [
        isinstance(relation, Softmax)
        or (isinstance(relation, Elementwise) and len(relation.terms) == 1 and relation.shifts is None)
        for relation in relations
    ]
    body = primitive.options.get("body")
    word = body.name if isinstance(body, Block) else primitive.operation
    return (word, maker.inputs[0]) if any(bends) else None


def _primitive(root: Block, maker: Plain) -> Primitive | None:
    if isinstance(maker, Apply):
        return maker.operation
    child = root.child(maker.child)
    instance = child.instances[0]
    if len(child.instances) > 1 or (isinstance(instance, Block) and not instance.is_pure):
        return None
    return function_primitive(instance) if isinstance(instance, Block) else instance
