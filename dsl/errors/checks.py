"""What the truth checks refuse: of rules against gradients, of loops against what they should do (N0910 to N0929)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class GivesNoDirection(Error):
    code = "N0910"
    title = "a rule that gives no direction"
    message = (
        "`{rule}` moves the weights itself and gives no direction that could be compared with the gradient"
    )
    help = "check the rule by what it trains: its losses and scores are in the report of a run"
    explain = """`gradient_check` compares what a learning rule gives the optimizer with the exact gradient of the loss. A
rule that searches among values, or sets weights to what solves a problem of its own, gives no such direction."""


class NothingToVary(Error):
    code = "N0911"
    title = "nothing of this name to vary"
    message = "`{pass_name}` cannot vary `{name}`: neither `{rule}` nor a solver of the network has such an argument"
    help = "{help}; what can be varied here: {known}"
    explain = """Beside its own arguments, `gradient_check` takes any argument of the experiment's learning rule, any of the
solver of a loop, and `asymmetry`, with a value or a list of values: `gradient_check(beta = [0.01, 0.1, 1])`. Parameters of
the network are set on the command line, `-p width=64`."""


class NoDirectedWeight(Error):
    code = "N0912"
    title = "no directed weight"
    message = "`asymmetry` changes connections from states to the same states, and `{network}` has none that is free"
    help = "leave `asymmetry` out, or connect states with themselves: `connect [h, o] -> [h, o] as rec except self`"
    explain = """A weight W from states to the same states is the sum of a symmetric and an antisymmetric part. `asymmetry = a`
multiplies the antisymmetric part by a: 0 makes the weight symmetric, 1 leaves it as it is. Connections written with `<->`
are symmetric always, and those between different groups have one direction each."""


class NoLoop(Error):
    code = "N0913"
    title = "nothing that settles"
    message = "`{pass_name}` looks at what settles, and `{network}` is computed in one pass"
    help = "analyse a network with `dynamics`, or one with an `equilibrium` layer"
    explain = """Stability is a property of a network whose states settle: neurons under `dynamics`, or a layer
`equilibrium(f)`. A feed-forward network has a value for every input and nothing to settle."""


class TooManyUnits(Error):
    code = "N0914"
    title = "too many units"
    message = "`{pass_name}` writes out Jacobians of at most {limit} units, and {network} has {units}"
    help = "analyse the same network with fewer units"
    explain = """The Jacobian of a loop has a row and a column for each unit of its states, and its eigenvalues cost the cube of
that number."""
