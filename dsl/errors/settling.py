"""Errors of rules that let a system settle: what they miss in a network, and what goes wrong while states settle
(N0696 to N0699, N0730 to N0739)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class NotASystem(Error):
    code = "N0696"
    title = "a network that cannot be read as a system"
    message = "`{rule}` lets states settle, and `{network}` cannot be read as a system of units: {why}"
    label = "this rule needs states"
    help = "write a chain of linear maps, poolings and functions of single entries, or declare `state` and `connect`"
    explain = """A rule whose phases settle needs units with states. A feed-forward chain has them: behind each linear
map, with poolings and rearrangements beside it, stand the units of a layer, and the functions of single entries
are theirs. Branches, gates, norms, random draws and parts with bodies of their own have no such reading. A network with
`state`, `connect` and `dynamics` lines is a system as it stands."""


class DirectedWeights(Error):
    code = "N0697"
    title = "a rule for symmetric weights on directed ones"
    message = "`{rule}` is a gradient only where every connection is used both ways with one weight, and `{path}` is not"
    label = "its products of two settled states suppose an energy"
    help = "{help}"
    explain = """In a system with an energy the influence of a unit on another equals that of the other on it, and the
nudged states tell the gradient by themselves (Scellier and Bengio, 2017). On directed weights they do not: the bias grows
with the asymmetry, and no small nudge cures it. `<->` makes a connection symmetric; the asymmetric rule (Scurria and others,
2026) lets deviations travel back along the edges, and gives the gradient on any graph."""


class KinkedActivation(Error):
    code = "N0698"
    title = "complex nudges through a function that is not holomorphic"
    message = "`{rule}` nudges with complex numbers, and {why}"
    label = "holomorphic nudging"
    help = "{help}"
    explain = """Holomorphic nudging takes the mean of the states over a circle of complex nudges, which is the slope at its
centre by Cauchy's formula. All that the states pass through must have a complex derivative: tanh, sigmoid, sin, exp, products
and linear maps have; relu, hard sigmoid, clipped states and max-pooling have a kink, where there is none."""


class NoTeachingSignal(Error):
    code = "N0699"
    title = "hidden units hear nothing of the loss"
    message = "no connection leads back from the output to {states}, so `{rule}` would leave {what} without a signal"
    label = "the nudge stays where it is given"
    help = "{help}"
    explain = """The nudge acts on the units that the loss reads, and travels along connections. In a network without a way
back it never reaches the units before them: their nudged and free states are the same, and what leads to them does not
learn. The asymmetric rule sends deviations back along the edges themselves."""


class StatesBlewUp(Error):
    code = "N0731"
    title = "states that blow up"
    message = "seed {seed}: the states of `{state}` were no longer finite in `{phase}`, in epoch {epoch}, step {step}"
    label = "stopped here"
    help = (
        "bound them with `clip`, or take a smaller `dt` or `damping`, nudge or learning rate; "
        "the weights before are in {path}"
    )
    explain = """Nothing bounds the states of a flow but its leak: where that is too small, or the step `dt` too large, they
grow without end. `clip = [0, 1]` bounds them; a smaller `dt`, a smaller learning rate or smaller weights keep them. The run is
kept with the weights of the last epoch that was sound."""


class NudgeTooSmall(Error):
    code = "N0732"
    title = "a nudge too small for the precision"
    severity = "warning"
    message = (
        "in {precision} a nudge of {beta:g} leaves about {digits} correct digits of the difference of states"
    )
    label = "states differ by about this much, and are known to about {eps:.0e}"
    help = "{help}"
    explain = """A rule that compares states settled under a nudge with others divides their difference by the nudge. The
states are known to rounding and to the tolerance of the solver, so the relative error of the slope is about that over
the nudge. In float32 between 0.05 and 0.2, centered, is a good choice; holomorphic nudging allows large ones."""


class NoNudge(Error):
    code = "N0730"
    title = "a nudge of zero"
    message = "`{rule}` takes a slope by the nudge of `{phase}`, and the nudge is 0"
    label = "nothing is nudged"
    help = "take a nudge such as `beta = 0.1`"
    explain = """The slope by the nudge is a difference of states over the difference of nudges. Without a nudge both are zero."""
