"""Errors of what layers own, draw and keep: parameters, buffers, updates, penalties, weights as values.

N0221 to N0235 are about names and words, N0411 to N0415 about types.
"""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class UnknownInitializer(Error):
    code = "N0221"
    title = "unknown initializer"
    message = "there is no initializer called `{name}`"
    label = "not an initializer"
    help = "{help}"
    explain = """A parameter, a buffer and a line `initialize SELECTOR: ...` say how a tensor begins by a word of the
library: `zeros`, `ones`, `constant(value)`, `normal(std)`, `uniform(low, high)`, `trunc_normal(std)`,
`orthogonal(gain)`, and those scaled to the fans of a weight, `he_normal`, `xavier_uniform`, ..."""


class UnknownDistribution(Error):
    code = "N0225"
    title = "unknown word of a family"
    message = "there is no {family} called `{name}`"
    label = "not a {family}"
    help = "{help}"
    explain = """Some arguments take a word of one family: a distribution, a solver, a way to differentiate what settled.
`sample(normal, like = x)` draws from a distribution of the library: `normal(mean, std)`,
`uniform(low, high)`, `bernoulli(p)`, `exponential(rate)`, `gumbel`, `laplace(scale)`. Their arguments are numbers; scale
and shift a draw by tensors with arithmetic: `mean + std * sample(normal, like = mean)`."""


class ParameterAxes(Error):
    code = "N0222"
    title = "parameter without a shape of its own"
    message = "every axis of `{name}` must have a size: a parameter is stored, and has no leading axes"
    label = "`..` here"
    help = "write the sizes: numbers, parameters, or dimensions of an input above"
    explain = """A parameter or buffer is one stored tensor, the same for all samples, so its type lists every axis. A
size may be a dimension that an input above binds."""


class NoSuchInstance(Error):
    code = "N0223"
    title = "weight of an instance that is not here"
    message = "no instance in this body, up to here, is called `{name}`"
    label = "not an instance"
    help = "did you mean `{suggestion}`?"
    explain = """`embed.weight` is the weight of an instance of the same body, by the name after `as`, of a `shared`
instance, or of an unnamed one by what it is an instance of. The instance must stand above."""


class NoSuchWeight(Error):
    code = "N0224"
    title = "instance without such a weight"
    message = "`{instance}` has no weight called `{name}`"
    label = "not a weight"
    help = "{help}"
    explain = """`embed.weight` is the weight of one operation with weights that stands in the same body. A layer has no
weights but through its parts, and copies of a repeat have one each: these are reached by selectors, not as values."""


class LentTooEarly(Error):
    code = "N0415"
    title = "weight of an instance before its first use"
    message = "the shape of `{name}` is not known before `{instance}` is used"
    label = "used here first"
    help = "use `{instance}` on a line above"
    explain = """The weights of an instance have their shapes from what it is first used on. The weight of a `shared`
instance is a value from there on."""


class NotABuffer(Error):
    code = "N0226"
    title = "update of what is no buffer"
    message = "`{name}` is no buffer of this body"
    label = "not a buffer"
    help = "did you mean `{suggestion}`?"
    explain = """`update NAME = value` changes a buffer that the same body declares above: `buffer seen: real[width] = zeros`.
Parameters change by learning, and values are what their lines say."""


class UpdatedTwice(Error):
    code = "N0227"
    title = "buffer updated twice"
    message = "`{name}` is updated a second time"
    label = "again here"
    help = "write one expression for its new value"
    explain = """All updates of a body are made at once, after the forward, from the buffers as they were before it; a
buffer can therefore have one new value."""


class UpdateShape(Error):
    code = "N0228"
    title = "update that does not fit its buffer"
    message = "the new value of `{name}` does not fit: {why}"
    label = "does not fit"
    expected = "{expected}"
    found = "{found}"
    explain = """An update has the shape and number kind of its buffer. It is written for one sample; where it depends on
the input, the mean over the batch is taken outside, which only real numbers have."""


class PenaltyShape(Error):
    code = "N0229"
    title = "penalty that is no single number"
    message = "penalty `{name}` must be one real number for each sample"
    label = "is {found}"
    help = "take `sum` or `mean` over its axes"
    explain = """A penalty is written for one sample and is one number, like a loss; the mean over the batch is taken
outside, and the number is added to the loss in training. One made of parameters alone is added as it is."""


class SharedPenalty(Error):
    code = "N0230"
    title = "penalty of a layer that is used twice"
    message = "`{name}` holds a penalty and is used a second time in one forward"
    label = "a second use"
    help = "take the penalty out of the shared layer, or make two instances"
    explain = """A penalty is kept at its layer until the loss is taken, one number a forward. A shared layer that is used
twice would have two."""


class WrongInit(Error):
    code = "N0411"
    title = "tensor that cannot begin so"
    message = "{name} cannot begin as `{init}`: {why}"
    label = "for {found}"
    help = "{help}"
    explain = """Some initializers ask something of the tensor: those scaled to fans (he, xavier, lecun) and `orthogonal`
need at least two axes, draws give real numbers, and a tensor of whole numbers begins at whole numbers."""


class OutputWithoutBatch(Error):
    code = "N0412"
    title = "output that does not depend on the input"
    message = "output `{name}` of network `{network}` is the same for every sample"
    label = "made of parameters alone"
    help = "join it with an input, or make it an output of a layer and not of the network"
    explain = """Parameters and what is made of them alone have no batch axis. Inside a network such values broadcast;
as an output of the network there would be one value for the whole batch, which neither a loss nor a metric
could compare with the samples."""


class NeedsBatch(Error):
    code = "N0413"
    title = "operation over the batch on a value without one"
    message = "`{operation}` works over the batch, and this value is the same for every sample"
    label = "made of parameters alone"
    explain = """Parameters and what is made of them alone have no batch axis, so there is nothing that an operation
such as `batchnorm` could average over. Join the value with an input first, or use `layernorm`."""


class MixedBatch(Error):
    code = "N0414"
    title = "shared layer used with and without the batch"
    message = "`{name}` is used here on {found}, and before on {expected}"
    label = "a second kind of use"
    help = "give both uses values that depend on the input, or make two instances"
    explain = """The body of a shared layer is written once, for values that have a batch axis or for values made of
parameters alone, which have none."""


class ProgressOutside(Error):
    code = "N0670"
    title = "value of a network where there is none"
    message = "`{name}` is a value of layers, networks, activations and losses, and here there is none"
    label = "not known while compiling"
    help = "{help}"
    explain = """`progress` changes from step to step of training: it is a tensor, a single number, and stands in the
expressions of a body, of an activation and of a loss. A `let`, a default and the arguments of words are known while
compiling; a constraint is a function of the weight alone. To change a learning rate there are schedules."""
