"""Reads claims: `expect` lines of a network or an experiment, every name in them looked up.

In: the lines, the values that names have there, and the names of what is measured. Out: claims whose measures are
known to exist; what is wrong goes to a bag. Imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from nnspec.compiler.claims.claim import FUNCTIONS, Claim, is_function, places
from nnspec.compiler.claims.judge import RELATIONS
from nnspec.compiler.claims.measures import OF_NETWORKS, families
from nnspec.compiler.derivation import resolve
from nnspec.compiler.elaborate import Elaborator
from nnspec.compiler.values import Refused, describe
from nnspec.dsl.definitions import Constant, Definition, Module
from nnspec.dsl.diagnostics import Bag, Error
from nnspec.dsl.errors.claims import NotAClaim, UnknownMeasure
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import (
    Binary,
    Boolean,
    CallOf,
    Expect,
    Expression,
    Member,
    Name,
    Number,
    Statement,
    Unary,
)
from nnspec.dsl.write import expression as canonical

_MOST_PARTS = 1_000
_ARITHMETIC = ("+", "-", "*", "/", "//", "%", "^")


class Reader:
    """Reads the claims of one network or experiment."""

    def __init__(
        self,
        definition: Definition,
        elaborator: Elaborator,
        own: Mapping[str, Any],
        scores: tuple[str, ...],
        bag: Bag,
    ) -> None:
        self.definition = definition
        self.module = definition.module
        self.elaborator = elaborator
        self.own = own  # the values of the network's parameters
        self.scores = scores
        self.bag = bag

    def claims(self, body: Iterable[Statement]) -> tuple[Claim, ...]:
        """Return the claims of a body that are right."""
        found: list[Claim] = []
        for statement in body:
            if isinstance(statement, Expect):
                try:
                    found.append(self.claim(statement.condition))
                except Refused as refused:
                    if refused.error is not None:
                        self.bag.add(refused.error)
        return tuple(found)

    def claim(self, condition: Expression) -> Claim:
        error = _form_error(condition)
        if error is not None:
            raise Refused(error)
        known: dict[str, Any] = {}
        measured: dict[str, None] = {}
        for place in places(condition):
            name = canonical(place)
            if not self.is_known(place):
                measured[self.measure(place, name)] = None
            elif name not in known:
                known[name] = self.known(place, name)
        return Claim(
            of=self.definition.name,
            condition=condition,
            known=tuple(known.items()),
            measured=tuple(measured),
            span=condition.span,
        )

    def is_known(self, place: Expression) -> bool:
        """Return whether it is a value known while compiling: a parameter or a `let`."""
        if isinstance(place, Name) and place.name in self.own:
            return True
        return not isinstance(place, CallOf) and isinstance(resolve(self.module, place), Constant)

    def known(self, place: Expression, name: str) -> Any:
        if isinstance(place, Name) and place.name in self.own:
            value = self.own[place.name]
        else:
            module: Any = resolve(self.module, place.of) if isinstance(place, Member) else self.module
            constant: Any = resolve(self.module, place)
            assert isinstance(module, Module)
            value = self.elaborator.constant(module, constant)
        if not isinstance(value, int | float):
            why, label = f"`{name}` is no number", f"is {describe(value)}"
            raise Refused(NotAClaim(place.span, why=why, label=label, help=None))
        return value

    def measure(self, place: Expression, name: str) -> str:
        if name in (*OF_NETWORKS, *self.scores) or (name.startswith("symmetry.") and name in families()):
            return name
        function = place.function if isinstance(place, CallOf) else place
        raise Refused(
            UnknownMeasure(place.span, name=self.definition.name, place=name, help=self.help(function, name))
        )

    def help(self, function: Expression, name: str) -> str:
        more = families() if name.startswith("symmetry") else ()
        known = (*OF_NETWORKS, *more, *self.scores)
        part = name.partition(".")[0]
        kept = {score.partition(".")[0] for score in self.scores}
        if kept and part in ("validation", "test") and part not in kept:
            return f"the data keep no {part} part: give them one, `{part} = 0.1`"
        near = nearest(name, (*known, *self.own, *FUNCTIONS))
        if near is not None:
            return f"did you mean `{near}`?"
        if isinstance(function, Name) and function.name not in name.replace(function.name, "", 1):
            near = nearest(function.name, FUNCTIONS) if name != function.name else None
        if near is not None:
            return f"did you mean `{near}(...)`?"
        if not kept and part in ("train", "validation", "test"):
            return "scores are of experiments: claim it in the one that trains this network"
        return f"there are {', '.join(f'`{one}`' for one in known[:20])}"


def _form_error(condition: Expression) -> Error | None:
    """Return what is wrong with the form of a condition."""
    if not _is_condition(condition):
        why, help_text = "it is no condition", "compare what is measured: `expect parameters == 118_282`"
        return NotAClaim(condition.span, why=why, label="no comparison", help=help_text)
    waiting, count = [condition], 0
    while waiting:
        part, count = waiting.pop(), count + 1
        if count > _MOST_PARTS:
            why = f"it has more than {_MOST_PARTS:,} parts"
            return NotAClaim(condition.span, why=why, label="too long", help=None)
        match part:
            case Binary(left=left, right=right, tolerance=tolerance) if _is_operator(part.operator):
                waiting += [side for side in (left, right, tolerance) if side is not None]
                if tolerance is not None and part.operator != "==":
                    why = "a tolerance belongs to an equality"
                    return NotAClaim(part.span, why=why, label="no equality", help="write `a == b +- c`")
            case Unary(operand=operand):
                waiting.append(operand)
            case CallOf(arguments=arguments) if is_function(part):
                named = next((argument for argument in arguments if argument.name is not None), None)
                if named is not None:
                    why = f"`{part.function.span.text}` takes its numbers by their place"
                    return NotAClaim(named.span, why=why, label="has a name", help=None)
                waiting += [argument.value for argument in arguments]
            case Number() | Boolean() | Name() | Member() | CallOf():
                pass
            case _:
                why, help_text = (
                    "a part of it is no number",
                    "numbers, measures and arithmetic stand in a claim",
                )
                return NotAClaim(part.span, why=why, label="no number", help=help_text)
    return None


def _is_operator(operator: str) -> bool:
    return operator in (*RELATIONS, *_ARITHMETIC, "and", "or")


def _is_condition(expression: Expression) -> bool:
    match expression:
        case Binary(operator=operator):
            return operator in (*RELATIONS, "and", "or")
        case Unary(operator=operator):
            return operator == "not"
        case _:
            return False
