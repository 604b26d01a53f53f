"""The architecture of a network as a DOT text.

In: a typed graph. Out: DOT, the same for the same graph. Blocks become clusters, or single nodes below
`depth` or where they hold one step; runs of equal copies of a repeat are drawn once with their number;
functions that keep the shape stand in the node of what they follow; shapes stand on the edges.
"""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple, TypeAlias

from nnspec.compiler.diagrams.captions import (
    Caption,
    caption_of,
    numberless,
    parameters_text,
    with_functions,
)
from nnspec.compiler.diagrams.labels import (
    SYMBOLS,
    badges,
    node_label,
    parameter_count,
    quoted,
    shape_text,
    words,
)
from nnspec.compiler.diagrams.steps import Reading, Step, is_copy, only_frame, output_paths, runs, value_path
from nnspec.compiler.diagrams.systems import SystemDrawing
from nnspec.compiler.diagrams.themes import FONT, THEMES, Theme
from nnspec.compiler.ir import (
    Apply,
    Block,
    Call,
    Child,
    Graph,
    Instance,
    Loop,
    Port,
    Primitive,
    Type,
    gathered,
)
from nnspec.compiler.operations.registry import operation


class Source(NamedTuple):
    """Where a value comes from: a node, and the path of the use that gave it, `repeat[0].dense`."""

    node: str
    path: str


class End(NamedTuple):
    """A value where an edge begins: the node that it leaves, its type, and its path."""

    node: str
    type: Type
    path: str


class Edge(NamedTuple):
    """An edge with its text and other attributes; `joined` is how many go into its end."""

    source: str
    target: str
    text: str
    look: str
    joined: int


Ends: TypeAlias = "list[End]"


def draw(graph: Graph, *, depth: int | None = None, theme: str = "light") -> str:
    """Return the DOT text of a network; blocks nested deeper than `depth` are one node each."""
    return Drawing(graph, depth, THEMES[theme]).run()


class Drawing:
    """Draws one network; other views of it change what edges look like."""

    def __init__(self, graph: Graph, depth: int | None, theme: Theme) -> None:
        self.graph = graph
        self.depth = depth
        self.theme = theme
        self.reading = Reading()
        self.nodes: list[str] = []
        self.edges: list[Edge] = []
        self.kept: list[Block] = []  # bodies of loops: what was read of them is kept by their identity
        self.count = 0

    def run(self) -> str:
        root = self.graph.root
        types = dict(root.types)
        sources = {
            port.value: Source(self.port(port.name, types[port.value].dtype), port.name)
            for port in root.inputs
        }
        self.block(root, sources, 0, "")
        for port in root.outputs:
            self.connect([_end(sources[port.value], types[port.value])], self.port(port.name))
        lines = [f"digraph {quoted(self.graph.name)} {{", *self.attributes(), *self.nodes]
        lines += [*self.edge_lines(), *self.legend(), "}"]
        return "\n".join(lines) + "\n"

    def attributes(self) -> list[str]:
        theme = self.theme
        return [
            f'  graph [rankdir=TB, bgcolor="{theme.background}", pad=0.3, nodesep=0.35, ranksep=0.42,'
            f' fontname="{FONT}", fontsize=9, fontcolor="{theme.faint}"]',
            f'  node [shape=box, style="rounded,filled", penwidth=1, margin="0.16,0.07", height=0.36,'
            f' fontname="{FONT}", fontsize=11, fontcolor="{theme.text}"]',
            f'  edge [weight=8, labelfloat=true, color="{theme.edge}", penwidth=1, arrowsize=0.6, fontname="{FONT}", fontsize=9,'
            f' fontcolor="{theme.faint}"]',
        ]

    def legend(self) -> list[str]:
        """Return what stands below the picture; there is none here."""
        return []

    # -------------------------------------------------------------------------------------- nodes and edges

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def node(self, label: str, level: int, colours: tuple[str, str], extra: str = "") -> str:
        name = self.name()
        fill, border = colours
        self.line(level, f'{name} [label={label}, fillcolor="{fill}", color="{border}"{extra}]')
        return name

    def line(self, level: int, text: str) -> None:
        self.nodes.append("  " * (level + 1) + text)

    def port(self, name: str, dtype: str = "real") -> str:
        label = node_label(name, self.theme, note="" if dtype == "real" else dtype)
        return self.node(label, 0, self.theme.port, ", shape=ellipse, style=filled, margin=0.06")

    def connect(self, sources: Ends, target: str) -> None:
        counts = Counter((end.node, *self.look(end)) for end in sources)
        for (source, text, look), count in counts.items():
            # Two edges from one node say that it enters twice; more, as from many copies, are one that says so.
            if count > 2:
                self.edges.append(Edge(source, target, f"{count} values of {text}", look, len(counts)))
            else:
                self.edges += [Edge(source, target, text, look, len(sources))] * count

    def look(self, end: End) -> tuple[str, str]:
        """Return the text on an edge and what else is said of it."""
        return shape_text(end.type), ""

    def label(self, text: str) -> str:
        """Return the text of an edge in the DOT language."""
        return quoted("  " + text)

    def edge_lines(self) -> list[str]:
        """The edges. One that skips what others go through may bend, so that those are straight; the shape on
        an edge that forks or joins is kept off its line, which slants."""
        leaving = Counter(edge.source for edge in self.edges)
        lines: list[str] = []
        for source, target, text, look, joined in self.edges:
            parts = [f"label={self.label(text)}"] if text else []
            parts += ["labelfloat=false"] if text and (joined > 1 or leaving[source] > 1) else []
            parts += [look] if look else []
            parts += ["weight=1"] if joined > 1 and leaving[source] > 1 else []
            lines.append(f"  {source} -> {target}" + (f" [{', '.join(parts)}]" if parts else ""))
        return lines

    # -------------------------------------------------------------------------------------------- contents

    def block(self, block: Block, sources: dict[str, Source], level: int, prefix: str) -> None:
        """Draw the body of a block; `sources` says where values come from, and grows. Its instance has the path
        `prefix` (with its dot)."""
        types = dict(block.types)
        children = {child.name: child for child in block.children}
        for step in self.reading.steps(block):
            statement = step.statement
            inputs = [_end(sources[value], types[value]) for value in statement.inputs]
            if isinstance(statement, Loop):
                sources.update(self.loop(statement, block, sources, level, prefix))
            elif isinstance(statement, Apply):
                node = self.apply(statement, step.functions, inputs, level)
                paths = output_paths(f"{prefix}{statement.name}", len(statement.outputs))
                sources.update({v: Source(node, p) for v, p in zip(statement.outputs, paths, strict=True)})
            elif isinstance(statement, Call):
                outputs = self.call(children[statement.child], step, inputs, level, prefix)
                ends = zip(statement.outputs, outputs, strict=True)
                sources.update({value: Source(end.node, end.path) for value, end in ends})
            for function in step.functions:
                source = sources[function.inputs[0]]
                sources[function.outputs[0]] = Source(source.node, f"{prefix}{function.name}")
        ends = [(f"update {item.child}", item.value) for item in block.updates]
        for title, value in (*ends, *((f"penalty {item.name}", item.value) for item in block.penalties)):
            label, extra = node_label(title, self.theme), ", shape=ellipse, style=filled, margin=0.04"
            self.connect(
                [_end(sources[value], types[value])], self.node(label, level, self.theme.plain, extra)
            )

    def loop(
        self, loop: Loop, block: Block, sources: dict[str, Source], level: int, prefix: str
    ) -> dict[str, Source]:
        """Draw a system, below `depth` as one node; return where its settled values come from."""
        types = dict(block.types)
        paths = output_paths(f"{prefix}{loop.name}", len(loop.carried))
        if self.depth is not None and level >= self.depth:
            note = f"{len(loop.carried)} states"
            label = node_label(loop.name, self.theme, note=note)
            node = self.node(label, level, self.theme.learned, ", peripheries=2")
            self.connect([_end(sources[value], types[value]) for value in loop.inputs], node)
            return {s.result: Source(node, p) for s, p in zip(loop.carried, paths, strict=True)}
        if not loop.connections:
            return self.cycle(loop, block, sources, level, prefix)
        outside = {
            value: _end(sources[value], types[value])
            for item in loop.connections
            for value in item.sources
            if value in sources
        }
        ends = {
            state.name: End("", types[state.result], path)
            for state, path in zip(loop.carried, paths, strict=True)
        }
        nodes = SystemDrawing(self, loop, block, level).draw(outside, ends)
        return {s.result: Source(nodes[s.name], p) for s, p in zip(loop.carried, paths, strict=True)}

    def cycle(
        self, loop: Loop, block: Block, sources: dict[str, Source], level: int, prefix: str
    ) -> dict[str, Source]:
        """Draw a loop without connections as its body, from whose end an edge leads back to where it begins."""
        body = block.replace(
            body=loop.body,
            outputs=tuple(Port(name=state.name, value=state.after) for state in loop.carried),
            updates=(),
            penalties=(),
        )
        self.kept.append(body)
        system = SystemDrawing(self, loop, block, level)
        system.open()
        begins = {state.name: system.state(state) for state in loop.carried}
        inside = dict(sources)
        inside.update({s.before: Source(begins[s.name], f"{prefix}{loop.name}.begin") for s in loop.carried})
        self.block(body, inside, level + 1, prefix)
        self.line(level, "}")
        types = dict(block.types)
        for state in loop.carried:
            _, look = self.look(_end(inside[state.after], types[state.after]))
            bent = ", ".join(filter(None, (look, "constraint=false")))
            self.edge(inside[state.after].node, begins[state.name], "", bent)
        if loop.form == "map":  # where it settles it gives what it was given
            return {state.result: inside[state.after] for state in loop.carried}
        paths = output_paths(f"{prefix}{loop.name}", len(loop.carried))
        return {s.result: Source(begins[s.name], p) for s, p in zip(loop.carried, paths, strict=True)}

    def edge(self, source: str, target: str, text: str, look: str) -> None:
        """Draw one edge."""
        self.edges.append(Edge(source, target, text, look, 1))

    def apply(
        self, statement: Apply, functions: tuple[Apply, ...], inputs: Ends, level: int, note: str = ""
    ) -> str:
        title, options = words(statement.operation)
        if title in SYMBOLS.values() and all(map(is_copy, functions)) and not note:
            extra = ", shape=circle, style=filled, margin=0, width=0.3, height=0.3, fixedsize=true"
            node = self.node(node_label(title, self.theme), level, self.theme.plain, extra)
        else:
            label = node_label(with_functions(title, functions), self.theme, options=options, note=note)
            node = self.node(label, level, self.theme.plain)
        self.connect(inputs, node)
        return node

    def call(self, child: Child, step: Step, inputs: Ends, level: int, prefix: str) -> Ends:
        """Draw a child's instances, one after another or side by side; return what flows on."""
        results: list[tuple[End, ...]] = []
        for instance, copies in runs(child):
            caption = caption_of(child, len(results), copies)
            path = f"{prefix}{child.name}[{len(results)}]" if child.repeated else f"{prefix}{child.name}"
            made = self.instance(instance, caption, step.functions, inputs, level, path)
            for number in range(len(results), len(results) + copies):
                own = f"{prefix}{child.name}[{number}]" if child.repeated else path
                results.append(tuple(end._replace(path=own + end.path.removeprefix(path)) for end in made))
            inputs = inputs if child.flow == "fork" else list(results[-1])
        return list(gathered(child.flow, results))

    def instance(
        self,
        instance: Instance,
        caption: Caption,
        functions: tuple[Apply, ...],
        inputs: Ends,
        level: int,
        path: str,
    ) -> Ends:
        """Draw one instance; return what comes out."""
        if isinstance(instance, Primitive):
            node = self.primitive(instance, caption, functions, level)
            self.connect(inputs, node)
            paths = output_paths(path, len(instance.outputs))
            return [End(node, given, own) for given, own in zip(instance.outputs, paths, strict=True)]
        types = dict(instance.types)
        if instance.function:
            node = self.function(instance, caption, functions, level)
            self.connect(inputs, node)
            return [End(node, types[port.value], path) for port in instance.outputs]
        only = self.reading.only_step(instance)
        if only is not None:
            return self.only(instance, only, caption, functions, inputs, level, path)
        if self.depth is not None and level >= self.depth:
            node = self.folded(instance, caption, level)
            self.connect(inputs, node)
            given = {port.value: end.path for port, end in zip(instance.inputs, inputs, strict=True)}
            return [
                End(node, types[port.value], value_path(instance, port.value, f"{path}.", given))
                for port in instance.outputs
            ]
        return self.cluster(instance, caption, inputs, level, path)

    def only(
        self,
        block: Block,
        only: tuple[Step, Child | None],
        caption: Caption,
        functions: tuple[Apply, ...],
        inputs: Ends,
        level: int,
        path: str,
    ) -> Ends:
        """Draw a block that holds a single step as that step; return what comes out."""
        step, child = only
        sources = dict(zip((port.value for port in block.inputs), inputs, strict=True))
        taken = [sources[value] for value in step.statement.inputs]
        joined = (*step.functions, *functions)
        if isinstance(step.statement, Apply):
            node = self.apply(step.statement, joined, taken, level, caption.text)
            end = f"{path}.{step.statement.name}"
        else:
            assert child is not None
            own = f"{path}.{child.name}"
            inner = self.instance(child.instances[0], caption.inside(child), joined, taken, level, own)
            node, end = inner[0].node, inner[0].path
        end = f"{path}.{step.functions[-1].name}" if step.functions else end
        return [End(node, dict(block.types)[block.outputs[0].value], end)]

    def primitive(
        self, primitive: Primitive, caption: Caption, functions: tuple[Apply, ...], level: int
    ) -> str:
        title, options = words(primitive)
        own = [
            mark for mark in badges(primitive) if mark != "frozen" or not caption.mark.startswith("follows")
        ]
        marks = own + ([caption.mark] if caption.mark else [])
        label = node_label(
            with_functions(title, functions),
            self.theme,
            options=options,
            note=" · ".join(filter(None, (caption.text, parameters_text(primitive, caption.copies)))),
            mark=" · ".join(marks),
        )
        learned = bool(operation(primitive.operation).owns)
        return self.node(label, level, self.theme.learned if learned else self.theme.plain)

    def function(self, block: Block, caption: Caption, functions: tuple[Apply, ...], level: int) -> str:
        """An activation that learns."""
        title = with_functions(block.name, functions)
        own = "" if numberless(caption.title) == block.name else caption.title
        note = " · ".join(filter(None, (own + caption.times, parameters_text(block, caption.copies))))
        mark = caption.mark
        label = node_label(title, self.theme, note=note, mark=mark)
        return self.node(
            label, level, self.theme.learned if parameter_count(block) != 0 else self.theme.plain
        )

    def folded(self, block: Block, caption: Caption, level: int) -> str:
        """A whole block as one node."""
        note, mark = parameters_text(block, caption.copies), caption.mark
        label = node_label(caption.text or block.name, self.theme, note=note, mark=mark)
        return self.node(label, level, self.theme.learned, ", peripheries=2")

    def cluster(self, block: Block, caption: Caption, inputs: Ends, level: int, path: str) -> Ends:
        """A block as a frame around its body; frames that hold one frame alone are one."""
        inner = only_frame(block)
        if inner is not None:
            caption = caption.inside(inner) if caption.times else caption
            (own, *_) = inner.instances
            assert isinstance(own, Block)
            return self.cluster(own, caption, inputs, level, f"{path}.{inner.name}")
        fill, border = self.theme.cluster
        title = (caption.text or block.name) + (f" ({caption.mark})" if caption.mark else "")
        self.line(level, f"subgraph cluster_{self.name()} {{")
        self.line(
            level + 1,
            f'label={quoted(title)}; labeljust=l; style="rounded,filled"; margin={min(18, max(10, len(title)))};'
            f' fillcolor="{fill}"; color="{border}"',
        )
        sources = {
            port.value: Source(end.node, end.path) for port, end in zip(block.inputs, inputs, strict=True)
        }
        self.block(block, sources, level + 1, f"{path}.")
        self.line(level, "}")
        types = dict(block.types)
        return [_end(sources[port.value], types[port.value]) for port in block.outputs]


def _end(source: Source, given: Type) -> End:
    return End(source.node, given, source.path)
