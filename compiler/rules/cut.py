"""A network as a function of values that its body makes: these become inputs, and what made them goes.

In: a typed graph and names of values of its body. Out: a graph whose inputs are those of the network and these values.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnspec.compiler.ir import Graph, Port, Statement


def cut(graph: Graph, values: Sequence[str]) -> Graph:
    """Return the graph with these values as further inputs, without the statements that only they needed."""
    root = graph.root
    inputs = (*root.inputs, *(Port(name=value, value=value) for value in values))
    needed = {port.value for port in root.outputs} - set(values)
    body: list[Statement] = []
    for statement in reversed(root.body):
        made = set(statement.outputs) - set(values)
        if made & needed:
            needed |= set(statement.inputs) - set(values)
            body.insert(0, statement)
    return graph.replace(root=root.replace(inputs=inputs, body=tuple(body)))


def showing(graph: Graph, values: Sequence[str]) -> Graph:
    """Return the graph whose outputs are these values of its body."""
    ports = tuple(Port(name=value, value=value) for value in values)
    return graph.replace(root=graph.root.replace(outputs=ports))
