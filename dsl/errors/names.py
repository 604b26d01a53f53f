"""Errors of names and imports (N02xx)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class UndefinedName(Error):
    code = "N0201"
    title = "undefined name"
    message = "nothing here is called `{name}`"
    label = "not defined"
    help = "did you mean `{suggestion}`?"
    explain = """A name must be a value defined above, a parameter, a definition of the file or of a file
that it uses, a dimension of a declared type, or a word of the library."""


class DuplicateName(Error):
    code = "N0202"
    title = "duplicate name"
    message = "`{name}` is defined twice"
    label = "defined again here"
    help = "{help}"
    explain = """Within a file each definition, and within a body each value and each instance, has one
meaning. The other label shows where the name was first declared. Two files that define one name stand side by
side if one is used under a name of its own, `use library.dynamics as flows`; rules of the library need no
`use`."""


class UsedBeforeDefinition(Error):
    code = "N0203"
    title = "used before its definition"
    message = "`{name}` is used before it is defined"
    label = "used here"
    help = "move the definition above this line; a value of an earlier time step is `previous({name})`"
    explain = """Values flow from top to bottom. A cycle exists only through `previous`, inside `over`."""


class UnknownOperation(Error):
    code = "N0204"
    title = "unknown operation"
    message = "there is no operation or layer called `{name}`"
    label = "not known"
    help = "did you mean `{suggestion}`?"
    explain = """A step of a chain is an operation of the library, a layer of this file or of a file that
it uses, a `shared` instance, or a parameter of type `layer`."""


class ImportMissing(Error):
    code = "N0205"
    title = "import not found"
    message = "there is no file `{target}`"
    label = "looked for beside this file"
    help = "did you mean `{suggestion}`?"
    explain = """`use "parts.nnspec"` reads a file beside the one that uses it."""


class ImportCycle(Error):
    code = "N0206"
    title = "import cycle"
    message = "these files use each other: {cycle}"
    label = "closes the cycle"
    explain = """A file cannot use itself, directly or through others. Move what both need into a third
file."""


class ImportOutside(Error):
    code = "N0207"
    title = "import outside the allowed folders"
    message = "`{target}` lies outside the folder of the spec"
    label = "not read"
    help = "allow its folder with `--allow FOLDER`, or copy the file"
    explain = """A spec reads only files below its own folder and the folders it was allowed. Links are
resolved first, so a link cannot lead outside."""


class NoLibraryPart(Error):
    code = "N0208"
    title = "no such part of the library"
    message = "the library has no part called `{target}`"
    label = "not known"
    help = "{help}"
    explain = """`use` with a text reads a file beside the one that uses it; without quotes it names a part of the
standard library."""


class InLibrary(Error):
    code = "N0237"
    title = "part of the library that is not used"
    message = "`{name}` is defined in the library, in a part that this file does not use"
    label = "not known here"
    help = "write `use library.{part}` at the top of the file"
    explain = """The built-in words are known everywhere. What the standard library defines in the language itself is
known to a file that uses that part: `use library.blocks`, or `use library.blocks as blocks` for `blocks.residual`.
`nnspec explain library` lists it."""


class NeverUsed(Error):
    code = "N0216"
    title = "shared instance that nothing uses"
    message = "`{name}` is declared and never used"
    label = "no call of it below"
    help = "delete the line, or apply it: `x -> {name}`"
    explain = """A `shared` line makes an instance whose weights its uses share. Without a use its shape is not
known, and it would change nothing."""


class NeverRead(Error):
    code = "N0220"
    severity = "warning"
    title = "value that nothing reads"
    message = "`{name}` changes no output"
    label = "never read"
    help = "delete the line, or use `{name}` below"
    explain = """A value that no output depends on still makes its instances and their parameters, which then
never learn. Often the name of a later value was meant."""


class UnknownLanguage(Error):
    code = "N0215"
    title = "unknown version of the language"
    message = "this compiler reads `language = 1`, not {found}"
    label = "in this file"
    explain = """A file may say which version of the language it is written in. A newer one needs a newer
compiler."""


class DimensionLooksMisspelt(Error):
    code = "N0214"
    severity = "warning"
    title = "dimension looks misspelt"
    message = "`{name}` is a new symbolic dimension, and there is a parameter called `{suggestion}`"
    label = "any size fits here"
    help = "write `{suggestion}` if that is meant"
    explain = """A name in a declared shape that nothing defines is a symbolic dimension, which any size
fits. A misspelt parameter would be taken for one and check nothing."""


class NoSuchMember(Error):
    code = "N0209"
    title = "no such definition in that file"
    message = "`{module}` defines nothing called `{name}`"
    label = "not defined there"
    help = "did you mean `{suggestion}`?"
    explain = """`parts.residual` is the definition `residual` of the file used as `parts`."""


class NotAValue(Error):
    code = "N0210"
    title = "not a tensor"
    message = "`{name}` is {found}, and a tensor is needed here"
    label = "{found}"
    explain = """Chains start from tensors: inputs and the values computed from them."""


class NotALayer(Error):
    code = "N0211"
    title = "not a layer"
    message = "`{name}` is {found}, and cannot be applied"
    label = "{found}"
    explain = """A step of a chain must be an operation, a layer, a shared instance or a parameter of type
`layer` or `activation`."""


class OuterValue(Error):
    code = "N0212"
    title = "value of the enclosing body"
    message = "`{name}` belongs to the enclosing body; a {kind} body sees only what flows through it"
    label = "defined outside"
    help = "write the body as a layer with two inputs, or add `{name}` outside"
    explain = """Each copy that `repeat` makes is an instance of its own: it takes the value that flows in
and the configuration around it, no other tensors."""


class RecursiveDefinition(Error):
    code = "N0213"
    title = "recursive definition"
    message = "`{name}` contains itself: {cycle}"
    label = "closes the cycle"
    help = "use `repeat(n) {{ ... }}` for depth"
    explain = """A layer that contains itself would be infinitely large."""


class NotAConstraint(Error):
    code = "N0217"
    title = "not a constraint"
    message = "`{name}` is a {kind}, and no constraint"
    label = "a {kind}"
    help = "a map of weights is declared with `constraint NAME {{ w => ... }}`"
    explain = """`constrain` takes constraints of the library, such as `binary`, and those that a file declares
with `constraint`. A layer computes values; a constraint maps a stored weight to the weight in force."""


class RecursiveLet(Error):
    code = "N0218"
    title = "recursive `let`"
    message = "`{name}` needs its own value: {cycle}"
    label = "closes the cycle"
    explain = """The value of a `let` is worked out from other values, which cannot need it in turn."""


class SharedRenamed(Error):
    code = "N0219"
    title = "second name for a shared instance"
    message = "`{name}` is a shared instance and keeps its name; it cannot be called `{alias}` here"
    label = "a use of `{name}`"
    help = "leave `as {alias}` out, or apply the operation itself to make an instance called `{alias}`"
    explain = """`as` names the instance that a step makes. A use of a shared instance makes none: its weights are
those of the `shared` line, and so is its name."""
