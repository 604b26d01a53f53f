"""What the things that are called take: names and choices of arguments, and which of them are words of the catalog."""

from __future__ import annotations

from nnspec.dsl.catalog import Catalog, Entry, is_word
from nnspec.dsl.definitions import Callee, Definition, Module
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors.arguments import UnknownArgument
from nnspec.dsl.errors.owned import UnknownDistribution, UnknownInitializer
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import Argument, CallOf, Expression, Member, Name, Number


def word_families(callee: object) -> dict[str, str]:
    """Return the arguments of a callee that take words of the catalog, and of which family."""
    arguments = callee.arguments if isinstance(callee, Entry) else ()
    return {argument.name: argument.kind for argument in arguments if is_word(argument)}


def word_family(catalog: Catalog, families: dict[str, str], argument: Argument) -> str | None:
    """Return the family of which an argument is a word: by its name, else by the word itself."""
    if argument.name is not None:
        return families.get(argument.name)
    head = argument.value.function if isinstance(argument.value, CallOf) else argument.value
    if not isinstance(head, Name):
        return None
    return next((family for family in families.values() if catalog.find(family, head.name)), None)


def unknown_argument(callee: str, name: str, known: tuple[str, ...], span: Span | None) -> Error:
    """Return the error of an argument that a callee does not have, with the nearest or all names."""
    near = nearest(name, known)
    takes = ", ".join(f"`{n}`" for n in known) or "no arguments"
    help_text = f"did you mean `{near}`?" if near else f"`{callee}` takes {takes}"
    return UnknownArgument(span, callee=callee, name=name, help=help_text)


def unknown_word(catalog: Catalog, family: str, written: Expression) -> Error:
    """Return the error of what stands in the place of a word of a family, with the nearest or all words."""
    text = source_line(written)[:60]
    near = nearest(text, catalog.names(family))
    known = ", ".join(f"`{name}`" for name in catalog.names(family))
    help_text = f"did you mean `{near}`?" if near else f"there are {known}"
    if family == "initializer":
        help_text = f"write `constant({written.text})`" if isinstance(written, Number) else help_text
        return UnknownInitializer(written.span, name=text, help=help_text)
    noun = family.replace("settled_gradient", "gradient of settled states")
    return UnknownDistribution(written.span, family=noun, name=text, help=help_text)


def source_line(expression: Expression) -> str:
    """Return an expression as it is written, on one line."""
    return " ".join(expression.span.text.split())


def argument_names_of(callee: Callee) -> tuple[str, ...]:
    """Return the names under which a callee takes arguments, in order."""
    if isinstance(callee, Entry):
        return (*(argument.name for argument in callee.arguments), *callee.tensor_names)
    item = callee.item
    return tuple(parameter.name for parameter in item.parameters)


def member_definition(module: Module, expression: Member) -> Definition | None:
    """Return the definition that `parts.name` means; None if there is none."""
    inner = module.names.get(expression.of.name) if isinstance(expression.of, Name) else None
    found = inner.names.get(expression.name) if isinstance(inner, Module) else None
    return found if isinstance(found, Definition) else None


def choices_of(callee: Callee) -> dict[str, tuple[str, ...]]:
    """Return the texts that each argument chooses from, in order; () where it takes other values."""
    if isinstance(callee, Entry):
        return {argument.name: argument.choices for argument in callee.arguments}
    return {p.name: p.type.choices if p.type is not None else () for p in callee.item.parameters}
