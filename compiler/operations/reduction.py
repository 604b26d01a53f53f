"""Reductions over axes: `sum`, `mean`, `max`, `min`, `variance`, `norm`."""

from __future__ import annotations

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import dimension, elements, ordered, positions, product, real
from nnspec.compiler.operations.operation import Cost, Operation, Site
from nnspec.compiler.relations import Contract, Elementwise, Middle, Relation, Term, axes_of
from nnspec.compiler.relations import Sum as SumRelation
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

    torch: str

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
        given, out = self.terms(site)
        return (Contract(terms=(given,), output=out, ones=self.ones(site, positions(site, site["axis"]))),)

    def terms(self, site: Site) -> tuple[Term, Term]:
        """Return the input, and the output without the labels of the axes that are gone."""
        labels = axes_of(len(site.inputs[0].axes))
        gone = positions(site, site["axis"])
        kept = tuple(label for place, label in enumerate(labels) if place not in gone)
        return Term(tensor="in0", labels=labels), Term(tensor="out0", labels=kept)

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


class Extreme(Reduction):
    """The largest or the smallest number along axes."""

    def __init__(self, name: str, doc: str) -> None:
        self.name = name
        self.torch = f"a{name}"
        self.doc = doc
        self.example = f"top = x -> {name}(axis = -1)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        ordered(site)
        return super().shape(site)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        # A symmetric function of the entries, as is a sum of functions of each: what permutes or scales all.
        given, out = self.terms(site)
        each = given.replace(tensor="each")
        return (
            Middle(tensor="each", shape=site.inputs[0].shape),
            Elementwise(terms=(given,), output=each, degree=1.0, shifts=1.0),
            Contract(terms=(each,), output=out, ones=1.0),
        )


class Variance(Reduction):
    name = "variance"
    torch = "var"
    doc = "The variance over axes: the mean of the squared distance from the mean (n, not n - 1, below)."
    example = "spread = x -> variance(axis = -1)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        return super().shape(site)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=4 * elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        if not positions(site, site["axis"]):
            return f"torch.zeros_like({inputs[0]})"
        text = super().call(site, inputs, weights)
        return f"{text[:-1]}correction=0)" if text.endswith("()") else f"{text[:-1]}, correction=0)"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        given, out = self.terms(site)
        shape = site.inputs[0].shape
        mean, apart, square = (
            out.replace(tensor="mean"),
            given.replace(tensor="apart"),
            given.replace(tensor="square"),
        )
        return (
            Middle(tensor="mean", shape=site.outputs[0].shape),
            Middle(tensor="apart", shape=shape),
            Middle(tensor="square", shape=shape),
            Contract(terms=(given,), output=mean, ones=1.0),
            SumRelation(terms=(given, mean), output=apart, coefficients=(1.0, -1.0)),
            Elementwise(terms=(apart,), output=square, parity="even", degree=2.0),
            Contract(terms=(square,), output=out, ones=1.0),
        )


class Norm(Reduction):
    name = "norm"
    doc = "The length over axes: the square root of the sum of squares, also of complex numbers."
    example = "length = x -> norm(axis = -1)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        if site.inputs[0].dtype != "complex":
            real(site)
        return super().shape(site)

    def dtype(self, site: Site) -> str:
        return "real"

    def cost(self, site: Site) -> Cost:
        return Cost(flops=2 * elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        if not positions(site, site["axis"]):
            return f"{inputs[0]}.abs()"
        dims = [dimension(site, axis) for axis in sorted(positions(site, site["axis"]))]
        return f"torch.linalg.vector_norm({inputs[0]}, dim={dims[0] if len(dims) == 1 else tuple(dims)})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        given, out = self.terms(site)
        total = out.replace(tensor="total")
        root = (
            Middle(tensor="total", shape=site.outputs[0].shape),
            Elementwise(terms=(total,), output=out, degree=0.5),
        )
        if site.inputs[0].dtype != "complex":
            return (*root[:1], Contract(terms=(given, given), output=total, uniform=False), *root[1:])
        square = given.replace(tensor="square")
        return (
            *root[:1],
            Middle(tensor="square", shape=site.inputs[0].shape),
            Elementwise(terms=(given,), output=square, parity="even", degree=2.0),
            Contract(terms=(square,), output=total, uniform=False),
            *root[1:],
        )


OPERATIONS = (
    Sum(),
    Mean(),
    Extreme("max", "The largest number over axes. Of several values, entry by entry, it is `maximum`."),
    Extreme("min", "The smallest number over axes. Of several values, entry by entry, it is `minimum`."),
    Variance(),
    Norm(),
)
