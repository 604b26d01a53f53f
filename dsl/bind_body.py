"""Looks up every name in one body: a layer, a network, an activation, a constraint or a `let`.

In: a definition with its module's names, and the catalog. Out: diagnostics only; the body itself goes on
to `elaborate` as it stands.
"""

from __future__ import annotations

from nnspec.dsl.bind_activation import bind_activation, bind_learned, names_initializer
from nnspec.dsl.bind_callees import member_definition
from nnspec.dsl.bind_constraint import bind_clauses
from nnspec.dsl.bind_dynamics import bind_dynamics
from nnspec.dsl.bind_expression import ExpressionBinder
from nnspec.dsl.bind_rule import RuleBinder
from nnspec.dsl.bind_system import bind_connect, bind_state, bind_use
from nnspec.dsl.catalog import Catalog
from nnspec.dsl.definitions import Constant, Definition, Module, is_load
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.errors.arguments import (
    NoOutput,
    NotTensorType,
    OutputWithoutValue,
    WrongParameterType,
)
from nnspec.dsl.errors.claims import ClaimElsewhere
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.names import (
    DimensionLooksMisspelt,
    NotAConstraint,
    UndefinedName,
)
from nnspec.dsl.errors.shapes import UnclearAxes
from nnspec.dsl.errors.training import LoadOutside
from nnspec.dsl.later import LATER_STATEMENTS, LATER_WORDS
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import (
    ActivationDefinition,
    Assignment,
    Binary,
    CallOf,
    Connect,
    Constrain,
    ConstraintDefinition,
    DynamicsDefinition,
    Expect,
    ExperimentDefinition,
    Expression,
    Initialize,
    Input,
    Interval,
    LayerDefinition,
    Member,
    Name,
    NetworkDefinition,
    Output,
    Over,
    Parameter,
    ParameterDeclaration,
    Penalty,
    Require,
    RuleDefinition,
    Shared,
    State,
    Statement,
    Unary,
    UpdateBuffer,
    UseDynamics,
    WrittenType,
)

PARAMETER_TYPES = ("int", "real", "bool", "text", "list", "layer", "network", "activation")
TENSOR_TYPES = ("real", "int", "bool", "complex")


class BodyBinder(ExpressionBinder):
    """Checks the names of one definition, top to bottom."""

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
            case ActivationDefinition() as item:
                self.activation(item)
            case ConstraintDefinition() as item:
                self.constraint(item)
            case DynamicsDefinition() as item:
                self.parameters(item.parameters)
                bind_dynamics(self, item)
            case RuleDefinition() as item:
                self.parameters(item.parameters)
                RuleBinder(self, item).run()
            case ExperimentDefinition(body=body):
                for statement in body:  # `fit` reads the others
                    if isinstance(statement, Constrain | Initialize) and not is_load(statement):
                        self.statement(statement)

    # ---------------------------------------------------------------------------------------------- bodies

    def network(self, item: NetworkDefinition) -> None:
        if item.base is None:
            self.body(item.parameters, item.body)
            self.ports(item.name, item.body, item.name_span)
            return
        self.parameters(item.parameters)
        self.step_function(item.base)
        for statement in item.body:
            if isinstance(statement, Constrain | Initialize | Expect):
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
                bind_learned(self, parameter)
            elif parameter.type is not None:
                self.parameter_type(parameter.type)
            if parameter.default is not None:
                if parameter.learn and names_initializer(self, parameter.default):
                    self.word(parameter.default, "initializer")
                elif parameter.type is not None and self.is_family(parameter.type.name):
                    self.family_word(parameter.type.name, parameter.default)
                else:
                    self.expression(parameter.default)
            self.parameter_names.append(parameter.name)
            self.define(parameter.name, parameter.span)

    def parameter_type(self, written: WrittenType) -> None:
        if written.choices:
            return
        if written.axes is not None:
            what, help_text = "it is a type of tensors", "a tensor comes in by a line `input NAME: TYPE`"
        elif written.name not in PARAMETER_TYPES and not self.is_family(written.name):
            near = nearest(written.name, PARAMETER_TYPES)
            what = "there is no such type"
            help_text = f"did you mean `{near}`?" if near else "parameters are " + ", ".join(PARAMETER_TYPES)
        else:
            return
        self.bag.add(WrongParameterType(written.span, name=written.name, why=what, help=help_text))

    def is_family(self, name: str) -> bool:
        """Return whether words of the catalog are of this family: rules take them as parameters."""
        rule = self.definition is not None and isinstance(self.definition.item, RuleDefinition)
        return rule and name in self.catalog.families()

    def activation(self, item: ActivationDefinition) -> None:
        self.parameters(item.parameters)
        bind_activation(self, item)

    def constraint(self, item: ConstraintDefinition) -> None:
        self.parameters(item.parameters)
        bind_clauses(self, item)

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
                self.shared(value)
                self.instance(name, statement.span)
                self.define(name, statement.span)
            case Parameter():
                self.owned(statement)
            case UpdateBuffer(value=value):
                self.expression(value)
            case Penalty(name=name, value=value):
                self.expression(value)
                self.instance(name, statement.span)
            case State():
                bind_state(self, statement)
            case Connect():
                bind_connect(self, statement)
            case UseDynamics(value=value):
                bind_use(self, value)
            case Constrain(constraint=constraint):
                self.constraint_use(constraint)
            case Initialize() if is_load(statement) and "load" not in self.module.names:
                self.bag.add(LoadOutside(statement.span))
            case Initialize(value=value):
                self.word(value, "initializer")
            case Require(condition=condition):
                self.expression(condition)
            case Expect() if self.definition is not None and self.definition.kind != "network":
                why = f"`{self.definition.name}` is a {self.definition.kind}"
                help_text = "claim it in a network; of sizes and parameters `require` says what must hold"
                self.bag.add(ClaimElsewhere(statement.span, why=why, help=help_text))
            case _ if type(statement) in LATER_STATEMENTS:
                self.later_statement(statement)
            case _:
                pass  # claims of networks are read when their graphs are known

    def shared(self, value: Expression) -> None:
        """`shared enc = dense(64)`, or `shared target = follow(enc, every = 500)`, which is a word of its own."""
        function = value.function if isinstance(value, CallOf) else None
        follows = isinstance(function, Name) and function.name == "follow"
        if follows and isinstance(value, CallOf) and "follow" not in self.module.names:
            self.expressions(argument.value for argument in value.arguments)
        else:
            self.expression(value)

    def owned(self, statement: Parameter) -> None:
        """A parameter or buffer is a value and an instance."""
        self.type(statement.type, declares=False)
        self.word(statement.value, "initializer")
        self.instance(statement.name, statement.span)
        self.define(statement.name, statement.span)

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
            self.arguments(entry, expression)
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
        found = member_definition(self.module, function) if isinstance(function, Member) else None
        if found is not None and found.kind == "constraint":
            self.arguments(found, expression)
        elif len(self.bag) == before and not self.module.incomplete:
            self.not_a_constraint(function, found)

    def not_a_constraint(self, function: Expression, found: object) -> None:
        kind = found.kind if isinstance(found, Definition) else "value"
        self.bag.add(NotAConstraint(function.span, name=function.span.text, kind=kind))


def _is_call_of(expression: Expression, name: str) -> bool:
    return (
        isinstance(expression, CallOf)
        and isinstance(expression.function, Name)
        and expression.function.name == name
    )


def _defined(statement: Statement) -> list[tuple[str, Span]]:
    if isinstance(statement, UpdateBuffer | Penalty):
        return []
    if isinstance(statement, Assignment):
        return [(name, statement.span) for name in statement.names]
    if isinstance(statement, Over):
        return [item for inner in statement.body for item in _defined(inner)]
    name = None if isinstance(statement, Connect) else getattr(statement, "name", None)
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
