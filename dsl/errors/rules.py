"""Errors of learning rules written as equations, and of their networks (N0680 to N0695)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class UnknownInRule(Error):
    code = "N0680"
    title = "name that a rule does not know"
    message = "nothing that a learning rule can read is called `{name}`"
    label = "not known here"
    help = "{help}"
    explain = """An equation of a rule reads words of the synapse (`pre`, `post`, `drive`, `weight`, `bias`,
`post.derivative`, `drive.error`), of the sample (`output`, `output.error`, `output.target`, `loss`), the
parameters of the rule, its own local values and its feedback. It knows nothing of the names in a network, so that
it fits any."""


class WhichPhase(Error):
    code = "N0681"
    title = "phase that is not clear"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """A rule with phases runs the network several times, and `plus.post` is what a unit was at the end of
the phase `plus`. So every word of the synapse stands behind the name of a phase that the rule has; a phase begins
`from` one that stands above it. A rule without phases runs the network forward once, and `post` alone is clear."""


class RuleLine(Error):
    code = "N0682"
    title = "line of a rule that does not work"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """A rule is made of `phase NAME = forward(..)` or `settle(..)`, `feedback NAME: SOURCE -> TARGET = ..`,
local values `e = ..`, and `update WHAT += ..`, where WHAT is `weight`, `bias`, `rest` (parameters that are at no
synapse) or a feedback. Each is said once."""


class NotSeparable(Error):
    code = "N0683"
    title = "term that does not separate"
    message = "this term is no product of a factor of the target and a factor of the source: {term}"
    label = "needs every pair of units, for every sample"
    help = "{help}"
    explain = """An update is written for one synapse and one sample, and is computed for all of them as matrix
products. That works where each term is (something of the target unit) times (something of the source unit) times
(something of the weight), however long the sum. A term such as `tanh(pre * post)` would need a number for each
sample and each synapse. Write it as `dense(tanh(pre * post))` if that is what you want: it takes as much memory."""


class RuleExpression(Error):
    code = "N0684"
    title = "expression that an equation cannot hold"
    message = "{why}"
    label = "not in an equation"
    help = "{help}"
    explain = """An equation of a rule is arithmetic (`+ - * / ^`, comparisons) and functions of single numbers on the words
of a synapse, with `sum`, `mean` (over units), `average` (over the batch), `incoming`, `outgoing` (through the weight) and
`running` (over target units up to this one)."""


class RuleMisfit(Error):
    code = "N0685"
    title = "a rule that does not fit its network"
    message = "`{rule}` reads `{word}`, and {why}"
    label = "{label}"
    help = "{help}"
    explain = """`post` is the value behind the longest chain of elementwise functions after a linear map. Where the drive
enters a gate, or is read twice, there is no such value, and a rule that speaks of `post` says nothing about that
synapse. Let such a synapse learn otherwise: `train SELECTOR { learn = backprop }`."""


class NoJunction(Error):
    code = "N0686"
    title = "parameter that a rule says nothing about"
    message = "`{rule}` is about the weights of linear maps, and `{key}` {why}"
    label = "`{key}` is to learn by this rule"
    help = "{help}"
    explain = """The equations of a rule are about synapses: weights between what enters a linear map and what it gives.
Gains of norms, embeddings, learned activations and the like are no synapses. A rule may say what becomes of them with
`update rest -= rest.error`; otherwise freeze them, or let another rule teach them in a `train` block."""


class OutputElsewhere(Error):
    code = "N0687"
    title = "output's value at a hidden synapse"
    message = "`{rule}` reads `{word}` at `{path}`, whose post is not the output"
    label = "there is one such number a unit of the output"
    help = "{help}"
    explain = """`output.error` and `output.target` are numbers of the output's units. At the last synapse they meet its post
unit by unit; to any other synapse they have to be sent: `feedback B: output -> post = normal(std = 0.1)` and
`B(output.error)`. Or teach the last layer alone, with a `train` block."""


class RuleShapes(Error):
    code = "N0688"
    title = "shapes that do not fit in a rule"
    message = "{why}"
    label = "{label}"
    expected = "{expected}"
    found = "{found}"
    help = "{help}"
    explain = """What a rule computes must have the shape of what it changes: feedback gives one number for each unit that
it reaches, and `running` and `dense` need a matrix as the weight."""


class RuleLoss(Error):
    code = "N0689"
    title = "loss that a rule cannot read"
    message = "`{rule}` reads `{word}`, and {why}"
    label = "{label}"
    help = "{help}"
    explain = """`output.target` is the target in the form of the one output that the loss compares with it: the loss is then a
word, such as `cross_entropy`, and the network has one output. `output.error` there is for every loss."""


class PhaseWord(Error):
    code = "N0691"
    title = "phase that is run in no known way"
    message = "{why}"
    label = "not a way to run a phase"
    help = "{help}"
    explain = """A phase runs the network: `forward()` once, `forward(noise = s)` with normal noise of that width added to every
drive, `forward(shuffle = "label")` with the rows of one input in another order, or `settle(..)` until the states of a
system are at rest."""


class NoEquations(Error):
    code = "N0693"
    title = "rule without equations"
    message = "`{rule}` is written in Python, and has no equations to be shown as torch code"
    label = "the rule of `{experiment}`"
    help = "{help}"
    explain = """`compile --emit rule` shows what equations came to: for each synapse the matrix products that give its
direction. A rule in Python, such as `backprop`, is code already: `nnspec explain` says what it computes."""


class FeedbackValue(Error):
    code = "N0692"
    title = "feedback that cannot begin so"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """Feedback begins as arithmetic of words for initial values (`normal(std = 0.1)`, drawn once), of `sample(..)` of
such a word (drawn anew at every step), and of `weight` for feedback into the sources of the same synapse."""
