"""Feedback: the weights by which errors come back, drawn once and kept, drawn anew, or learned.

`output -> post` (and `module -> post`) is a matrix from the output's units to those behind a junction, or a layer; the
junction whose post is the output itself hears the error as it is. `drive -> pre` has the shape of the junction's
weight and stands in its place in the backward pass. What is drawn once comes from a stream of its own, named by the
feedback and the junction, and is kept with the learner: checkpoints hold it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nnspec.compiler.callables import match_arguments
from nnspec.compiler.initializers.registry import initializers
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.rules.written.equations import Equations, FeedbackLine
from nnspec.compiler.rules.written.maps import through
from nnspec.compiler.rules.written.reading import Reader, site
from nnspec.compiler.rules.written.routes import Route, route
from nnspec.compiler.rules.written.scheme import Scheme
from nnspec.compiler.values import Given, Refused
from nnspec.dsl.bind_rule import dotted
from nnspec.dsl.errors.rules import FeedbackValue
from nnspec.dsl.rule_words import INTO
from nnspec.dsl.syntax import Binary, CallOf, Expression, Name, Unary

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.written.phase import Moment
    from nnspec.compiler.runtime.group import LearningGroup

_OPERATORS = {"+": "add", "-": "sub", "*": "mul", "/": "truediv", "^": "pow", "<": "lt", ">": "gt"}


class FeedbackState:
    """All feedback of one rule in one network."""

    def __init__(self, run: LearningGroup, equations: Equations, scheme: Scheme) -> None:
        self.run = run
        self.lines = {line.name: line for line in equations.feedback}
        self.reader: Reader = equations.reader
        self.scheme = scheme
        self.rule = equations.name
        self._routes: dict[tuple[str, int], Route] = {}
        self._step: dict[tuple[str, int], Tensor] = {}
        self._fixed: dict[tuple[str, int], Tensor] = {}

    # ------------------------------------------------------------------------------------------- tensors

    def begin_step(self) -> None:
        """Forget what was worked out for the step before."""
        self._step = {}

    @property
    def backward(self) -> str | None:
        """The feedback that stands in the place of transposed weights, if there is one."""
        return next((line.name for line in self.lines.values() if line.source == "drive"), None)

    @property
    def across(self) -> str | None:
        """The feedback that stands in the place of whole synapses, activations included, if there is one."""
        return next((line.name for line in self.lines.values() if line.source == "post"), None)

    def learned(self) -> list[Tensor]:
        """Return the tensors of learned feedback, which the optimizer changes."""
        places = range(len(self.scheme.junctions))
        lines = [line for line in self.lines.values() if line.learned]
        return [self.kept(line, place) for line in lines for place in places if self.route(line, place).shape]

    def draw(self) -> None:
        """Draw all that is drawn once, and kept with the learner."""
        for line in self.lines.values():
            for junction, own in enumerate(self.scheme.junctions):
                if self.route(line, junction).shape is not None:
                    held = own.weight.replace(transposed=False)
                    if line.learned:
                        self.kept(line, junction)
                    else:
                        self._value(line, junction, self.run.learner.effective(held))

    def route(self, line: FeedbackLine, junction: int) -> Route:
        """Return how feedback reaches a junction."""
        key = (line.name, junction)
        if key not in self._routes:
            self._routes[key] = route(line, self.scheme.junctions[junction], self.scheme, self.reader)
        return self._routes[key]

    def of(self, name: str, junction: int, weight: Tensor) -> Tensor:
        """Return the feedback at a junction; for `drive`, laid out as the junction's map takes its weight."""
        key = (name, junction)
        if key not in self._step:
            line = self.lines[name]
            if key in self._fixed:
                return self._fixed[key]
            turned = line.source in INTO and self.scheme.junctions[junction].weight.transposed
            own = weight.transpose(0, 1) if turned else weight
            found = self.kept(line, junction) if line.learned else self._value(line, junction, own)
            kept = self._fixed if not line.learned and is_fixed(line.value) else self._step
            kept[key] = found.detach().transpose(0, 1) if turned else found.detach()
            return kept[key]
        return self._step[key]

    def kept(self, line: FeedbackLine, junction: int) -> Tensor:
        """Return learned feedback: a tensor that begins as the line says and then is the optimizer's."""
        place = f"{self._place(line, junction)}.learned"
        known = self.run.learner.feedback
        if place not in known:
            held = self.scheme.junctions[junction].weight.replace(transposed=False)
            known[place] = self._value(line, junction, self.run.learner.effective(held)).detach().clone()
        return known[place]

    def send(self, name: str, junction: int, value: Tensor, moment: Moment) -> Tensor:
        """Return a value after it went through feedback: in the shape of the junction's post, or of its pre."""
        line = self.lines[name]
        if line.source in INTO:
            pre = next(iter(moment.records.values())).read("pre", junction)
            return moment.maps[junction].back(value, self.of(name, junction, moment.weights[junction]), pre)
        way = self.route(line, junction)
        if way.shape is None:
            return value
        weight = self.of(name, junction, moment.weights[junction])
        if way.layer is not None:
            return through(way.layer, value, weight)
        found: Any = value.flatten(1) @ weight.t()
        return found.reshape(-1, *self.scheme.junctions[junction].drive.shape)

    # --------------------------------------------------------------------------------------------- values

    def _place(self, line: FeedbackLine, junction: int) -> str:
        own = self.scheme.junctions[junction]
        where = own.weight.key if line.source in INTO else f"{own.path}#{junction}"
        return f"{self.rule}.{line.name}.{where}"

    def _value(self, line: FeedbackLine, junction: int, weight: Tensor) -> Tensor:
        """Evaluate the right side of a feedback line; each draw in it is made once and kept."""
        shape = self.route(line, junction).shape
        assert shape is not None
        drawn = _Draws(self, self._place(line, junction), weight.new_empty(shape))
        found = drawn.value(line.value, weight if line.source in INTO else None)
        return found if hasattr(found, "dim") else weight.new_full(shape, float(found))


class _Draws:
    """Evaluates one line of feedback at one junction."""

    def __init__(self, state: FeedbackState, place: str, like: Tensor) -> None:
        self.state = state
        self.place = place
        self.like = like
        self.count = 0

    def value(self, expression: Expression, weight: Tensor | None) -> Any:
        known = self.state.reader.plain(expression)
        if known is not None:
            return float(known)
        match expression:
            case Unary(operator="-", operand=operand):
                return -self.value(operand, weight)
            case Binary(operator=operator, left=left, right=right) if operator in _OPERATORS:
                import operator as functions

                found = getattr(functions, _OPERATORS[operator])
                return found(self.value(left, weight), self.value(right, weight))
            case Name() | CallOf():
                return self.word(expression, weight)
            case _:
                raise _refused(expression)

    def word(self, expression: Name | CallOf, weight: Tensor | None) -> Any:
        name = dotted(expression.function if isinstance(expression, CallOf) else expression)
        given = expression.arguments if isinstance(expression, CallOf) else ()
        if name == "weight":
            if weight is None:
                raise _refused(expression)
            return weight
        if name == "sample" and len(given) == 1:
            return self.draw(given[0].value, anew=True)
        if name in initializers():
            return self.draw(expression, anew=False)
        return entrywise(name, ("real",) * len(given))(
            *(self.value(argument.value, weight) for argument in given)
        )

    def draw(self, expression: Expression, anew: bool) -> Tensor:
        name, options = word_options(expression, self.state.reader)
        self.count += 1
        place = f"{self.place}.{self.count}"
        run = self.state.run
        if anew:
            return _drawn(run, "feedback, anew", name, options, self.like)
        if place not in run.learner.feedback:
            run.learner.feedback[place] = _drawn(run, f"feedback {place}", name, options, self.like)
        return run.learner.feedback[place]


@lru_cache(maxsize=256)
def entrywise(name: str, kinds: tuple[str, ...]) -> Callable[..., Any]:
    """Return an operation of single numbers as a function of tensors."""
    import math

    import torch
    from torch import nn
    from torch.nn import functional

    rule = operation(name)
    names = tuple(f"a{index}" for index in range(len(kinds)))
    own = site(rule, kinds)
    text = rule.call(own, names, {"training": "False", "dtype": "a0.dtype"})
    known: dict[str, Any] = {"torch": torch, "F": functional, "nn": nn, "math": math}
    return eval(f"lambda {', '.join(names)}: {text}", known)


def is_fixed(expression: Expression) -> bool:
    """Return whether feedback stays as it is drawn: neither `weight` nor a new draw is in it."""
    match expression:
        case Unary(operand=operand):
            return is_fixed(operand)
        case Binary(left=left, right=right):
            return is_fixed(left) and is_fixed(right)
        case CallOf(function=function, arguments=arguments):
            return dotted(function) != "sample" and all(is_fixed(given.value) for given in arguments)
        case _:
            return dotted(expression) != "weight"


def draws_anew(expression: Expression) -> bool:
    """Return whether feedback is drawn again at each step."""
    match expression:
        case Unary(operand=operand):
            return draws_anew(operand)
        case Binary(left=left, right=right):
            return draws_anew(left) or draws_anew(right)
        case CallOf(function=function, arguments=arguments):
            return dotted(function) == "sample" or any(draws_anew(given.value) for given in arguments)
        case _:
            return False


def word_options(expression: Expression, reader: Reader) -> tuple[str, dict[str, Any]]:
    """Return an initializer's name and its options; Refused if it is none."""
    name = dotted(expression.function if isinstance(expression, CallOf) else expression)
    rule = initializers().get(name)
    if rule is None:
        raise _refused(expression)
    written = expression.arguments if isinstance(expression, CallOf) else ()
    names = tuple(argument.name for argument in rule.arguments)
    given = tuple(
        Given(name=a.name, value=reader.plain(a.value), expression=a.value, span=a.span) for a in written
    )
    matched = match_arguments(name, names, given, expression.span)
    options: dict[str, Any] = {argument.name: argument.default for argument in rule.arguments}
    options |= {key: item.value for key, item in matched.items()}
    if any(value is None or value is ... for value in options.values()):
        raise _refused(expression)
    return name, options


def _drawn(run: LearningGroup, stream: str, name: str, options: Mapping[str, Any], like: Tensor) -> Tensor:
    """Return new numbers on the CPU's generator, so that every device sees the same ones."""
    import torch

    shape, dtype = like.shape, like.dtype

    def make() -> Tensor:
        found = torch.empty(shape, dtype=dtype)
        known: dict[str, Any] = {"nn": torch.nn, "torch": torch, "found": found}
        exec(initializers()[name].fill(dict(options), "found"), known)
        return found

    return run.learner.streams.drawn(stream, make).to(like.device)


def _refused(expression: Expression) -> Refused:
    why = "feedback begins as arithmetic of words for initial values, and of `weight` into sources"
    help_text = "write for example `normal(std = 0.1)` or `sign(weight)`"
    return Refused(FeedbackValue(expression.span, why=why, label="no such value", help=help_text))
