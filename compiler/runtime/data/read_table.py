"""Reads a table from a text file.

The file is text in UTF-8. Every cell of an input column must be a finite number; the diagnostics name
the line and the column of the first that is not.
"""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn, TextIO

from nnspec.compiler.runtime.data.field import Field, Raw
from nnspec.compiler.runtime.data.files import find, limit
from nnspec.compiler.runtime.data.targets import target
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.data import (
    DataCellNotNumber,
    DataColumnUnknown,
    DataEmpty,
    DataNotFinite,
    DataRagged,
    DataUnreadable,
)
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest


def read_table(options: dict[str, Any], root: Path, span: Span | None) -> Raw:
    """Return all rows of a table, or raise RunError with the first thing that is wrong."""
    path = find(options["path"], root, span)
    limit(options["path"], path.stat().st_size, span)
    table = _Table(path=options["path"], span=span)
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return _read(table, file, options)
    except UnicodeDecodeError:
        raise RunError(table.unreadable("it is no text in UTF-8")) from None
    except csv.Error as error:
        raise RunError(table.unreadable(str(error))) from None
    except OSError as error:
        raise RunError(table.unreadable(error.strerror or "the system refuses")) from None


class _Table(Node):
    """A file as the spec names it, for diagnostics."""

    path: str
    span: Span | None

    def unreadable(self, why: str, help_text: str | None = None) -> DataUnreadable:
        return DataUnreadable(self.span, path=self.path, why=why, help=help_text)


def _read(table: _Table, file: TextIO, options: dict[str, Any]) -> Raw:
    rows = _rows(table, file, options)
    first = next(rows, None)
    if first is None:
        raise RunError(DataEmpty(table.span, path=table.path))
    columns = _columns(table, first[1], options)
    aim = _column(table, columns, options["target"])
    chosen = options["inputs"]
    if chosen is None:
        inputs = [index for index in range(len(columns)) if index != aim]
    else:
        inputs = [_column(table, columns, column) for column in chosen]
    if aim in inputs:
        raise RunError(table.unreadable(f"the target `{columns[aim]}` is among the inputs"))
    if not inputs:
        raise RunError(table.unreadable("no column is left for the inputs"))
    numbers, answers, lines = _cells(table, columns, inputs, aim, rows, None if options["header"] else first)
    if not answers:
        raise RunError(DataEmpty(table.span, path=table.path))
    return _raw(table, columns, inputs, aim, numbers, answers, lines, options)


def _rows(table: _Table, file: TextIO, options: dict[str, Any]) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of the line and the cells of each row; empty lines are no rows."""
    reader = csv.reader(file, delimiter=options["delimiter"])
    width = None
    for cells in reader:
        if not cells:
            continue
        if width is None:
            width = len(cells)
        if len(cells) != width:
            help_text = "check `delimiter`, and the quotes about texts"
            raise RunError(
                DataRagged(
                    table.span,
                    path=table.path,
                    line=reader.line_num,
                    found=len(cells),
                    expected=width,
                    help=help_text,
                )
            )
        yield reader.line_num, cells


def _columns(table: _Table, first: list[str], options: dict[str, Any]) -> list[str]:
    if not options["header"]:
        return [str(index) for index in range(len(first))]
    names = [name.strip() for name in first]
    if all(_number(name) is not None for name in names):
        raise RunError(table.unreadable("its first row holds numbers, not names", "write `header = false`"))
    return names


def _column(table: _Table, columns: list[str], wanted: str | int) -> int:
    """Return the index of a column given by name or number."""
    if isinstance(wanted, int):
        if 0 <= wanted < len(columns):
            return wanted
        help_text = f"its {len(columns)} columns are numbered from 0 to {len(columns) - 1}"
    else:
        if columns.count(wanted) == 1:
            return columns.index(wanted)
        near = nearest(wanted, columns)
        listed = ", ".join(f"`{name}`" for name in columns[:12])
        help_text = f'did you mean "{near}"?' if near else f"its columns are {listed}"
        if wanted in columns:
            help_text = "several columns have this name: give the number of one"
    shown = f"number {wanted}" if isinstance(wanted, int) else f"called `{wanted}`"
    raise RunError(DataColumnUnknown(table.span, path=table.path, name=shown, help=help_text))


def _cells(
    table: _Table,
    columns: list[str],
    inputs: list[int],
    aim: int,
    rows: Iterator[tuple[int, list[str]]],
    first: tuple[int, list[str]] | None,
) -> tuple[array[float], list[str], array[int]]:
    """Return the numbers of the input columns row after row, the target's cells, and the rows' lines."""
    numbers, answers, lines = array("d"), list[str](), array("q")
    for line, cells in chain(() if first is None else (first,), rows):
        _take(table, columns, inputs, line, cells, numbers)
        answers.append(cells[aim].strip())
        lines.append(line)
    return numbers, answers, lines


def _take(
    table: _Table, columns: list[str], inputs: list[int], line: int, cells: list[str], numbers: array[float]
) -> None:
    try:
        numbers.extend([float(cells[index]) for index in inputs])
    except ValueError:
        bad = next(index for index in inputs if _number(cells[index]) is None)
        _refuse_cell(table, line, columns[bad], cells[bad])


def _refuse_cell(table: _Table, line: int, column: str, cell: str) -> NoReturn:
    found = f'"{cell.strip()[:40]}"' if cell.strip() else "an empty cell"
    help_text = "leave the column out with `inputs = [...]`, or mend the file"
    raise RunError(
        DataCellNotNumber(table.span, path=table.path, line=line, column=column, found=found, help=help_text)
    )


def _raw(
    table: _Table,
    columns: list[str],
    inputs: list[int],
    aim: int,
    numbers: array[float],
    answers: list[str],
    lines: array[int],
    options: dict[str, Any],
) -> Raw:
    import numpy

    features = numpy.frombuffer(numbers, dtype=float).reshape(len(answers), len(inputs))
    _finite(table, features, [columns[index] for index in inputs], lines)
    values = _answers(table, columns[aim], answers, lines, options["classes"])
    name = columns[aim] if not options["header"] or columns[aim] else "target"
    field, values = target("target" if name.isdigit() else name, values, options["classes"])
    label = "inputs" if field.name == "features" else "features"
    whole = bool((features == numpy.rint(features)).all()) and bool((abs(features) < 2**53).all())
    if whole:  # such as numbers of words; they may enter real inputs too
        features = features.astype("int64")
    dtype = "int" if whole else "real"
    return Raw(
        fields=(Field(name=label, shape=(len(inputs),), dtype=dtype), field),
        columns={label: features, field.name: values},
    )


def _answers(table: _Table, column: str, answers: list[str], lines: array[int], classes: bool | None) -> Any:
    """Return the target's cells as numbers if all are numbers, else as text."""
    import numpy

    values = [_number(cell) for cell in answers]
    strange = next((index for index, value in enumerate(values) if value is None), None)
    empty = next((index for index, cell in enumerate(answers) if not cell), None)
    wrong = empty if empty is not None else strange if classes is False else None
    if wrong is not None:
        _refuse_cell(table, lines[wrong], column, answers[wrong])
    if strange is not None:
        return numpy.array(answers)
    found = numpy.array(values, dtype=float)
    _finite(table, found[:, None], [column], lines)
    return found


def _finite(table: _Table, values: Any, columns: list[str], lines: array[int]) -> None:
    import numpy

    wrong = numpy.argwhere(~numpy.isfinite(values))
    if len(wrong):
        row, column = wrong[0].tolist()
        place = f"line {lines[row]}, column `{columns[column]}`"
        found = f"{values[row, column]}"
        raise RunError(DataNotFinite(table.span, path=table.path, found=found, place=place))


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
