"""The formatter: written tree and comments -> canonical text.

Two spaces of indentation, one blank line between items, at most one between statements. Names behind
`input`, `state` and `output` are aligned, and `=` in runs of experiment fields. What is longer than a
line is broken at arrows, or one argument a line. Comments are kept: one after a statement stays beside
it, one inside a statement moves to the line above it. Formatting twice changes nothing, and parsing the
result gives the same tree.
"""

from __future__ import annotations

from nnspec.dsl import write
from nnspec.dsl.layout import declared, laid_out
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import (
    ActivationDefinition,
    AnalyzeDefinition,
    Assignment,
    Connect,
    Constrain,
    ConstraintClause,
    ConstraintDefinition,
    DynamicsDefinition,
    Equation,
    Expect,
    ExperimentDefinition,
    Expression,
    Feedback,
    Field,
    File,
    Initialize,
    Input,
    Item,
    LayerDefinition,
    Let,
    NetworkDefinition,
    Output,
    Over,
    Parameter,
    ParameterDeclaration,
    Penalty,
    Phase,
    Require,
    RuleDefinition,
    Shared,
    State,
    Statement,
    TrainBlock,
    Update,
    UpdateBuffer,
    Use,
    UseDynamics,
)


def format(file: File) -> str:
    """Return the canonical text of a file that parsed without errors."""
    return _Writer(file).run()


class _Writer:
    def __init__(self, file: File) -> None:
        self.file = file
        self.source = file.source
        self.comments = list(file.comments)
        self.lines: list[str] = []
        self.last_end = 0  # offset after what was written last, to see blank lines

    def run(self) -> str:
        if self.file.language is not None:
            self.lines.append(f"language = {self.file.language}")
        if self.file.doc is not None:
            if self.lines:
                self.lines.append("")
            self.docstring(self.file.doc, 0)
        previous: Item | None = None
        for item in self.file.items:
            if self.lines and not self.run_on(previous, item):
                self.lines.append("")
            self.before(_head(item), 0)
            self.item(item)
            previous = item
        if self.comments and self.lines:
            self.lines.append("")
        self.lines += [comment.text for comment in self.comments]
        return "\n".join(self.lines) + "\n" if self.lines else ""

    def run_on(self, previous: Item | None, item: Item) -> bool:
        """Lines of one kind, `use` or `let`, stay together if they stood together."""
        together = isinstance(item, Use | Let) and type(previous) is type(item)
        return together and previous is not None and not self.blank(previous.span.end, item.span.start)

    def blank(self, start: int, end: int) -> bool:
        """Return whether a blank line stands right after what ends at `start`."""
        lines = self.source.text[start:end].split("\n")[1:-1]
        return bool(lines) and not lines[0].strip()

    # -------------------------------------------------------------------------------------------- comments

    def before(self, span: Span, indent: int) -> None:
        """Write the comments that stand before or inside a statement, each on a line of its own."""
        while self.comments and self.comments[0].span.start < span.end:
            comment = self.comments.pop(0)
            self.lines.append(" " * indent + comment.text)

    def beside(self, span: Span) -> None:
        """Write a comment that follows on the statement's last line."""
        if not self.comments:
            return
        comment = self.comments[0]
        if "\n" not in self.source.text[span.end : comment.span.start]:
            self.lines[-1] += f"  {comment.text}"
            self.comments.pop(0)

    # ----------------------------------------------------------------------------------------------- items

    def item(self, item: Item) -> None:
        match item:
            case Use():
                target = write.quote(item.target) if item.quoted else item.target
                self.line(item.span, 0, f"use {target}" + (f" as {item.name}" if item.name else ""))
            case Let(name=name, value=value):
                self.valued(item.span, 0, f"let {name} =", value)
            case NetworkDefinition(base=base) if base is not None and not item.body and item.doc is None:
                head = f"network {item.name}{write.parameters(item.parameters)} ="
                self.valued(item.span, 0, head, base)
            case ActivationDefinition() | ConstraintDefinition():
                self.clauses(item)
            case AnalyzeDefinition():
                self.analyze(item)
            case _:
                self.block_item(item)

    def block_item(self, item: Item) -> None:
        keywords: dict[type[Item], str] = {
            LayerDefinition: "layer",
            NetworkDefinition: "network",
            ExperimentDefinition: "experiment",
            RuleDefinition: "rule",
            DynamicsDefinition: "dynamics",
        }
        keyword = keywords[type(item)]
        assert isinstance(
            item,
            LayerDefinition | NetworkDefinition | ExperimentDefinition | RuleDefinition | DynamicsDefinition,
        )
        base: Expression | None = getattr(item, "base", None)
        derived = "" if base is None else f" = {write.expression(base)}"
        self.opening(f"{keyword} {item.name}", item.parameters, f"{derived} {{", item.doc)
        self.statements(item.body, 2)
        self.closing(item.span)

    def opening(
        self, head: str, parameters: tuple[ParameterDeclaration, ...], tail: str, doc: str | None
    ) -> None:
        self.lines += declared(head, parameters, tail)
        if doc is not None:
            self.docstring(doc, 2)
        self.last_end = -1

    def closing(self, span: Span, indent: int = 0) -> None:
        self.before(span, indent + 2)
        self.lines.append(" " * indent + "}")
        self.beside(span)

    def clauses(self, item: ActivationDefinition | ConstraintDefinition) -> None:
        keyword = "activation" if isinstance(item, ActivationDefinition) else "constraint"
        self.opening(f"{keyword} {item.name}", item.parameters, " {", item.doc)
        if isinstance(item, ActivationDefinition):
            self.lines.append(f"  {write.expression(item.function)}")
            self.lines += [f"  expect {write.expression(claim.condition)}" for claim in item.claims]
        else:
            for clause in item.clauses:
                self.lines.append(f"  {_clause(clause)}")
        self.lines.append("}")
        self.beside(item.span)

    def analyze(self, item: AnalyzeDefinition) -> None:
        self.opening(f"analyze {item.target}", (), " {", item.doc)
        for found in item.passes:
            self.before(found.span, 2)
            self.lines.append(f"  {write.expression(found)}")
            self.beside(found.span)
        self.closing(item.span)

    def docstring(self, doc: str, indent: int) -> None:
        pad = " " * indent
        lines = doc.split("\n")
        body = [f'{pad}"""{lines[0]}', *(pad + line if line else "" for line in lines[1:])]
        if len(lines) == 1 and not doc.endswith('"'):
            body[0] += '"""'
        else:
            body.append(f'{pad}"""')
        self.lines += body

    # ------------------------------------------------------------------------------------------ statements

    def statements(self, body: tuple[Statement, ...], indent: int) -> None:
        widths = _field_widths(body, self)
        for statement in body:
            if self.last_end >= 0 and self.blank(self.last_end, statement.span.start):
                self.lines.append("")
            self.before_block(statement, indent)
            self.statement(statement, indent, widths.get(id(statement), 0))
            self.last_end = statement.span.end

    def before_block(self, statement: Statement, indent: int) -> None:
        if isinstance(statement, Over | TrainBlock):
            start = statement.span.replace(end=statement.span.start)
            self.before(start, indent)
        else:
            self.before(statement.span, indent)

    def statement(self, statement: Statement, indent: int, width: int) -> None:
        match statement:
            case Over(axis=axis, body=body):
                self.lines.append(f"{' ' * indent}over {axis} {{")
                self.last_end = -1
                self.statements(body, indent + 2)
                self.closing(statement.span, indent)
            case TrainBlock():
                selector = "rest" if statement.selector is None else write.selector(statement.selector)
                self.lines.append(f"{' ' * indent}train {selector} {{")
                self.last_end = -1
                self.statements(statement.fields, indent + 2)
                self.closing(statement.span, indent)
            case Field(name=name, value=value):
                self.valued(statement.span, indent, f"{name.ljust(width)} =", value)
            case _:
                head, value = _statement(statement)
                if value is None:
                    self.line(statement.span, indent, head)
                else:
                    self.valued(statement.span, indent, head, value)

    def line(self, span: Span, indent: int, text: str) -> None:
        self.lines.append(" " * indent + text)
        self.beside(span)

    def valued(self, span: Span, indent: int, head: str, value: Expression) -> None:
        """Write `head value`, on several lines if it is long."""
        self.lines += laid_out(head, value, indent)
        self.beside(span)


def _head(item: Item) -> Span:
    """The part of an item whose comments stand before it: all of it, unless it is a block of statements."""
    if isinstance(item, Use | Let | ActivationDefinition | ConstraintDefinition):
        return item.span
    return item.span.replace(end=item.span.start)


def _field_widths(body: tuple[Statement, ...], writer: _Writer) -> dict[int, int]:
    """Return the width to which the names of each run of adjacent fields are padded."""
    widths: dict[int, int] = {}
    run: list[Field] = []
    for statement in (*body, None):
        adjacent = isinstance(statement, Field) and (
            not run or not writer.blank(run[-1].span.end, statement.span.start)
        )
        if not adjacent:
            width = max((len(field.name) for field in run), default=0)
            widths.update({id(field): width for field in run})
            run = []
        if isinstance(statement, Field):
            run.append(statement)
    return widths


def _clause(clause: ConstraintClause) -> str:
    text = write.expression(clause.value)
    return text if clause.kind == "forward" else f"{clause.kind} {text}"


def _typed(name: str, written: object) -> str:
    from nnspec.dsl.syntax import WrittenType

    return f"{name}: {write.written_type(written)}" if isinstance(written, WrittenType) else name


def _statement(statement: Statement) -> tuple[str, Expression | None]:
    """Return what stands before the value (with its `=` or `:`), and the value."""
    match statement:
        case Input(name=name, type=written):
            return f"input  {_typed(name, written)}", None
        case Output(name=name, type=written, value=value):
            return f"output {_typed(name, written)}" + ("" if value is None else " ="), value
        case State(name=name, type=written, value=value):
            return f"state  {_typed(name, written)}" + ("" if value is None else " ="), value
        case Shared(name=name, value=value):
            return f"shared {name} =", value
        case Parameter(kind=kind, name=name, type=written, value=value):
            return f"{kind:<9} {_typed(name, written)} =", value
        case Assignment(names=names, type=written, value=value):
            return f"{_typed(', '.join(names), written)} =", value
        case UpdateBuffer(name=name, value=value):
            return f"update {name} =", value
        case Penalty(name=name, value=value):
            return f"penalty {name} =", value
        case Constrain(selector=selector, constraint=value):
            return f"constrain {write.selector(selector)}:", value
        case Initialize(selector=selector, value=value):
            return f"initialize {write.selector(selector)}:", value
        case Require(condition=condition, message=message):
            text = "" if message is None else f", {write.quote(message)}"
            return f"require {write.expression(condition)}{text}", None
        case Expect(condition=condition):
            return "expect", condition
        case _:
            return _system_statement(statement)


def _system_statement(statement: Statement) -> tuple[str, Expression | None]:
    """The statements of dynamical systems and learning rules."""
    match statement:
        case Connect():
            return _connect(statement), None
        case UseDynamics(value=value):
            return "dynamics", value
        case Phase(name=name, start=start, value=value):
            return f"phase {name}" + (f" from {start}" if start else "") + " =", value
        case Feedback(name=name, source=source, target=target, via=via, value=value):
            text = "" if via is None else f" via {write.expression(via)}"
            return f"feedback {name}: {source} -> {target}{text} =", value
        case Update(target=target, operator=operator, value=value):
            return f"update {target} {operator}", value
        case Equation(name=name, value=value):
            return f"{name}' =", value
        case _:
            raise TypeError(f"no text for {type(statement).__name__}")


def _connect(statement: Connect) -> str:
    sides = [
        f"[{', '.join(names)}]" if grouped else names[0]
        for names, grouped in zip((statement.sources, statement.targets), statement.grouped, strict=True)
    ]
    text = f"connect {sides[0]} {statement.arrow} {sides[1]}"
    if statement.name:
        text += f" as {statement.name}"
    if statement.via is not None:
        text += f" via {write.expression(statement.via)}"
    if statement.except_ is not None:
        text += f" except {statement.except_}"
    if statement.where is not None:
        text += f" where {write.expression(statement.where)}"
    if statement.from_ is not None:
        text += f" from {write.expression(statement.from_)}"
    return text
