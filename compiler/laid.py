"""What an experiment says of the weights of its network: `constrain` and `initialize` laid on the finished network.

In: a graph before its shapes are known, and the lines with the modules they stand in, those of base experiments
first. Out: the graph that the experiment trains, as if a derived network said it; None after errors went to the bag.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.elaborate import Elaborator
from nnspec.compiler.ir import Graph
from nnspec.dsl.definitions import Definitions, Module
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.node import Node
from nnspec.dsl.syntax import Statement


class Laid(Node):
    """A line of an experiment about weights, and where it stands."""

    statement: Statement
    module: Module


def lay_over(
    graph: Graph, laid: tuple[Laid, ...], definitions: Definitions, bag: Bag, lets: dict[int, Any]
) -> Graph | None:
    """Return the graph with these lines laid on it."""
    elaborator = Elaborator(definitions, bag, lets)
    root = graph.root
    for line in laid:
        builder = BlockBuilder(graph.name, line.module, {}, frozenset())
        root = elaborator.constrained(root, (line.statement,), builder)
    return None if elaborator.failed else graph.replace(root=root)
