"""The architecture of a network as a DOT text.

In: a typed graph. Out: DOT, the same for the same graph. Blocks become clusters, or single nodes below
`depth`; runs of equal copies of a repeat are drawn once with their number; elementwise functions stand in the
node of what they follow; shapes stand on the edges.
"""

from __future__ import annotations

from itertools import groupby

from nnspec.compiler.diagrams.labels import (
    SYMBOLS,
    badges,
    node_label,
    operation_text,
    parameter_count,
    quoted,
    shape_text,
)
from nnspec.compiler.diagrams.themes import FONT, THEMES, Theme
from nnspec.compiler.ir import Apply, Block, Call, Child, Graph, Instance, Primitive, Type
from nnspec.compiler.operations.registry import operation


def draw(graph: Graph, *, depth: int | None = None, theme: str = "light") -> str:
    """Return the DOT text of a network; blocks nested deeper than `depth` are one node each."""
    return _Drawing(graph, depth, THEMES[theme]).run()


class _Drawing:
    def __init__(self, graph: Graph, depth: int | None, theme: Theme) -> None:
        self.graph = graph
        self.depth = depth
        self.theme = theme
        self.nodes: list[str] = []
        self.edges: list[str] = []
        self.count = 0

    def run(self) -> str:
        root = self.graph.root
        types = dict(root.types)
        sources = {p.value: self.port(p.name, types[p.value], 0) for p in root.inputs}
        self.block(root, sources, 1)
        for port in root.outputs:
            node = self.port(port.name, None, 0)
            self.edge(sources[port.value], node, types[port.value])
        lines = [f"digraph {quoted(self.graph.name)} {{", *self.attributes(), *self.nodes, *self.edges, "}"]
        return "\n".join(lines) + "\n"

    def attributes(self) -> list[str]:
        theme = self.theme
        return [
            f'  graph [rankdir=TB, bgcolor="{theme.background}", pad=0.3, nodesep=0.35, ranksep=0.42,'
            f' fontname="{FONT}", fontsize=11, fontcolor="{theme.faint}"]',
            f'  node [shape=box, style="rounded,filled", penwidth=1, margin="0.16,0.07", height=0.36,'
            f' fontname="{FONT}", fontsize=11, fontcolor="{theme.text}"]',
            f'  edge [color="{theme.edge}", penwidth=1, arrowsize=0.6, fontname="{FONT}", fontsize=9,'
            f' fontcolor="{theme.faint}"]',
        ]

    # ----------------------------------------------------------------------------------------- small parts

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def node(self, label: str, level: int, colours: tuple[str, str], extra: str = "") -> str:
        name = self.name()
        pad = "  " * (level + 1)
        fill, border = colours
        self.nodes.append(f'{pad}{name} [label={label}, fillcolor="{fill}", color="{border}"{extra}]')
        return name

    def port(self, name: str, given: Type | None, level: int) -> str:
        notes = [] if given is None else [str(given.dtype)]
        label = node_label(name, notes if given and given.dtype != "real" else [], [], self.theme)
        return self.node(label, level, self.theme.port, ", shape=ellipse, style=filled, margin=0.06")

    def edge(self, source: str, target: str, given: Type) -> None:
        text = shape_text(given)
        label = f" [label={quoted('  ' + text)}]" if text else ""
        self.edges.append(f"  {source} -> {target}{label}")

    # -------------------------------------------------------------------------------------------- contents

    def block(self, block: Block, sources: dict[str, str], level: int) -> None:
        """Draw the body of a block; `sources` maps values to the nodes they come from, and grows."""
        types = dict(block.types)
        readers = _readers(block)
        children = {child.name: child for child in block.children}
        trailing = _trailing(block, readers)
        merged = {name for names in trailing.values() for name in names}
        for statement in block.body:
            if isinstance(statement, Apply):
                if statement.name not in merged:
                    self.apply(statement, sources, types, trailing, level)
            else:
                self.call(statement, children[statement.child], sources, types, trailing, level)
            for follower in trailing.get(_key(statement), ()):
                follow = next(s for s in block.body if isinstance(s, Apply) and s.name == follower)
                sources[follow.outputs[0]] = sources[follow.inputs[0]]

    def apply(
        self,
        statement: Apply,
        sources: dict[str, str],
        types: dict[str, Type],
        trailing: dict[str, list[str]],
        level: int,
    ) -> None:
        primitive = statement.operation
        title = " · ".join([operation_text(primitive), *self.following(statement, trailing)])
        symbol = SYMBOLS.get(primitive.operation)
        if symbol is not None and symbol == title:
            extra = ", shape=circle, style=filled, margin=0, width=0.3, height=0.3, fixedsize=true"
            node = self.node(node_label(symbol, [], [], self.theme), level, self.theme.plain, extra)
        else:
            node = self.node(node_label(title, [], [], self.theme), level, self.theme.plain)
        self.connect(statement, node, sources, types)

    def following(self, statement: Apply | Call, trailing: dict[str, list[str]]) -> list[str]:
        """The elementwise functions that stand in a statement's node, in order."""
        return [name.rstrip("_0123456789") for name in trailing.get(_key(statement), ())]

    def connect(
        self, statement: Apply | Call, node: str, sources: dict[str, str], types: dict[str, Type]
    ) -> None:
        for value in statement.inputs:
            self.edge(sources[value], node, types[value])
        sources.update(dict.fromkeys(statement.outputs, node))

    def call(
        self,
        statement: Call,
        child: Child,
        sources: dict[str, str],
        types: dict[str, Type],
        trailing: dict[str, list[str]],
        level: int,
    ) -> None:
        inputs = [(sources[v], types[v]) for v in statement.inputs]
        functions = self.following(statement, trailing)
        index = 0
        for _, run in groupby(child.instances, key=id):
            copies = list(run)
            title = _run_title(child, index, len(copies))
            inputs = self.instance(copies[0], title, child, inputs, functions, level)
            index += len(copies)
        sources.update({v: node for v, (node, _) in zip(statement.outputs, inputs, strict=True)})

    def instance(
        self,
        instance: Instance,
        title: str,
        child: Child,
        inputs: list[tuple[str, Type]],
        functions: list[str],
        level: int,
    ) -> list[tuple[str, Type]]:
        """Draw one instance; return the nodes and types of what comes out."""
        if isinstance(instance, Primitive):
            node = self.primitive(instance, title, child, functions, level)
            outputs = [(node, t) for t in instance.outputs]
        elif self.depth is not None and level > self.depth:
            node = self.folded(instance, title, child, functions, level)
            types = dict(instance.types)
            outputs = [(node, types[port.value]) for port in instance.outputs]
        else:
            return self.cluster(instance, title, child, inputs, functions, level)
        for source, given in inputs:
            self.edge(source, node, given)
        return outputs

    def primitive(
        self, primitive: Primitive, title: str, child: Child, functions: list[str], level: int
    ) -> str:
        notes = [] if title.rstrip("_0123456789") == primitive.operation else [title]
        count = parameter_count(primitive)
        if count:
            notes.append(f"{count:,} parameters" if count != 1 else "1 parameter")
        marks = badges(primitive) + (["shared"] if child.shared else [])
        text = " · ".join([operation_text(primitive), *functions])
        learned = bool(operation(primitive.operation).owns)
        colours = self.theme.learned if learned else self.theme.plain
        return self.node(node_label(text, notes, marks, self.theme), level, colours)

    def folded(self, block: Block, title: str, child: Child, functions: list[str], level: int) -> str:
        count = parameter_count(block)
        notes = [f"{count:,} parameters"] if count else []
        marks = ["shared"] if child.shared else []
        label = node_label(" · ".join([title, *functions]), notes, marks, self.theme)
        return self.node(label, level, self.theme.learned, ", peripheries=2")

    def cluster(
        self,
        block: Block,
        title: str,
        child: Child,
        inputs: list[tuple[str, Type]],
        functions: list[str],
        level: int,
    ) -> list[tuple[str, Type]]:
        pad = "  " * (level + 1)
        fill, border = self.theme.cluster
        text = title + (" (shared)" if child.shared else "")
        self.nodes.append(f"{pad}subgraph cluster_{self.name()} {{")
        self.nodes.append(
            f'{pad}  label={quoted(text)}; labeljust=l; style="rounded,filled"; margin=10;'
            f' fillcolor="{fill}"; color="{border}"'
        )
        sources = {port.value: node for port, (node, _) in zip(block.inputs, inputs, strict=True)}
        self.block(block, sources, level + 1)
        types = dict(block.types)
        outputs = [(sources[port.value], types[port.value]) for port in block.outputs]
        if functions:
            label = node_label(" · ".join(functions), [], [], self.theme)
            node = self.node(label, level + 1, self.theme.plain)
            for source, given in outputs:
                self.edge(source, node, given)
            outputs = [(node, given) for _, given in outputs]
        self.nodes.append(f"{pad}}}")
        return outputs


def _key(statement: Apply | Call) -> str:
    return statement.outputs[0]


def _run_title(child: Child, index: int, copies: int) -> str:
    if not child.repeated:
        return child.name
    if copies == len(child.instances):
        return f"{child.name} × {copies}"
    where = f"{index}" if copies == 1 else f"{index}..{index + copies - 1}"
    return f"{child.name}[{where}]"


def _readers(block: Block) -> dict[str, int]:
    """How often each value of a block is read."""
    count: dict[str, int] = {}
    for statement in block.body:
        for value in statement.inputs:
            count[value] = count.get(value, 0) + 1
    for port in block.outputs:
        count[port.value] = count.get(port.value, 0) + 1
    return count


def _trailing(block: Block, readers: dict[str, int]) -> dict[str, list[str]]:
    """Elementwise functions that alone read what they follow, by the value at the start of the chain."""
    blocks = {c.name for c in block.children if not isinstance(c.instances[0], Primitive)}
    heads: dict[str, str] = {}  # value -> the key of the statement whose node it leaves
    found: dict[str, list[str]] = {}
    for statement in block.body:
        if isinstance(statement, Apply) and _is_function(statement):
            head = heads.get(statement.inputs[0])
            if head is not None and readers[statement.inputs[0]] == 1:
                found.setdefault(head, []).append(statement.name)
                heads[statement.outputs[0]] = head
                continue
        if len(statement.outputs) == 1 and not (isinstance(statement, Call) and statement.child in blocks):
            heads[statement.outputs[0]] = _key(statement)
    return found


def _is_function(statement: Apply) -> bool:
    """An operation of one input without arguments of its own: relu, tanh, flatten."""
    primitive = statement.operation
    return len(statement.inputs) == 1 and operation_text(primitive) == primitive.operation
