"""Errors of what a spec defines itself: activations, constraints written out, layers as values.

N0236 to N0249 are about what is written, N0330 to N0339 about what comes out of it.
"""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class ActivationArity(Error):
    code = "N0238"
    title = "activation of several tensors"
    message = "activation `{name}` must be a function of one tensor"
    label = "takes several"
    help = "write a layer with several `input` lines"
    explain = """An activation is a function of one tensor, `x => ...`, that keeps its shape. What joins several
tensors is a layer."""


class ActivationOwns(Error):
    code = "N0239"
    title = "instance inside an activation"
    message = "activation `{name}` uses `{operation}`, which is an instance of its own"
    label = "not a function"
    help = "write a layer; an activation learns by `learn` parameters alone: `activation {name}(learn a: real = 1)`"
    explain = """An activation is a function: besides its `learn` parameters it owns nothing, keeps nothing and draws
nothing. A part with weights, or with a state of its own such as `dropout`, belongs into a layer."""


class ActivationShape(Error):
    code = "N0330"
    title = "activation that changes the shape"
    message = "activation `{name}` must give what it takes: the same shape, of real numbers"
    label = "gives {found}"
    expected = "{expected}"
    found = "{found}"
    explain = """An activation may stand wherever a built-in one does, so it keeps the shape, and it gives real
numbers. What changes the shape is a layer; truth values become numbers by `where(x > 0, 1, 0)`."""


class ClauseOwns(Error):
    code = "N0240"
    title = "instance inside a constraint"
    message = "constraint `{name}` uses `{operation}`, which is an instance of its own"
    label = "not a function"
    explain = """What a constraint says of a weight is a function of the weight: it owns nothing, keeps nothing and
draws nothing."""


class GradientShape(Error):
    code = "N0331"
    title = "gradient of another shape"
    message = "the gradient of constraint `{name}` must have the shape of the weight"
    label = "gives {found}"
    expected = "{expected}"
    found = "{found}"
    explain = """`gradient (w, g) => ...` takes the stored weight and the gradient of the weight in force, and gives the
gradient of the stored weight: real numbers of the weight's shape."""
