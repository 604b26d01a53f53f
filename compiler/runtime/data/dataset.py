"""What a data set is: a component that knows its fields and reads its rows.

`fields` and `rows` are known without reading anything, None where a file decides. `read` gives numpy
arrays; splitting, scaling and tensors come after (`load.py`). The arguments that every data set has
stand here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

from nnspec.compiler.runtime.component import Component
from nnspec.compiler.runtime.data.field import Field, Raw
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

_SCALES = ("none", "standard", "unit")
_SCALE_DOC = "standard: mean 0 and deviation 1; unit: from 0 to 1; as found in the training part"


def split_arguments(scale: str = "none") -> tuple[Argument, ...]:
    """Return the arguments that every data set has; `scale` is the default of its scaling."""
    return (
        Argument(name="test", kind="real", default=0.2, at_least=0, below=1, doc="part kept for the test"),
        Argument(
            name="validation", kind="real", default=0.0, at_least=0, below=1, doc="part kept for validation"
        ),
        Argument(
            name="train",
            kind="real",
            default=None,
            nullable=True,
            above=0,
            at_most=1,
            doc="part to train on; none: what is left",
        ),
        Argument(name="seed", kind="int", default=0, at_least=0, doc="of the split, and of generated data"),
        Argument(name="scale", kind="choice", choices=_SCALES, default=scale, doc=_SCALE_DOC),
        Argument(
            name="corrupt",
            kind="corruption",
            default=None,
            nullable=True,
            doc="labels of the training part that are made wrong: `symmetric(0.4)`",
        ),
    )


TARGET_SCALE = Argument(
    name="target_scale",
    kind="choice",
    choices=("none", "standard"),
    default="none",
    doc="standard: targets of mean 0 and deviation 1; losses and metrics are then in these units",
)

CLASSES = Argument(
    name="classes",
    kind="bool",
    default=None,
    nullable=True,
    doc="whether the target is a label; none: it is one if it is text, or the whole numbers 0, 1, .., k",
)


class DataSet(Component):
    """A data set. Subclasses state their own arguments in `own`, before the common ones."""

    family = "data"
    own: ClassVar[tuple[Argument, ...]] = ()
    scale: ClassVar[str] = "none"

    def __init_subclass__(cls) -> None:
        cls.arguments = (*cls.own, *split_arguments(cls.scale))

    def fields(self, options: dict[str, Any]) -> tuple[Field, ...] | None:
        """Return the fields, the target last; None if a file decides."""
        return None

    def rows(self, options: dict[str, Any]) -> int | None:
        """Return the number of rows, None if a file decides."""
        return None

    def read(self, options: dict[str, Any], root: Path, span: Span | None) -> Raw:
        """Return all rows. Raises RunError with a diagnostic at `span`."""
        raise TypeError(f"{self.name} cannot be read")

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        """Return the argument, and why, whose value does not go with the others; None if all do."""
        return None
