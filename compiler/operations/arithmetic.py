"""`+ - * / ^` and negation, entry by entry.

Two tensors, or one tensor and a constant; `reversed` says that the constant stands on the left, as in
`2 - x`.
"""

from __future__ import annotations

from typing import Any, ClassVar

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import aligned, broadcast, elements, size_text, whole
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Contract, Elementwise, Relation, Sum, Term, aligned_terms
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Dim

CONSTANT = (
    Argument(name="constant", kind="value", doc="a number in place of the second input", default=None),
    Argument(name="reversed", kind="bool", doc="whether the constant stands on the left", default=False),
)


def operands(site: Site, inputs: tuple[str, ...]) -> tuple[str, str]:
    """Return the texts of the left and right side."""
    if len(inputs) == 2:
        left, right = aligned(site, inputs)
        return left, right
    number = constant_text(site, inputs[0])
    return (number, inputs[0]) if site["reversed"] else (inputs[0], number)


def constant_text(site: Site, name: str) -> str:
    """Write the constant as Python; a symbolic size is read off the input."""
    constant = site["constant"]
    if isinstance(constant, Dim):
        return size_text(constant, site.inputs[0], name, site.batched)
    return f"({constant!r})" if constant < 0 else repr(constant)


def number_sides(arguments: dict[str, Any], values: tuple[Any, ...]) -> tuple[Any, Any]:
    """Return left and right of an operation on single numbers."""
    if len(values) == 2:
        return values[0], values[1]
    constant = arguments["constant"]
    if isinstance(constant, Dim):
        raise ValueError("a symbolic size is no number")
    return (constant, values[0]) if arguments["reversed"] else (values[0], constant)


def _computed(symbol: str, left: Any, right: Any) -> Any:
    match symbol:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
        case "/":
            return left / right
        case _:
            return left**right


def sides(site: Site, symbol: str) -> None:
    """Refuse one tensor without a constant, two with one, and constants that are no numbers."""
    constant = site["constant"]
    given = len(site.inputs) + (constant is not None)
    if given < 2 or (given > 2 and constant is not None):
        raise ShapeProblem("takes two values", expected=f"a {symbol} b", found=f"{given} value(s)")
    if isinstance(constant, Dim) and constant not in site.inputs[0].shape:
        whole(constant, "a constant that is not the size of an axis here")
    if constant is not None and (isinstance(constant, bool) or not isinstance(constant, int | float | Dim)):
        raise ShapeProblem("takes numbers", expected="a number", found=str(constant).lower())


def entrywise_terms(site: Site) -> tuple[tuple[Term, ...], Term]:
    """Return inputs and output of a function of entries, aligned from the right."""
    names = tuple(f"in{index}" for index in range(len(site.inputs)))
    shapes = tuple(given.shape for given in (*site.inputs, site.outputs[0]))
    *terms, out = aligned_terms((*names, "out0"), shapes)
    return tuple(terms), out


class Arithmetic(Operation):
    """left symbol right, with broadcasting; `+` and `*` also of more than two."""

    inputs = (1, 2)
    arguments = CONSTANT
    aligns = True
    is_holomorphic = True  # a power of a negative number is no real number either, where it has a branch
    symbol: ClassVar[str]

    def shape(self, site: Site) -> tuple[Type, ...]:
        sides(site, self.symbol)
        return (Type(axes=broadcast(site), dtype=self.dtype(site)),)

    def dtype(self, site: Site) -> str:
        """Return the number kind of the result: real as soon as one side is."""
        kinds = {given.dtype for given in site.inputs}
        if site["constant"] is not None:
            kinds.add("real" if isinstance(site["constant"], float) else "int")
        if "complex" in kinds:
            return "complex"
        return "real" if "real" in kinds else "int"

    def cost(self, site: Site) -> Cost:
        return Cost(flops=max(len(site.inputs) - 1, 1) * elements(site.outputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        if len(inputs) > 2:
            first, *others = aligned(site, inputs)
            counted = all(given.dtype == "bool" for given in site.inputs)
            return f" {self.symbol} ".join([f"{first}.long()" if counted else first, *others])
        left, right = operands(site, inputs)
        if all(given.dtype == "bool" for given in site.inputs) and len(inputs) == 2:
            left = f"{left}.long()"
        return f"{left} {self.symbol} {right}"

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        left, right = number_sides(arguments, values)
        return _computed(self.symbol, left, right)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        constant = site["constant"]
        if constant is None:
            return (self.of_tensors(terms, out),)
        return (self.with_constant(terms, out, constant, site["reversed"]),)

    def of_tensors(self, terms: tuple[Term, ...], out: Term) -> Relation:
        """Return the relation of left and right."""
        return Elementwise(terms=terms, output=out)

    def with_constant(self, terms: tuple[Term, ...], out: Term, constant: float, left: bool) -> Relation:
        """Return the relation of a tensor and a number, which stands on the left or on the right."""
        return Elementwise(terms=terms, output=out)


class Add(Arithmetic):
    name = "add"
    symbol = "+"
    inputs = (1, None)
    doc = "The sum, entry by entry: a + b, or of all values of a list."
    example = "y = x + (x -> dense(64))"

    def of_tensors(self, terms: tuple[Term, ...], out: Term) -> Relation:
        return Sum(terms=terms, output=out, coefficients=(1.0,) * len(terms))

    def with_constant(self, terms: tuple[Term, ...], out: Term, constant: float, left: bool) -> Relation:
        return Elementwise(terms=terms, output=out, shifts=1.0)


class Subtract(Arithmetic):
    name = "subtract"
    symbol = "-"
    doc = "The difference, entry by entry: a - b."
    example = "y = 1 - x"

    def of_tensors(self, terms: tuple[Term, ...], out: Term) -> Relation:
        return Sum(terms=terms, output=out, coefficients=(1.0, -1.0))

    def with_constant(self, terms: tuple[Term, ...], out: Term, constant: float, left: bool) -> Relation:
        return Elementwise(terms=terms, output=out, shifts=-1.0 if left else 1.0)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        # torch refuses to subtract truth values, even from numbers.
        counted = tuple(
            f"{text}.long()" if given.dtype == "bool" else text
            for text, given in zip(inputs, site.inputs, strict=True)
        )
        left, right = operands(site, counted)
        return f"{left} - {right}"


class Multiply(Arithmetic):
    name = "multiply"
    symbol = "*"
    inputs = (1, None)
    doc = "The product, entry by entry: a * b, or of all values of a list. A truth value counts as 1 or 0."
    example = "y = x * sigmoid(x)"

    def of_tensors(self, terms: tuple[Term, ...], out: Term) -> Relation:
        return Contract(terms=terms, output=out)

    def with_constant(self, terms: tuple[Term, ...], out: Term, constant: float, left: bool) -> Relation:
        return Sum(terms=terms, output=out, coefficients=(float(constant),))


class Divide(Arithmetic):
    name = "divide"
    symbol = "/"
    doc = "The quotient, entry by entry: a / b, always a real number."
    example = "y = x / 2"

    def of_tensors(self, terms: tuple[Term, ...], out: Term) -> Relation:
        return Contract(terms=terms, output=out, powers=(1, -1))

    def with_constant(self, terms: tuple[Term, ...], out: Term, constant: float, left: bool) -> Relation:
        if left or constant == 0:
            return Elementwise(terms=terms, output=out, parity="odd", degree=-1)
        return Sum(terms=terms, output=out, coefficients=(1.0 / constant,))

    def dtype(self, site: Site) -> str:
        kind = super().dtype(site)
        return kind if kind == "complex" else "real"


class Power(Arithmetic):
    name = "power"
    symbol = "**"
    doc = "The power, entry by entry: a ^ b."
    example = "y = x ^ 2"

    def with_constant(self, terms: tuple[Term, ...], out: Term, constant: float, left: bool) -> Relation:
        if left:
            return Elementwise(terms=terms, output=out)
        whole_power = float(constant).is_integer()
        parity = ("odd" if constant % 2 else "even") if whole_power else "none"
        return Elementwise(terms=terms, output=out, parity=parity, degree=constant)

    def dtype(self, site: Site) -> str:
        kind = super().dtype(site)
        constant = site["constant"]
        whole_power = isinstance(constant, int) and constant >= 0 and not site["reversed"]
        if kind == "int" and not whole_power:
            raise ShapeProblem(
                "a whole number to a power that may be negative is not a whole number",
                expected="real[..]",
                found=str(site.inputs[0]),
            )
        return kind

    def cost(self, site: Site) -> Cost:
        return Cost(flops=(1 if site["constant"] == 2 else 8) * elements(site.outputs[0]))


class Negate(Operation):
    name = "negate"
    doc = "The negative, entry by entry: -x."
    example = "y = -x"

    def shape(self, site: Site) -> tuple[Type, ...]:
        given = site.inputs[0]
        return (given.replace(dtype="int") if given.dtype == "bool" else given,)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return f"-{inputs[0]}.long()" if site.inputs[0].dtype == "bool" else f"-{inputs[0]}"

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        return -values[0]

    def relate(self, site: Site) -> tuple[Relation, ...]:
        terms, out = entrywise_terms(site)
        return (Sum(terms=terms, output=out, coefficients=(-1.0,)),)


OPERATIONS = (Add(), Subtract(), Multiply(), Divide(), Power(), Negate())
