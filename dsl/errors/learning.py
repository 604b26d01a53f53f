"""Errors of rules that no equation holds, and of what they are to teach (N0740 to N0759)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class TooManyDirections(Error):
    code = "N0740"
    title = "more random directions than parameters"
    message = "`dim` is {dim}, and there are {total} parameters to learn"
    label = "a subspace has fewer dimensions than the whole"
    help = "take a `dim` well below {total}, or learn by `backprop`"
    explain = """`random_subspace` follows the gradient along few random directions. With as many of them as
there are parameters nothing is saved, and backpropagation follows the gradient itself."""


class TooFewDirections(Error):
    code = "N0741"
    title = "fewer random directions than compartments"
    message = "`dim` is {dim}, and {parts} compartments are to share these directions"
    label = "some compartments would have none"
    help = "take a `dim` of {parts} or more, or fewer compartments"
    explain = """Each compartment of `random_subspace` has a basis of its own, and the directions are shared evenly.
A compartment without any would never learn."""


class RowsSeeEachOther(Error):
    code = "N0742"
    title = "samples that see each other"
    message = "`{rule}` looks at each sample alone, and {why}"
    label = "looks at samples one by one"
    help = "{help}"
    explain = """The gradient of one sample, and its share of a batch's, are defined where the output of a sample
depends on that sample alone. Batch normalization computes with the mean of the whole batch, and a loss that reads
`all(..)` or `row` compares samples with each other. `layernorm` takes the mean of one sample instead."""
