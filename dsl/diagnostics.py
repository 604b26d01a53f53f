"""What an error is, and the bag in which every stage collects them.

An error is a subclass of `Error`, in a file of `dsl/errors/`, with templates as class attributes and
the facts as keyword arguments:

    class UndefinedName(Error):
        code = "N0201"
        title = "undefined name"
        message = "nothing here is called `{name}`"
        label = "not defined"
        help = "did you mean `{suggestion}`?"        # dropped when a fact it names is None or missing
        explain = '''...one paragraph for `nnspec explain N0201`...'''

    bag.add(UndefinedName(span, name="wdith", suggestion="width"))

Plain classes, not dataclasses: a hundred of them are on the path of `check`.
"""

from __future__ import annotations

import string
from collections.abc import Iterator
from typing import Any, ClassVar

from nnspec.dsl.node import Node
from nnspec.dsl.source import Span

_FORMATTER = string.Formatter()


class Related(Node):
    """Another place that matters, and what it says."""

    span: Span
    label: str


class Error:
    """One thing wrong with what the user wrote, or with a run; see the module's docstring."""

    code: ClassVar[str] = ""
    severity: ClassVar[str] = "error"
    title: ClassVar[str] = ""
    message_: ClassVar[str] = ""
    explain: ClassVar[str] = ""

    def __init_subclass__(cls) -> None:
        # The class attributes `message`, `label`, `help`, `notes` are templates; instances fill them.
        cls.templates_ = {
            name: getattr(cls, name, None) for name in ("message", "label", "help", "expected", "found")
        }

    templates_: ClassVar[dict[str, Any]] = {}

    def __init__(self, span: Span | None, related: tuple[Related, ...] = (), **facts: Any) -> None:
        self.span = span
        self.related = related
        self.facts = facts
        for name, template in self.templates_.items():
            setattr(self, name, _fill(template, facts))

    message: Any = ""
    label: Any = None
    help: Any = None
    expected: Any = None
    found: Any = None

    def __repr__(self) -> str:
        where = "" if self.span is None else f"{self.span.source.name}:{self.span.line}: "
        return f"{where}{self.code} {self.message}"


def _fill(template: str | None, facts: dict[str, Any]) -> str | None:
    """Fill a template; None if it names a fact that is missing or None."""
    if template is None:
        return None
    names = [name for _, name, _, _ in _FORMATTER.parse(template) if name is not None]
    if any(facts.get(name) is None for name in names):
        return None
    return template.format(**facts)


class Bag:
    """Collects errors in order; says the same thing about the same place once."""

    def __init__(self) -> None:
        self._errors: list[Error] = []
        self._seen: set[tuple[Any, ...]] = set()

    def add(self, error: Error) -> None:
        span = error.span
        place = None if span is None else (id(span.source), span.start, span.end)
        key = (error.code, place, error.message)
        if key not in self._seen:
            self._seen.add(key)
            self._errors.append(error)

    def __iter__(self) -> Iterator[Error]:
        return iter(self._errors)

    def __len__(self) -> int:
        return len(self._errors)

    @property
    def failed(self) -> bool:
        return any(error.severity == "error" for error in self._errors)


class SpecError(Exception):
    """Raised by the Python interface when a spec is wrong; carries the whole bag."""

    def __init__(self, errors: tuple[Error, ...]) -> None:
        self.errors = errors
        super().__init__("\n".join(str(error.message) for error in errors))

    def __str__(self) -> str:
        from nnspec.dsl.render import to_text

        return "\n\n".join(["the spec is wrong", *(to_text(error) for error in self.errors)])


class RunError(Exception):
    """Raised when a run fails (data, device, training); carries one error. Exit code 3."""

    def __init__(self, error: Error) -> None:
        self.error = error
        super().__init__(str(error.message))

    def __str__(self) -> str:
        from nnspec.dsl.render import to_text

        return to_text(self.error)


class InternalError(Exception):
    """Our own bug: never shown as the user's fault."""
