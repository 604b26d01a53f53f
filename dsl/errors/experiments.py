"""Errors of experiments and analyses: fields, words, and parts that do not fit (N06xx, to N0649)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class UnknownField(Error):
    code = "N0601"
    title = "unknown field"
    message = "an experiment has no field called `{name}`"
    label = "not a field"
    help = "{help}"
    explain = """An experiment is a record of fixed fields; one that it does not have is refused, never
ignored. The fields are network, data, loss, learn, optimizer, schedule, epochs, steps or stages, batch,
seeds, restarts, select, metrics, evaluate, shuffle, seed_mode, device, precision, stop and save."""


class MissingField(Error):
    code = "N0602"
    title = "missing field"
    message = "experiment `{experiment}` says nothing of `{name}`"
    label = "`{name}` is missing"
    help = "add a line such as `{example}`"
    explain = """Every experiment says which network learns what from which data by which rule. These fields
have no default: a default would be an experiment that nobody chose."""


class DuplicateField(Error):
    code = "N0603"
    title = "field set twice"
    message = "`{name}` is set twice"
    label = "set again here"
    explain = """Each field of an experiment is set once. To try several values write several experiments:
`experiment b = a { learn = ... }` changes one line of `a`."""


class WrongField(Error):
    code = "N0604"
    title = "wrong value of a field"
    message = "{why}"
    label = "found {found}"
    help = "{help}"
    explain = """The value does not fit what the field takes."""


class TwoLengths(Error):
    code = "N0605"
    title = "both epochs and steps"
    message = "`epochs` and `steps` both say how long to train"
    label = "a second length"
    help = "keep one of them"
    explain = """A run is as long as `epochs` passes over the training part, or as `steps` batches."""


class NoLength(Error):
    code = "N0606"
    title = "neither epochs nor steps"
    message = "experiment `{experiment}` does not say how long to train"
    label = "needs `epochs` or `steps`"
    help = "add a line such as `epochs = 20`"
    explain = """A run is as long as `epochs` passes over the training part, or as `steps` batches. There is
no default."""


class MovedArgument(Error):
    code = "N0607"
    title = "field written as an argument"
    message = "`{name}` is a field of the experiment, not an argument of `{callee}`"
    label = "does not belong here"
    help = "write `{line}` on a line of its own in the experiment"
    explain = """What a rule learns with stands beside it: `optimizer`, `schedule`, `epochs`, `steps` and
`batch` are fields of the experiment, so that one of them can change without touching the others."""


class UnknownWord(Error):
    code = "N0608"
    title = "unknown word"
    message = "there is no {family} called `{name}`"
    label = "not known"
    help = "{help}"
    explain = """The field takes a word of its family, with arguments if it has any: a data set, a loss, a
rule, an optimizer, a schedule, a metric. `nnspec explain NAME` describes each."""


class WrongFamily(Error):
    code = "N0609"
    title = "word of another family"
    message = "`{name}` is {found}, and {place} takes {expected}"
    label = "is {found}"
    help = "{help}"
    explain = """Each field of an experiment takes words of one family: `loss` a loss, `learn` a rule, and so
on."""


class InputMismatch(Error):
    code = "N0610"
    title = "data do not fit the network"
    message = "input `{name}` of `{network}` cannot take the field `{field}`"
    label = "the field `{field}` is {found}"
    expected = "{expected}"
    found = "{found}"
    help = "{help}"
    explain = """Each field of the data enters the network at an input of the same shape. Nothing is reshaped
silently: let the network say what it does with the data as they are."""


class InputWithoutData(Error):
    code = "N0611"
    title = "input without data"
    message = "no field of the data enters at `{name}`"
    label = "the fields are {fields}"
    help = "{help}"
    explain = """Fields of the data meet inputs of the network by name. Only where there is one input and one
field beside the target do they meet whatever they are called."""


class LossMismatch(Error):
    code = "N0612"
    title = "loss does not fit"
    message = "{why}"
    label = "laid on output `{output}` and field `{field}`"
    expected = "{expected}"
    found = "{found}"
    help = "{help}"
    explain = """A loss compares the network's output with the data's target; their shapes must be what the
loss is written for. The other labels show where the output is declared and where the data are chosen."""


class MetricMismatch(Error):
    code = "N0613"
    title = "metric does not fit"
    message = "{why}"
    label = "laid on output `{output}` and field `{field}`"
    expected = "{expected}"
    found = "{found}"
    help = "{help}"
    explain = """A metric compares the network's output with the data's target; their shapes must be what the
metric is written for."""


class BatchTooLarge(Error):
    code = "N0614"
    title = "batch larger than the data"
    message = "a batch of {batch} is more than the {rows} rows that are there to train on"
    label = "more than {rows}"
    help = "write `batch = {rows}` or less, or `batch = none` for all rows at once"
    explain = """The training part is what the data set holds less the parts kept for validation and test. A
batch takes different rows, so it cannot be larger."""


class DuplicateSeed(Error):
    code = "N0615"
    title = "seed given twice"
    message = "seed {seed} is in the list twice"
    label = "given twice"
    explain = """Two runs of one seed give the same numbers; counting them twice would make the spread over
seeds look smaller than it is."""


class ExperimentCycle(Error):
    code = "N0616"
    title = "experiments derive from each other"
    message = "`{name}` derives from itself: {cycle}"
    label = "closes the cycle"
    explain = """`experiment b = a { ... }` is `a` with some fields changed, so `a` cannot be made from
`b`."""


class NotAnExperiment(Error):
    code = "N0617"
    title = "not an experiment"
    message = "`{name}` is {found}, and {needed} is needed here"
    label = "{found}"
    help = "{help}"
    explain = """An experiment derives from an experiment; an analysis is about a network or an experiment."""


class NotConfiguration(Error):
    code = "N0618"
    title = "not a value of configuration"
    message = "{what} has no value here"
    label = "numbers, texts, lists and words of the library stand here"
    help = "{help}"
    explain = """Fields of experiments and arguments of their words are known before anything runs: numbers,
texts, true and false, lists, ranges, arithmetic on them, `let` values, and words of the library."""


class NothingToWatch(Error):
    code = "N0619"
    title = "no validation part"
    message = "`{name}` watches the validation part, and the data keep none"
    label = "nothing to watch"
    help = "{help}"
    explain = """Early stopping needs rows that are neither trained on nor the test: a test that decides when
to stop is no test any more. Keep some with `validation = 0.1`."""
