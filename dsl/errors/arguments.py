"""Errors of arguments and compile-time values (N03xx)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class UnknownArgument(Error):
    code = "N0301"
    title = "unknown argument"
    message = "`{callee}` takes no argument called `{name}`"
    label = "not an argument"
    help = "{help}"
    explain = """Arguments are given by position or by name; a name that the callee does not have is
refused, never ignored. `nnspec explain NAME` lists the arguments of an operation."""


class MissingArgument(Error):
    code = "N0302"
    title = "missing argument"
    message = "`{callee}` needs a value for `{name}`"
    label = "`{name}` is missing"
    help = "{help}"
    explain = """An argument without a default must be given."""


class DuplicateArgument(Error):
    code = "N0303"
    title = "duplicate argument"
    message = "`{name}` is given twice"
    label = "given again here"
    explain = """Each argument is given once, by position or by name."""


class WrongArgument(Error):
    code = "N0304"
    title = "wrong argument"
    message = "`{callee}`: {why}"
    label = "found {found}"
    explain = """The value does not fit what the argument takes. `nnspec explain NAME` lists the arguments
of an operation with their ranges."""


class TooManyArguments(Error):
    code = "N0305"
    title = "too many arguments"
    message = "`{callee}` takes {expected}, and is given {found}"
    label = "one too many"
    explain = """More values are given by position than the callee has arguments."""


class WrongOperand(Error):
    code = "N0306"
    title = "wrong operand"
    message = "`{operator}` does not work on {found}"
    label = "{found}"
    explain = """Compile-time arithmetic works on numbers, `and`, `or` and `not` on true and false."""


class DivisionByZero(Error):
    code = "N0307"
    title = "division by zero"
    message = "`{text}` divides by zero"
    label = "is zero"
    explain = """A compile-time division has a divisor that comes out as zero for these parameters."""


class ConditionNotKnown(Error):
    code = "N0308"
    title = "condition is not known while compiling"
    message = "this condition is {found}; conditions are decided while compiling"
    label = "{found}"
    help = "{help}"
    explain = """`a if c else b` and `require` are decided while compiling. To choose entry by entry at run
time use `where(condition, a, b)`."""


class CountNotKnown(Error):
    code = "N0309"
    title = "number of copies is not a whole number"
    message = "`{kind}` needs a whole number of at least 1, and is given {found}"
    label = "{found}"
    help = "{help}"
    explain = """`repeat(n)` and `fork(n)` make n instances while compiling, so n must be known then and be
positive. `repeat(i in 0..4)` makes one for each entry of a range or a list."""


class WrongValueCount(Error):
    code = "N0310"
    title = "wrong number of values"
    message = "{expected} expected here, {found} found"
    label = "{found}"
    explain = """`a, b = ...` needs as many values as names; most operations take one tensor."""


class NotTensorType(Error):
    code = "N0311"
    title = "not a type of tensors"
    message = "`{name}` is no type of tensors"
    label = "not known"
    help = "tensors are `real[..]`, `int[..]`, `bool[..]` or `complex[..]`"
    explain = """Inputs, outputs and ascribed values have a type of tensors, such as `real[28, 28]`."""


class NoNetwork(Error):
    code = "N0312"
    title = "no such network"
    message = "{why}"
    help = "{help}"
    explain = """The command needs a network of the file: the last one unless `--network` names another."""


class NoOutput(Error):
    code = "N0313"
    title = "nothing comes out"
    message = "`{name}` has no {what}"
    label = "needs an `{what}` line"
    explain = """A layer or network needs at least one input and at least one output."""


class OutputWithoutValue(Error):
    code = "N0314"
    title = "output without a value"
    message = "output `{name}` has no value"
    label = "nothing is assigned"
    help = "write `output {name} = ...`; a neuron state is declared with `state`"
    explain = """An output names a value that the body computes."""


class ConstraintClauses(Error):
    code = "N0315"
    title = "constraint that does not say one map"
    message = "constraint `{name}`: {why}"
    label = "here"
    explain = """A constraint says exactly one map `w => ...` from the stored tensor to the weight in force, and at
most one gradient for it."""


class WrongParameterType(Error):
    code = "N0316"
    title = "not a type of parameters"
    message = "a parameter cannot have the type `{name}`: {why}"
    label = "not a type of parameters"
    help = "{help}"
    explain = """Parameters are configuration: `int`, `real`, `bool`, `text`, `list`, `layer`, `network`,
`activation`, or a choice of quoted words. Tensors come in by `input` lines."""


class NoIndexRange(Error):
    code = "N0317"
    title = "an index without values"
    message = "`{index}` runs over a range or a list with an entry for each copy, and is given {found}"
    label = "{found}"
    help = "`{kind}({index} in 0..3) {{ .. }}` makes four copies, `{kind}({index} in [64, 128]) {{ .. }}` two"
    explain = """The index of a `repeat` or a `fork` takes the values of a range (both ends in) or of a list, one
for each copy. They are known while compiling: numbers, texts, layers, but no tensors."""


class WrongKeep(Error):
    code = "N0318"
    title = "what a repeat keeps"
    message = "a repeat keeps `all` of its results, or only the last: {found} means nothing here"
    label = "not `all`"
    help = "{help}"
    explain = """`repeat(n, keep = all) { .. }` gives a list with the result of every copy. Without `keep` only
the last result flows on; an entry of the list is taken by `results[i]`."""


class UnlikeCopies(Error):
    code = "N0319"
    title = "copies with different numbers of outputs"
    message = "one copy gives {first} value(s), another {other}"
    label = "here"
    explain = """The copies of a `fork` give a list with an entry for each copy, or one such list for each
output, so that all must have the same number of outputs."""


class NoUnits(Error):
    code = "N0320"
    title = "not a kind of units"
    message = "`units` takes functions of entries, and {found} is none"
    label = "here"
    help = "{help}"
    explain = """`units([sin, square, identity * 4, product])` gives each function its share of the last axis:
`f` is one unit, `f * k` are k. Functions of entries are those of the library that change each entry by itself
(and `product`, which makes one of two), activations, and anonymous functions such as `x => x ^ 3`."""
