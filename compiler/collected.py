"""Arguments that a word takes under names of others: `gradient_check(beta = [0.1, 1])`, beta being the rule's.

In: a word with an argument that collects them. Out: what is left for its own arguments, and pairs of name and value: plain
values, words of any family, or tuples of these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.values import Refused
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.errors.arguments import DuplicateArgument
from nnspec.dsl.syntax import Argument as WrittenArgument
from nnspec.dsl.syntax import CallOf, Expression, ListOf, Name

if TYPE_CHECKING:
    from nnspec.compiler.configuration import Configuration

Written = tuple[WrittenArgument, ...]


def collected(configuration: Configuration, entry: Entry, written: Written) -> tuple[Written, dict[str, Any]]:
    """Part the arguments that a word names from those that it collects."""
    if not entry.others:
        return written, {}
    known = {argument.name for argument in entry.arguments if argument.name != entry.others}
    more = [argument for argument in written if argument.name is not None and argument.name not in known]
    for number, argument in enumerate(more):
        if argument.name in [former.name for former in more[:number]]:
            raise Refused(DuplicateArgument(argument.span, name=str(argument.name)))
    pairs = tuple((str(argument.name), _value(configuration, argument.value)) for argument in more)
    return tuple(argument for argument in written if argument not in more), {entry.others: pairs}


def _value(configuration: Configuration, expression: Expression) -> Any:
    if isinstance(expression, ListOf):
        return tuple(_value(configuration, item) for item in expression.items)
    function = expression.function if isinstance(expression, CallOf) else expression
    if isinstance(function, Name) and function.name not in configuration.module.names:
        entries = configuration.catalog.anywhere(function.name)
        if len(entries) == 1:
            written = expression.arguments if isinstance(expression, CallOf) else ()
            return configuration.choice(entries[0], written, expression.span)
    return configuration.item(expression, Argument(name="", kind="value"))
