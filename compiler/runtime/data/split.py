"""Splits and scales a data set: which rows go where, and numbers fitted on the training part alone.

Rows of a label are split class by class as evenly as whole rows allow. Within a part rows keep the
order of the data set. numpy in, numpy out.
"""

from __future__ import annotations

from typing import Any

from nnspec.dsl.node import Node


class Sizes(Node):
    """Rows of each part."""

    train: int
    validation: int
    test: int


def sizes(rows: int, options: dict[str, Any]) -> Sizes:
    """Return how many rows each part gets; a part that is asked for gets at least one."""
    test, validation = (_share(rows, options[name]) for name in ("test", "validation"))
    left = rows - test - validation
    train = left if options["train"] is None else min(left, _share(rows, options["train"]))
    return Sizes(train=max(0, train), validation=validation, test=test)


def parts_misfit(options: dict[str, Any]) -> tuple[str, str] | None:
    """Return the argument, and why, if the parts are more than the whole."""
    kept = options["test"] + options["validation"]
    if kept >= 1:
        return "test", f"`test` and `validation` are {kept:g} of the rows: nothing is left to train on"
    if options["train"] is not None and options["train"] + kept > 1 + 1e-9:
        return (
            "train",
            f"`train`, `validation` and `test` together are {options['train'] + kept:g} of the rows",
        )
    return None


def split(rows: int, labels: Any, counts: Sizes, seed: int) -> dict[str, Any]:
    """Return the row numbers of each part. `labels` is an array to balance over, or None."""
    import numpy

    generator = numpy.random.default_rng([seed, 1])
    order = generator.permutation(rows)
    if labels is not None:
        order = order[numpy.argsort(_place_in_class(labels[order]), kind="stable")]
    cuts = numpy.cumsum([counts.test, counts.validation, counts.train])
    test, validation, train, _ = numpy.split(order, cuts)
    found = {"train": train, "validation": validation, "test": test}
    return {name: numpy.sort(part) for name, part in found.items()}


def _place_in_class(labels: Any) -> Any:
    """For each row, how far along it stands among the rows of its class, from 0 to 1.

    Sorted by this, every beginning of the rows holds the classes in their proportion.
    """
    import numpy

    _, inverse, counts = numpy.unique(labels, return_inverse=True, return_counts=True)
    grouped = numpy.argsort(inverse, kind="stable")
    starts = numpy.cumsum(counts) - counts
    rank = numpy.empty(len(labels))
    rank[grouped] = numpy.arange(len(labels)) - starts[inverse[grouped]]
    return (rank + 0.5) / counts[inverse]


def scaled(values: Any, train: Any, how: str) -> Any:
    """Return the values scaled by what the rows `train` show, in double precision.

    Rows that are vectors are scaled entry by entry; pictures (two axes or more) as a whole.
    """
    if how == "none":
        return values
    exact = values.astype(float)
    shown = exact[train]
    axes = 0 if exact.ndim <= 2 else None
    if how == "unit":
        low = shown.min(axis=axes)
        return (exact - low) / _not_zero(shown.max(axis=axes) - low)
    return (exact - shown.mean(axis=axes)) / _not_zero(shown.std(axis=axes))


def _not_zero(width: Any) -> Any:
    """A constant entry has no width; it is left unscaled."""
    import numpy

    # Rounding leaves a constant column with a deviation about 1e-17 of its size.
    return numpy.where(width > 1e-12, width, 1.0)


def _share(rows: int, part: float) -> int:
    return max(1, round(rows * part)) if part else 0
