"""Evaluates the values of experiments and analyses: plain configuration, and words of the catalog.

In: expressions as written and the `Argument` that says what is expected. Out: plain Python values, lists
as tuples, words as validated `Choice`s. Raises Refused with a diagnostic. Plain values are evaluated as
in any body; the names in them are checked here, since `bind` leaves experiments to `fit`.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.callables import match_arguments
from nnspec.compiler.collected import collected
from nnspec.compiler.derivation import resolve
from nnspec.compiler.evaluate import Evaluator
from nnspec.compiler.experiment import Choice, Objective, Source
from nnspec.compiler.objective_fit import is_objective
from nnspec.compiler.rule_choice import library_names, written_rule
from nnspec.compiler.rules.registry import rule
from nnspec.compiler.runtime import data, optimizers, stages
from nnspec.compiler.tensors import selector_of
from nnspec.compiler.values import Given, Layer, Refused, Value, describe, entries
from nnspec.dsl.catalog import Argument, Catalog, Entry, Problem, validate
from nnspec.dsl.catalog import describe as describe_argument
from nnspec.dsl.definitions import Constant, Definition, Module
from nnspec.dsl.errors.arguments import MissingArgument, WrongArgument
from nnspec.dsl.errors.experiments import (
    MovedArgument,
    NotConfiguration,
    UnknownWord,
    WrongFamily,
    WrongField,
)
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.names import NoSuchMember, UndefinedName
from nnspec.dsl.errors.objectives import WrongMetricValues
from nnspec.dsl.errors.training import WrongSelect
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import Argument as WrittenArgument
from nnspec.dsl.syntax import (
    Binary,
    Boolean,
    CallOf,
    Chain,
    Conditional,
    Expression,
    Index,
    Interval,
    Lambda,
    ListOf,
    Member,
    Name,
    Nothing,
    Number,
    Text,
    Unary,
)
from nnspec.dsl.write import expression as canonical

_LATER = {
    "sweep": "`sweep`, several values of one field",
}
_ARTICLES = {
    "data": "a data set",
    "weights": "weights from a file",
    "optimizer": "an optimizer",
    "rule": "a learning rule",
}
_NOUNS = {
    "data": "data set",
    "corruption": "way to make labels wrong",
    "rule": "learning rule",
    "stop": "rule for stopping",
    "select": "choice among restarts",
    "way": "way to judge",
}
# Fields that older habits write as arguments of the rule.
_FIELDS_OF_RULES = ("optimizer", "schedule", "epochs", "steps", "batch", "loss", "seeds")


class Configuration:
    """Evaluates values in the scope of one module."""

    def __init__(self, evaluator: Evaluator, catalog: Catalog) -> None:
        self.evaluator = evaluator
        self.catalog = catalog

    @property
    def module(self) -> Module:
        return self.evaluator.builder.module

    def value(self, expression: Expression, argument: Argument) -> Any:
        """Return the value of an expression that stands where `argument` is expected."""
        if argument.nullable and isinstance(expression, Nothing):
            return None
        if argument.listed != "no" and isinstance(expression, ListOf):
            return tuple(self.item(item, argument) for item in expression.items)
        return self.item(expression, argument)

    def item(self, expression: Expression, argument: Argument) -> Any:
        if argument.kind in ("loss", "metric") and self.is_objective(expression, argument.kind):
            return self.objective(expression, argument.kind)
        if argument.kind in self.catalog.families():
            return self.word(expression, argument.kind, f"`{argument.name}`")
        if argument.kind == "selector":
            return selector_of(expression)
        if argument.kind == "score":
            return _score(expression)
        return self.plain(expression, argument)

    # --------------------------------------------------------------------------------------- plain values

    def plain(self, expression: Expression, argument: Argument | None = None) -> Any:
        """Return a number, text, truth value, none or list."""
        choices = () if argument is None else argument.choices
        if isinstance(expression, Name) and expression.name in choices and argument is not None:
            raise Refused(
                WrongField(
                    expression.span,
                    why=f"`{argument.name}` must be {describe_argument(argument)}",
                    found="a name",
                    help=f'write "{expression.name}" in quotes',
                )
            )
        self.check(expression)
        value = self.evaluator.expression(expression)
        listed = entries(value) or ()
        if any(isinstance(item, Value | Layer) for item in (value, *listed)):
            raise Refused(NotConfiguration(expression.span, what=describe(value), help=None))
        return value

    def check(self, expression: Expression) -> None:
        """Refuse what has no value while compiling, and names that nothing defines."""
        match expression:
            case Number() | Text() | Boolean() | Nothing():
                return
            case Name():
                self.check_name(expression)
            case Member():
                self.check_member(expression)
            case ListOf(items=items):
                self.check_all(*items)
            case Interval(start=start, stop=stop):
                self.check_all(*(end for end in (start, stop) if end is not None))
            case Unary(operand=operand):
                self.check(operand)
            case Binary(left=left, right=right):
                self.check_all(left, right)
            case Conditional(value=value, condition=condition, otherwise=otherwise):
                self.check_all(value, condition, otherwise)
            case Index(of=of, items=items):
                self.check_all(of, *(item.value for item in items))
            case _:
                raise Refused(self.no_value(expression))

    def check_all(self, *expressions: Expression) -> None:
        for expression in expressions:
            self.check(expression)

    def check_name(self, expression: Name) -> None:
        name = expression.name
        if name in self.evaluator.builder.scope:
            return
        found = self.module.names.get(name)
        if isinstance(found, Constant):
            return
        if isinstance(found, Definition):
            what = f"`{name}`, {'an' if found.kind[0] in 'aeiou' else 'a'} {found.kind},"
            raise Refused(NotConfiguration(expression.span, what=what, help=None))
        known = [n for n, d in self.module.names.items() if isinstance(d, Constant)]
        near = nearest(name, [*known, *self.evaluator.builder.scope])
        words = self.catalog.anywhere(name)
        if words:
            what = f"`{name}`, {_article(words[0].family)},"
            raise Refused(NotConfiguration(expression.span, what=what, help=None))
        raise Refused(UndefinedName(expression.span, name=name, suggestion=near))

    def check_member(self, expression: Member) -> None:
        of = expression.of
        module = self.module.names.get(of.name) if isinstance(of, Name) else None
        if not isinstance(module, Module):
            raise Refused(self.no_value(expression))
        if not isinstance(module.names.get(expression.name), Constant):
            near = nearest(expression.name, module.names)
            error = NoSuchMember(expression.span, module=of.span.text, name=expression.name, suggestion=near)
            raise Refused(error)

    def check_given(self, expression: Expression) -> None:
        """Check what is given to a network's parameter, which may be a layer beside a plain value."""
        function = expression.function if isinstance(expression, CallOf) else expression
        if isinstance(function, Name):
            name = function.name
            found = self.module.names.get(name)
            layer = isinstance(found, Definition) and found.kind in ("layer", "network")
            if layer or (found is None and self.catalog.find("operation", name) is not None):
                for argument in expression.arguments if isinstance(expression, CallOf) else ():
                    self.check_given(argument.value)
                return
        self.check(expression)

    def no_value(self, expression: Expression) -> NotBuiltYet | NotConfiguration:
        function = expression.function if isinstance(expression, CallOf) else None
        if isinstance(function, Name):
            if function.name in _LATER:
                return NotBuiltYet(expression.span, what=_LATER[function.name])
            return NotConfiguration(expression.span, what=f"`{function.name}(...)`", help=None)
        kinds: dict[type[Expression], str] = {Lambda: "an anonymous function", Chain: "a chain"}
        what = kinds.get(type(expression), "this expression")
        return NotConfiguration(expression.span, what=what, help=None)

    # ---------------------------------------------------------------------------------- losses and metrics

    def is_objective(self, expression: Expression, family: str) -> bool:
        words = self.catalog.names(family)
        if family in ("loss", "metric") and isinstance(
            expression, Name
        ):  # of a value, unless it is like a word
            name = expression.name
            known = name in self.module.names or self.catalog.anywhere(name)
            begun = any(word.startswith(name) for word in words)
            return not (known or begun) and nearest(name, words) is None
        return is_objective(expression, words, self.module)

    def objective(self, expression: Expression, family: str) -> Objective:
        """Return a loss or a metric that is computed from values; it is settled against its network."""
        text, span = canonical(expression), expression.span
        elaborator = self.evaluator.elaborator
        source = Source(
            expression=expression,
            module=self.module,
            definitions=elaborator.definitions,
            lets=elaborator.lets,
        )
        metric = self.metric_on_values(expression) if family == "metric" else None
        return Objective(text=text, metric=metric, source=source, span=span)

    def metric_on_values(self, expression: Expression) -> Choice | None:
        """Return the metric of `accuracy(digit, label)`; None for an expression, whose mean is reported."""
        function = expression.function if isinstance(expression, CallOf) else None
        if not isinstance(expression, CallOf) or not isinstance(function, Name):
            return None
        entry = self.catalog.find("metric", function.name)
        if entry is None:
            return None
        placed = [argument for argument in expression.arguments if argument.name is None]
        if len(placed) != 2:
            raise Refused(WrongMetricValues(expression.span, name=function.name, count=len(placed)))
        named = tuple(argument for argument in expression.arguments if argument.name is not None)
        return self.choice(entry, named, expression.span)

    # ----------------------------------------------------------------------------------------------- words

    def word(self, expression: Expression, family: str, place: str) -> Choice:
        """Return the choice of a word of a family: `adam`, `adam(lr = 0.01)`."""
        chosen = written_rule(self, expression) if family == "rule" else None
        if chosen is not None:
            return chosen
        function = expression.function if isinstance(expression, CallOf) else expression
        if not isinstance(function, Name):
            raise Refused(self.no_word(expression, family, place))
        if function.name in _LATER:
            raise Refused(NotBuiltYet(expression.span, what=_LATER[function.name]))
        entry = self.catalog.find(family, function.name)
        if entry is None:
            raise Refused(self.unknown_word(function, family, place))
        written = expression.arguments if isinstance(expression, CallOf) else ()
        return self.choice(entry, written, expression.span)

    def choice(self, entry: Entry, written: tuple[WrittenArgument, ...], span: Span) -> Choice:
        """Return a word with its arguments, complete and validated."""
        if entry.family == "rule":
            self.check_moved(entry.name, tuple(argument.name for argument in entry.arguments), written)
        written, others = collected(self, entry, written)
        names = tuple(argument.name for argument in entry.arguments)
        given = tuple(Given(name=a.name, value=None, expression=a.value, span=a.span) for a in written)
        matched = match_arguments(entry.name, names, given, span)
        for argument in entry.arguments:
            if argument.required and argument.name not in matched:
                help_text = f"`{entry.name}({argument.name} = ...)`: {argument.doc}" if argument.doc else None
                error = MissingArgument(span, callee=entry.name, name=argument.name, help=help_text)
                raise Refused(error)
        values = {
            argument.name: self.value(matched[argument.name].expression or Nothing(span=span), argument)
            for argument in entry.arguments
            if argument.name in matched
        } | others
        options, problems = _validated(entry, values)
        wrong = [(problem.argument, problem.why) for problem in problems]
        choice = Choice(family=entry.family, name=entry.name, arguments=tuple(options.items()), span=span)
        if not wrong:
            found = _misfit(choice)
            wrong = [] if found is None else [found]
        for name, why in wrong:
            place = matched[name].span if name in matched else span
            value = describe(values[name]) if name in values else "this"
            raise Refused(WrongArgument(place, callee=entry.name, why=why, found=value))
        return choice

    def check_moved(self, rule: str, known: tuple[str, ...], written: tuple[WrittenArgument, ...]) -> None:
        """Fields of the experiment given to the rule get a diagnostic that says where they belong."""
        for argument in written:
            name = argument.name
            if name not in _FIELDS_OF_RULES or name in known:
                continue
            line = f"{name} = {argument.value.span.text}"
            raise Refused(MovedArgument(argument.span, name=name, callee=rule, line=line))

    def no_word(self, expression: Expression, family: str, place: str) -> NotBuiltYet | WrongField:
        function = expression.function if isinstance(expression, CallOf) else None
        member = function if function is not None else expression
        if isinstance(member, Member) and isinstance(resolve(self.module, member.of), Module):
            return NotBuiltYet(expression.span, what=f"{_article(family)} of another file")
        why = f"{place} must be {_article(family)}"
        found = "a list" if isinstance(expression, ListOf) else f"`{expression.span.text[:40]}`"
        known = self.catalog.names(family)
        help_text = f"there are {', '.join(f'`{word}`' for word in known)}" if len(known) <= 12 else None
        return WrongField(expression.span, why=why, found=found, help=help_text)

    def unknown_word(self, name: Name, family: str, place: str) -> UnknownWord | WrongFamily:
        others = self.catalog.anywhere(name.name)
        defined = self.module.names.get(name.name)
        known = (*self.catalog.names(family), *(library_names() if family == "rule" else ()))
        listed = ", ".join(f"`{word}`" for word in known)
        if others or isinstance(defined, Definition):
            found = _article(others[0].family) if others else _article(getattr(defined, "kind", ""))
            return WrongFamily(
                name.span,
                name=name.name,
                found=found,
                place=place,
                expected=_article(family),
                help=_laid_on_values(name.name, others, family)
                or (f"there are {listed}" if 0 < len(known) <= 12 else None),
            )
        near = nearest(name.name, known)
        help_text = f"did you mean `{near}`?" if near else f"there are {listed}"
        if near is None and len(known) > 12:
            help_text = f"there are {len(known)}, and `nnspec explain` lists them"
        noun = _NOUNS.get(family, family)
        return UnknownWord(name.span, family=noun, name=name.name, help=help_text)


def _laid_on_values(name: str, others: tuple[Entry, ...], family: str) -> str | None:
    """An operation alone is no loss, but what it makes of values may be one."""
    if family != "loss" or not any(entry.family == "operation" for entry in others):
        return None
    return f"lay it on named values: `{name}(...)`"


def _validated(entry: Entry, values: dict[str, Any]) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Validate what is given; defaults alone need no model, which takes a millisecond to build."""
    if values:
        return validate(entry, values)
    return {argument.name: argument.default for argument in entry.arguments}, ()


def _misfit(choice: Choice) -> tuple[str, str] | None:
    """What no argument alone gets wrong."""
    if choice.family == "data":
        return data.misfit(choice)
    if choice.family == "stage":
        return stages.misfit(choice)
    if choice.family == "rule":
        return rule(choice.name).misfit(choice.options)
    return optimizers.misfit(choice) if choice.family == "optimizer" else None


def _score(expression: Expression) -> tuple[str, str]:
    """`validation.loss`: a part of the data and a number measured on it."""
    place = expression.function if isinstance(expression, CallOf) else expression
    if isinstance(place, Member) and isinstance(place.of, Name):
        return place.of.name, canonical(expression).partition(".")[2]
    help_text = "write a part and a number measured on it, such as `validation.loss`"
    raise Refused(WrongSelect(expression.span, why="this is no score", label="no score", help=help_text))


def _article(family: str) -> str:
    noun = _ARTICLES.get(family)
    return noun or f"{'an' if family[:1] in 'aeiou' else 'a'} {_NOUNS.get(family, family)}"
