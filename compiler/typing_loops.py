"""Types statements that have a body of their own: loops, and what is pulled back.

In: the types of the values of the block so far. Out: those of the values that a statement makes, or None after a
diagnostic. A state has its declared type before a step and behind the loop, and its equation must give it back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nnspec.compiler.declared import Bindings
from nnspec.compiler.ir import Carried, Connection, Loop, Pullback, Reason, Statement, Type
from nnspec.compiler.operations.axes import elements
from nnspec.dsl.dimensions import substitute
from nnspec.dsl.errors.systems import ConnectionMisfit, StateMisfit

if TYPE_CHECKING:
    from nnspec.compiler.typing import Typer, Types


_UNIT = "an equation of dynamics is written for one unit: use functions of entries, `incoming` and `outgoing`"
_LAYER = "the layer of an equilibrium gives back what its first input is"


class RepeatTyper:
    """Types the loops of one block."""

    def __init__(
        self,
        typer: Typer,
        types: dict[str, Type | None],
        statement: Callable[[Statement], None],
        bindings: Bindings,
    ) -> None:
        self.typer = typer
        self.types = types
        self.statement = statement
        self.bindings = bindings

    def loop(self, loop: Loop) -> Types:
        """Return the types of the settled states."""
        declared = tuple(self.declared(state) for state in loop.carried)
        for state, kind in zip(loop.carried, declared, strict=True):
            self.types[state.before] = kind
        for statement in loop.body:
            self.statement(statement)
        for connection in loop.connections:
            if not self.arrives(loop, connection):
                return None
        fits = [self.fits(loop, state, kind) for state, kind in zip(loop.carried, declared, strict=True)]
        return declared if all(fits) else None

    def declared(self, state: Carried) -> Type:
        reason = Reason(span=state.span, text=f"declared by `{state.name}`")
        sizes = self.bindings.sizes
        axes = tuple(a.replace(size=substitute(a.size, sizes), reason=reason) for a in state.declared.axes)
        return state.declared.replace(axes=axes)

    def arrives(self, loop: Loop, connection: Connection) -> bool:
        """Report a layer that makes something else than the state that it leads to."""
        found = self.types[connection.given]
        targets = [state for state in loop.carried if state.name in connection.targets]
        wanted = [self.types[state.before] for state in targets]
        if found is None or None in wanted:
            return True
        if elements(found) == sum(elements(kind) for kind in wanted if kind is not None):
            return True
        expected, help_text = wanted[0], None
        taken = self.types[connection.taken]
        if taken is not None and taken.shape[1:] == getattr(expected, "shape", ())[1:] != found.shape[1:]:
            help_text = "to keep height and width, pad by half the kernel: `padding = 1` for `kernel = 3`"
        error = ConnectionMisfit(
            connection.span,
            self.typer.related(*(kind for kind in wanted if kind is not None)),
            name=connection.child,
            found=str(found),
            state=targets[0].name,
            expected=str(expected),
            help=help_text,
        )
        self.typer.bag.add(error)
        return False

    def fits(self, loop: Loop, state: Carried, wanted: Type) -> bool:
        """Report an equation that gives something else than the state's next value or rate."""
        found = self.types[state.after]
        if found is None:
            return False
        if (found.shape, found.dtype) == (wanted.shape, wanted.dtype):
            return True
        what = "next value" if loop.form == "map" else "rate"
        error = StateMisfit(
            loop.span,
            self.typer.related(wanted),
            what=what,
            name=state.name,
            expected=str(wanted),
            found=str(found),
            help=_UNIT if loop.connections else _LAYER,
        )
        self.typer.bag.add(error)
        return False

    def pullback(self, statement: Pullback) -> Types:
        """A cotangent of the end comes back as one of each value that it started from."""
        for own in statement.through:
            self.statement(own)
        found = [self.types[value] for value in (*statement.at, statement.end, statement.cotangent)]
        known = tuple(kind for kind in found if kind is not None)
        return known[: len(statement.at)] if len(known) == len(found) else None

    def resolved(self, loop: Loop, statement: Callable[[Statement], Statement]) -> Loop:
        """Return the loop with what is known of its statements."""
        sizes = self.bindings.sizes
        carried = tuple(
            state.replace(
                declared=state.declared.replace(
                    axes=tuple(a.replace(size=substitute(a.size, sizes)) for a in state.declared.axes)
                )
            )
            for state in loop.carried
        )
        return loop.replace(body=tuple(statement(own) for own in loop.body), carried=carried)
