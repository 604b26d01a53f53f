"""Data sets: what they offer, known without reading them, and how they are read, split and scaled."""

from __future__ import annotations

from pathlib import Path

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.data.field import Field, Part, Splits
from nnspec.compiler.runtime.data.registry import all_sets, find
from nnspec.compiler.runtime.data.split import Sizes, parts_misfit, sizes
from nnspec.dsl.catalog import Entry
from nnspec.dsl.source import Span

__all__ = ["Field", "Part", "Splits", "check_batch", "describe", "entries", "load", "misfit", "part_sizes"]


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the data sets."""
    return tuple(data_set.entry() for data_set in all_sets())


def describe(choice: Choice) -> tuple[Field, ...] | None:
    """Return the fields of a data set without reading it; None if only a file can tell."""
    return find(choice.name).fields(choice.options)


def part_sizes(choice: Choice) -> Sizes | None:
    """Return the rows of each part without reading the data; None if only a file can tell."""
    rows = find(choice.name).rows(choice.options)
    return None if rows is None else sizes(rows, choice.options)


def misfit(choice: Choice) -> tuple[str, str] | None:
    """Return the argument, and why, whose value does not go with the others; None if all do."""
    own = find(choice.name)
    return parts_misfit(choice.options) or own.misfit(choice.options) or _no_labels(choice)


def _no_labels(choice: Choice) -> tuple[str, str] | None:
    fields = describe(choice) if choice.options.get("corrupt") is not None else None
    target = next((field for field in fields or () if field.target), None)
    if target is None or (target.classes is not None and not target.shape):
        return None
    return "corrupt", f"`corrupt` makes labels wrong, and `{target.name}` holds numbers"


def load(choice: Choice, root: Path, *, dtype: str = "float32") -> Splits:
    """Return the parts of a data set; real numbers have the dtype "float32" or "float64".

    Files lie under `root`. The split and what is drawn depend on the choice's own `seed`, never on the
    seed of a run. Raises RunError with a diagnostic at the choice's span.
    """
    from nnspec.compiler.runtime.data import loading

    return loading.load(choice, root, dtype)


def check_batch(splits: Splits, batch: int | None, span: Span | None) -> None:
    """Raise RunError if a batch is larger than the training part."""
    from nnspec.compiler.runtime.data import loading

    loading.check_batch(splits, batch, span)
