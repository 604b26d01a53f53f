"""What a data set offers: named fields, and after loading the parts of its split.

A `Field` is known without reading anything; `Part` and `Splits` hold tensors.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor


class Field(Node):
    """One field of a data set, such as `image: real[8, 8]` or `label` of 10 classes.

    `shape` is that of one row. A field with `classes` holds whole numbers from 0 to classes - 1.
    """

    name: str
    shape: tuple[int, ...] = ()
    dtype: str = "real"  # "real" or "int"
    classes: int | None = None
    target: bool = False
    class_names: tuple[str, ...] = ()

    @property
    def type_text(self) -> str:
        """The field's type as the language writes it: `real[8, 8]`."""
        inside = ", ".join(str(size) for size in self.shape)
        return f"{self.dtype}[{inside}]" if self.shape else self.dtype

    def __str__(self) -> str:
        if self.classes is not None:
            return f"{self.name}: {self.type_text} ({self.classes} classes)"
        return f"{self.name}: {self.type_text}"


class Part(Node):
    """Rows of a data set: inputs by name, and the targets; the first axis counts rows."""

    inputs: dict[str, Tensor]
    targets: Tensor
    target: str = "target"  # the name of the target's field
    true: Tensor | None = None  # the targets before some were corrupted; None: none was
    fields: dict[str, Tensor] | None = (
        None  # all of them by their own names, once the inputs bear the network's
    )

    @property
    def rows(self) -> int:
        return int(self.targets.shape[0])

    def field(self, name: str) -> Tensor:
        """Return the values of a field, the target's too."""
        return self.targets if name == self.target else self.inputs[name]


class Splits(Node):
    """A loaded data set. `identity` is a hash of the data as read and of how they were split and scaled."""

    fields: tuple[Field, ...]
    train: Part
    validation: Part | None
    test: Part | None
    identity: str
    dtype: str = "float32"  # of real numbers

    @property
    def target(self) -> Field:
        return next(field for field in self.fields if field.target)


class Raw(Node):
    """A data set as read, before it is split: fields, and for each its array of rows (numpy)."""

    fields: tuple[Field, ...]
    columns: dict[str, Any]
