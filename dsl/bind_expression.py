"""Looks up every name in an expression: values, operations, layers, their arguments.

In: a scope that the statements of a body fill, the names of the module, the catalog. Out: diagnostics only.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager

from nnspec.dsl.bind_callees import (
    argument_names_of,
    choices_of,
    member_definition,
    source_line,
    unknown_argument,
    unknown_word,
    word_families,
    word_family,
)
from nnspec.dsl.catalog import Catalog, Entry
from nnspec.dsl.definitions import Callee, Definition, Module
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.errors.arguments import (
    DuplicateArgument,
    WrongKeep,
)
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.names import (
    DuplicateName,
    InLibrary,
    NoSuchMember,
    UndefinedName,
    UnknownOperation,
    UsedBeforeDefinition,
)
from nnspec.dsl.errors.owned import NoSuchInstance
from nnspec.dsl.later import what_later
from nnspec.dsl.paths import trained_root
from nnspec.dsl.source import Span
from nnspec.dsl.standard import defined
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import (
    Argument,
    Binary,
    CallOf,
    CallStep,
    Chain,
    Conditional,
    Expression,
    ForkStep,
    GroupStep,
    Index,
    Interval,
    Lambda,
    ListOf,
    Member,
    Name,
    RepeatStep,
    Step,
    Unary,
)

_MOST_GUESSES = 100


class ExpressionBinder:
    """Checks the names in the expressions of one definition."""

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

    # ----------------------------------------------------------------------------------------- expressions

    def expression(self, expression: Expression) -> None:
        if self.is_trained(expression):
            return
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

    def is_trained(self, expression: Expression) -> bool:
        """Return whether it is a part of `trained(E)`, whose names are looked up when it is elaborated."""
        return trained_root(expression, {*self.scope, *self.module.names}) is not None

    def expressions(self, expressions: Iterable[Expression]) -> None:
        for expression in expressions:
            self.expression(expression)

    def anonymous(self, function: Lambda) -> None:
        with self.hiding(function.parameters, function.span):
            self.expression(function.body)

    @contextmanager
    def hiding(self, names: tuple[str, ...], span: Span) -> Generator[None]:
        """Let names stand for something of their own for a while, whatever they mean outside."""
        hidden = {name: self.scope.pop(name) for name in names if name in self.scope}
        self.scope.update({name: span for name in names})
        yield
        for name in names:
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
        if name in defined() and not self.module.incomplete:
            self.bag.add(InLibrary(expression.span, name=name, part=defined()[name]))
        elif not self.module.incomplete:
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
        elif isinstance(of, Name) and not (of.name in self.scope or of.name in self.instances):
            self.instance_of(of)

    def instance_of(self, of: Name) -> None:
        """Check the name of an instance whose weight is meant: one after `as`, or what it is an instance of."""
        known = self.catalog.find("operation", of.name) or of.name in self.module.names
        if not known and not self.module.incomplete:
            near = nearest(of.name, [*self.instances, *self.module.names])
            self.bag.add(NoSuchInstance(of.span, name=of.name, suggestion=near))

    def call(self, expression: CallOf) -> None:
        callee = self.step_function(expression)
        if callee is not None:
            self.argument_names(callee, expression.arguments)

    def arguments(self, callee: Callee, expression: Expression) -> None:
        """Check the arguments of a word or definition; paths of weights are read where they are used."""
        if not isinstance(expression, CallOf):
            return
        self.argument_names(callee, expression.arguments)
        kinds = {a.name: a.kind for a in callee.arguments} if isinstance(callee, Entry) else {}
        choices = choices_of(callee)
        names = list(choices)
        for place, argument in enumerate(expression.arguments):
            name = argument.name or (names[place] if place < len(names) else "")
            kind = kinds.get(name, "value")
            if self.is_unquoted(argument.value, choices.get(name, ())):
                self.unquoted(argument.value)
            elif self.catalog.names(kind):
                self.family_word(kind, argument.value)
            elif kind != "selector":
                self.expression(argument.value)

    def is_unquoted(self, value: Expression, choices: tuple[str, ...]) -> bool:
        """Return whether a value is one of these texts, without its quotes."""
        if not isinstance(value, Name) or value.name not in choices:
            return False
        return value.name not in self.scope and value.name not in self.module.names

    def unquoted(self, value: Expression) -> None:
        word = value.span.text
        self.bag.add(UndefinedName(value.span, name=word, suggestion=f'"{word}"'))

    def family_word(self, family: str, expression: Expression) -> None:
        """Check a word of a family of the catalog, `cyclic(8)`, or a value in its place."""
        function = expression.function if isinstance(expression, CallOf) else expression
        if not isinstance(function, Name) or function.name in self.scope:
            self.expression(expression)
            return
        entry = self.catalog.find(family, function.name)
        if entry is not None:
            self.arguments(entry, expression)
        elif function.name in self.module.names:
            self.expression(expression)
        elif not self.module.incomplete:
            near = nearest(function.name, self.catalog.names(family))
            self.bag.add(UndefinedName(function.span, name=function.name, suggestion=near))

    def argument_names(self, callee: Callee, arguments: tuple[Argument, ...]) -> None:
        """Check the names of keyword arguments against those that the callee has."""
        known = argument_names_of(callee)
        seen: dict[str, Span] = {}
        for argument in arguments:
            if argument.over is not None or argument.quoted:
                self.bag.add(NotBuiltYet(argument.span, what="arguments for a phase or a path"))
            if argument.name is None or argument.quoted:
                continue
            if argument.name in seen:
                related = (Related(span=seen[argument.name], label="first given here"),)
                self.bag.add(DuplicateArgument(argument.span, related, name=argument.name))
            elif argument.name not in known and not getattr(callee, "others", ""):
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
        self.keeps(step)
        outside, self.instances = self.instances, {}
        with self.hiding(() if step.index is None else (step.index,), step.span):
            self.steps(step.body)
        self.instances = outside

    def keeps(self, step: RepeatStep) -> None:
        """Check what stands behind the number of copies: `keep = all`."""
        known = ("keep",) if step.kind == "repeat" else ()
        for argument in step.arguments:
            if argument.name is None or argument.name not in known:
                name = argument.name or source_line(argument.value)
                self.bag.add(unknown_argument(step.kind, name, known, argument.span))
            elif argument.value != Name(name="all", span=argument.value.span):
                last = isinstance(argument.value, Name) and argument.value.name == "last"
                help_text = "leave `keep` out: the last result flows on" if last else "write `keep = all`"
                found = f"`{source_line(argument.value)}`"
                self.bag.add(WrongKeep(argument.value.span, found=found, help=help_text))

    def step_function(self, expression: Expression) -> Callee | None:
        """Look up what is applied; return its entry or definition where that is known statically."""
        if self.is_trained(expression):
            return None
        if isinstance(expression, CallOf):
            if not self.comes_later(expression.function):
                self.given(expression)
            return self.step_function(expression.function)
        if isinstance(expression, Member):
            self.member(expression)
            return member_definition(self.module, expression)
        if not isinstance(expression, Name):
            self.expression(expression)
            return None
        return self.callee(expression)

    def given(self, expression: CallOf) -> None:
        """Look up the arguments of a call; some stand for words of the library, as in `sample(normal)`."""
        function = expression.function
        entry = None
        if isinstance(function, Name) and function.name not in {*self.scope, *self.module.names}:
            entry = self.catalog.find("operation", function.name)
        families = word_families(entry)
        callee = entry or self.definition_of(function)
        for argument in expression.arguments:
            family = word_family(self.catalog, families, argument)
            head = argument.value.function if isinstance(argument.value, CallOf) else argument.value
            known = isinstance(head, Name) and (
                head.name in self.scope
                or head.name in self.module.names
                or self.catalog.find("operation", head.name)
            )
            choices = {} if callee is None else choices_of(callee)
            if family is not None:
                self.word(argument.value, family)
            elif not known and self.is_unquoted(argument.value, choices.get(argument.name or "", ())):
                self.unquoted(argument.value)
            elif families and argument.name is None and isinstance(head, Name) and not known:
                self.word(argument.value, next(iter(families.values())))
            else:
                self.expression(argument.value)

    def definition_of(self, function: Expression) -> Definition | None:
        """Return the definition that a name means in the file."""
        if not isinstance(function, Name) or function.name in self.scope:
            return None
        found = self.module.names.get(function.name)
        return found if isinstance(found, Definition) else None

    def word(self, expression: Expression, family: str) -> None:
        """Check a word of a family of the catalog, with its arguments: `normal(std = 0.02)`."""
        function = expression.function if isinstance(expression, CallOf) else expression
        entry = self.catalog.find(family, function.name) if isinstance(function, Name) else None
        if entry is not None:
            self.arguments(entry, expression)
            return
        self.bag.add(unknown_word(self.catalog, family, function))

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
        elif name in defined() and not self.module.incomplete:
            self.bag.add(InLibrary(expression.span, name=name, part=defined()[name]))
        elif not self.module.incomplete:
            near = self.nearest(name)
            self.bag.add(UnknownOperation(expression.span, name=name, suggestion=near))
        return None
