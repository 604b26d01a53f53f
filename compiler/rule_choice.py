"""A learning rule of the language as an experiment's choice: found by its name, its arguments matched.

`learn = oja` means a rule of the file or of a used file, else a built-in one, else one of the standard library, which
needs no `use`. A parameter whose type is a family of the catalog takes a word of it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nnspec.compiler.callables import match_arguments
from nnspec.compiler.derivation import resolve
from nnspec.compiler.experiment import Choice
from nnspec.compiler.parameters import bind_parameters
from nnspec.compiler.values import Given, Refused
from nnspec.dsl.bind import bind
from nnspec.dsl.catalog import Argument, Catalog
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Bag, InternalError
from nnspec.dsl.errors.arguments import MissingArgument
from nnspec.dsl.imports import Importer
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source, Span
from nnspec.dsl.standard import parts, rules
from nnspec.dsl.syntax import Argument as WrittenArgument
from nnspec.dsl.syntax import CallOf, Expression, Member, Name, RuleDefinition

if TYPE_CHECKING:
    from nnspec.compiler.configuration import Configuration


def written_rule(configuration: Configuration, expression: Expression) -> Choice | None:
    """Return the choice of a rule of the language; None if the name is of no such rule."""
    function = expression.function if isinstance(expression, CallOf) else expression
    if not isinstance(function, Name | Member):
        return None
    definition = _found(configuration, function)
    if definition is None:
        return None
    if definition.broken:
        raise Refused
    given = expression.arguments if isinstance(expression, CallOf) else ()
    return _choice(configuration, definition, given, expression.span)


def default_choice(configuration: Configuration, definition: Definition) -> Choice:
    """Return the choice of a rule with its defaults."""
    return _choice(configuration, definition, (), definition.span)


def library_names() -> tuple[str, ...]:
    """Return the names of the rules of the standard library."""
    return tuple(rules())


def _found(configuration: Configuration, function: Name | Member) -> Definition | None:
    found = resolve(configuration.module, function)
    if isinstance(found, Definition) and found.kind == "rule":
        return found
    if not isinstance(function, Name) or configuration.catalog.find("rule", function.name) is not None:
        return None
    part = rules().get(function.name)
    return None if part is None else library(part, configuration.catalog)[function.name]


@lru_cache(maxsize=8)
def library(part: str, catalog: Catalog) -> dict[str, Definition]:
    """Return the rules of a part of the standard library, bound."""
    path, bag = parts()[part], Bag()
    source = Source(f"library.{part}", path.read_text(encoding="utf-8"), path)
    importer = Importer((path.parent,), lambda path, bag: None, parse, bag)
    definitions = bind(source, parse(source, bag), catalog, importer)
    if bag.failed:
        raise InternalError(f"the library is wrong: {[repr(error) for error in bag]}")
    return {definition.name: definition for definition in definitions.of_kind("rule")}


def _choice(
    configuration: Configuration, definition: Definition, given: tuple[WrittenArgument, ...], span: Span
) -> Choice:
    item = definition.item
    assert isinstance(item, RuleDefinition)
    configuration.check_moved(definition.name, tuple(p.name for p in item.parameters), given)
    names = tuple(parameter.name for parameter in item.parameters)
    read = tuple(Given(name=a.name, value=None, expression=a.value, span=a.span) for a in given)
    matched = match_arguments(definition.name, names, read, span)
    words = {
        parameter.name: _word(configuration, definition, parameter.name, parameter.type.name, matched, span)
        for parameter in item.parameters
        if parameter.type is not None and parameter.type.name in configuration.catalog.families()
    }
    plain = tuple(
        entry.replace(name=name, value=configuration.plain(entry.expression))
        for name, entry in matched.items()
        if name not in words and entry.expression is not None
    )
    rest = item.replace(parameters=tuple(p for p in item.parameters if p.name not in words))
    narrowed = Definition(definition.kind, rest, definition.module)
    values = bind_parameters(configuration.evaluator.elaborator, narrowed, plain, span) | words
    arguments = tuple((name, values[name]) for name in names)
    return Choice(family="rule", name=definition.name, arguments=arguments, definition=definition, span=span)


def _word(
    configuration: Configuration,
    definition: Definition,
    name: str,
    family: str,
    matched: dict[str, Given],
    span: Span,
) -> Any:
    """Return the word that a parameter of such a type is given, or its default."""
    item = definition.item
    assert isinstance(item, RuleDefinition)
    declared = next(parameter for parameter in item.parameters if parameter.name == name)
    expression = matched[name].expression if name in matched else declared.default
    if expression is None:
        raise Refused(MissingArgument(span, callee=definition.name, name=name, help=None))
    return configuration.value(expression, Argument(name=name, kind=family))
