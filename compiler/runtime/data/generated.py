"""Data sets made from a seed: moons, circles, blobs, xor, gaussian_teacher.

The same arguments give the same rows on every machine: numpy's PCG64, whose stream is fixed.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from nnspec.compiler.runtime.data.dataset import DataSet
from nnspec.compiler.runtime.data.field import Field, Raw
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

_MOST_NUMBERS = 200_000_000


def _numpy() -> Any:
    """numpy, on first use: `check` never needs it. Its own types are not known well enough to check."""
    import numpy

    return numpy


def samples_argument(default: int) -> Argument:
    """Return the argument `samples`."""
    return Argument(
        name="samples", kind="int", default=default, at_least=2, at_most=10_000_000, doc="number of rows"
    )


def _noise(default: float) -> Argument:
    return Argument(
        name="noise", kind="real", default=default, at_least=0, doc="deviation of the noise that is added"
    )


def width_argument(name: str, default: int, doc: str, at_least: int = 1) -> Argument:
    """Return an argument that counts units or dimensions."""
    return Argument(name=name, kind="int", default=default, at_least=at_least, at_most=100_000, doc=doc)


class Generated(DataSet):
    """A data set that is drawn. `draw` gives the inputs and the targets."""

    def rows(self, options: dict[str, Any]) -> int:
        return options["samples"]

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        width = sum(math.prod(field.shape) for field in self.fields(options))
        numbers = options["samples"] * (width + options.get("hidden", 0))
        if numbers > _MOST_NUMBERS:
            return "samples", f"this would be {numbers:,} numbers, and at most {_MOST_NUMBERS:,} are made"
        return None

    def read(self, options: dict[str, Any], root: Path, span: Span | None) -> Raw:
        numpy = _numpy()
        generator = numpy.random.default_rng([options["seed"], 0])
        entered, aimed = self.fields(options)
        inputs, targets = self.draw(options, generator)
        return Raw(fields=(entered, aimed), columns={entered.name: inputs, aimed.name: targets})

    def fields(self, options: dict[str, Any]) -> tuple[Field, Field]:
        """Return the field of the inputs and that of the targets."""
        raise TypeError(f"{self.name} has no fields")

    def draw(self, options: dict[str, Any], generator: Any) -> tuple[Any, Any]:
        """Return arrays of inputs and targets, one row a sample."""
        raise TypeError(f"{self.name} cannot be drawn")


def _planar(classes: int = 2, width: int = 2) -> tuple[Field, Field]:
    label = Field(name="label", dtype="int", classes=classes, target=True)
    return Field(name="point", shape=(width,)), label


class Moons(Generated):
    name = "moons"
    doc = "Two interleaved half circles in the plane. Fields: point, label."
    own = (samples_argument(1000), _noise(0.1))
    example = "data = moons(noise = 0.2)"

    def fields(self, options: dict[str, Any]) -> tuple[Field, Field]:
        return _planar()

    def draw(self, options: dict[str, Any], generator: Any) -> tuple[Any, Any]:
        numpy = _numpy()
        labels = numpy.arange(options["samples"]) % 2
        angle = generator.uniform(0, numpy.pi, len(labels))
        upper = numpy.stack([numpy.cos(angle), numpy.sin(angle)], 1)
        lower = numpy.stack([1 - numpy.cos(angle), 0.5 - numpy.sin(angle)], 1)
        points = numpy.where(labels[:, None] == 0, upper, lower)
        return points + options["noise"] * generator.standard_normal(points.shape), labels


class Circles(Generated):
    name = "circles"
    doc = "Two circles about the origin, the inner one of radius `factor`. Fields: point, label."
    own = (
        samples_argument(1000),
        _noise(0.05),
        Argument(name="factor", kind="real", default=0.5, above=0, below=1, doc="radius of the inner circle"),
    )
    example = "data = circles(factor = 0.5)"

    def fields(self, options: dict[str, Any]) -> tuple[Field, Field]:
        return _planar()

    def draw(self, options: dict[str, Any], generator: Any) -> tuple[Any, Any]:
        numpy = _numpy()
        labels = numpy.arange(options["samples"]) % 2
        angle = generator.uniform(0, 2 * numpy.pi, len(labels))
        radius = numpy.where(labels == 0, 1.0, options["factor"])
        points = radius[:, None] * numpy.stack([numpy.cos(angle), numpy.sin(angle)], 1)
        return points + options["noise"] * generator.standard_normal(points.shape), labels


class Blobs(Generated):
    name = "blobs"
    doc = "Gaussian clouds about centres drawn from the cube [-10, 10]^features. Fields: point, label."
    own = (
        samples_argument(1000),
        width_argument("centers", 3, "number of clouds, which are the classes", at_least=2),
        width_argument("features", 2, "dimensions of a point"),
        Argument(name="spread", kind="real", default=1.0, above=0, doc="deviation of each cloud"),
    )
    example = "data = blobs(centers = 5)"

    def fields(self, options: dict[str, Any]) -> tuple[Field, Field]:
        return _planar(options["centers"], options["features"])

    def draw(self, options: dict[str, Any], generator: Any) -> tuple[Any, Any]:
        numpy = _numpy()
        centers = generator.uniform(-10, 10, (options["centers"], options["features"]))
        labels = numpy.arange(options["samples"]) % options["centers"]
        cloud = generator.standard_normal((len(labels), options["features"]))
        return centers[labels] + options["spread"] * cloud, labels


class Xor(Generated):
    name = "xor"
    doc = """Parity of `bits` bits: the rows of the truth table over and over, perhaps with noise on the
bits. `xor(samples = 4, test = 0)` is the classic table. Fields: bits, label."""
    own = (samples_argument(200), width_argument("bits", 2, "number of bits", at_least=2), _noise(0.0))
    example = "data = xor(samples = 200, noise = 0.1)"

    def fields(self, options: dict[str, Any]) -> tuple[Field, Field]:
        label = Field(name="label", dtype="int", classes=2, target=True)
        return Field(name="bits", shape=(options["bits"],)), label

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        too_many = options["bits"] > 30
        return ("bits", "`bits` must be at most 30") if too_many else super().misfit(options)

    def draw(self, options: dict[str, Any], generator: Any) -> tuple[Any, Any]:
        numpy = _numpy()
        row = numpy.arange(options["samples"]) % 2 ** options["bits"]
        bits = row[:, None] >> numpy.arange(options["bits"]) & 1
        noise = options["noise"] * generator.standard_normal(bits.shape)
        return bits + noise, bits.sum(1) % 2


class GaussianTeacher(Generated):
    name = "gaussian_teacher"
    doc = """Gaussian inputs and the answers of a random teacher: linear with `hidden = 0`, else one hidden
layer of that many units, each weight of variance 1 / fan-in. Fields: input, answer."""
    own = (
        samples_argument(1000),
        width_argument("inputs", 10, "dimensions of an input"),
        width_argument("outputs", 1, "dimensions of an answer"),
        width_argument("hidden", 0, "hidden units of the teacher; 0 for a linear one", at_least=0),
        Argument(
            name="activation",
            kind="choice",
            choices=("tanh", "relu", "erf"),
            default="tanh",
            doc="of the hidden units",
        ),
        _noise(0.0),
    )
    example = "data = gaussian_teacher(inputs = 20, hidden = 4)"

    def fields(self, options: dict[str, Any]) -> tuple[Field, Field]:
        answer = Field(name="answer", shape=(options["outputs"],), target=True)
        return Field(name="input", shape=(options["inputs"],)), answer

    def draw(self, options: dict[str, Any], generator: Any) -> tuple[Any, Any]:
        import functools

        numpy = _numpy()
        functions: dict[str, Any] = {
            "tanh": numpy.tanh,
            "relu": functools.partial(numpy.maximum, 0),
            "erf": numpy.vectorize(math.erf, otypes=[float]),
        }
        values = inputs = generator.standard_normal((options["samples"], options["inputs"]))
        if options["hidden"]:
            first = generator.standard_normal((options["inputs"], options["hidden"]))
            values = functions[options["activation"]](values @ first / math.sqrt(options["inputs"]))
        last = generator.standard_normal((values.shape[1], options["outputs"]))
        answers = values @ last / math.sqrt(values.shape[1])
        return inputs, answers + options["noise"] * generator.standard_normal(answers.shape)


SETS: tuple[DataSet, ...] = (Moons(), Circles(), Blobs(), Xor(), GaussianTeacher())
