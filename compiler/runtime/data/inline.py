"""Rows that stand in the spec itself: `table([[0, 0], [0, 1]], [0, 1])`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, cast

from nnspec.compiler.runtime.data.dataset import CLASSES, TARGET_SCALE, DataSet
from nnspec.compiler.runtime.data.field import Field, Raw
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span


class Table(DataSet):
    name = "table"
    doc = """Rows written in the spec: for each a number, or a list of numbers, and beside it what is wanted of it. A target
is a label if it is text, or the whole numbers 0, 1, .., k. All rows are trained on unless `test` keeps some.
Fields: features, target."""
    own = (
        Argument(name="inputs", kind="value", doc="a row an entry, each a number or a list of numbers"),
        Argument(name="targets", kind="value", doc="for each row a number, a list of numbers, or a text"),
        CLASSES,
        TARGET_SCALE,
    )
    example = "data = table([[0, 0], [0, 1], [1, 0], [1, 1]], [0, 1, 1, 0])"

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        for name in ("inputs", "targets"):
            why = _irregular(options[name], texts=name == "targets")
            if why is not None:
                return name, f"`{name}` {why}"
        inputs, targets = len(options["inputs"]), len(options["targets"])
        if inputs != targets:
            return "targets", f"`targets` has {targets} rows, and `inputs` has {inputs}"
        if options["classes"] is False and _is_text(options["targets"]):
            return "classes", "`classes` must not be false: the targets are texts"
        return None

    def rows(self, options: dict[str, Any]) -> int:
        return len(options["inputs"])

    def fields(self, options: dict[str, Any]) -> tuple[Field, ...]:
        entered = Field(name="features", shape=_shape(options["inputs"])[1:])
        return entered, _target_field(options["targets"], options["classes"])

    def read(self, options: dict[str, Any], root: Path, span: Span | None) -> Raw:
        import numpy

        from nnspec.compiler.runtime.data.targets import target

        answers = numpy.array(options["targets"], dtype=str if _is_text(options["targets"]) else float)
        field, values = target("target", answers, options["classes"])
        entered = Field(name="features", shape=_shape(options["inputs"])[1:])
        return Raw(
            fields=(entered, field),
            columns={"features": numpy.array(options["inputs"], dtype=float), "target": values},
        )


# Few rows that someone wrote down are there to be learned.
Table.arguments = tuple(a.replace(default=0.0) if a.name == "test" else a for a in Table.arguments)


def _irregular(value: Any, texts: bool) -> str | None:
    """Return why nested lists are no table of numbers (or one list of texts); None if they are."""
    if not isinstance(value, tuple) or not value:
        return "must be a list of rows"
    if texts and _is_text(value):
        return None
    try:
        shape = _shape(value)
    except ValueError:
        return "must have rows that are all of one shape"
    entries = _flat(value)
    sound = all(isinstance(e, int | float) and not isinstance(e, bool) and math.isfinite(e) for e in entries)
    return None if sound and math.prod(shape) else "must hold finite numbers alone"


def _is_text(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(v, str) for v in cast("tuple[Any, ...]", value))


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of nested tuples; ValueError if they are not regular."""
    if not isinstance(value, tuple):
        return ()
    inner = {_shape(item) for item in cast("tuple[Any, ...]", value)}
    if len(inner) != 1:
        raise ValueError
    return (len(cast("tuple[Any, ...]", value)), *inner.pop())


def _flat(value: Any) -> list[Any]:
    if not isinstance(value, tuple):
        return [value]
    return [entry for item in cast("tuple[Any, ...]", value) for entry in _flat(item)]


def _target_field(values: Any, classes: bool | None) -> Field:
    """Return the field that `targets.target` finds, without reading anything."""
    distinct = sorted(set(_flat(values)))
    counts = not _is_text(values) and len(distinct) > 1 and distinct == list(range(len(distinct)))
    shape = _shape(values)[1:]
    if classes is False or (classes is None and not _is_text(values) and not counts):
        return Field(name="target", shape=shape, target=True)
    names = tuple(v if isinstance(v, str) else f"{float(v):g}" for v in distinct)
    return Field(name="target", shape=shape, dtype="int", classes=len(names), target=True, class_names=names)


SETS: tuple[DataSet, ...] = (Table(),)
