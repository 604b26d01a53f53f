"""The cheap immutable base of every tree in the project.

`@dataclass(frozen=True, slots=True)` costs about a millisecond a class at import, and `check` would
pay it eighty times; a `Node` subclass costs some microseconds. The type checker sees a frozen,
keyword-only dataclass. Fields called `span` never take part in equality or hashing, so that
`parse(format(x)) == parse(x)` is a plain `==`.
"""

from __future__ import annotations

from typing import Any, ClassVar, Self, dataclass_transform

# `operator_span`, `name_span`, `source` and `comments` say where, not what; so does `reason`.
_POSITIONS = frozenset({"span", "reason", "operator_span", "name_span", "target_span", "source", "comments"})


@dataclass_transform(frozen_default=True, kw_only_default=True)
class Node:
    """An immutable record; subclasses list their fields as annotations, with defaults if they like."""

    fields_: ClassVar[tuple[str, ...]] = ()
    compared_: ClassVar[tuple[str, ...]] = ()
    defaults_: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        own = tuple(
            name
            for name, kind in cls.__dict__.get("__annotations__", {}).items()  # noqa: RUF063 (importing inspect costs 10 ms)
            if "ClassVar" not in str(kind)
        )
        inherited = tuple(name for name in cls.fields_ if name not in own)
        cls.fields_ = inherited + own
        cls.compared_ = tuple(name for name in cls.fields_ if name not in _POSITIONS)
        found = {name: cls.__dict__[name] for name in own if name in cls.__dict__}
        cls.defaults_ = {**cls.defaults_, **found}

    def __init__(self, **values: Any) -> None:
        state = self.__dict__
        if self.defaults_:
            state.update(self.defaults_)
        state.update(values)
        if len(state) != len(self.fields_):
            missing = [name for name in self.fields_ if name not in state]
            unknown = [name for name in values if name not in self.fields_]
            raise TypeError(f"{type(self).__name__}: missing {missing}, unknown {unknown}")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if type(self) is not type(other):
            return NotImplemented
        mine, theirs = self.__dict__, other.__dict__
        return all(mine[name] == theirs[name] for name in self.compared_)

    def __hash__(self) -> int:
        state = self.__dict__
        return hash((type(self), *(state[name] for name in self.compared_)))

    def __repr__(self) -> str:
        inside = ", ".join(f"{name}={self.__dict__[name]!r}" for name in self.compared_)
        return f"{type(self).__name__}({inside})"

    def replace(self, **changes: Any) -> Self:
        """Return a copy with some fields changed."""
        copy = object.__new__(type(self))
        copy.__dict__.update(self.__dict__)
        copy.__dict__.update(changes)
        return copy
