"""Optimizers: torch's own, fused where a device has the kernel.

In: a choice, the parameters, the kind of device. Out: a `torch.optim.Optimizer`. Every optimizer but lbfgs
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
    repeats: ClassVar[bool] = False  # asks for the loss and its gradient several times a step

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


class NAdam(Optimizer):
    name = "nadam"
    doc = "Adam with Nesterov's momentum (Dozat, 2016)."
    arguments = (_rate(0.002), *_BETAS, _DECAY)
    example = "optimizer = nadam(lr = 0.002)"
    torch_name = "NAdam"
    fused = False

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        return _with_betas(options)


class AdaGrad(Optimizer):
    name = "adagrad"
    doc = "AdaGrad (Duchi, Hazan and Singer, 2011): the gradient over the root of the sum of its squares."
    arguments = (
        _rate(0.01),
        Argument(name="lr_decay", kind="real", default=0.0, at_least=0, doc="lr / (1 + steps * lr_decay)"),
        Argument(name="eps", kind="real", default=1e-10, above=0, doc="keeps the division from zero"),
        _DECAY,
    )
    example = "optimizer = adagrad(lr = 0.01)"
    torch_name = "Adagrad"
    fused = False


class RProp(Optimizer):
    name = "rprop"
    doc = """Rprop (Riedmiller and Braun, 1993): steps by the sign of the gradient, each number's own size, which
grows while the sign stays and shrinks when it turns. For whole batches."""
    arguments = (
        _rate(0.01),
        Argument(name="shrink", kind="real", default=0.5, above=0, below=1, doc="when the sign turns"),
        Argument(name="grow", kind="real", default=1.2, above=1, doc="while the sign stays"),
        Argument(name="least", kind="real", default=1e-6, above=0, doc="smallest step"),
        Argument(name="most", kind="real", default=50.0, above=0, doc="largest step"),
    )
    example = "optimizer = rprop"
    torch_name = "Rprop"
    fused = False

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "lr": options["lr"],
            "etas": (options["shrink"], options["grow"]),
            "step_sizes": (options["least"], options["most"]),
        }


class Lion(Optimizer):
    name = "lion"
    doc = """Lion (Chen and others, 2023): w -= lr * (sign(beta1 m + (1 - beta1) g) + weight_decay * w), then
m = beta2 m + (1 - beta2) g."""
    arguments = (
        _rate(1e-4),
        Argument(name="beta1", kind="real", default=0.9, at_least=0, below=1, doc="kept of m in the step"),
        Argument(name="beta2", kind="real", default=0.99, at_least=0, below=1, doc="kept of m afterwards"),
        Argument(name="weight_decay", kind="real", default=0.0, at_least=0, doc="shrinks weights each step"),
    )
    example = "optimizer = lion(lr = 0.0001)"
    torch_name = "Lion"
    fused = False


class Lbfgs(Optimizer):
    name = "lbfgs"
    doc = """L-BFGS (Liu and Nocedal, 1989): a quasi-Newton direction from the last `history` steps, with a line search
for the strong Wolfe conditions. A step of the run makes up to `iterations` of its own, over one batch: the
whole training part, unless `batch` says otherwise."""
    arguments = (
        _rate(1.0),
        Argument(name="iterations", kind="int", default=20, at_least=1, doc="within one step of the run"),
        Argument(name="history", kind="int", default=10, at_least=1, doc="steps that are remembered"),
        Argument(
            name="line_search",
            kind="choice",
            choices=("strong_wolfe", "none"),
            default="strong_wolfe",
            doc="none: every step has length lr",
        ),
        Argument(name="gradient_tolerance", kind="real", default=1e-7, at_least=0, doc="stop below this"),
        Argument(name="change_tolerance", kind="real", default=1e-9, at_least=0, doc="stop below this"),
    )
    example = "optimizer = lbfgs(history = 20)"
    torch_name = "LBFGS"
    fused = False
    elementwise = False
    repeats = True

    def settings(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "lr": options["lr"],
            "max_iter": options["iterations"],
            "history_size": options["history"],
            "line_search_fn": None if options["line_search"] == "none" else options["line_search"],
            "tolerance_grad": options["gradient_tolerance"],
            "tolerance_change": options["change_tolerance"],
        }


_OPTIMIZERS: dict[str, Optimizer] = registered(
    (Sgd(), Momentum(), Adam(), AdamW(), NAdam(), RmsProp(), AdaGrad(), RProp(), Lion(), Lbfgs())
)

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
    torch_class: Any = getattr(optim, optimizer.torch_name, None) or _own_class(optimizer.torch_name)
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


def repeats(choice: Choice) -> bool:
    """Return whether the optimizer asks for the loss and its gradient several times a step."""
    return _OPTIMIZERS[choice.name].repeats


def _own_class(name: str) -> Any:
    """Return an optimizer that torch does not have."""
    from nnspec.compiler.runtime import lion

    return getattr(lion, name)


def misfit(choice: Choice) -> tuple[str, str] | None:
    """Return the argument, and why, whose value does not go with the others; None if all do."""
    options = choice.options
    if options.get("nesterov") and not (options.get("momentum") or options.get("beta")):
        return "nesterov", "`nesterov` looks ahead along the momentum, and there is none"
    if choice.name == "rprop" and options["least"] > options["most"]:
        return "least", "`least` must be at most `most`"
    return None


def _with_betas(options: dict[str, Any]) -> dict[str, Any]:
    given = dict(options)
    return {"betas": (given.pop("beta1"), given.pop("beta2")), **given}
