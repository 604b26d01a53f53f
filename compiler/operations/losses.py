"""Losses as operations: two values, or a mean and a variance, into one number a sample.

The same words as the field `loss` takes, with the same arguments; here they say what they compare. Every one
averages over the axes that are left, except `kl`, which sums. Labels are whole numbers; a loss that compares
numbers takes a label for its one-hot vector where the other value has one axis more.
"""

from __future__ import annotations

from typing import ClassVar

from nnspec.compiler.ir import Type
from nnspec.compiler.operations.axes import dimension, elements
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size

SMOOTHING = Argument(
    name="smoothing", kind="real", default=0.0, at_least=0, below=1, doc="shared among all classes"
)
MARGIN = Argument(name="margin", kind="real", default=1.0, above=0, doc="the width of the margin")
DELTA = Argument(name="delta", kind="real", default=1.0, above=0, doc="where it turns from square to linear")


class PairLoss(Operation):
    """A loss of a value and what it should be."""

    inputs = (2, 2)

    def shape(self, site: Site) -> tuple[Type, ...]:
        self.check(site)
        return (Type(axes=()),)

    def check(self, site: Site) -> None:
        """Raise ShapeProblem unless the two values fit."""
        raise TypeError(f"{self.name} says nothing of what it takes")

    def cost(self, site: Site) -> Cost:
        return Cost(flops=3 * elements(site.inputs[0]))

    def mean(self, site: Site, text: str, axes: int) -> str:
        """Write the mean over the axes that are left of a sample."""
        if not axes:
            return text
        return f"{text}.flatten(1).mean(1)" if site.batched else f"{text}.mean()"


# ---------------------------------------------------------------------------------------------- classes


class ClassLoss(PairLoss):
    """A loss of scores, one a class along their last axis, and a label."""

    def check(self, site: Site) -> None:
        scores, label = site.inputs
        _real(scores, 1)
        if label.dtype != "int":
            raise ShapeProblem(
                "its second value is a label",
                expected="whole numbers, one a sample",
                found=str(label),
                help="compare numbers with `mean_squared_error`",
            )
        if scores.shape[:-1] != label.shape or not scores.shape:
            raise ShapeProblem(
                "needs one score for each class, along the last axis of its first value",
                expected=_type_text((*label.shape, "classes")),
                found=str(scores),
            )


class CrossEntropy(ClassLoss):
    name = "cross_entropy"
    doc = """Cross-entropy between the softmax of scores and a label: -log softmax(y)[label], one number a
    sample. With `smoothing` s the label counts 1 - s and all classes share s."""
    arguments = (SMOOTHING,)
    example = "loss = cross_entropy(digit, label)"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        scores, label = _class_axis(site, inputs[0]), inputs[1]
        smoothing = f", label_smoothing={site['smoothing']!r}" if site["smoothing"] else ""
        text = f'F.cross_entropy({scores}, {label}, reduction="none"{smoothing})'
        return self.mean(site, text, len(site.inputs[1].axes))


class NegativeLogLikelihood(ClassLoss):
    name = "negative_log_likelihood"
    doc = """Negative log-likelihood of a label: -y[label], y being log-probabilities, one number a sample."""
    example = "loss = negative_log_likelihood(log_softmax(digit), label)"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        text = f'F.nll_loss({_class_axis(site, inputs[0])}, {inputs[1]}, reduction="none")'
        return self.mean(site, text, len(site.inputs[1].axes))


class Hinge(ClassLoss):
    name = "hinge"
    doc = """Hinge loss, one number a sample. With one output for the labels 0 and 1: max(0, margin - s y),
    s = -1 or 1. With one output a class: max over the wrong classes j of max(0, margin - y[label] + y[j])
    (Crammer and Singer, 2001)."""
    arguments = (MARGIN,)
    example = "loss = hinge(digit, label, margin = 1.0)"

    def check(self, site: Site) -> None:
        scores, label = site.inputs
        if not (label.dtype == "int" and _alike(scores, label)):
            super().check(site)
        _real(scores, 1)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        (scores, label), margin = inputs, repr(float(site["margin"]))
        given, labels = site.inputs
        if _alike(given, labels):
            signs = f"(2 * {_shaped(site, inputs)} - 1)"
            return self.mean(site, f"({margin} - {signs} * {scores}).clamp(min=0)", len(given.axes))
        own = f"{scores}.gather(-1, {label}.unsqueeze(-1))"
        right = _is_class(site, scores, label)
        text = f"torch.where({right}, 0.0, {margin} - {own} + {scores}).clamp(min=0).amax(-1)"
        return self.mean(site, text, len(labels.axes))


# ---------------------------------------------------------------------------------------------- numbers


class NumberLoss(PairLoss):
    """A loss that compares number by number; a label is its one-hot vector where there are several."""

    function: ClassVar[str]  # of torch.nn.functional

    def check(self, site: Site) -> None:
        given, wanted = site.inputs
        _real(given, 1)
        if wanted.dtype not in ("real", "int"):
            raise ShapeProblem("compares numbers", expected="real or int", found=str(wanted))
        if not (_alike(given, wanted) or self.one_hot(site)):
            raise ShapeProblem(
                "compares its two values number by number",
                expected=f"{_type_text(given.shape)}, as its first value",
                found=str(wanted),
            )

    def one_hot(self, site: Site) -> bool:
        given, wanted = site.inputs
        return wanted.dtype == "int" and bool(given.shape) and given.shape[:-1] == wanted.shape

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        given, wanted = site.inputs
        alike = _alike(given, wanted)
        second = _shaped(site, inputs) if alike else f"{_is_class(site, *inputs)}.to({inputs[0]}.dtype)"
        text = f'F.{self.function}({inputs[0]}, {second}, reduction="none"{self.options(site)})'
        return self.mean(site, text, len(given.axes))

    def options(self, site: Site) -> str:
        """Return further arguments of the function, each with a comma before it."""
        return ""


class BinaryCrossEntropy(NumberLoss):
    name = "binary_cross_entropy"
    doc = """Cross-entropy of yes-or-no targets: -log sigmoid(y) for 1, -log(1 - sigmoid(y)) for 0, the mean
    over a sample. The first value holds logits: no sigmoid belongs before it."""
    example = "loss = binary_cross_entropy(logit, label)"
    function = "binary_cross_entropy_with_logits"

    def one_hot(self, site: Site) -> bool:
        return False


class MeanSquaredError(NumberLoss):
    name = "mean_squared_error"
    doc = "Mean over a sample of (y - target)^2."
    example = "loss = mean_squared_error(reconstruction, image)"
    function = "mse_loss"


class MeanAbsoluteError(NumberLoss):
    name = "mean_absolute_error"
    doc = "Mean over a sample of |y - target|."
    example = "loss = mean_absolute_error(reconstruction, image)"
    function = "l1_loss"


class Huber(NumberLoss):
    name = "huber"
    doc = """Mean over a sample of d^2 / 2 where |d| <= delta and delta (|d| - delta / 2) elsewhere,
    d = y - target."""
    arguments = (DELTA,)
    example = "loss = huber(height, target, delta = 1.0)"
    function = "huber_loss"

    def options(self, site: Site) -> str:
        return f", delta={float(site['delta'])!r}"


# ---------------------------------------------------------------------------------------- distributions


class GaussianDivergence(Operation):
    name = "kl"
    doc = """Kullback-Leibler divergence of N(mean, exp(log_variance)) from N(0, 1), summed over a sample:
    sum (mean^2 + exp(log_variance) - 1 - log_variance) / 2 (Kingma and Welling, 2014, appendix B)."""
    inputs = (2, 2)
    example = "loss = mean_squared_error(reconstruction, image) + 0.1 * kl(mean, log_variance)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        mean, variance = site.inputs
        _real(mean, 1)
        _real(variance, 2)
        if mean.shape != variance.shape:
            raise ShapeProblem(
                "its mean and its log-variance differ in shape",
                expected=f"{mean}, as its first value",
                found=str(variance),
            )
        return (Type(axes=()),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=6 * elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        mean, variance = inputs
        text = f"({mean}.square() + {variance}.exp() - 1 - {variance})"
        axes = len(site.inputs[0].axes)
        dims = [dimension(site, axis) for axis in range(axes)]
        summed = f"{text}.sum({tuple(dims) if axes > 1 else dims[0]})" if axes else text
        return f"0.5 * {summed}"


# ---------------------------------------------------------------------------------------------- helpers


def _real(given: Type, number: int) -> None:
    if given.dtype != "real":
        raise ShapeProblem(f"its value {number} must be real", expected="real", found=str(given))


def _alike(one: Type, other: Type) -> bool:
    """Whether two values hold the same numbers: `real[1]` holds what `real` holds."""
    return one.shape in (other.shape, (*other.shape, 1)) or other.shape == (*one.shape, 1)


def _type_text(shape: tuple[Size | str, ...]) -> str:
    return f"real[{', '.join(map(str, shape))}]" if shape else "real"


def _class_axis(site: Site, scores: str) -> str:
    """Put the classes where torch has them: right behind the batch."""
    if len(site.inputs[0].axes) == 1:
        return scores
    return f"{scores}.movedim(-1, {int(site.batched)})"


def _is_class(site: Site, scores: str, label: str) -> str:
    """Write the one-hot truth values. Not `F.one_hot`, which reads the labels and so has no vmap."""
    return f"({label}.unsqueeze(-1) == torch.arange({scores}.shape[-1], device={scores}.device))"


def _shaped(site: Site, inputs: tuple[str, ...]) -> str:
    """Write the second value in the shape and number type of the first."""
    (first, second), (given, wanted) = inputs, site.inputs
    text = second if given.shape == wanted.shape else f"{second}.reshape({first}.shape)"
    return text if wanted.dtype == "real" else f"{text}.to({first}.dtype)"


OPERATIONS = (
    CrossEntropy(),
    NegativeLogLikelihood(),
    Hinge(),
    BinaryCrossEntropy(),
    MeanSquaredError(),
    MeanAbsoluteError(),
    Huber(),
    GaussianDivergence(),
)
