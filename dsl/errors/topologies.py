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
