"""Complex numbers and their parts: `complex`, `real`, `imag`, `conj`, `angle`."""

from __future__ import annotations

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.arithmetic import entrywise_terms
from nnspec.compiler.operations.axes import aligned, broadcast, elements, real
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Elementwise, Relation


class Complex(Operation):
    name = "complex"
    doc = "The complex numbers a + b i from their real and imaginary parts: complex(a, b)."
    inputs = (2, 2)
    aligns = True
    example = "wave = complex(cos(x), sin(x))"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        return (Type(axes=broadcast(site), dtype="complex"),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        left, right = aligned(site, inputs)
        return f"torch.complex({left}, {right})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        return (Elementwise(terms=terms, output=out, degree=1.0),)


class PartOfComplex(Operation):
    """A function of one complex number."""

    gives: str = "real"
    text: str

    def __init__(
        self, name: str, text: str, doc: str, *, gives: str = "real", odd: bool, degree: int
    ) -> None:
        self.name = name
        self.text = text
        self.doc = doc
        self.gives = gives
        self.odd = odd
        self.degree = degree
        self.example = f"y = z -> {name}"

    def shape(self, site: Site) -> tuple[Type, ...]:
        given = site.inputs[0]
        if given.dtype != "complex":
            raise ShapeProblem(
                "works on complex numbers", expected=str(given.replace(dtype="complex")), found=str(given)
            )
        return (given.replace(dtype=self.gives),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return self.text.format(x=inputs[0])

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        parity = "odd" if self.odd else "none"
        return (Elementwise(terms=terms, output=out, parity=parity, degree=float(self.degree)),)


OPERATIONS = (
    Complex(),
    PartOfComplex("real", "{x}.real", "The real part of a complex number.", odd=True, degree=1),
    PartOfComplex("imag", "{x}.imag", "The imaginary part of a complex number.", odd=True, degree=1),
    PartOfComplex(
        "conj",
        "torch.complex({x}.real, -{x}.imag)",
        "The complex conjugate: a - b i.",
        gives="complex",
        odd=True,
        degree=1,
    ),
    PartOfComplex(
        "angle", "{x}.angle()", "The angle of a complex number, from -pi to pi.", odd=False, degree=0
    ),
)
