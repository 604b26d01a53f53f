"""Errors of the type stage: shapes and number kinds that do not fit (N04xx)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class ShapeMismatch(Error):
    code = "N0401"
    title = "shape mismatch"
    message = "`{operation}`: {problem}"
    label = "here"
    expected = "{expected}"
    found = "{found}"
    help = "{help}"
    explain = """An operation or a layer was given a tensor of a shape that it cannot take. The message
says what was expected and what was found; the other labels show where each size was decided. The batch
axis is never written and never counted. A definition is checked each time it is used, with the sizes
of that use, so an error inside a layer also names the line that uses it."""


class AscriptionMismatch(Error):
    code = "N0402"
    title = "declared type does not hold"
    message = "`{name}` is declared {expected}, but is {found}"
    label = "declared here"
    expected = "{expected}"
    found = "{found}"
    explain = """A type written on a value or an output is a claim, and the compiler checks it against
the shape that it infers. Change the claim or the layers that lead to it."""


class SharedMismatch(Error):
    code = "N0403"
    title = "shared instance used with another shape"
    message = "`{name}` shares its weights between its uses, and this use needs other weights"
    label = "needs {found}"
    expected = "{expected}"
    found = "{found}"
    explain = """`shared` makes one instance with one set of weights. Every use must therefore ask for
weights of the same shape. Declare a second instance, or bring the inputs to one shape first."""


class EmptySize(Error):
    code = "N0404"
    title = "size is not positive"
    message = "{what} would be {size}"
    label = "must be at least 1"
    explain = """Every axis needs at least one entry. A size that is computed, such as `width - 8`, can
come out as zero or negative for the parameters given."""


class RequirementFailed(Error):
    code = "N0405"
    title = "requirement failed"
    message = "{message}"
    label = "{values}"
    explain = """A `require` line in the spec does not hold. The label shows the value of every part of
its condition. The line stands in the definition; the other label shows the use that broke it."""


class UnknownRequirement(Error):
    code = "N0406"
    title = "requirement cannot be decided"
    message = "whether {text} holds depends on {symbols}, which is not known"
    label = "not known here"
    help = "give the dimension a number, or make it a parameter"
    explain = """`require` is decided while compiling. A symbolic dimension that nothing binds to a number
leaves the condition open, and an open condition is not taken for true."""


class WrongInputCount(Error):
    code = "N0407"
    title = "wrong number of inputs"
    message = "`{operation}` takes {expected}, and is given {found}"
    label = "given {found}"
    explain = """A layer or operation takes a fixed number of tensors. `x -> f` gives it one; a fork
`x -> [f, g]` or a list `[x, y]` gives several."""


class ConstraintShape(Error):
    code = "N0408"
    title = "constraint changes the shape"
    message = "constraint `{name}` maps a weight of shape {expected} to {found}"
    label = "laid on a weight here"
    explain = """A constraint maps the stored tensor to the effective weight, and both have the shape that
the layer needs."""


class TieMismatch(Error):
    code = "N0409"
    title = "tied weights of unequal shape"
    message = "`{name}` cannot be tied to `{other}`"
    label = "needs {expected}"
    expected = "{expected}"
    found = "{found}"
    help = "{help}"
    explain = """A tied weight is another instance's weight, as it is or transposed; the shapes must agree."""


class UnclearAxes(Error):
    code = "N0410"
    title = "axes that cannot be counted"
    message = "{why}"
    label = "here"
    explain = """`..` stands for any leading axes of a layer's tensors, so that one layer serves vectors, sequences
and images. What it stands for is settled by each use of the layer; a network is compiled by itself and says how
many axes its inputs have."""


class WrongPattern(Error):
    code = "N0416"
    title = "pattern of axes that cannot be read"
    message = "`{operation}`: {problem}"
    label = "here"
    expected = "{expected}"
    found = "{found}"
    help = "{help}"
    explain = """A pattern names the axes before and after an arrow: `"T (h d) -> h T d"`. Names in parentheses
are one axis, the product of them; `1` is an axis of size 1 and `..` stands for any number of axes. A size is
given beside the pattern, `h = 4`. The batch is never named."""


class HeadsMisfit(Error):
    code = "N0417"
    title = "heads that do not fit the axis"
    message = "`{operation}`: {problem}"
    label = "here"
    expected = "{expected}"
    found = "{found}"
    help = "{help}"
    explain = """Heads are factors of the last axis: an axis of 64 is 8 heads of 8 entries. So the number of heads
divides the axis of the queries, the number of groups those of keys and values and the number of heads, and a head
of queries is as wide as one of keys. `rotary` turns pairs of entries, so that its heads have even width."""
