"""What passes refuse that compute with the weights at hand, or read a run's history (N0970 to N0978, N0930)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class RankPrecision(Error):
    code = "N0970"
    title = "float32 where ranks need float64"
    message = "`{pass_name}` counts ranks in float64, not in {precision}"
    help = "leave `precision` out: weights stored as float32 are taken as the numbers that they are"
    explain = """A rank is a count of singular values that are not zero. In float32 rounding leaves about 1e-7 of the
largest one where an exact computation leaves nothing, and smooth networks have singular values of that size that do
count. float32 weights are no obstacle: they are numbers like others, and all that follows from them is computed
in double precision."""


class WeightsNotFinite(Error):
    code = "N0971"
    title = "weights that are not finite, or give what is not finite"
    message = "`{pass_name}` cannot analyse {what} that are not finite: {where}"
    help = "the training diverged, the file is damaged, or an operation has no value there; analyse other weights"
    explain = """A network with a weight that is NaN or infinite computes no function of its inputs, so it has no rank and
no equivalent. So it is with outputs or derivatives that are not finite, as those of a square root of what is
negative. The message names the tensors, or the weights."""


class TooManyParameters(Error):
    code = "N0972"
    title = "too many parameters"
    message = (
        "`{pass_name}` {does} networks of at most {limit:,} parameters, and {network} has {parameters:,}"
    )
    help = "{advice}"
    explain = """Ranks and Levenberg-Marquardt steps factor matrices with a row for each parameter: their cost grows with the
cube of that number. GENNI itself, as the paper has it, does not need them: `search = adam(...)` or `sgd(...)` with
`polish = false` searches networks of any size."""


class DeadTeacher(Error):
    code = "N0973"
    title = "the teacher computes (nearly) a constant"
    message = (
        "the teacher of `{network}` gives nearly the same output on the whole probe: its variance is {variance:.2g}, "
        "its mean square {square:.2g}"
    )
    help = "another `teacher` seed, a wider `probe`, or the network without the function at its output"
    explain = """GENNI calls two networks equivalent if they differ by little. If the teacher computes a constant, because all
its units are off or its output function is saturated, then every dead network is equivalent to it and the picture
shows dead networks. The distance is therefore measured against the variance of the teacher's outputs, and a teacher
without variance is refused. (One of the two examples that come with the paper's code is of this kind.)"""


class TooFewStudents(Error):
    code = "N0974"
    title = "too few students for a slice"
    message = "a slice of {dims} dimensions goes through {needed} networks, and there are {found}"
    help = "{advice}"
    explain = """The slice that GENNI draws goes through one network that was found, its origin, and one more for each
dimension, in directions that are independent of one another."""


class GridTooLarge(Error):
    code = "N0975"
    title = "a grid of too many points"
    message = (
        "a grid of {grid} points along {dims} axes has {points:,} points, and at most {limit:,} are computed"
    )
    help = "`grid = {most}` is the most for {dims} dimensions"
    explain = """Each point of the grid is a network that is run on the whole probe. The limit keeps time and memory of one
analysis within bounds."""


class UnfitAnalysis(Error):
    code = "N0976"
    title = "an analysis that does not fit the network"
    message = "`{pass_name}` cannot be used on {network}: {why}"
    help = "{advice}"
    explain = """What is asked for needs something that the network does not have: weights that may move by small steps,
two real inputs for a map of a plane, connections between units for a matrix of them, or, to repeat the draws of the GENNI
paper's own code, one input of real numbers of known size and a teacher that is drawn."""


class WrongScore(Error):
    code = "N0977"
    title = "a score that is not measured"
    message = "`{pass_name}` judges seeds by a score of their training, and {why}"
    help = "{help}"
    explain = """After each epoch a run measures its loss and the metrics of the experiment on every part of the data, and
`success` reads these numbers. So the score must be one of them, written as part and name: `test.accuracy`, `train.loss`."""


class NoSettlingPhase(Error):
    code = "N0978"
    title = "a rule without phases that settle"
    message = "`{pass_name}` watches states settle in the phases of a learning rule, and {why}"
    help = "{help}"
    explain = """Rules such as `equilibrium`, `contrastive_hebbian` and `deep` let the states of a network settle, freely and
then under a nudge, and learn from where they come to rest. Only such rules have phases to show."""


class TooMuchWork(Error):
    code = "N0930"
    title = "an analysis that would not end in minutes"
    message = (
        "`{pass_name}` of {network} would take about {work:.0e} operations, and takes at most {limit:.0e}"
    )
    help = "{advice}"
    explain = """A derivative of an output is a pass through the network and back. `dimension` needs two for each weight, and
of states that settle it differentiates 30 steps; a search by Levenberg-Marquardt needs one for each sample, student and
step, through all steps that the solver may take, and then solves a system of as many equations as there are weights. How many
operations that is follows from the spec, so it is known before anything is computed: 1e12 of them take about half a minute of
one core."""
