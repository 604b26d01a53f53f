"""Reads arrays from numpy archives and from files in the format of MNIST.

The sizes that a file declares are compared with the limit, and with each other, before anything is
unpacked; arrays of Python objects are refused, so that no pickle is ever read.
"""

from __future__ import annotations

import math
from io import BufferedIOBase
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from nnspec.compiler.runtime.data.arrays import input_names
from nnspec.compiler.runtime.data.field import Field, Raw
from nnspec.compiler.runtime.data.files import find, limit
from nnspec.compiler.runtime.data.targets import target
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.data import (
    DataArrayUnknown,
    DataEmpty,
    DataNotNumbers,
    DataPickled,
    DataRowsDiffer,
    DataUnreadable,
)
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest

if TYPE_CHECKING:
    from zipfile import ZipFile


def read_npz(options: dict[str, Any], root: Path, span: Span | None) -> Raw:
    """Return all rows, or raise RunError with the first thing that is wrong."""
    import zipfile
    import zlib

    path = find(options["path"], root, span)
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_npz(archive, options, span)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError):
        raise RunError(_unreadable(options["path"], "it is no whole numpy archive", span)) from None
    except (OSError, RuntimeError, NotImplementedError) as error:
        raise RunError(_unreadable(options["path"], str(error), span)) from None


def read_idx(options: dict[str, Any], root: Path, span: Span | None) -> Raw:
    """Return all rows, or raise RunError with the first thing that is wrong."""
    images = _read_idx(options["images"], root, span)
    labels = _read_idx(options["labels"], root, span)
    _same_rows(options["images"], images, options["labels"], labels, span)
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        found = f"{labels.dtype.name} of {labels.ndim} axes"
        raise RunError(DataNotNumbers(span, array="labels", path=options["labels"], found=found))
    field, values = target("label", labels, True)
    image = Field(name="image", shape=images.shape[1:])
    return Raw(fields=(image, field), columns={"image": images, "label": values})


def _unreadable(path: str, why: str, span: Span | None) -> DataUnreadable:
    return DataUnreadable(span, path=path, why=why)


def _same_rows(first: str, one: Any, second: str, other: Any, span: Span | None) -> None:
    if one.shape[0] != other.shape[0]:
        rows = {"first_rows": one.shape[0], "second_rows": other.shape[0]}
        raise RunError(DataRowsDiffer(span, first=first, second=second, **rows))
    if not one.shape[0]:
        raise RunError(DataEmpty(span, path=first))


# ------------------------------------------------------------------------------------------------- npz


def _read_npz(archive: ZipFile, options: dict[str, Any], span: Span | None) -> Raw:
    path, firsts, second = options["path"], input_names(options), options["target"]
    declared = sum(_member(archive, path, name, span).file_size for name in (*firsts, second))
    limit(path, declared, span)
    inputs = {name: _read_member(archive, path, name, span) for name in firsts}
    answers = _read_member(archive, path, second, span)
    for name, values in inputs.items():
        _same_rows(name, values, second, answers, span)
        if values.dtype.kind not in "biuf":
            found = f"an array of {values.dtype.name}"
            raise RunError(DataNotNumbers(span, array=name, path=path, found=found))
    if answers.dtype.kind not in "biufU" or (answers.dtype.kind == "U" and options["classes"] is False):
        raise RunError(
            DataNotNumbers(span, array=second, path=path, found=f"an array of {answers.dtype.name}")
        )
    field, values = target(second, answers, options["classes"])
    entered = tuple(
        Field(name=name, shape=values.shape[1:], dtype="int" if values.dtype.kind in "iu" else "real")
        for name, values in inputs.items()
    )
    return Raw(fields=(*entered, field), columns={**inputs, second: values})


def _member(archive: ZipFile, path: str, name: str, span: Span | None) -> Any:
    """Return the archive's entry of an array."""
    names = [entry.removesuffix(".npy") for entry in archive.namelist()]
    if name in names:
        return archive.infolist()[names.index(name)]
    near = nearest(name, names)
    listed = ", ".join(f"`{n}`" for n in names[:12]) or "nothing"
    help_text = f'did you mean "{near}"?' if near else f"it holds {listed}"
    raise RunError(DataArrayUnknown(span, path=path, name=name, help=help_text))


def _read_member(archive: ZipFile, path: str, name: str, span: Span | None) -> Any:
    import numpy

    member = _member(archive, path, name, span)
    with archive.open(member) as stream:
        shape, column_major, dtype = _header(stream)
        if dtype.hasobject:
            raise RunError(DataPickled(span, array=name, path=path))
        size = math.prod(shape) * dtype.itemsize
        # A header could ask for more than the file holds, and numpy would allocate it.
        if size != member.file_size - stream.tell() or not shape or min(shape) < 0:
            raise RunError(_unreadable(path, f"the size of `{name}` is not what its header says", span))
        values = numpy.frombuffer(stream.read(size), dtype=dtype)
    return values.reshape(shape, order="F" if column_major else "C")


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, Any]:
    from numpy.lib import format as npy

    version = npy.read_magic(stream)
    if version == (1, 0):
        return npy.read_array_header_1_0(stream)
    if version == (2, 0):
        return npy.read_array_header_2_0(stream)
    raise ValueError("unknown version")


# ------------------------------------------------------------------------------------------------- idx

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def _read_idx(path: str, root: Path, span: Span | None) -> Any:
    import gzip
    import zlib

    found = find(path, root, span)
    try:
        with found.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
            file.seek(0)
            if not packed:
                return _read_idx_stream(path, file, span)
            with gzip.GzipFile(fileobj=file) as stream:
                return _read_idx_stream(path, stream, span)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise RunError(_unreadable(path, "it is no whole gzip file", span)) from None
    except OSError as error:
        raise RunError(_unreadable(path, str(error), span)) from None


def _read_idx_stream(path: str, stream: BufferedIOBase, span: Span | None) -> Any:
    import numpy

    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES or not start[3]:
        raise RunError(_unreadable(path, "it does not start as an idx file", span))
    dtype = numpy.dtype(_IDX_TYPES[start[2]])
    sizes = stream.read(4 * start[3])
    shape = tuple(int.from_bytes(sizes[at : at + 4], "big") for at in range(0, len(sizes), 4))
    size = math.prod(shape) * dtype.itemsize
    limit(path, size, span)
    values = stream.read(size + 1)  # one more, to see whether the file ends where it should
    if len(shape) != start[3] or len(values) != size:
        raise RunError(_unreadable(path, "its length is not what its header says", span))
    return numpy.frombuffer(values, dtype=dtype).reshape(shape)
