"""`sum` and `mean` over axes."""

from __future__ import annotations

from typing import ClassVar

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import dimension, elements, positions, product
from nnspec.compiler.operations.operation import Cost, Operation, Site
from nnspec.compiler.relations import Contract, Relation, Term, axes_of
from nnspec.dsl.catalog import Argument

_AXIS = Argument(
    name="axis",
    kind="axis",
    doc="the axes that disappear, by number or name; none for all of them",
    default=None,
    listed="either",
    nullable=True,
)


class Reduction(Operation):
    """One number from all entries along some axes; the batch is never reduced."""

    arguments = (_AXIS,)

    torch: ClassVar[str]

    def shape(self, site: Site) -> tuple[Type, ...]:
        given, gone = site.inputs[0], positions(site, site["axis"])
        axes = tuple(axis for place, axis in enumerate(given.axes) if place not in gone)
        return (Type(axes=axes, dtype=self.dtype(site)),)

    def dtype(self, site: Site) -> str:
        """Return the number kind of the result."""
        kind = site.inputs[0].dtype
        return "int" if kind == "bool" else kind

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        text = self.converted(site, inputs[0], weights)
        gone = sorted(positions(site, site["axis"]))
        if not gone:
            return text
        if len(gone) == len(site.inputs[0].axes) and not site.batched:
            return f"{text}.{self.torch}()"
        dims = [dimension(site, axis) for axis in gone]
        return f"{text}.{self.torch}(dim={dims[0] if len(dims) == 1 else tuple(dims)})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        labels = axes_of(len(site.inputs[0].axes))
        gone = positions(site, site["axis"])
        kept = tuple(label for place, label in enumerate(labels) if place not in gone)
        given, out = Term(tensor="in0", labels=labels), Term(tensor="out0", labels=kept)
        return (Contract(terms=(given,), output=out, ones=self.ones(site, gone)),)

    def ones(self, site: Site, gone: tuple[int, ...]) -> float | None:
        """Return what ones give, None if a size is not known."""
        count = product(tuple(site.inputs[0].shape[place] for place in gone))
        return float(count) if isinstance(count, int) else None

    def converted(self, site: Site, text: str, weights: dict[str, str]) -> str:
        """Return the input as numbers that torch can reduce so."""
        return f"{text}.long()" if site.inputs[0].dtype == "bool" else text


class Sum(Reduction):
    name = "sum"
    torch = "sum"
    doc = "The sum over axes: over all of them, or over those named. Truth values are counted."
    example = "total = x -> sum(axis = -1)"


class Mean(Reduction):
    name = "mean"
    torch = "mean"
    doc = "The mean over axes: over all of them, or over those named. Always a real number."
    example = "pooled = tokens -> mean(axis = T)"

    def dtype(self, site: Site) -> str:
        kind = site.inputs[0].dtype
        return kind if kind == "complex" else "real"

    def ones(self, site: Site, gone: tuple[int, ...]) -> float | None:
        return 1.0

    def converted(self, site: Site, text: str, weights: dict[str, str]) -> str:
        return text if site.inputs[0].dtype in ("real", "complex") else f"{text}.to({weights['dtype']})"


OPERATIONS = (Sum(), Mean())
