"""Tables: `csv`. One row a sample, one column the target, the other columns (or those named) the inputs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnspec.compiler.runtime.data.dataset import CLASSES, TARGET_SCALE, DataSet
from nnspec.compiler.runtime.data.field import Raw
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

_COLUMN = "a column: its name in the header, or its number from 0"


class Csv(DataSet):
    name = "csv"
    doc = """A table in a text file. All columns but the target are the inputs, unless `inputs` lists them.
Fields: features, and the target by its name."""
    own = (
        Argument(name="path", kind="text", doc="under the spec's folder or the data root"),
        Argument(name="target", kind="value", doc=_COLUMN),
        Argument(
            name="inputs", kind="value", listed="yes", default=None, nullable=True, doc="columns; none: all"
        ),
        Argument(name="header", kind="bool", default=True, doc="whether the first row names the columns"),
        Argument(name="delimiter", kind="text", default=",", doc="what stands between two cells"),
        CLASSES,
        TARGET_SCALE,
    )
    example = 'data = csv("banknote.csv", target = "class")'

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        if len(options["delimiter"]) != 1 or options["delimiter"] in '\r\n"':
            return "delimiter", "`delimiter` must be one character"
        if not _is_column(options["target"]):
            return "target", f"`target` must be {_COLUMN}"
        if not all(_is_column(column) for column in options["inputs"] or ()):
            return "inputs", f"`inputs` must be a list, each {_COLUMN}"
        return None

    def read(self, options: dict[str, Any], root: Path, span: Span | None) -> Raw:
        from nnspec.compiler.runtime.data.read_table import read_table

        return read_table(options, root, span)


def _is_column(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


SETS: tuple[DataSet, ...] = (Csv(),)
