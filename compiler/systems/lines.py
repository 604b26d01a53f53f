"""What travels along connections: forward through a layer, and back by its transpose.

In: the connections of a system and the expressions read at their ends. Out: for a state, one value from each
connection. What goes through a connection is made once for each expression; values of several states are laid end to
end before a matrix and cut up behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.block_builder import BlockBuilder, Line, finished
from nnspec.compiler.ir import Pullback, Statement
from nnspec.compiler.operators import apply_named
from nnspec.compiler.systems.parts import End, Route, State
from nnspec.compiler.values import Given, Refused, Value, describe
from nnspec.dsl.errors.systems import WrongEnd, WrongVia
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Expression, Name

if TYPE_CHECKING:
    from nnspec.compiler.systems.equations import Equations


class Lines:
    """Sends expressions along the connections of one system."""

    def __init__(self, equations: Equations, routes: list[Route]) -> None:
        self.equations = equations
        self.builder: BlockBuilder = equations.builder
        self.routes = routes
        self.once = False  # in an energy: each connection is counted once
        self.forth: dict[Any, tuple[Value, ...]] = {}
        self.back: dict[Any, tuple[Value, ...]] = {}
        self.known: dict[Any, Value] = {}  # vectors, by where they are laid end to end and of what

    def arriving(self, state: State, expression: Expression) -> list[Value]:
        """Return what arrives at a state over each connection, the expression being read where it comes from."""
        found: list[Value] = []
        for route in self.routes:
            if state in route.targets:
                arrived = self.forward(route, expression)[route.targets.index(state)]
                found.append(self.half(arrived, route.span) if self.once and route.within else arrived)
            elif route.both and not self.once and (place := _place(route.sources, state)) is not None:
                found.append(self.backward(route, expression, expression)[place])
        return found

    def leaving(self, end: End, expression: Expression) -> list[Value]:
        """Return, for each connection, the sum over what a unit leads to, the expression being read there."""
        found: list[Value] = []
        for route in self.routes:
            place = next((n for n, other in enumerate(route.sources) if other.key == end.key), None)
            if route.within and place is not None:
                found.append(self.forward(route, expression)[place])
            elif place is not None:
                now = Name(name="s", span=expression.span)
                found.append(self.backward(route, expression, now)[place])
            elif route.both and end.state in route.targets:
                found.append(self.forward(route, expression)[route.targets.index(end.state)])
        return found

    def forward(self, route: Route, expression: Expression) -> tuple[Value, ...]:
        """Send an expression from the sources to the targets."""
        key = (id(route), expression)
        if key not in self.forth:
            taken = self.laid(route, route.sources, expression)
            given = self.through(route, taken)
            if route.taken is None:
                route.taken, route.given = taken, given
            self.forth[key] = self.cut(route, route.ends, given)
        return self.forth[key]

    def backward(self, route: Route, expression: Expression, where: Expression) -> tuple[Value, ...]:
        """Send an expression from the targets to the sources by the transpose, at what the sources hold."""
        key = (id(route), expression, where)
        if key not in self.back:
            cotangent = self.laid(route, route.ends, expression)
            at = self.laid(route, route.sources, where)
            with self.builder.nested() as body:
                end = self.through(route, at)
            if route.taken is None:
                route.taken, route.given = at, end
            (made,) = self.pulled(f"{route.child}_back", body, (at,), end, cotangent, route.span)
            self.back[key] = self.cut(route, route.sources, made)
        return self.back[key]

    def through(self, route: Route, value: Value) -> Value:
        """Apply the steps of a connection."""
        callables = self.equations.elaborator.callables
        for layer in route.ahead:
            value = _single(callables.apply(self.builder, layer, (value,), (), layer.name, layer.span), route)
        (value,) = self.builder.call(route.child, (value,), 1, route.span)
        for layer in route.behind:
            value = _single(callables.apply(self.builder, layer, (value,), (), layer.name, layer.span), route)
        return value

    def laid(self, route: Route, ends: tuple[End, ...], expression: Expression) -> Value:
        """Return the values of an expression at several places, end to end as one vector."""
        if not route.plain:
            return self.equations.unit_value(ends[0], expression)
        key = (tuple(end.key for end in ends), expression)
        if key not in self.known:
            flat = [self.flat(end, expression, route.span) for end in ends]
            whole = flat[0] if len(flat) == 1 else self.apply("concat", tuple(flat), route.span)
            self.known[key] = whole
        return self.known[key]

    def flat(self, end: End, expression: Expression, span: Span | None) -> Value:
        """Return the value of an expression at one place as a vector."""
        value = self.equations.unit_value(end, expression)
        key = (end.key, expression)
        if end.rank != 1 and key not in self.known:
            self.known[key] = self.apply("flatten", (value,), span)
        return self.known.get(key, value)

    def cut(self, route: Route, ends: tuple[End, ...], value: Value) -> tuple[Value, ...]:
        """Return the pieces of a vector that belong to several states, each in its shape."""
        if not route.plain:
            return (value,)
        pieces: tuple[Value, ...] = (value,)
        if len(ends) > 1:
            unknown = next((end.name for end in ends if end.size is None), None)
            if unknown is not None:
                why = f"the size of `{unknown}`, which it leads from beside states, is not known here"
                help_text = f"write a `connect` line for `{unknown}` alone"
                raise Refused(WrongEnd(route.span, name=unknown, way="lead back to", why=why, help=help_text))
            sizes = tuple(end.size for end in ends)
            made: Any = self.apply("split", (value,), route.span, parts=sizes)
            pieces = made
        return tuple(
            piece
            if end.rank == 1 or end.state is None
            else self.apply("reshape", (piece,), route.span, shape=end.state.shape)
            for end, piece in zip(ends, pieces, strict=True)
        )

    def half(self, value: Value, span: Span | None) -> Value:
        """Of states joined with themselves each pair meets twice."""
        return self.apply("multiply", (value,), span, constant=0.5, reversed=True)

    def apply(self, name: str, inputs: tuple[Value, ...], span: Span | None, **arguments: Any) -> Any:
        given = tuple(Given(name=k, value=v, expression=None, span=span) for k, v in arguments.items())
        return apply_named(self.equations.elaborator, self.builder, name, inputs, given, span)

    def pulled(
        self,
        name: str,
        body: list[Line],
        at: tuple[Value, ...],
        end: Value,
        cotangent: Value,
        span: Span | None,
    ) -> tuple[Value, ...]:
        """Add a pullback through statements."""
        outputs = tuple(self.builder.value(name) for _ in at)
        own = self.builder.instance_name(name)
        draft = _PullbackDraft(own, body, at, end, cotangent, outputs, span)
        self.builder.body.append((draft, (), outputs))
        return outputs


class _PullbackDraft:
    def __init__(
        self,
        name: str,
        body: list[Line],
        at: tuple[Value, ...],
        end: Value,
        cotangent: Value,
        outputs: tuple[Value, ...],
        span: Span | None,
    ) -> None:
        self.name = name
        self.body = body
        self.at = at
        self.end = end
        self.cotangent = cotangent
        self.outputs = outputs
        self.span = span

    def finish(self) -> Statement:
        """Return the pullback."""
        return Pullback(
            name=self.name,
            through=finished(self.body),
            at=tuple(value.name for value in self.at),
            end=self.end.name,
            cotangent=self.cotangent.name,
            outputs=tuple(value.name for value in self.outputs),
            span=self.span,
        )


def _place(ends: tuple[End, ...], state: State) -> int | None:
    return next((number for number, end in enumerate(ends) if end.state is state), None)


def _single(made: Any, route: Route) -> Value:
    if isinstance(made, Value):
        return made
    why = f"a step of it gives {describe(made)}"
    raise Refused(WrongVia(route.span, text=route.child, why=why, help="name layers that give one value"))
