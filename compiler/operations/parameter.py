"""`parameter` and `buffer`: tensors that a layer owns itself, as values of its body.

`embed.weight`, the weight of another instance, is one too, tied to that instance and stored there alone.
Each is an instance without inputs that stores one tensor. That tensor has no name of its own: the path of the
instance, `attention.mix`, is the path of the weight and, in a state dict, its key. The value has no batch axis.
"""

from __future__ import annotations

from typing import ClassVar

from nnspec.compiler.ir import Axis, Init, Tensor, Type
from nnspec.compiler.operations.axes import whole
from nnspec.compiler.operations.operation import Operation, Site
from nnspec.compiler.relations import Elementwise, Fixed, Relation, Sum, aligned_terms
from nnspec.dsl.dimensions import Size


class Parameter(Operation):
    name = "parameter"
    doc = "A learned tensor of a layer's own: `parameter mix: real[rank, width] = normal(std = 0.02)`."
    inputs = (0, 0)
    owns = ("",)
    written = False

    kind: ClassVar[str] = "learned"

    def shape(self, site: Site) -> tuple[Type, ...]:
        sizes: tuple[Size, ...] = tuple(whole(size, "the size of its axis") for size in site["shape"])
        names: tuple[str | None, ...] = site["names"]
        axes = tuple(Axis(size=size, name=name) for size, name in zip(sizes, names, strict=True))
        return (Type(axes=axes, dtype=site["dtype"]),)

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        init: Init | None = site["init"]
        return (Tensor(name="", shape=site["shape"], kind=self.kind, dtype=site["dtype"], init=init),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return weights[""]

    def relate(self, site: Site) -> tuple[Relation, ...]:
        shape = site["shape"]
        weight, out = aligned_terms(("", "out0"), (shape, shape))
        return (Sum(terms=(weight,), output=out, coefficients=(1.0,)),)


class Buffer(Parameter):
    name = "buffer"
    doc = "A tensor that a layer keeps and does not learn: `buffer seen: real[width] = zeros`."
    kind = "buffer"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        shape = site["shape"]
        buffer, out = aligned_terms(("", "out0"), (shape, shape))
        why = "a buffer is what it is, whatever acts on what reads it"
        return (
            Elementwise(terms=(buffer,), output=out),
            Fixed(tensor="", axes=tuple(range(len(shape))), why=why),
        )


class Lent(Parameter):
    name = "weight"
    doc = "The effective weight of another instance of the body as a value: `embed.weight`."
    owns = ()  # it is laid under constraints, and begins, where it is stored
    borrows = True


OPERATIONS = (Parameter(), Buffer(), Lent())
