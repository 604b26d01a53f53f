"""nnspec: a declarative language and compiler for neural-network research.

    import nnspec

    report = nnspec.check("digits.nnspec")          # every error, without importing torch
    spec = nnspec.load("digits.nnspec")             # raises SpecError if there are any
    network = spec.network("digits_mlp", width=64)
    module = network.torch()                        # an ordinary torch.nn.Module
    print(network.source())                         # the Python text that it was made from
    result = spec.experiment("digits_backprop").train()

Nothing is imported before it is asked for: `import nnspec` costs a millisecond.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnspec.dsl.diagnostics import RunError, SpecError
    from nnspec.exits import UsageError
    from nnspec.spec import Experiment, Network, Report, Spec, check, load

__version__ = "0.1.0"

__all__ = [
    "Experiment",
    "Network",
    "Report",
    "RunError",
    "Spec",
    "SpecError",
    "UsageError",
    "__version__",
    "check",
    "load",
]

_HOMES = {
    **dict.fromkeys(("Experiment", "Network", "Report", "Spec", "check", "load"), "nnspec.spec"),
    **dict.fromkeys(("RunError", "SpecError"), "nnspec.dsl.diagnostics"),
    "UsageError": "nnspec.exits",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `nnspec` has no attribute `{name}`")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
