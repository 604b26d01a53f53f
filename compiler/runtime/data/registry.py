"""Every data set by its word."""

from __future__ import annotations

from nnspec.compiler.runtime.component import registered
from nnspec.compiler.runtime.data import arrays, boltzmann, generated, inline, scikit, tables
from nnspec.compiler.runtime.data.dataset import DataSet

_SETS: dict[str, DataSet] = registered(
    (*scikit.SETS, *generated.SETS, *boltzmann.SETS, *tables.SETS, *arrays.SETS, *inline.SETS)
)


def find(name: str) -> DataSet:
    """Return a data set that the catalog knows."""
    return _SETS[name]


def all_sets() -> tuple[DataSet, ...]:
    """Return every data set."""
    return tuple(_SETS.values())
