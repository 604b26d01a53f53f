"""The loops of a network: where they stand, and how they are differentiated. Imports neither torch nor numpy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nnspec.compiler.ir import Block, Graph, Loop, Word
from nnspec.compiler.solvers import default_word
from nnspec.dsl.node import Node

IMPLICIT = "implicit differentiation"
UNROLLED = "backpropagation through time"
_MOST_STEPS = 3_000
EXACT = {"ift": IMPLICIT, "unrolled": UNROLLED}


class Placed(Node):
    """A loop, the block in whose body it stands, and the path of that block's instance ("" for the network)."""

    path: str
    block: Block
    loop: Loop


def loops(graph: Graph) -> tuple[Placed, ...]:
    """Return the loops of a network in the order of its instances; one in a repeated block comes once an instance."""
    return tuple(_loops(graph.root, ""))


def _loops(block: Block, path: str) -> Iterator[Placed]:
    for statement in block.body:
        if isinstance(statement, Loop):
            yield Placed(path=path, block=block, loop=statement)
    for child in block.children:
        for index, instance in enumerate(child.instances):
            if isinstance(instance, Block):
                own = f"{child.name}[{index}]" if child.repeated else child.name
                yield from _loops(instance, f"{path}.{own}" if path else own)


def gradient_kind(graph: Graph) -> str:
    """Return what the exact gradient of a network is called."""
    kinds = {EXACT.get(placed.loop.gradient.name, IMPLICIT) for placed in loops(graph)}
    return " and ".join(sorted(kinds)) or "backpropagation"


def exactly_differentiated(graph: Graph, tolerance: float) -> Graph:
    """Return the network whose loops settle to a tolerance and are differentiated there, however coarsely it does itself.

    Loops that are unrolled are as they are: their gradient is that of their very steps.
    """
    return changed(graph, lambda loop: _exact(loop, tolerance)) if loops(graph) else graph


def unrolled(graph: Graph) -> Graph:
    """Return the network whose loops are differentiated through the very steps that they take."""
    through = default_word("unrolled")
    return changed(graph, lambda loop: loop.replace(gradient=through)) if loops(graph) else graph


def changed(graph: Graph, change: Callable[[Loop], Loop]) -> Graph:
    """Return the network with another loop in the place of each; instances that were one object stay one."""
    return graph.replace(root=_changed(graph.root, change, {}))


def _changed(block: Block, change: Callable[[Loop], Loop], known: dict[int, Block]) -> Block:
    if id(block) not in known:
        children = tuple(
            child.replace(
                instances=tuple(
                    _changed(i, change, known) if isinstance(i, Block) else i for i in child.instances
                )
            )
            for child in block.children
        )
        body = tuple(change(one) if isinstance(one, Loop) else one for one in block.body)
        known[id(block)] = block.replace(children=children, body=body)
    return known[id(block)]


def _exact(loop: Loop, tolerance: float) -> Loop:
    if loop.gradient.name == "unrolled":
        return loop
    steps = max(_MOST_STEPS, int(loop.solver.options["steps"]))
    gradient = Word(name="ift", arguments=(("steps", _MOST_STEPS), ("tolerance", tolerance)))
    arguments = {**loop.solver.options, "steps": steps, "tolerance": tolerance}
    solver = loop.solver.replace(arguments=tuple(sorted(arguments.items())))
    return loop.replace(solver=solver, gradient=gradient.replace(span=loop.gradient.span))


def forward_kind(graph: Graph) -> str:
    """Say how a network computes what it is scored by: in one pass, or by states that settle, and how these do."""
    found = dict.fromkeys(_solved(placed.loop) for placed in loops(graph))
    return f"settled by {' and '.join(found)}" if found else "feed-forward"


def _solved(loop: Loop) -> str:
    steps = loop.solver.options.get("steps")
    return loop.solver.name if steps is None else f"{loop.solver.name}, {steps} steps"
