"""The written tree: what stands in the file, before anything is looked up.

A chain `x -> f -> g` is one flat tuple of steps, so that long chains do not meet the recursion limit.
Equality ignores spans; two texts that mean different things give different trees.
"""

from __future__ import annotations

from nnspec.dsl.node import Node
from nnspec.dsl.source import Source, Span

# --------------------------------------------------------------------------------------------- expressions


class Expression(Node):
    """Anything that has a value."""

    span: Span


class Number(Expression):
    value: int | float
    text: str  # as written (`118_282`, `1e-3`), for the formatter


class Text(Expression):
    value: str


class Boolean(Expression):
    value: bool


class Nothing(Expression):
    """`none`."""


class Name(Expression):
    name: str


class ListOf(Expression):
    items: tuple[Expression, ...]


class Interval(Expression):
    """`start..stop`, both ends in. Either end may be left out inside an index."""

    start: Expression | None
    stop: Expression | None


class Pattern(Expression):
    """`encoder.**` as an argument: a path with `*` or `**` in it."""

    parts: tuple[SelectorPart, ...]


class Member(Expression):
    """`of.name`: `embed.weight`, `plus.post`."""

    of: Expression
    name: str


class Argument(Node):
    """`value`, `name = value`, `"path" = value` (`quoted`), or `phase: value` (`over`)."""

    name: str | None
    value: Expression
    span: Span
    quoted: bool = False
    over: str | None = None


class CallOf(Expression):
    function: Expression  # Name or Member
    arguments: tuple[Argument, ...]


class Index(Expression):
    """`x[0..3]`, `x[i, T = 0]`."""

    of: Expression
    items: tuple[Argument, ...]


class Unary(Expression):
    operator: str  # "-", "+", "not"
    operand: Expression


class Binary(Expression):
    operator: str  # + - * / % // @ ^ & and or == != <= >= < >
    left: Expression
    right: Expression
    operator_span: Span | None = None
    tolerance: Expression | None = None  # `a == b +- c`


class Conditional(Expression):
    """`value if condition else otherwise`."""

    value: Expression
    condition: Expression
    otherwise: Expression


class Lambda(Expression):
    """`x => body`, `(i, j) => body`."""

    parameters: tuple[str, ...]
    body: Expression


class Step(Node):
    """One link of a chain; `alias` is the name after `as`."""

    span: Span


class CallStep(Step):
    """`f`, `f(a, b)`, `module.f(a)`; a bare name is a call without arguments."""

    function: Expression  # Name, Member or CallOf
    alias: str | None = None


class ForkStep(Step):
    """`-> [f, g -> h]`: a list of values, one a branch."""

    branches: tuple[tuple[Step, ...], ...]
    alias: str | None = None


class GroupStep(Step):
    """`-> (f -> g)` and `-> (f if c else g)`."""

    steps: tuple[Step, ...]
    condition: Expression | None = None
    otherwise: tuple[Step, ...] = ()
    alias: str | None = None


class RepeatStep(Step):
    """`-> repeat(n) { f -> g }`, `repeat(i in 0..4) { ... }`, `fork(n) { ... }`."""

    kind: str  # "repeat" or "fork"
    count: Expression
    body: tuple[Step, ...]
    index: str | None = None
    arguments: tuple[Argument, ...] = ()  # such as keep = all
    alias: str | None = None


class Chain(Expression):
    """`source -> step -> step`; `steps` is never empty."""

    source: Expression
    steps: tuple[Step, ...]


# --------------------------------------------------------------------------------------------------- types


class WrittenAxis(Node):
    """`28`, `h: 28`, `T`, `T: 1..1024`, `..` (`rest`)."""

    size: Expression | None
    span: Span
    name: str | None = None
    rest: bool = False


class WrittenType(Node):
    """`real[8, 8]`, `int`, `layer`, or `"same" | "valid"` (`choices`, with `name` "")."""

    name: str
    span: Span
    axes: tuple[WrittenAxis, ...] | None = None  # None: no brackets
    choices: tuple[str, ...] = ()


class ParameterDeclaration(Node):
    name: str
    span: Span
    type: WrittenType | None = None
    default: Expression | None = None
    learn: bool = False


# ---------------------------------------------------------------------------------------------- statements


class Statement(Node):
    """A line of a layer or network body."""

    span: Span


class Input(Statement):
    name: str
    type: WrittenType


class Output(Statement):
    name: str
    type: WrittenType | None = None
    value: Expression | None = None


class Assignment(Statement):
    """`a = ...`, `a: real[3] = ...`, `a, b = ...`."""

    names: tuple[str, ...]
    value: Expression
    type: WrittenType | None = None


class Shared(Statement):
    name: str
    value: Expression


class State(Statement):
    name: str
    type: WrittenType
    value: Expression | None = None


class Parameter(Statement):
    """`parameter mix: real[r, w] = normal(std = 0.02)`; `kind` is "parameter" or "buffer"."""

    kind: str
    name: str
    type: WrittenType
    value: Expression


class UpdateBuffer(Statement):
    name: str
    value: Expression


class Penalty(Statement):
    name: str
    value: Expression


class SelectorPart(Node):
    """One part of a path: a name (perhaps with an index), `*` or `**`."""

    name: str
    span: Span
    index: Expression | None = None


class Selection(Node):
    """`head.weight`, `every dense.weight`."""

    parts: tuple[SelectorPart, ...]
    span: Span
    every: bool = False


class Selector(Node):
    """`a.**, b.weight except c.**`."""

    chosen: tuple[Selection, ...]
    span: Span
    excepted: tuple[Selection, ...] = ()


class Constrain(Statement):
    selector: Selector
    constraint: Expression


class Initialize(Statement):
    selector: Selector
    value: Expression


class Require(Statement):
    condition: Expression
    message: str | None = None


class Expect(Statement):
    condition: Expression


class Over(Statement):
    axis: str
    body: tuple[Statement, ...]


class Connect(Statement):
    sources: tuple[str, ...]
    arrow: str  # "->" or "<->"
    targets: tuple[str, ...]
    grouped: tuple[bool, bool] = (False, False)  # written with brackets
    name: str | None = None
    via: Expression | None = None
    except_: str | None = None
    where: Expression | None = None
    from_: Expression | None = None


class UseDynamics(Statement):
    value: Expression


# --------------------------------------------------------------------------------------------------- items


class Item(Node):
    """Something at the top of a file."""

    span: Span


class Use(Item):
    """`use "parts.nnspec" as parts`, `use library.blocks`."""

    target: str
    quoted: bool
    name: str | None = None


class Let(Item):
    name: str
    value: Expression


class LayerDefinition(Item):
    name: str
    name_span: Span | None
    parameters: tuple[ParameterDeclaration, ...]
    body: tuple[Statement, ...]
    doc: str | None = None


class NetworkDefinition(Item):
    """A network; `base` is set when it derives (`network b = a(width = 3) { ... }`)."""

    name: str
    name_span: Span | None
    parameters: tuple[ParameterDeclaration, ...]
    body: tuple[Statement, ...]
    doc: str | None = None
    base: Expression | None = None


class ActivationDefinition(Item):
    name: str
    name_span: Span | None
    parameters: tuple[ParameterDeclaration, ...]
    function: Lambda
    doc: str | None = None
    claims: tuple[Expect, ...] = ()


class ConstraintClause(Node):
    """`w => ...` (`kind` "forward"), `gradient f(..)`, `project w => ..`, `penalty ..`, `mask ..`."""

    kind: str
    value: Expression
    span: Span


class ConstraintDefinition(Item):
    name: str
    name_span: Span | None
    parameters: tuple[ParameterDeclaration, ...]
    clauses: tuple[ConstraintClause, ...]
    doc: str | None = None


class Phase(Statement):
    name: str
    value: Expression
    start: str | None = None  # `from NAME`


class Feedback(Statement):
    name: str
    source: str
    target: str
    value: Expression
    via: Expression | None = None


class Update(Statement):
    """`update weight += ...`; `operator` is "+=" or "-="."""

    target: str
    operator: str
    value: Expression


class Equation(Statement):
    """`s' = ...`."""

    name: str
    value: Expression


class RuleDefinition(Item):
    name: str
    name_span: Span | None
    parameters: tuple[ParameterDeclaration, ...]
    body: tuple[Statement, ...]  # Phase, Feedback, Update, Assignment
    doc: str | None = None


class DynamicsDefinition(Item):
    name: str
    name_span: Span | None
    parameters: tuple[ParameterDeclaration, ...]
    body: tuple[Statement, ...]  # Equation, Assignment
    doc: str | None = None


class Field(Statement):
    """`epochs = 20`."""

    name: str
    value: Expression
    name_span: Span | None = None


class TrainBlock(Statement):
    """`train SELECTOR { ... }`; `rest` for `train rest { ... }`."""

    selector: Selector | None
    fields: tuple[Field, ...]
    rest: bool = False


class ExperimentDefinition(Item):
    name: str
    name_span: Span | None
    parameters: tuple[ParameterDeclaration, ...]
    body: tuple[Statement, ...]  # Field, TrainBlock, Constrain, Initialize, Expect
    doc: str | None = None
    base: Expression | None = None


class AnalyzeDefinition(Item):
    target: str  # dotted name
    target_span: Span | None
    passes: tuple[Expression, ...]  # Name or CallOf
    doc: str | None = None


class Comment(Node):
    """A comment with its `#`; kept beside the tree for the formatter."""

    text: str
    span: Span


class File(Node):
    items: tuple[Item, ...]
    source: Source
    doc: str | None = None
    language: int | float | None = None
    comments: tuple[Comment, ...] = ()
    span: Span | None = None
