"""Errors of claims: `expect parameters == 118_282` in a network or an experiment (N0671 to N0675)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class ClaimFailed(Error):
    code = "N0671"
    title = "claim that does not hold"
    message = "a claim about `{name}` does not hold"
    label = "{label}"
    help = "{help}"
    explain = """`expect CONDITION` in a network or an experiment is checked, and each part of a condition that does not
hold is shown with its value. `check` knows `parameters`, `buffers`, `bytes` and `flops`; `run` and `analyze` derive
`symmetry.order`, `symmetry.log10_order` and `symmetry.dimension`; scores such as `test.accuracy` are known after
training, as the mean over the seeds. A claim that fails then takes nothing from the run: its results are kept, and the
command ends with 3."""


class UnknownMeasure(Error):
    code = "N0672"
    title = "claim about what is not measured"
    message = "nothing that a claim about `{name}` can speak of is called `{place}`"
    label = "not measured"
    help = "{help}"
    explain = """A claim speaks of `parameters`, `buffers`, `bytes` and `flops` of a network, of `symmetry.order`,
`symmetry.log10_order`, `symmetry.dimension` and its families (`symmetry.scale`), of the network's own parameters and of
`let` values; in an experiment also of the scores on the parts of its data: `test.loss`, and of each metric,
`validation.accuracy`."""


class NotAClaim(Error):
    code = "N0673"
    title = "not a claim"
    message = "this is no claim: {why}"
    label = "{label}"
    help = "{help}"
    explain = """A claim is a condition on numbers: comparisons of what is measured with numbers, joined by `and`, `or`
and `not`. Arithmetic is exact on whole numbers, and `factorial(n)`, `log10(x)`, `abs(x)`, `min(a, b)` and
`max(a, b)` may be used; `a == b +- c` means that a and b differ by at most c."""


class UndecidedClaim(Error):
    code = "N0674"
    title = "claim that cannot be decided"
    message = "whether a claim about `{name}` holds is not known: {why}"
    label = "{label}"
    help = "{help}"
    explain = """A claim is never taken to hold because nothing is known. The order of a very large group is known by its
logarithm alone, which does not tell equal orders from nearly equal ones; the operations of a network whose input
has a dimension without a size are a formula; and a seed that diverged has no scores."""


class ClaimElsewhere(Error):
    code = "N0675"
    title = "claim where there is nothing to measure"
    message = "a claim does not stand here: {why}"
    label = "not of a network or an experiment"
    help = "{help}"
    explain = """Claims are about a network as its default values make it, or about an experiment and the network that it
trains. A layer has other sizes at every use: there `require` states what must hold of its parameters."""
