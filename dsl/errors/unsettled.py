"""Warnings of training: states of loops, or their gradients, that did not settle (N0720 to N0729)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class StatesUnsettled(Error):
    code = "N0720"
    title = "states that did not settle while training"
    severity = "warning"
    message = "seed {seed}: {times}{radius}"
    label = "this experiment"
    help = "{advice}; `analyze --pass stability` shows more"
    explain = """A loop ends after its steps whether its states have settled or not, and what follows reads them as they are
then: the network that is trained is then the unrolled one, and an implicit gradient is not its gradient. Where
the spectral radius of a step is above 1 no number of steps helps: damp it, or bound the weights, as
`spectral(0.9)` does; where it is just below 1 longer steps come sooner to rest. It is estimated at the last
weights, where some samples stand after as many plain steps; where these go round, that is no point of rest, and a
radius below 1 there says nothing of one. A phase of a rule that nothing nudges and that has
its own `steps` is to come to 1e-3, or to the solver's `tolerance` if that is larger; one whose slope is taken,
to where a step moves states by less than a tenth of what the nudge did. A larger `tolerance` says that less is
enough."""


class GradientsUnsettled(Error):
    code = "N0721"
    title = "gradients that did not settle while training"
    severity = "warning"
    message = (
        "seed {seed}: {count} times the gradient of settled states was not settled to {tolerance} after {steps}; "
        "the worst residual is {residual} of the gradient"
    )
    label = "this experiment"
    help = (
        "give it more steps than these or a larger tolerance, `gradient = ift(steps = .., tolerance = 1e-4)`; of a flow, "
        "time is steps times `dt`, so that a larger `dt` helps as much; or take `phantom(5)`"
    )
    explain = """The implicit gradient is the solution of a linear equation, found by the loop's own solver; its residual is
a share of the gradient that comes in. It settles as fast as the states do, so that a loop that needs many steps needs many
here too: where nothing is said, as many as the solver has, 50 at least, to the solver's tolerance. `ift(steps, tolerance)`
says how many, `phantom(k)` takes the first k terms and asks for nothing."""
