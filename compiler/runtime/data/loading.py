"""Loads a data set: read, check, split, scale, and make tensors.

In: the experiment's choice of data and the folder that files may lie in. Out: `Splits`. What is wrong
with the data is a RunError whose diagnostic points at the spec.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.data.corruption import corrupted
from nnspec.compiler.runtime.data.field import Field, Part, Raw, Splits
from nnspec.compiler.runtime.data.registry import find
from nnspec.compiler.runtime.data.split import scaled, sizes, split
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.data import DataNotFinite, DataOneClass, DataTooFewRows, NoLabelsToCorrupt
from nnspec.dsl.source import Span


def load(choice: Choice, root: Path, dtype: str) -> Splits:
    """Return the parts of a data set, real numbers in the dtype."""
    options = choice.options
    raw = find(choice.name).read(options, root, choice.span)
    for field in raw.fields:
        _check(field, raw.columns[field.name], options, choice.span)
    rows = len(raw.columns[raw.fields[0].name])
    counts = sizes(rows, options)
    if counts.train < 1:
        why = f"the data have {rows} rows, and none is left to train on"
        help_text = "lower `test` and `validation`"
        raise RunError(DataTooFewRows(choice.span, why=why, found=f"{rows} rows", help=help_text))
    chosen = split(rows, _balanced(raw), counts, options["seed"])
    columns = {field.name: _scaled(field, raw, chosen["train"], options) for field in raw.fields}
    parts = {name: _part(raw, columns, at, dtype) for name, at in chosen.items()}
    parts["train"] = _corrupted(parts["train"], raw, choice)
    present = {name: part if part.rows else None for name, part in parts.items()}
    return Splits(
        fields=tuple(_after_scaling(field, options) for field in raw.fields),
        identity=_identity(choice, raw),
        train=parts["train"],
        validation=present["validation"],
        test=present["test"],
        dtype=dtype,
    )


def check_batch(splits: Splits, batch: int | None, span: Span | None) -> None:
    """Refuse a batch that is larger than the training part."""
    if batch is not None and batch > splits.train.rows:
        why = f"a batch takes {batch} rows, and the training part has {splits.train.rows}"
        help_text = f"write `batch = {splits.train.rows}`, or `batch = none` for all at once"
        found = f"{splits.train.rows} rows to train on"
        raise RunError(DataTooFewRows(span, why=why, found=found, help=help_text))


def _check(field: Field, values: Any, options: dict[str, Any], span: Span | None) -> None:
    import numpy

    if values.dtype.kind == "f" and not numpy.isfinite(values).all():
        row = int(numpy.argwhere(~numpy.isfinite(values))[0][0])
        path = options.get("path") or field.name
        found = "a value that is not finite"
        raise RunError(DataNotFinite(span, path=path, found=found, place=f"`{field.name}`, row {row}"))
    if field.classes is not None and not (values != values.flat[0]).any():
        at = int(values.flat[0])
        found = field.class_names[at] if field.class_names else str(at)
        raise RunError(DataOneClass(span, name=field.name, found=found))


def _balanced(raw: Raw) -> Any:
    """Return the labels to split evenly, None where the target is not one label a row."""
    field = next(field for field in raw.fields if field.target)
    return raw.columns[field.name] if field.classes is not None and not field.shape else None


def _scaled(field: Field, raw: Raw, train: Any, options: dict[str, Any]) -> Any:
    values = raw.columns[field.name]
    if field.classes is not None:
        return values
    return scaled(values, train, options.get("target_scale", "none") if field.target else options["scale"])


def _after_scaling(field: Field, options: dict[str, Any]) -> Field:
    """Whole numbers that were scaled are real ones."""
    if field.target or field.dtype == "real" or options["scale"] == "none":
        return field
    return field.replace(dtype="real")


def _part(raw: Raw, columns: dict[str, Any], rows: Any, dtype: str) -> Part:
    tensors = {name: _tensor(values[rows], dtype, raw.fields, name) for name, values in columns.items()}
    target = next(field.name for field in raw.fields if field.target)
    inputs = {name: values for name, values in tensors.items() if name != target}
    return Part(inputs=inputs, targets=tensors[target], target=target)


def _corrupted(part: Part, raw: Raw, choice: Choice) -> Part:
    """Return the training part with wrong labels, where they are asked for."""
    corrupt: Choice | None = choice.options.get("corrupt")
    if corrupt is None:
        return part
    field = next(field for field in raw.fields if field.target)
    if field.classes is None or field.shape:
        raise RunError(NoLabelsToCorrupt(corrupt.span, name=field.name, found=str(field)))
    labels = corrupted(corrupt, part.targets.numpy(), field.classes)
    return part.replace(targets=_tensor(labels, "", raw.fields, field.name), true=part.targets)


def _tensor(values: Any, dtype: str, fields: tuple[Field, ...], name: str) -> Any:
    import torch

    field = next(field for field in fields if field.name == name)
    whole = field.dtype == "int" and values.dtype.kind in "biu"
    return torch.from_numpy(values.astype("int64" if whole else dtype))


def _identity(choice: Choice, raw: Raw) -> str:
    """Hash the rows as read and the arguments: what a run's numbers depend on."""
    import hashlib

    options = {name: value for name, value in choice.options.items() if name != "corrupt"}
    digest = hashlib.sha256(f"{choice.name} {sorted(options.items())!r}".encode())
    corrupt: Choice | None = choice.options.get("corrupt")
    if corrupt is not None:
        digest.update(f"{corrupt.name} {sorted(corrupt.options.items())!r}".encode())
    for field in raw.fields:
        values = raw.columns[field.name]
        digest.update(f"{field.name} {values.dtype.str} {values.shape}".encode())
        digest.update(values.tobytes())
    return digest.hexdigest()
