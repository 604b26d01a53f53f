"""Arrays in files: `npz` (numpy's archives) and `idx` (the format of MNIST)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from nnspec.compiler.runtime.data.dataset import CLASSES, TARGET_SCALE, DataSet
from nnspec.compiler.runtime.data.field import Raw
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

_PATH = Argument(name="path", kind="text", doc="under the spec's folder or the data root")


def input_names(options: dict[str, Any]) -> tuple[str, ...]:
    """Return the arrays of the inputs, of which `input` names one or several."""
    named = options["input"]
    return (named,) if isinstance(named, str) else tuple(named)


class Npz(DataSet):
    name = "npz"
    doc = "Arrays of a numpy archive, whose first axis counts rows. Fields: the arrays by name."
    own = (
        _PATH,
        Argument(
            name="input", kind="text", listed="either", default="x", doc="the array of the inputs, or several"
        ),
        Argument(name="target", kind="text", default="y", doc="the array of the targets"),
        CLASSES,
        TARGET_SCALE,
    )
    example = 'data = npz("measured.npz", input = "x", target = "y")'

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        inputs = input_names(options)
        if not inputs or len(set(inputs)) < len(inputs):
            return "input", "`input` names each array of the inputs once"
        same = options["target"] in inputs
        return ("target", "`target` must be another array than `input`") if same else None

    def read(self, options: dict[str, Any], root: Path, span: Span | None) -> Raw:
        from nnspec.compiler.runtime.data.read_arrays import read_npz

        return read_npz(options, root, span)


class Idx(DataSet):
    name = "idx"
    doc = """Pictures and labels in two files of the format of MNIST, perhaps packed with gzip.
Fields: image, label."""
    own = (
        Argument(name="images", kind="text", doc="file of the pictures"),
        Argument(name="labels", kind="text", doc="file of the labels"),
    )
    example = 'data = idx("images-idx3-ubyte.gz", "labels-idx1-ubyte.gz", scale = "unit")'

    def read(self, options: dict[str, Any], root: Path, span: Span | None) -> Raw:
        from nnspec.compiler.runtime.data.read_arrays import read_idx

        return read_idx(options, root, span)


SETS: tuple[DataSet, ...] = (Npz(), Idx())
