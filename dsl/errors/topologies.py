"""Errors of constraints that say which entries a weight has (N0660 to N0669)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class UnitWithoutInput(Error):
    code = "N0660"
    severity = "warning"
    title = "unit without input"
    message = "`{name}` leaves {units} of `{path}` without any input"
    label = "keeps none of {their} weights"
    explain = """A unit whose weights are all absent gives its bias for every input, or zero. Widen the mask, or
make the layer smaller, unless that is what you want."""


class WrongCondition(Error):
    code = "N0661"
    title = "condition on indices that cannot be decided"
    message = "a condition on indices cannot be read here: {why}"
    label = "not a condition on indices"
    help = "write it as `mask((i, j) => abs(i - j) <= 2)`"
    explain = """The condition of a mask is decided for each entry, from its indices: whole numbers from 0.
It may use numbers, `abs`, arithmetic, comparisons, `and`, `or`, `not` and `a if c else b`, and the parameters of
the body around. Its numbers stay below 2^53, so that every machine finds the same mask."""


class WrongMaskFile(Error):
    code = "N0662"
    title = "mask file that cannot be used"
    message = "`{path}` is no mask: {why}"
    label = "this file"
    help = "{help}"
    explain = """A mask in a file is one array in numpy's format (`numpy.save`), of truth values or of the numbers 0
and 1, with the shape of the weight. It lies in the folder of the spec, or in one that `--allow` names. It is read
without pickle, which could run code."""


class UnequalBias(Error):
    code = "N0663"
    severity = "warning"
    title = "bias that breaks a symmetry"
    message = "`{path}` is free at every position, so the layer does not commute with the group of `{name}`"
    label = "only the weight is under the group"
    help = "constrain the bias too, such as `constrain {owner}.*: {name}(..)`"
    explain = """A layer commutes with a group if its weight has one number for each orbit of pairs and its bias
one for each orbit of positions. Lay `equivariant` on both, or leave the bias out."""


class CutOff(Error):
    code = "N0664"
    title = "masks that cut the outputs off from the inputs"
    message = "no output depends on an input: together the masks let nothing through `{path}`"
    label = "`{names}` keeps no path that the masks before it keep"
    help = "let a unit that depends on an input be read by one that an output depends on"
    explain = """Each mask keeps some weights, and no path of kept weights leads from an input to an output: the network
gives the same numbers for every input. Follow the units that depend on an input from layer to layer: in this one none is left.
Masks that are drawn when the network is made are taken to keep everything."""


class NoPath(Error):
    code = "N0665"
    severity = "warning"
    title = "unit without a path from the input"
    message = "{units} of `{path}` {have} no path from an input: the masks together cut {them} off"
    label = "`{names}` lets {them} read only what depends on no input"
    explain = """A unit whose kept weights all lead to units that are cut off themselves, or that several masks on one
weight leave without any, gives the same number for every input. Widen one of the masks, or make the layer smaller, unless that
is what you want."""


class UnreadUnits(Error):
    code = "N0666"
    severity = "warning"
    title = "unit that reaches no output"
    message = "{units} before `{path}` {reach} no output: nothing that matters reads {them}"
    label = "`{names}` lets no unit on the way to an output read {them}"
    explain = """What no output depends on never learns. Where a mask has an empty column, or one whose entries all
belong to units that no output depends on, the unit before it is such a one. Widen the mask, or make the layer smaller, unless
that is what you want."""
