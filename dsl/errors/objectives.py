"""Errors of what an experiment aims at and is judged by: losses and metrics as expressions (N0620 to N0634)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class WhichOutput(Error):
    code = "N0620"
    title = "several outputs, and none is named"
    message = "`{name}` compares one output with the target, and `{network}` has {count}"
    label = "which output is meant?"
    help = "say what is compared: `{example}`"
    explain = """A bare word such as `cross_entropy` compares the one output of a network with the target of
the data. Where a network has several outputs, the loss and the metrics say what they compare, by the names
of values and fields: `loss = cross_entropy(digit, label) + mean_squared_error(parity, even)`."""


class UnknownInObjective(Error):
    code = "N0621"
    title = "name that a loss does not know"
    message = "nothing that {place} can read is called `{name}`"
    label = "not known here"
    help = "{help}"
    explain = """A loss or a metric that is an expression reads the values that the body of the network names
(inputs, outputs and what stands before `=`), the fields of the data, weights by their paths (`fc1.weight`),
`rows` (how many rows there are to train on), `row` (the place of the sample in its batch), and `let` values.
Values inside layers have no names out here: make them outputs of the layer."""


class LeftOverAxis(Error):
    code = "N0622"
    title = "loss of more than one number"
    message = "a loss or metric is one number a sample, and this has {axes} left over"
    label = "is {found}"
    help = "say what becomes of it: `mean(...)` or `sum(...)` over what is left"
    explain = """The loss of a batch is the mean of the losses of its samples, so a loss expression gives one
number a sample. Whether an axis that is left is summed or averaged changes the learning rate that works, so
it is never decided silently."""


class NotALossValue(Error):
    code = "N0623"
    title = "loss that is no real number"
    message = "this is {found}, and a loss or metric is one real number a sample"
    label = "is {found}"
    help = "{help}"
    explain = """A loss is computed from what the network gives: an expression over its named values. Numbers
known before anything runs, layers, lists, whole numbers and truth values are no losses."""


class AmbiguousInObjective(Error):
    code = "N0624"
    title = "name of both a value and a field"
    message = "`{name}` is a value of `{network}` and also a field of the data"
    label = "which of them?"
    help = "rename the value in the network"
    explain = """A loss reads values of the network and fields of the data by their names. An input that takes
the field of its own name is the same thing as the field; any other value of that name is something else, and
nothing says which is meant."""


class NothingLearns(Error):
    code = "N0625"
    title = "loss that nothing can change"
    message = "this loss does not depend on any weight of `{network}`"
    label = "the same whatever is learned"
    help = "compare something that the network computes"
    explain = """The loss reads only fields, inputs, or values that are computed without weights, so learning
cannot make it smaller."""


class OwnsWeights(Error):
    code = "N0626"
    title = "layer inside a loss"
    message = "`{name}` owns weights or draws, and a loss only computes"
    label = "belongs in the network"
    help = "put it into the network, give its value a name, and read that name here"
    explain = """A loss is a function of what the network computes. A layer in it would have weights that are
no part of the network: they would be lost with the loss."""


class WholeOfName(Error):
    code = "N0627"
    title = "`all` takes the name of a value"
    message = "`all(...)` takes the name of one value or field"
    label = "not a name"
    help = "give the value a name in the network: `z = ...`, then `all(z)`"
    explain = """`all(v)` is `v` of every sample of the batch, for each sample: its first axis, `batch`, counts
them. It takes what has a name, a value of the network or a field of the data."""


class WrongMetricValues(Error):
    code = "N0628"
    title = "metric of other than two values"
    message = "`{name}` compares two values, and {count} stand here"
    label = "{count} given"
    help = "write `{name}(output, field)`; arguments go by name"
    explain = """A metric with values in its brackets compares the first with the second: `accuracy(digit,
label)`. Without brackets it compares the network's one output with the target."""


class NoHardVersion(Error):
    code = "N0629"
    title = "no hard version to judge"
    message = "`hard` judges the weights that straight-through constraints give, and `{network}` has none"
    label = "nothing to harden"
    help = "constrain weights so that there is something to harden, as `binary` does, or leave `hard` out"
    explain = """Weights under a constraint such as `binary` are trained through real numbers that stand behind them.
`evaluate = [surrogate, hard]` judges the network as it is trained and with the constrained weights stored as they
are used. Without such a constraint the two are the same network."""


class NothingDrawn(Error):
    code = "N0630"
    title = "nothing to sample"
    message = "`samples` judges networks that draw random numbers, and `{network}` draws none"
    label = "every sample is the same"
    help = "leave it out, or let the network draw, as `dropout` does"
    explain = """`samples(k)` scores the network k times with its random numbers drawn, as in training, and reports the
mean of the scores. A network that draws nothing has one score."""


class NeedsDirectionAgain(Error):
    code = "N0631"
    title = "optimizer that asks again"
    message = "`{optimizer}` asks for the gradient several times a step, and `{rule}` gives one direction"
    label = "asks again"
    help = "let it learn by `backprop`, or take an optimizer such as `adam`"
    explain = """L-BFGS searches along its direction for a step that is long enough, so it needs the loss and its
gradient at several places within one step. A rule that estimates its direction once a step cannot give them."""


class SearchOnBatches(Error):
    code = "N0632"
    severity = "warning"
    title = "line search on batches"
    message = "`{optimizer}` compares gradients of one step with those of the next, and the batches differ"
    label = "different rows each step"
    help = "write `batch = none`, or leave `batch` out: `{optimizer}` then takes the whole training part"
    explain = """A quasi-Newton optimizer learns the curvature from how the gradient changes between steps. Where
each step sees other rows, most of that change is noise."""


class NoGradient(Error):
    code = "N0633"
    title = "loss without a gradient"
    message = (
        "this loss has no gradient: nothing learned reaches it through operations that can be differentiated"
    )
    label = "flat wherever it is known"
    help = "compare numbers rather than truth values, or learn by `weight_perturbation`"
    explain = """Comparisons, `where` on numbers alone, rounding to whole numbers and the like are constant wherever they
do not jump, so backpropagation through them finds nothing to follow. Use a smooth loss, `straight_through`, or a rule
that does without gradients."""
