"""Losses: one number a sample, the mean over the batch taken outside.

In: a network's output and the target, batch first. Out: per-sample losses of shape (batch,), or (`mean`)
their mean in torch's fused form. Every loss averages over the axes of an output that are left.
`accepts` says before anything runs whether an output and a target field fit a loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import Type
from nnspec.compiler.operations.losses import DELTA, MARGIN, SMOOTHING
from nnspec.compiler.runtime.component import Component, Misfit, registered
from nnspec.compiler.runtime.data.field import Field
from nnspec.dsl.catalog import Entry

if TYPE_CHECKING:
    from torch import Tensor

    LossFunction: TypeAlias = Callable[[Tensor, Tensor], Tensor]


class Loss(Component):
    """A loss. Subclasses give the fused function, per element or as a mean."""

    family = "loss"
    midpoint = 0.5  # where a single output stands halfway between the labels 0 and 1

    def function(self, options: dict[str, Any], reduction: str) -> LossFunction:
        """Return the loss with torch's meaning of `reduction`, "none" or "mean"."""
        raise TypeError(f"{self.name} has no function")

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        """Return why an output and a target do not fit, None if they do."""
        raise TypeError(f"{self.name} says nothing of what it accepts")


# ---------------------------------------------------------------------------------------------- classes


class CrossEntropy(Loss):
    name = "cross_entropy"
    doc = """Cross-entropy between the softmax of the outputs and a label: -log softmax(y)[label].
With `smoothing` s the label counts 1 - s and all classes share s."""
    arguments = (SMOOTHING,)
    example = "loss = cross_entropy"

    def function(self, options: dict[str, Any], reduction: str) -> LossFunction:
        from torch.nn import functional

        smoothing = float(options["smoothing"])

        def loss(output: Tensor, target: Tensor) -> Tensor:
            if output.dim() > 2:
                output = output.movedim(-1, 1)
            return functional.cross_entropy(output, target, reduction=reduction, label_smoothing=smoothing)

        return loss

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        return _one_output_a_class(self.name, output, target)


class NegativeLogLikelihood(Loss):
    name = "negative_log_likelihood"
    doc = """Negative log-likelihood of the label: -y[label], y being log-probabilities, as
`log_softmax` gives them."""
    example = "loss = negative_log_likelihood"

    def function(self, options: dict[str, Any], reduction: str) -> LossFunction:
        from torch.nn import functional

        def loss(output: Tensor, target: Tensor) -> Tensor:
            if output.dim() > 2:
                output = output.movedim(-1, 1)
            return functional.nll_loss(output, target, reduction=reduction)

        return loss

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        return _one_output_a_class(self.name, output, target)


class Hinge(Loss):
    name = "hinge"
    doc = """Hinge loss. With one output for two classes: max(0, margin - s y), s = -1 or 1. With one
output a class: max over the wrong classes j of max(0, margin - y[label] + y[j])."""
    arguments = (MARGIN,)
    midpoint = 0.0
    example = "loss = hinge(margin = 1.0)"

    def function(self, options: dict[str, Any], reduction: str) -> LossFunction:
        margin = float(options["margin"])

        def loss(output: Tensor, target: Tensor) -> Tensor:
            if output.numel() == target.numel():
                signs = 2 * target.reshape(output.shape).to(output.dtype) - 1
                values = (margin - signs * output).clamp(min=0)
            else:
                values = _widest_violation(output, target, margin)
            return values.mean() if reduction == "mean" else values

        return loss

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        if target.classes == 2 and _without_ones(output) == target.shape:
            return _real(self.name, output)
        return _one_output_a_class(self.name, output, target)


class BinaryCrossEntropy(Loss):
    name = "binary_cross_entropy"
    doc = """Cross-entropy of yes-or-no targets: -log sigmoid(y) for 1, -log(1 - sigmoid(y)) for 0. The
outputs are logits: no sigmoid belongs at the end of the network."""
    midpoint = 0.0
    example = "loss = binary_cross_entropy"

    def function(self, options: dict[str, Any], reduction: str) -> LossFunction:
        from torch.nn import functional

        def loss(output: Tensor, target: Tensor) -> Tensor:
            wanted = like(target, output)
            return functional.binary_cross_entropy_with_logits(output, wanted, reduction=reduction)

        return loss

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        if target.classes is not None and target.classes > 2:
            why = f"`{self.name}` tells two classes apart, and `{target.name}` has {target.classes}"
            return Misfit(why=why, help="use `cross_entropy` with one output a class")
        return _same_shape(self.name, output, target)


# ----------------------------------------------------------------------------------------------- values


class Regression(Loss):
    """A loss of the difference between output and target; a label counts as its one-hot vector."""

    def elementwise(self, options: dict[str, Any]) -> Callable[..., Tensor]:
        raise TypeError(f"{self.name} has no function")

    def function(self, options: dict[str, Any], reduction: str) -> LossFunction:
        difference = self.elementwise(options)

        def loss(output: Tensor, target: Tensor) -> Tensor:
            return difference(output, like(target, output), reduction=reduction)

        return loss

    def accepts(self, output: Type, target: Field) -> Misfit | None:
        one_hot = target.classes is not None and output.shape == (*target.shape, target.classes)
        return _real(self.name, output) if one_hot else _same_shape(self.name, output, target)


_ONE_HOT = "A label is compared as a number with a single output, as a one-hot vector with several."


class MeanSquaredError(Regression):
    name = "mean_squared_error"
    doc = f"Mean over the outputs of (y - target)^2. {_ONE_HOT}"
    example = "loss = mean_squared_error"

    def elementwise(self, options: dict[str, Any]) -> Callable[..., Tensor]:
        from torch.nn import functional

        return functional.mse_loss


class MeanAbsoluteError(Regression):
    name = "mean_absolute_error"
    doc = f"Mean over the outputs of |y - target|. {_ONE_HOT}"
    example = "loss = mean_absolute_error"

    def elementwise(self, options: dict[str, Any]) -> Callable[..., Tensor]:
        from torch.nn import functional

        return functional.l1_loss


class Huber(Regression):
    name = "huber"
    doc = f"""Mean over the outputs of d^2 / 2 where |d| <= delta and delta (|d| - delta / 2) elsewhere,
d = y - target. {_ONE_HOT}"""
    arguments = (DELTA,)
    example = "loss = huber(delta = 1.0)"

    def elementwise(self, options: dict[str, Any]) -> Callable[..., Tensor]:
        from functools import partial

        from torch.nn import functional

        return partial(functional.huber_loss, delta=float(options["delta"]))


_LOSSES: dict[str, Loss] = registered(
    (
        CrossEntropy(),
        MeanSquaredError(),
        MeanAbsoluteError(),
        BinaryCrossEntropy(),
        Huber(),
        Hinge(),
        NegativeLogLikelihood(),
    )
)


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the losses."""
    return tuple(loss.entry() for loss in _LOSSES.values())


def known(name: str) -> bool:
    """Return whether a word is a loss."""
    return name in _LOSSES


def build(choice: Choice) -> LossFunction:
    """Return the loss as a function of output and target that gives per-sample losses (batch,)."""
    function = _LOSSES[choice.name].function(choice.options, "none")

    def per_sample(output: Tensor, target: Tensor) -> Tensor:
        values = function(output, target)
        return values if values.dim() == 1 else values.flatten(1).mean(1)

    return per_sample


def mean(choice: Choice) -> LossFunction:
    """Return the mean of the per-sample losses over the batch, in one fused call where torch has one."""
    return _LOSSES[choice.name].function(choice.options, "mean")


def accepts(choice: Choice, output: Type, target: Field) -> Misfit | None:
    """Return why an output type and a target field do not fit a loss, None if they do."""
    return _LOSSES[choice.name].accepts(output, target)


def midpoint(choice: Choice) -> float:
    """Return the value of a single output halfway between the labels 0 and 1 under this loss."""
    return _LOSSES[choice.name].midpoint


# -------------------------------------------------------------------------------------- what fits, and how


def _one_output_a_class(name: str, output: Type, target: Field) -> Misfit | None:
    if target.classes is None:
        why = f"`{name}` needs a label, and `{target.name}` holds numbers"
        return Misfit(why=why, found=str(target), help="use `mean_squared_error` for numbers")
    expected = (*target.shape, target.classes)
    if output.shape == expected:
        return _real(name, output)
    why = f"`{name}` needs one output for each of the {target.classes} classes of `{target.name}`"
    return Misfit(why=why, expected=_text(expected), found=str(output))


def _same_shape(name: str, output: Type, target: Field) -> Misfit | None:
    if output.shape == target.shape or _without_ones(output) == _trimmed(target.shape):
        return _real(name, output)
    if target.classes is not None:
        help_text = f"give the network one output, or use `cross_entropy` with {target.classes}"
    else:
        help_text = f"let the output be {_text(target.shape)}"
    why = f"`{name}` compares the output with `{target.name}` number by number"
    return Misfit(why=why, expected=_text(target.shape), found=str(output), help=help_text)


def _real(name: str, output: Type) -> Misfit | None:
    if output.dtype == "real":
        return None
    return Misfit(why=f"`{name}` needs a real output", expected="real", found=str(output))


def _text(shape: tuple[int, ...]) -> str:
    return f"real[{', '.join(str(size) for size in shape)}]" if shape else "real"


def _without_ones(output: Type) -> tuple[Any, ...]:
    return _trimmed(output.shape)


def _trimmed(shape: tuple[Any, ...]) -> tuple[Any, ...]:
    """The shape without a last axis of one entry: `real[1]` holds what `real` holds."""
    return shape[:-1] if shape and shape[-1] == 1 else shape


def like(target: Tensor, output: Tensor) -> Tensor:
    """Return the target in the output's shape and dtype; labels become one-hot where there are several."""
    if target.shape == output.shape:
        return target.to(output.dtype)
    if target.numel() == output.numel():
        return target.reshape(output.shape).to(output.dtype)
    import torch

    # Not functional.one_hot, which reads the labels' values and so cannot be vmapped.
    classes = torch.arange(output.shape[-1], device=output.device)
    return (target.unsqueeze(-1) == classes).to(output.dtype)


def _widest_violation(output: Tensor, target: Tensor, margin: float) -> Tensor:
    """Crammer and Singer (2001): the margin violation of the worst wrong class."""
    import torch

    own = output.gather(-1, target.unsqueeze(-1))
    classes = torch.arange(output.shape[-1], device=output.device)
    violations = torch.where(target.unsqueeze(-1) == classes, 0.0, margin - own + output)
    return violations.clamp(min=0).amax(-1)
