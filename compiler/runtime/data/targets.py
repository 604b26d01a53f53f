"""Makes the target of a file a field: a label of several classes, or numbers.

Unless the spec says which, a target is a label if it is text, or exactly the whole numbers 0, 1, .., k:
then its numbers are the classes' own, and no number changes its meaning.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.runtime.data.field import Field


def target(name: str, values: Any, classes: bool | None) -> tuple[Field, Any]:
    """Return the field of a target and its values, given those read (numbers or text) and what is said.

    `classes` is whether they are labels, None to find out. Text must not be said to be numbers.
    """
    text = values.dtype.kind in "US"
    if classes is False or (classes is None and not text and not _counts_from_zero(values)):
        return Field(name=name, shape=values.shape[1:], target=True), values
    import numpy

    distinct, labels = numpy.unique(values, return_inverse=True)
    names = tuple(_class_name(value) for value in distinct.tolist())
    field = Field(
        name=name, shape=values.shape[1:], dtype="int", classes=len(names), target=True, class_names=names
    )
    return field, labels.reshape(values.shape)


def _counts_from_zero(values: Any) -> bool:
    import numpy

    if values.dtype.kind not in "biuf" or not values.size:
        return False
    distinct = numpy.unique(values)
    return len(distinct) > 1 and bool((distinct == numpy.arange(len(distinct))).all())


def _class_name(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
