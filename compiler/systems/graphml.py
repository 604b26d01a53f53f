"""Reads the nodes and edges of a GraphML file (graphml.graphdrawing.org), and nothing else of it.

In: the bytes of a file that nobody vouches for. Out: how many nodes there are, in the order of the file, and the
directed edges between them. Entities are refused, so that a small file cannot become a large one.
"""

from __future__ import annotations

from xml.parsers import expat

from nnspec.dsl.node import Node


class BadGraph(Exception):
    """The file is no such graph; the text says why."""


class Edges(Node):
    """The nodes are 0, 1, ..; an edge leads from the first to the second."""

    nodes: int
    edges: tuple[tuple[int, int], ...]


class _Reader:
    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.edges: list[tuple[str, str, bool]] = []
        self.directed = True
        self.graphs = 0

    def begin(self, name: str, attributes: dict[str, str]) -> None:
        match name.rpartition(":")[2]:
            case "graph":
                self.graphs += 1
                self.directed = attributes.get("edgedefault") == "directed"
                if self.graphs > 1:
                    raise BadGraph("it holds more than one graph")
            case "node":
                if attributes.get("id", "") in self.places or "id" not in attributes:
                    raise BadGraph(f"its node `{attributes.get('id', '')[:40]}` has no name of its own")
                self.places[attributes["id"]] = len(self.places)
            case "edge":
                directed = attributes.get("directed", str(self.directed).lower()) == "true"
                self.edges.append((attributes.get("source", ""), attributes.get("target", ""), directed))
            case "hyperedge":
                raise BadGraph("it has an edge of more than two nodes")
            case _:
                pass

    def refuse(self, *_: object) -> None:
        raise BadGraph("it declares entities, which are not read")


def read_graphml(text: bytes) -> Edges:
    """Return the graph of a file, undirected edges both ways; BadGraph if it is none."""
    reader = _Reader()
    parser = expat.ParserCreate()
    parser.StartElementHandler = reader.begin
    parser.EntityDeclHandler = reader.refuse
    try:
        parser.Parse(text, True)
    except expat.ExpatError as error:
        raise BadGraph(f"it is no XML ({error})") from None
    except ValueError:  # an encoding that expat does not know
        raise BadGraph("its encoding is not known") from None
    if not reader.graphs:
        raise BadGraph("it holds no graph")
    found: list[tuple[int, int]] = []
    for source, target, directed in reader.edges:
        for name in (source, target):
            if name not in reader.places:
                raise BadGraph(f"an edge names the node `{name[:40]}`, which it does not have")
        first, second = reader.places[source], reader.places[target]
        found.append((first, second))
        if not directed:
            found.append((second, first))
    return Edges(nodes=len(reader.places), edges=tuple(dict.fromkeys(found)))
