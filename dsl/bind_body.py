"""Looks up every name in one body: a layer, a network, a constraint or a `let`.

In: a definition with its module's names, and the catalog. Out: diagnostics only; the body itself goes on
to `elaborate` as it stands.
"""

from __future__ import annotations

from collections.abc import Iterable

from nnspec.dsl.catalog import Catalog, Entry
from nnspec.dsl.definitions import Callee, Constant, Definition, Module
from nnspec.dsl.diagnostics import Bag, Error, Related
from nnspec.dsl.errors.arguments import (
    ConstraintClauses,
    DuplicateArgument,
    NoOutput,
    NotTensorType,
    OutputWithoutValue,
    UnknownArgument,
    WrongParameterType,
)
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.names import (
    DimensionLooksMisspelt,
    DuplicateName,
    NoSuchMember,
    NotAConstraint,
    UndefinedName,
    UnknownOperation,
    UsedBeforeDefinition,
)
from nnspec.dsl.errors.shapes import UnclearAxes
from nnspec.dsl.later import LATER_STATEMENTS, LATER_WORDS, what_later
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import (
    Argument,
    Assignment,
    Binary,
    CallOf,
    CallStep,
    Chain,
    Conditional,
    Constrain,
    ConstraintDefinition,
    ExperimentDefinition,
    Expression,
    ForkStep,
    GroupStep,
    Index,
    Input,
    Interval,
    Lambda,
    LayerDefinition,
    ListOf,
    Member,
    Name,
    NetworkDefinition,
    Output,
    Over,
    ParameterDeclaration,
    RepeatStep,
    Require,
    Shared,
    Statement,
    Step,
    Unary,
    WrittenType,
)

_TWICE = {
    "forward": "it has two maps, and a weight is mapped once",
    "gradient": "it has two gradients",
    "project": "it has two projections",
    "penalty": "it has two penalties",
    "mask": "it has two masks",
}
_MOST_GUESSES = 100
PARAMETER_TYPES = ("int", "real", "bool", "text", "list", "layer", "network", "activation")
TENSOR_TYPES = ("real", "int", "bool", "complex")


class BodyBinder:
    """Checks the names of one definition, top to bottom."""

    def __init__(
        self, definition: Definition | None, catalog: Catalog, bag: Bag, module: Module | None = None
    ) -> None:
        self.definition = definition
        self.catalog = catalog
        self.bag = bag
        found = definition.module if definition is not None else module
        assert found is not None
        self.module = found
        self.scope: dict[str, Span | None] = {}  # parameters, values, shared instances, dimensions
        self.later: dict[str, Span] = {}  # values that the body defines further down
        self.parameter_names: list[str] = []
        self.axis_names: set[str] = set()  # of axes such as `rows: 28`
        self.instances: dict[str, Span] = {}  # names after `as`, and shared ones

    @staticmethod
    def constant(module: Module, constant: Constant, catalog: Catalog, bag: Bag) -> None:
        """Check the expression of a `let`."""
        BodyBinder(None, catalog, bag, module).expression(constant.value)

    def run(self) -> None:
        assert self.definition is not None
        match self.definition.item:
            case LayerDefinition() as item:
                self.body(item.parameters, item.body)
                self.ports(item.name, item.body, item.name_span)
            case NetworkDefinition() as item:
                self.network(item)
            case ConstraintDefinition() as item:
                self.constraint(item)
            case ExperimentDefinition():
                pass  # `fit` reads experiments

    # ---------------------------------------------------------------------------------------------- bodies

    def network(self, item: NetworkDefinition) -> None:
        if item.base is None:
            self.body(item.parameters, item.body)
            self.ports(item.name, item.body, item.name_span)
            return
        self.parameters(item.parameters)
        self.step_function(item.base)
        for statement in item.body:
            if isinstance(statement, Constrain):
                self.statement(statement)
            elif type(statement) in LATER_STATEMENTS:
                self.bag.add(NotBuiltYet(statement.span, what=LATER_STATEMENTS[type(statement)]))
            else:
                what = "new layers in a derived network"
                self.bag.add(NotBuiltYet(statement.span, what=what))

    def body(self, parameters: tuple[ParameterDeclaration, ...], body: tuple[Statement, ...]) -> None:
        self.parameters(parameters)
        for statement in body:
            for name, span in _defined(statement):
                self.later.setdefault(name, span)
        for statement in body:
            self.statement(statement)

    def ports(self, name: str, body: tuple[Statement, ...], span: Span | None) -> None:
        """A body needs an input and an output, unless what is not built yet stands in it."""
        if any(type(statement) in LATER_STATEMENTS for statement in body):
            return
        for kind, what in ((Input, "input"), (Output, "output")):
            if not any(isinstance(statement, kind) for statement in body):
                self.bag.add(NoOutput(span, name=name, what=what))

    def parameters(self, parameters: tuple[ParameterDeclaration, ...]) -> None:
        for parameter in parameters:
            if parameter.learn:
                self.bag.add(NotBuiltYet(parameter.span, what="learned parameters"))
            if parameter.type is not None:
                self.parameter_type(parameter.type)
            if parameter.default is not None:
                self.expression(parameter.default)
            self.parameter_names.append(parameter.name)
            self.define(parameter.name, parameter.span)

    def parameter_type(self, written: WrittenType) -> None:
        if written.choices:
            return
        if written.axes is not None:
            what, help_text = "it is a type of tensors", "a tensor comes in by a line `input NAME: TYPE`"
        elif written.name not in PARAMETER_TYPES:
            near = nearest(written.name, PARAMETER_TYPES)
            what = "there is no such type"
            help_text = f"did you mean `{near}`?" if near else "parameters are " + ", ".join(PARAMETER_TYPES)
        else:
            return
        self.bag.add(WrongParameterType(written.span, name=written.name, why=what, help=help_text))

    def constraint(self, item: ConstraintDefinition) -> None:
        self.parameters(item.parameters)
        first: dict[str, Span] = {}
        for clause in item.clauses:
            if clause.kind in first:
                related = (Related(span=first[clause.kind], label="the first one"),)
                error = ConstraintClauses(clause.span, related, name=item.name, why=_TWICE[clause.kind])
                self.bag.add(error)
            elif clause.kind == "forward":
                self.map(item.name, clause.value)
            elif clause.kind == "gradient" and _names_function(clause.value, "straight_through"):
                self.straight_through(clause.value)
            else:
                self.bag.add(NotBuiltYet(clause.span, what=f"`{clause.kind}` in a constraint"))
            first.setdefault(clause.kind, clause.span)
        later = any(clause.kind not in ("forward", "gradient") for clause in item.clauses)
        if "forward" not in first and not later:
            why = "it has no map, a line such as `w => sign(w)`"
            self.bag.add(ConstraintClauses(item.name_span or item.span, name=item.name, why=why))

    def map(self, name: str, value: Expression) -> None:
        """Check `w => ...`, the map from the stored tensor to the effective weight."""
        if isinstance(value, Lambda) and len(value.parameters) != 1:
            why = "its map takes one tensor, the stored weight"
            self.bag.add(ConstraintClauses(value.span, name=name, why=why))
        self.expression(value)

    def straight_through(self, value: Expression) -> None:
        if not isinstance(value, CallOf):
            return
        seen: set[str] = set()
        for argument in value.arguments:
            self.expression(argument.value)
            if argument.name not in (None, "clip"):
                error = unknown_argument("straight_through", argument.name or "", ("clip",), argument.span)
                self.bag.add(error)
            elif argument.name in seen:
                self.bag.add(DuplicateArgument(argument.span, name="clip"))
            seen.add(argument.name or "")

    def define(self, name: str, span: Span | None) -> None:
        if name in self.scope:
            self.duplicate(name, span, self.scope[name])
        else:
            self.scope[name] = span

    def duplicate(self, name: str, span: Span | None, first: Span | None) -> None:
        related = () if first is None else (Related(span=first, label="first declared here"),)
        self.bag.add(DuplicateName(span, related, name=name))

    def instance(self, name: str, span: Span) -> None:
        if name in self.instances:
            self.duplicate(name, span, self.instances[name])
        self.instances.setdefault(name, span)

    # ------------------------------------------------------------------------------------------ statements

    def statement(self, statement: Statement) -> None:
        match statement:
            case Input(name=name, type=written):
                self.type(written, declares=True)
                self.define(name, statement.span)
            case Output():
                self.output(statement)
            case Assignment(names=names, value=value, type=written):
                self.expression(value)
                if written is not None:
                    self.type(written, declares=True)
                for name in names:
                    self.define(name, statement.span)
            case Shared(name=name, value=value):
                self.expression(value)
                self.instance(name, statement.span)
                self.define(name, statement.span)
            case Constrain(constraint=constraint):
                self.constraint_use(constraint)
            case Require(condition=condition):
                self.expression(condition)
            case _ if type(statement) in LATER_STATEMENTS:
                self.later_statement(statement)
            case _:
                pass  # `expect` is read by `fit`

    def later_statement(self, statement: Statement) -> None:
        self.bag.add(NotBuiltYet(statement.span, what=LATER_STATEMENTS[type(statement)]))
        for name, span in _defined(statement):
            self.scope.setdefault(name, span)

    def output(self, statement: Output) -> None:
        if statement.value is None:
            self.bag.add(OutputWithoutValue(statement.span, name=statement.name))
        else:
            self.expression(statement.value)
        if statement.type is not None:
            self.type(statement.type, declares=True)
        self.define(statement.name, statement.span)

    def type(self, written: WrittenType, declares: bool) -> None:
        if written.name == "graph":
            self.bag.add(NotBuiltYet(written.span, what="graph-shaped data"))
            return
        if written.name == "complex":
            self.bag.add(NotBuiltYet(written.span, what="complex numbers"))
            return
        if written.name not in TENSOR_TYPES:
            self.bag.add(NotTensorType(written.span, name=written.name))
        self.axes(written)
        for axis in written.axes or ():
            if axis.rest or axis.size is None:
                continue
            if isinstance(axis.size, Interval) or _is_call_of(axis.size, "ragged"):
                self.bag.add(NotBuiltYet(axis.span, what="axes of varying length"))
                continue
            if declares:
                self.declare_dimensions(axis.size, axis.span)
            self.expression(axis.size)
            if axis.name is not None:
                self.axis_names.add(axis.name)

    def axes(self, written: WrittenType) -> None:
        """Axis names tell axes apart, and `..` must say which axes it stands for."""
        rests = [axis.span for axis in written.axes or () if axis.rest]
        named = [axis for axis in written.axes or () if axis.name is not None]
        network = self.definition is not None and isinstance(self.definition.item, NetworkDefinition)
        if len(rests) > 1:
            related = (Related(span=rests[0], label="the first one"),)
            self.bag.add(UnclearAxes(rests[1], related, why="`..` may stand once in a type"))
        elif rests and network:
            why = "the tensors of a network have a fixed number of axes; `..` is for layers"
            self.bag.add(UnclearAxes(rests[0], why=why))
        for position, axis in enumerate(named):
            first = next((a for a in named[:position] if a.name == axis.name), None)
            if first is not None:
                self.duplicate(axis.name or "", axis.span, first.span)

    def declare_dimensions(self, size: Expression, span: Span) -> None:
        """A free name in a declared shape is a symbolic dimension from here on."""
        for name in _names_in(size):
            if name not in self.scope and not isinstance(self.module.names.get(name), Constant):
                near = nearest(name, self.parameter_names) if len(name) > 2 else None
                if near is not None:
                    self.bag.add(DimensionLooksMisspelt(span, name=name, suggestion=near))
                self.scope[name] = None

    def constraint_use(self, expression: Expression) -> None:
        """Check `binary & ternary(threshold = 0.1)`: each part a constraint of the catalog or the file."""
        if isinstance(expression, Binary) and expression.operator == "&":
            self.constraint_use(expression.left)
            self.constraint_use(expression.right)
            return
        function = expression.function if isinstance(expression, CallOf) else expression
        if not isinstance(function, Name):
            self.constraint_member(function, expression)
            return
        found = self.module.names.get(function.name)
        entry = self.catalog.find("constraint", function.name)
        if isinstance(found, Definition) and found.kind == "constraint":
            self.arguments(found, expression)
        elif entry is not None:
            self.arguments(entry, expression, selectors=True)
        elif found is not None or function.name in self.scope:
            self.not_a_constraint(function, found)
        elif function.name in LATER_WORDS:
            self.bag.add(NotBuiltYet(function.span, what=LATER_WORDS[function.name]))
        elif not self.module.incomplete:
            known = [n for n, d in self.module.names.items() if getattr(d, "kind", "") == "constraint"]
            names = (*self.catalog.names("constraint"), *known)
            self.bag.add(
                UndefinedName(function.span, name=function.name, suggestion=nearest(function.name, names))
            )

    def constraint_member(self, function: Expression, expression: Expression) -> None:
        """Check `parts.signs(0.1)`, a constraint of a used file."""
        before = len(self.bag)
        self.expression(function)
        found = _member_definition(self.module, function) if isinstance(function, Member) else None
        if found is not None and found.kind == "constraint":
            self.arguments(found, expression)
        elif len(self.bag) == before and not self.module.incomplete:
            self.not_a_constraint(function, found)

    def not_a_constraint(self, function: Expression, found: object) -> None:
        kind = found.kind if isinstance(found, Definition) else "value"
        self.bag.add(NotAConstraint(function.span, name=function.span.text, kind=kind))

    # ----------------------------------------------------------------------------------------- expressions

    def expression(self, expression: Expression) -> None:
        match expression:
            case Name():
                self.name(expression)
            case ListOf(items=items):
                self.expressions(items)
            case Interval(start=start, stop=stop):
                self.expressions(e for e in (start, stop) if e is not None)
            case Member():
                self.member(expression)
            case CallOf():
                self.call(expression)
            case Index(of=of, items=items):
                self.expression(of)
                self.expressions(item.value for item in items)
            case Unary(operand=operand):
                self.expression(operand)
            case Binary(left=left, right=right, tolerance=tolerance):
                if tolerance is not None:
                    self.bag.add(NotBuiltYet(expression.span, what="tolerances outside claims"))
                self.expressions((left, right))
            case Conditional(value=value, condition=condition, otherwise=otherwise):
                self.expressions((condition, value, otherwise))
            case Lambda():
                self.anonymous(expression)
            case Chain(source=source, steps=steps):
                self.expression(source)
                self.steps(steps)
            case _:
                pass  # literals

    def expressions(self, expressions: Iterable[Expression]) -> None:
        for expression in expressions:
            self.expression(expression)

    def anonymous(self, function: Lambda) -> None:
        hidden = {name: self.scope.pop(name) for name in function.parameters if name in self.scope}
        for name in function.parameters:
            self.scope[name] = function.span
        self.expression(function.body)
        for name in function.parameters:
            self.scope.pop(name, None)
        self.scope.update(hidden)

    def name(self, expression: Name) -> None:
        name = expression.name
        if name in self.scope:
            return
        if name in self.later and name not in self.module.names:
            related = (Related(span=self.later[name], label="defined here"),)
            self.bag.add(UsedBeforeDefinition(expression.span, related, name=name))
            return
        if name in self.module.names or self.catalog.find("operation", name) or name in self.axis_names:
            return
        if what_later(name):
            self.bag.add(NotBuiltYet(expression.span, what=what_later(name)))
            return
        if not self.module.incomplete:
            near = self.nearest(name)
            self.bag.add(UndefinedName(expression.span, name=name, suggestion=near))

    def nearest(self, name: str) -> str | None:
        """Return the known name that may be meant; among very many mistakes nobody reads the guesses."""
        if len(self.bag) > _MOST_GUESSES:
            return None
        known = [*self.scope, *self.axis_names, *self.module.names, *self.catalog.names("operation")]
        return nearest(name, known)

    def member(self, expression: Member) -> None:
        of = expression.of
        module = self.module.names.get(of.name) if isinstance(of, Name) else None
        if isinstance(module, Module) and isinstance(of, Name):
            if expression.name not in module.names and not module.incomplete:
                near = nearest(expression.name, module.names)
                error = NoSuchMember(expression.span, module=of.name, name=expression.name, suggestion=near)
                self.bag.add(error)
        elif isinstance(of, Name) and of.name not in self.scope and of.name not in self.instances:
            self.name(of)
        else:
            self.bag.add(NotBuiltYet(expression.span, what="weights as values"))

    def call(self, expression: CallOf) -> None:
        callee = self.step_function(expression)
        if callee is not None:
            self.argument_names(callee, expression.arguments)

    def arguments(self, callee: Callee, expression: Expression, selectors: bool = False) -> None:
        if isinstance(expression, CallOf):
            self.argument_names(callee, expression.arguments)
            for argument in expression.arguments:
                if not selectors:
                    self.expression(argument.value)

    def argument_names(self, callee: Callee, arguments: tuple[Argument, ...]) -> None:
        """Check the names of keyword arguments against those that the callee has."""
        known = _argument_names(callee)
        seen: dict[str, Span] = {}
        for argument in arguments:
            if argument.over is not None or argument.quoted:
                self.bag.add(NotBuiltYet(argument.span, what="arguments for a phase or a path"))
            if argument.name is None or argument.quoted:
                continue
            if argument.name in seen:
                related = (Related(span=seen[argument.name], label="first given here"),)
                self.bag.add(DuplicateArgument(argument.span, related, name=argument.name))
            elif argument.name not in known:
                self.bag.add(unknown_argument(callee.name, argument.name, known, argument.span))
            seen.setdefault(argument.name, argument.span)

    # ----------------------------------------------------------------------------------------------- steps

    def steps(self, steps: tuple[Step, ...]) -> None:
        for step in steps:
            alias: str | None = getattr(step, "alias", None)
            if alias is not None:
                self.instance(alias, step.span)
            self.step(step)

    def step(self, step: Step) -> None:
        match step:
            case CallStep(function=function):
                callee = self.step_function(function)
                if callee is not None and isinstance(function, CallOf):
                    self.argument_names(callee, function.arguments)
            case ForkStep(branches=branches):
                for branch in branches:
                    self.steps(branch)
            case GroupStep(steps=steps, condition=condition, otherwise=otherwise):
                if condition is not None:
                    self.expression(condition)
                self.alternatives(steps, otherwise)
            case RepeatStep():
                self.repeat(step)
            case _:
                pass

    def alternatives(self, steps: tuple[Step, ...], otherwise: tuple[Step, ...]) -> None:
        """Only one of two branches is built, so both may use one name for an instance."""
        outside = dict(self.instances)
        self.steps(steps)
        inside, self.instances = self.instances, outside
        self.steps(otherwise)
        self.instances = {**inside, **self.instances}

    def repeat(self, step: RepeatStep) -> None:
        self.expression(step.count)
        if step.kind == "fork":
            self.bag.add(NotBuiltYet(step.span, what="`fork(n)`"))
        elif step.index is not None or step.arguments:
            what = "a repeat with an index" if step.index else "a repeat that keeps its results"
            self.bag.add(NotBuiltYet(step.span, what=what))
        else:
            outside, self.instances = self.instances, {}
            self.steps(step.body)
            self.instances = outside

    def step_function(self, expression: Expression) -> Callee | None:
        """Look up what is applied; return its entry or definition where that is known statically."""
        if isinstance(expression, CallOf):
            if not self.comes_later(expression.function):
                self.expressions(argument.value for argument in expression.arguments)
            return self.step_function(expression.function)
        if isinstance(expression, Member):
            self.member(expression)
            return _member_definition(self.module, expression)
        if not isinstance(expression, Name):
            self.expression(expression)
            return None
        return self.callee(expression)

    def comes_later(self, function: Expression) -> bool:
        """Return whether a call is of a word not built yet, whose arguments then mean nothing either."""
        return (
            isinstance(function, Name)
            and what_later(function.name) is not None
            and function.name not in self.scope
            and function.name not in self.module.names
            and self.catalog.find("operation", function.name) is None
        )

    def callee(self, expression: Name) -> Callee | None:
        name = expression.name
        found = self.module.names.get(name)
        if isinstance(found, Definition) and name not in self.scope:
            return found
        entry = self.catalog.find("operation", name)
        if entry is not None or name in self.scope or found is not None:
            return entry if name not in self.scope else None
        if name in self.later:
            related = (Related(span=self.later[name], label="defined here"),)
            self.bag.add(UsedBeforeDefinition(expression.span, related, name=name))
        elif what_later(name):
            self.bag.add(NotBuiltYet(expression.span, what=what_later(name)))
        elif not self.module.incomplete:
            near = self.nearest(name)
            self.bag.add(UnknownOperation(expression.span, name=name, suggestion=near))
        return None


def unknown_argument(callee: str, name: str, known: tuple[str, ...], span: Span) -> Error:
    """Return the error of an argument that a callee does not have, with the nearest or all names."""
    near = nearest(name, known)
    takes = ", ".join(f"`{n}`" for n in known) or "no arguments"
    help_text = f"did you mean `{near}`?" if near else f"`{callee}` takes {takes}"
    return UnknownArgument(span, callee=callee, name=name, help=help_text)


def _argument_names(callee: Callee) -> tuple[str, ...]:
    if isinstance(callee, Entry):
        return tuple(argument.name for argument in callee.arguments)
    item = callee.item
    return tuple(parameter.name for parameter in item.parameters)


def _member_definition(module: Module, expression: Member) -> Definition | None:
    inner = module.names.get(expression.of.name) if isinstance(expression.of, Name) else None
    found = inner.names.get(expression.name) if isinstance(inner, Module) else None
    return found if isinstance(found, Definition) else None


def _names_function(expression: Expression, name: str) -> bool:
    """Return whether an expression is `name` or `name(...)`."""
    return (isinstance(expression, Name) and expression.name == name) or _is_call_of(expression, name)


def _is_call_of(expression: Expression, name: str) -> bool:
    return (
        isinstance(expression, CallOf)
        and isinstance(expression.function, Name)
        and expression.function.name == name
    )


def _defined(statement: Statement) -> list[tuple[str, Span]]:
    if isinstance(statement, Assignment):
        return [(name, statement.span) for name in statement.names]
    if isinstance(statement, Over):
        return [item for inner in statement.body for item in _defined(inner)]
    name = getattr(statement, "name", None)
    return [(name, statement.span)] if isinstance(name, str) else []


def _names_in(expression: Expression) -> list[str]:
    match expression:
        case Name(name=name):
            return [name]
        case Unary(operand=operand):
            return _names_in(operand)
        case Binary(left=left, right=right):
            return [*_names_in(left), *_names_in(right)]
        case _:
            return []
