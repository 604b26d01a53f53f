"""Errors of selectors and constraints (N06xx, from N0650)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class NothingSelected(Error):
    code = "N0650"
    title = "selector matches nothing"
    message = "`{text}` selects no weight; there are {paths}"
    label = "matches nothing"
    help = "did you mean `{suggestion}`?"
    explain = """A selector is a path of instance names ending in a weight (`head.weight`), with `*` for one
part and `**` for any number, or `every dense.weight` for all weights of an operation. One that selects
nothing would silently say nothing, so it is an error."""


class WrongTie(Error):
    code = "N0651"
    title = "tie to something that is no weight"
    message = "`{text}` is no weight that this one can be tied to"
    label = "not a weight of this body"
    help = "write `tied(instance.weight)`, the instance standing in the same body"
    explain = """`tied(path)` names the weight of another instance of the same body, which then stores it for
both."""


class ConflictingConstraints(Error):
    code = "N0652"
    title = "constraints that cannot hold together"
    message = "`{first}` and `{second}` cannot be laid on one weight: {why}"
    label = "together here"
    explain = """`&` lays several constraints on one weight, in one canonical order. Some pairs contradict
each other, or would undo each other, and are refused."""


class WrongEvery(Error):
    code = "N0653"
    title = "`every` without an operation and a weight"
    message = "`every {text}` does not name an operation and one of its weights"
    label = "not OPERATION.WEIGHT"
    help = "write `every dense.weight` for an operation, and a path of instances without `every`"
    explain = """`every dense.weight` selects that weight of all instances of an operation, wherever they stand.
A path of instance names is written without `every`."""


class ConstraintMisfit(Error):
    code = "N0654"
    title = "constraint that cannot hold on this weight"
    message = "`{name}` cannot be laid on `{weight}` of shape {shape}: {why}"
    label = "laid here"
    help = "{remedy}"
    explain = """Each constraint says which weights it can hold on: `symmetric` needs a square matrix,
`orthogonal` at least a matrix. `nnspec explain NAME` says what a constraint asks for."""


class StoredNameTaken(Error):
    code = "N0656"
    title = "tensor of a constraint whose name is taken"
    message = "`{name}` stores a tensor called `{stored}`, and something else here has that name"
    label = "stores it"
    help = "give the other `{stored}` another name"
    explain = """What a constraint stores for a parameter of a layer stands beside it, under the parameter's name and
what it is: `mix_base`, `mix_scale`."""


class NothingStored(Error):
    code = "N0655"
    title = "projection of a weight that is not stored"
    message = "`{name}` works on the stored weight after each step, and `{other}` stores other numbers"
    label = "has nothing to work on"
    help = "use one of the two"
    explain = """A projection changes the stored weight after each step of the optimizer. A constraint that
stores something else (two factors, one number an orbit) leaves no stored weight to change."""
