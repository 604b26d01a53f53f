"""Errors of rules that let a system settle: what they miss in a network, and what goes wrong while states settle
(N0696 to N0699, N0722 to N0729, N0730 to N0739)."""

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
    message = "in {precision} a nudge of {beta:g} leaves about {digits} of the difference of states"
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


class UnlikeGradient(Error):
    code = "N0722"
    title = "a rule whose products are no gradient of these dynamics"
    severity = "warning"
    message = "the directions of `{rule}` are not the gradient: {why}"
    label = "multiplies what units send by what comes in"
    help = (
        "let what arrives act by the slope of what is sent: `s = f(drive)` where units send their states, "
        "`s' = derivative(rate, s) * drive - s` where they send `rate(s)`"
    )
    explain = """A rule such as equilibrium propagation takes, for a weight from unit i to unit j, the slope by the nudge of what
j sends times what i sends. This is the gradient if the weight acts on j as the nudge does: by a value X with dX/dw = (slope of
what j sends) * (what i sends). Where units send their states, X is what drives them, and what they do with it is free; where
they send `rate(s)`, it is `derivative(rate, s)` times the drive. The network may still learn:
`analyze --pass gradient_check` says how far the directions are from the gradient."""


class RateJumps(Error):
    code = "N0723"
    title = "a rule that needs rest, and states that cannot come to it"
    severity = "warning"
    message = (
        "`{rule}` compares states at rest, and these do not come to it: their rate of change jumps with the slope of "
        "`{function}`{places}"
    )
    label = "needs states at rest"
    help = "{help}"
    explain = """Where the rate of change of a unit jumps from positive to negative, its state is driven there from both sides
and crosses the place with every step, forth and back, without end: `leaky(hard_sigmoid)` does so at 0 and 1, where the
slope of its rate is 0 outside and 1 inside. The differences that the rule takes are then those of this motion. With
`clip = [0, 1]` the same states are held at the border, and rest there."""


class PushTerm(Error):
    code = "N0724"
    title = "a push that is no equation of states"
    message = "`{text}` has no meaning in what a phase pushes its units with"
    label = "not of the states of units"
    help = "it reads `s`{phases}, numbers, `+ - * /`, {words}"
    explain = """What a phase is pushed with is an equation of the states of all units: `s`, the state of a unit in this phase,
and `NAME.s`, its state at the end of an earlier phase that settles once. `incoming(e)` and `outgoing(e)` are what values come to
over the connections, forwards and backwards; `jvp(e)` and `vjp(e)` what they come to through the Jacobian of what drives
the units at the states with which the phase begins, and through its transpose."""


class NoSuchStep(Error):
    code = "N0725"
    title = "a phase that asks for what its solver has not"
    message = "`{rule}` gives `{phase}` a `{option}`, and the states settle by `{solver}`, which has none"
    label = "it would do nothing"
    help = "leave it out, or give what `{solver}` has: {known}"
    explain = """Phases settle by the solver of the network's dynamics, with its own numbers where the rule says none. `damping`
is the share of the new value that a map takes over, `dt` the length of a flow's steps; `broyden` has neither. A chain of layers
is a map, and settles by `fixed_point`."""


class SumOverLeaps(Error):
    code = "N0726"
    title = "a sum over the steps of states that leap"
    message = "`{rule}` sums over the steps of `{phase}`, and those of `{solver}` are no motion of the states"
    label = "sums over steps"
    help = "let the states settle by `{follows}`"
    explain = """A sum over the steps of a phase follows the states on their way. `fixed_point`, `euler` and `rk4` take them along
it; `anderson` and `broyden` look for where it ends, by steps that lead anywhere in between. What is read at the end of a
phase is the same by all of them."""
