"""Errors of layers and networks that settle, beside those of systems (N0440 to N0449)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class WrongEquilibrium(Error):
    code = "N0440"
    title = "layer that has no equilibrium"
    message = "`{name}` cannot be settled: {why}"
    label = "here"
    help = "{help}"
    explain = """`x -> equilibrium(f)` is the z with z = f(z, x): `f` is a layer that takes the state first and then what
drives it, and gives the state back. It is a map, found by `fixed_point`, `anderson` or `broyden`."""


class UnknownState(Error):
    code = "N0441"
    title = "state of unknown shape"
    message = "nothing says which shape the state `{state}` of `{name}` has"
    label = "here"
    help = "{help}"
    explain = """An equilibrium begins at zeros of a known shape. It is that of the first input of the layer, as declared:
`input z: real[64]`; or it is given, as in `equilibrium((z, x) => tanh(z -> dense(64)) + x, shape = [64])`. Dimensions that
the other inputs bear too are known from them."""


class EquilibriumEffect(Error):
    code = "N0442"
    title = "effect inside an equilibrium"
    message = "`{name}` changes a buffer or adds a penalty, and an equilibrium runs it many times"
    label = "here"
    help = "put the `update` or `penalty` into the layer around it, behind the settled value"
    explain = """How often the layer inside an equilibrium runs is the solver's business, and its value at the fixed point is
what counts. What a layer does beside giving its value would happen once a step."""


class SlopeNotExported(Error):
    code = "N0449"
    title = "states that follow a slope cannot be exported"
    message = "`{name}` cannot be exported: its states follow the slope of a function, which autograd takes at every step"
    help = "write the dynamics out, as `leaky` does for the energy of `hopfield`; `--emit torch` writes any network"
    explain = """An exported program is the forward pass alone, as torch's exporter traces it, and that traces no autograd.
The way back of `dense`, `conv2d` and functions such as `tanh` is written out and exports; that of an energy, of pooling and of
activations written in the language is taken by autograd."""
