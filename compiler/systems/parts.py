"""The parts of a system under construction: states, the ends of connections, connections."""

from __future__ import annotations

from math import prod
from typing import Any

from nnspec.compiler.ir import Type, Word
from nnspec.compiler.values import Layer, Value
from nnspec.dsl.dimensions import Size
from nnspec.dsl.errors.systems import StateUnsettled
from nnspec.dsl.source import Span


class State:
    """A group of neurons. It stands for its name until the `dynamics` line, where it gets its settled value."""

    def __init__(self, name: str, declared: Type, start: Word | None, span: Span | None) -> None:
        self.name = name
        self.declared = declared
        self.start = start
        self.span = span
        self.channels = False  # a layer of channels leads here: one bias a channel
        self.before: Value | None = None
        self.bias: Value | None = None
        self.driven: Value | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(size for size in self.declared.shape if isinstance(size, int))

    @property
    def size(self) -> int:
        return prod(self.shape)

    @property
    def bias_shape(self) -> tuple[int, ...]:
        return (self.shape[0], *(1 for _ in self.shape[1:])) if self.channels else self.shape


class End:
    """One end of a connection: a state, or a value from outside. `rank` None: not known yet."""

    def __init__(
        self,
        name: str,
        state: State | None,
        value: Value | None,
        rank: int | None,
        shape: tuple[Size, ...] = (),
    ) -> None:
        self.name = name
        self.state = state
        self.value = value
        self.rank = rank
        self.shape = shape  # of a value that declares one

    @property
    def size(self) -> int | None:
        """How many units there are; None where that is not known."""
        if self.state is not None:
            return self.state.size
        known = [size for size in self.shape if isinstance(size, int)]
        return prod(known) if known and len(known) == len(self.shape) else None

    @property
    def key(self) -> Any:
        return id(self.state or self.value)

    @property
    def now(self) -> Value:
        """What `s` is there."""
        found = self.value if self.state is None else self.state.before
        assert found is not None, "a loop begins with its states"
        return found


class Route:
    """A connection: a child, with steps that own nothing before and behind it."""

    def __init__(
        self,
        child: str,
        sources: tuple[End, ...],
        targets: tuple[State, ...],
        both: bool,
        span: Span,
        ahead: tuple[Layer, ...] = (),
        behind: tuple[Layer, ...] = (),
        plain: bool = True,
    ) -> None:
        self.child = child
        self.sources = sources
        self.targets = targets
        self.both = both
        self.span = span
        self.ahead = ahead
        self.behind = behind
        self.plain = plain  # a matrix from all sources, laid end to end, to all targets
        self.taken: Value | None = None
        self.given: Value | None = None

    @property
    def within(self) -> bool:
        """Whether it leads from some states to themselves by a symmetric weight."""
        return self.both and [end.state for end in self.sources] == list(self.targets)

    @property
    def ends(self) -> tuple[End, ...]:
        """The targets as ends."""
        return tuple(End(s.name, s, None, len(s.shape)) for s in self.targets)


def unsettled(name: str, span: Span | None) -> StateUnsettled:
    """Return the error of a state that is read before the `dynamics` line."""
    help_text = (
        f"write the line below `dynamics ..`; to let `{name}` drive a state, write `connect {name} -> ..`"
    )
    return StateUnsettled(span, name=name, help=help_text)
