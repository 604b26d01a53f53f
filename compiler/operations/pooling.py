"""Pooling of images: `maxpool`, `avgpool`, `global_avgpool`."""

from __future__ import annotations

from typing import ClassVar

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import elements, product
from nnspec.compiler.operations.convolution import image, pair, windowed
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Contract, Elementwise, Relation, Term
from nnspec.dsl.catalog import Argument

_ARGUMENTS = (
    Argument(name="kernel", kind="int", doc="height and width of the window", listed="either", at_least=1),
    Argument(
        name="stride",
        kind="int",
        doc="step of the window; the kernel if none",
        default=None,
        listed="either",
        at_least=1,
        nullable=True,
    ),
    Argument(name="padding", kind="int", doc="border on each side", default=0, listed="either", at_least=0),
)

_IMAGE = Term(tensor="in0", labels=("c", "#h", "#w"))
_POOLED = Term(tensor="out0", labels=("c", "#rows", "#columns"))


class Pooling(Operation):
    """One number from each window of each channel."""

    arguments = _ARGUMENTS
    function: ClassVar[str]

    def shape(self, site: Site) -> tuple[Type, ...]:
        channels = image(site)[0]
        kernel, padding = pair(site["kernel"]), pair(site["padding"])
        if any(2 * border > extent for border, extent in zip(padding, kernel, strict=True)):
            raise ShapeProblem(
                "the padding is more than half the kernel",
                expected=f"at most {min(kernel) // 2}",
                found=str(site["padding"]),
            )
        return (site.inputs[0].replace(axes=(channels, *windowed(site, kernel, padding))),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.outputs[0]) * product(pair(site["kernel"])))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        parts = [inputs[0], repr(site["kernel"])]
        if site["stride"] not in (None, site["kernel"]):
            parts.append(f"stride={site['stride']!r}")
        if pair(site["padding"]) != (0, 0):
            parts.append(f"padding={site['padding']!r}")
        return f"{self.function}({', '.join(parts)})"


class MaxPool(Pooling):
    name = "maxpool"
    doc = "The largest number in each window of each channel. A border counts as minus infinity."
    function = "F.max_pool2d"
    example = "x = image -> conv2d(16, kernel = 3) -> relu -> maxpool(2)"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        return (Elementwise(terms=(_IMAGE,), output=_POOLED, degree=1, shifts=1.0),)


class AvgPool(Pooling):
    name = "avgpool"
    doc = "The mean of each window of each channel. A border counts as zeros."
    function = "F.avg_pool2d"
    example = "x = image -> conv2d(16, kernel = 3) -> relu -> avgpool(2)"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        whole = pair(site["padding"]) == (0, 0)
        return (Contract(terms=(_IMAGE,), output=_POOLED, ones=1.0 if whole else None),)


class GlobalAvgPool(Operation):
    name = "global_avgpool"
    doc = "The mean over all positions: [channels, height, width] gives [channels]."
    example = "y = features -> global_avgpool -> dense(10)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        return (site.inputs[0].replace(axes=image(site)[:1]),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"{inputs[0]}.mean(dim=(-2, -1))"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        given = Term(tensor="in0", labels=("c", "h", "w"))
        return (Contract(terms=(given,), output=Term(tensor="out0", labels=("c",)), ones=1.0),)


OPERATIONS = (MaxPool(), AvgPool(), GlobalAvgPool())
