"""Errors of what a spec defines itself: activations, constraints written out, layers as values.

N0236 to N0249 are about what is written, N0330 to N0339 about what comes out of it.
"""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class LearnWithoutStart(Error):
    code = "N0236"
    title = "learned parameter without an initial value"
    message = "`{name}` of activation `{owner}` is learned, and nothing says where it begins"
    label = "no initial value"
    help = "write `learn {name}: real = 1.0`, or `= normal(std = 0.1)`"
    explain = """What is learned begins somewhere, and no number would be right for every activation. The initial value is
a number, or a word for initial values such as `normal(std = 0.1)`. A use may give another: `swish(beta = 2)`."""


class LearnElsewhere(Error):
    code = "N0241"
    title = "learned parameter outside an activation"
    message = "`learn` stands before parameters of activations; `{owner}` is a {kind}"
    label = "not of an activation"
    help = "in a layer write a line `parameter {name}: real[..] = normal(std = 0.02)`"
    explain = """The parameters of a layer or a network are its configuration, given where it is used. What a layer learns
stands in its body, in a line `parameter NAME: TYPE = INIT`."""


class LearnedType(Error):
    code = "N0242"
    title = "type of a learned parameter"
    message = "`{name}` cannot be learned so: {why}"
    label = "here"
    help = "one number is `real`, one a unit `real[unit]`, a row a unit `real[unit, 4]`, one an edge `real[edge]`"
    explain = """An activation learns real numbers: one (`learn a: real`), one for each unit, that is each index of the
last axis (`learn a: real[unit]`), a row for each unit (`learn a: real[unit, 4]`), or one for each pair of the last two
axes, the unit that an edge leads to and the one it comes from (`learn a: real[edge]`)."""


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


class ClauseShape(Error):
    code = "N0331"
    title = "clause of a constraint that gives another shape"
    message = "the {kind} of constraint `{name}` must {needed}"
    label = "gives {found}"
    expected = "{expected}"
    found = "{found}"
    explain = """`gradient (w, g) => ...` takes the stored weight and the gradient of the weight in force and gives the
gradient of the stored weight; `project w => ...` gives a weight: both are real numbers of the weight's shape. `penalty w =>
...` gives one number, such as `sum(abs(w))`."""


class UnknownClaim(Error):
    code = "N0243"
    title = "not a claim about an activation"
    message = "activation `{name}` cannot expect this of itself"
    label = "not a claim"
    help = "write `expect odd`, `expect even` or `expect homogeneous(2)`"
    explain = """An activation may claim what its expression does not show: `odd` is f(-x) = -f(x), `even` f(-x) = f(x), and
`homogeneous(k)` f(a x) = a^k f(x) for a > 0. Claims are tested at random points, and taken into account by analyses."""


class FalseClaim(Error):
    code = "N0332"
    title = "claim that does not hold"
    message = "activation `{name}` is not {claim}"
    label = "{found}"
    explain = """A claim about an activation is tested at random points in double precision, with random values for what
it learns. The label shows a point where it fails."""


class UntestableClaim(Error):
    code = "N0333"
    title = "claim that cannot be tested"
    message = "whether activation `{name}` is {claim} can neither be decided nor tested"
    label = "no value at single numbers"
    help = "leave the line out: nothing is then taken for granted"
    explain = """A claim is believed only if its expression can be evaluated at single numbers and holds there. Steps that
mix entries, or that pick entries of a learned row, have no value at one number."""
