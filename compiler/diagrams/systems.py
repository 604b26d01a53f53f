"""A system of neuron states in a picture: states as groups, connections between them, arrows where they lead.

In: a loop of a block that is being drawn. Out: nodes and edges in the drawing. A connection that leads back to where
it comes from, or both ways with one weight, is joined by edges with two heads. States stand one below the other in
the order of the spec; a connection from a later state to an earlier one leads up.
"""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from nnspec.compiler.diagrams.labels import (
    badges,
    node_label,
    parameter_count,
    shape_text,
    value_text,
    words,
)
from nnspec.compiler.distributions.registry import distributions
from nnspec.compiler.ir import Block, Call, Carried, Connection, Loop, Primitive, Word, walked

if TYPE_CHECKING:
    from nnspec.compiler.diagrams.architecture import Drawing, End

_HEADS = {(True, False): "", (False, True): "dir=back", (True, True): "dir=both"}


class SystemDrawing:
    """Draws one loop."""

    def __init__(self, drawing: Drawing, loop: Loop, block: Block, level: int) -> None:
        self.drawing = drawing
        self.loop = loop
        self.level = level
        self.children = {child.name: child.instances[0] for child in block.children}
        self.biases = {
            own.child for own in walked(loop.body) if isinstance(own, Call) and not own.inputs
        } & set(self.children)
        self.places = {state.name: number for number, state in enumerate(loop.carried)}
        self.nodes: dict[str, str] = {}

    def draw(self, outside: dict[str, End], results: dict[str, End]) -> dict[str, str]:
        """Return the node of each state, by its name; `outside` are the values that connections come from,
        `results` what an edge says that leaves a state."""
        self.open()
        for state in self.loop.carried:
            self.nodes[state.name] = self.state(state)
        made = [(item, self.connection(item)) for item in self.loop.connections]
        self.drawing.line(self.level, "}")
        for item, node in made:
            self.join(item, node, outside, results)
        return self.nodes

    def open(self) -> None:
        """Begin the frame."""
        fill, border = self.drawing.theme.cluster
        self.drawing.line(self.level, f"subgraph cluster_{self.drawing.name()} {{")
        self.drawing.line(
            self.level + 1,
            f'label={self.title()}; labeljust=l; style="rounded,filled"; margin=14;'
            f' fillcolor="{fill}"; color="{border}"',
        )

    def title(self) -> str:
        """Say what the states obey and how they settle."""
        solver, clip = self.loop.solver, self.loop.clip
        rows = [self.loop.name, solver.name.replace("_", " ") + f" × {solver.options['steps']}"]
        if clip is not None:
            rows.append(f"in [{value_text(clip)}]")
        return (
            "<" + "".join(f'{escape(row)}<br align="left"/>' for row in rows) + ">"
        )  # short lines, beside arrows

    def state(self, state: Carried) -> str:
        theme = self.drawing.theme
        bias = self.children.get(state.name) if state.name in self.biases else None
        shape = shape_text(state.declared)
        begins = f"from {_start(state.start)}" if state.start else ""
        count = "" if bias is None else _parameters(bias)
        label = node_label(
            state.name,
            theme,
            options=f"{shape} units" if len(state.declared.axes) == 1 else shape,
            note=" · ".join(filter(None, (begins, count))),
            mark=" · ".join(badges(bias)) if isinstance(bias, Primitive) else "",
        )
        colours = (theme.port[0], theme.learned[1])
        return self.drawing.node(label, self.level + 1, colours, ", penwidth=2")

    def connection(self, item: Connection) -> str:
        instance = self.children[item.child]
        theme = self.drawing.theme
        assert isinstance(instance, Primitive)
        title, options = words(instance)
        options = ", ".join(part for part in options.split(", ") if part != "no bias")
        own = "" if item.child.rstrip("0123456789").rstrip("_") == instance.operation else item.child
        marks = [*badges(instance), "transposed back"] if item.both else badges(instance)
        if item.both and set(self.sources(item)) == set(item.targets):
            marks = badges(instance)  # the weight is its own transpose
        label = node_label(
            title,
            theme,
            options=options,
            note=" · ".join(filter(None, (own, _parameters(instance)))),
            mark=" · ".join(marks),
        )
        return self.drawing.node(label, self.level + 1, theme.learned)

    def sources(self, item: Connection) -> list[str]:
        """Return the states that a connection comes from."""
        names = {state.before: state.name for state in self.loop.carried}
        return [names[value] for value in item.sources if value in names]

    def join(self, item: Connection, node: str, outside: dict[str, End], results: dict[str, End]) -> None:
        """Draw the edges of a connection: with two heads where values pass both ways."""
        states = self.sources(item)
        for value in item.sources:
            if value in outside:
                end = outside[value]
                text, look = self.drawing.look(end)
                self.drawing.edge(end.node, node, text, look)
        enter = {*states, *(item.targets if item.both else ())}
        leave = {*item.targets, *(states if item.both else ())}
        involved = sorted(enter | leave, key=self.places.__getitem__)
        only_back = not item.both and bool(states) and self.is_back(states, item.targets)
        for number, name in enumerate(involved):
            heads = _HEADS[(name in enter, name in leave)]
            # Seen from the state: it enters the connection, leaves it, or both.
            above = self.is_above(number, name, enter, leave, only_back, len(involved))
            self.edge(name, node, heads, above, results)

    def is_back(self, sources: list[str], targets: tuple[str, ...]) -> bool:
        """Whether a connection leads from later states to earlier ones."""
        return min(map(self.places.__getitem__, sources)) > max(map(self.places.__getitem__, targets))

    def is_above(
        self, number: int, name: str, enter: set[str], leave: set[str], only_back: bool, count: int
    ) -> bool:
        """Whether the state stands above the connection in the picture."""
        if (name in enter) != (name in leave):
            return (name in enter) != only_back
        return number == 0 or number < count - 1

    def edge(self, state: str, node: str, heads: str, above: bool, results: dict[str, End]) -> None:
        text, look = self.drawing.look(results[state])
        if text == shape_text(results[state].type):
            text = ""  # it stands in the node
        if not above:
            heads = {"": "dir=back", "dir=back": ""}.get(heads, heads)
        first, second = (self.nodes[state], node) if above else (node, self.nodes[state])
        self.drawing.edge(first, second, text, ", ".join(filter(None, (look, heads))))


def _start(start: Word) -> str:
    """Write how states begin as the spec does: `uniform(0, 0.1)`, `0.5`."""
    rule = distributions().get(start.name)
    values = [start.options[argument.name] for argument in rule.arguments] if rule else []
    return (
        f"{start.name}({', '.join(map(value_text, values))})" if rule else value_text(start.options["value"])
    )


def _parameters(instance: object) -> str:
    assert isinstance(instance, Primitive)
    count = parameter_count(instance)
    if not count:
        return ""
    return "1 parameter" if count == 1 else f"{count:,} parameters"
