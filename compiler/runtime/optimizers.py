"""Optimizers: torch's own, fused where a device has the kernel.

In: a choice, the parameters, the kind of device. Out: a `torch.optim.Optimizer`. Every optimizer here
works on each number by itself, so that one built on tensors that stack many networks along a new first
axis does to each network what its own would (to rounding: fused kernels group numbers differently).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime.component import Component, registered
from nnspec.dsl.catalog import Argument, Entry

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer as TorchOptimizer

FUSED_DEVICES = ("cpu", "cuda", "mps")

_DECAY = Argument(
    name="weight_decay", kind="real", default=0.0, at_least=0, doc="adds weight_decay * w to the gradient"
)
_BETAS = (
    Argument(
        name="beta1", kind="real", default=0.9, at_least=0, below=1, doc="how slowly the mean gradient moves"
    ),
    Argument(name="beta2", kind="real", default=0.999, at_least=0, below=1, doc="the same for its square"),
    Argument(name="eps", kind="real", default=1e-8, above=0, doc="keeps the division from zero"),
)


def _rate(default: float | None) -> Argument:
    """The argument `lr`, required where `default` is None."""
    if default is None:
        return Argument(name="lr", kind="real", above=0, doc="learning rate")
    return Argument(name="lr", kind="real", default=default, above=0, doc="learning rate")


class Optimizer(Component):
    """An optimizer. `torch_name` is the class of `torch.optim`, `settings` its keyword arguments."""

    family = "optimizer"
    torch_name: ClassVar[str]
    fused: ClassVar[bool] = True  # torch has a fused kernel
    elementwise: ClassVar[bool] = True  # exact over stacked parameters

    def gain(self, options: dict[str, Any]) -> float:
        """Return how many learning rates one step goes along a gradient that stays the same."""
        return 1.0

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        """Return the keyword arguments of the torch class."""
        return dict(options)


class Sgd(Optimizer):
    name = "sgd"
    doc = "Stochastic gradient descent: w -= lr * (gradient + weight_decay * w)."
    arguments = (
        _rate(None),
        Argument(name="momentum", kind="real", default=0.0, at_least=0, below=1, doc="kept of the last step"),
        Argument(name="nesterov", kind="bool", default=False, doc="looks ahead along the momentum"),
        _DECAY,
    )
    example = "optimizer = sgd(lr = 0.1)"
    torch_name = "SGD"

    def gain(self, options: dict[str, Any]) -> float:
        return 1 / (1 - options["momentum"])


class Momentum(Optimizer):
    name = "momentum"
    doc = "Gradient descent with momentum: v = beta * v + gradient, w -= lr * v."
    arguments = (
        _rate(None),
        Argument(name="beta", kind="real", default=0.9, at_least=0, below=1, doc="kept of the last step"),
        Argument(name="nesterov", kind="bool", default=False, doc="looks ahead along the momentum"),
        _DECAY,
    )
    example = "optimizer = momentum(lr = 0.1, beta = 0.9)"
    torch_name = "SGD"

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        given = dict(options)
        return {"momentum": given.pop("beta"), **given}

    def gain(self, options: dict[str, Any]) -> float:
        return 1 / (1 - options["beta"])


class Adam(Optimizer):
    name = "adam"
    doc = "Adam (Kingma and Ba, 2015): steps by the mean gradient over the root of its mean square."
    arguments = (_rate(0.001), *_BETAS, _DECAY)
    example = "optimizer = adam(lr = 0.003)"
    torch_name = "Adam"

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        return _with_betas(options)


class AdamW(Optimizer):
    name = "adamw"
    doc = "Adam with decoupled weight decay (Loshchilov and Hutter, 2019): w -= lr * weight_decay * w beside."
    arguments = (
        _rate(0.001),
        *_BETAS,
        Argument(name="weight_decay", kind="real", default=0.01, at_least=0, doc="shrinks weights each step"),
    )
    example = "optimizer = adamw(lr = 0.001, weight_decay = 0.01)"
    torch_name = "AdamW"

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        return _with_betas(options)


class RmsProp(Optimizer):
    name = "rmsprop"
    doc = "RMSprop (Hinton, 2012): the gradient over the root of its running mean square."
    arguments = (
        _rate(0.01),
        Argument(
            name="alpha", kind="real", default=0.99, at_least=0, below=1, doc="how slowly the square moves"
        ),
        Argument(name="eps", kind="real", default=1e-8, above=0, doc="keeps the division from zero"),
        Argument(name="momentum", kind="real", default=0.0, at_least=0, below=1, doc="kept of the last step"),
        Argument(name="centered", kind="bool", default=False, doc="divides by the deviation instead"),
        _DECAY,
    )
    example = "optimizer = rmsprop(lr = 0.001)"
    torch_name = "RMSprop"
    fused = False


_OPTIMIZERS: dict[str, Optimizer] = registered((Sgd(), Momentum(), Adam(), AdamW(), RmsProp()))

DEFAULT = Choice(
    family="optimizer",
    name="adam",
    arguments=tuple((argument.name, argument.default) for argument in Adam.arguments),
)


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the optimizers."""
    return tuple(optimizer.entry() for optimizer in _OPTIMIZERS.values())


def build(choice: Choice, parameters: Iterable[Tensor], device_type: str) -> TorchOptimizer:
    """Return the torch optimizer over these parameters, fused where torch can on this kind of device."""
    from torch import optim

    optimizer = _OPTIMIZERS[choice.name]
    torch_class: Any = getattr(optim, optimizer.torch_name)
    settings = optimizer.settings(choice.options)
    kept = list(parameters)
    fusible = all(parameter.is_floating_point() for parameter in kept)
    if not (optimizer.fused and fusible and device_type in FUSED_DEVICES):
        return torch_class(kept, **settings)
    try:
        return torch_class(kept, fused=True, **settings)
    except RuntimeError:  # this torch has no fused kernel for the device
        return torch_class(kept, **settings)


def gain(choice: Choice) -> float:
    """Return how many learning rates one step goes along a gradient that stays the same.

    With momentum that is 1 / (1 - momentum). Of optimizers that adapt to each entry there is no one number: they
    are taken to go one learning rate.
    """
    return _OPTIMIZERS[choice.name].gain(choice.options)


def elementwise(choice: Choice) -> bool:
    """Return whether the optimizer works on each number by itself, and so on stacked networks too."""
    return _OPTIMIZERS[choice.name].elementwise


def misfit(choice: Choice) -> tuple[str, str] | None:
    """Return the argument, and why, whose value does not go with the others; None if all do."""
    options = choice.options
    if options.get("nesterov") and not (options.get("momentum") or options.get("beta")):
        return "nesterov", "`nesterov` looks ahead along the momentum, and there is none"
    return None


def _with_betas(options: dict[str, Any]) -> dict[str, Any]:
    given = dict(options)
    return {"betas": (given.pop("beta1"), given.pop("beta2")), **given}
