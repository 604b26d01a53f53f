"""The Jacobian of what drives the units of a system, at some states: times changes of the states, and its transpose.

In: a system, what no step changes, and states. Out: two functions of a value for each state. The values that drive the units are
computed once; each product is one pass back through them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nnspec.compiler.emit.system import Given, States, System


class Slopes:
    """J = d drives / d states at some states."""

    def __init__(self, own: System, given: Given, states: States) -> None:
        import torch

        with torch.enable_grad():
            self.at = tuple(state.detach().requires_grad_() for state in states)
            self.drives = own.drives(given, self.at)
            self.tangents = tuple(torch.zeros_like(drive).requires_grad_() for drive in self.drives)
            self.pulled = self.back(self.tangents, create_graph=True)

    def vjp(self, e: States) -> States:
        """Return J' e."""
        if not self.at[0].is_complex():
            return self.back(e, retain_graph=True)
        # Of complex functions autograd gives the conjugate of the transpose.
        found = self.back(tuple(part.conj() for part in e), retain_graph=True)
        return tuple(part.conj() for part in found)

    def jvp(self, e: States) -> States:
        """Return J e: J' u is linear in u, and its slope in u, pulled back, is J."""
        return _pulled(self.pulled, self.tangents, e, retain_graph=True)

    def back(self, cotangents: States, **options: Any) -> States:
        return _pulled(self.drives, self.at, cotangents, **options)


def _pulled(values: States, at: States, cotangents: States, **options: Any) -> States:
    """Return the cotangents pulled back from those values that depend on something."""
    import torch

    pairs = [(v, c) for v, c in zip(values, cotangents, strict=True) if v.requires_grad]
    if not pairs:
        return tuple(torch.zeros_like(x) for x in at)
    found: Any = torch.autograd.grad(
        [value for value, _ in pairs],
        at,
        [cotangent for _, cotangent in pairs],
        materialize_grads=True,
        **options,
    )
    return found
