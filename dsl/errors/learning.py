"""Errors of rules that no equation holds, and of what they are to teach (N0740 to N0759)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class TooManyDirections(Error):
    code = "N0740"
    title = "more random directions than parameters"
    message = "`dim` is {dim}, and there are {total} parameters to learn"
    label = "a subspace has fewer dimensions than the whole"
    help = "take a `dim` well below {total}, or learn by `backprop`"
    explain = """`random_subspace` follows the gradient along few random directions. With as many of them as
there are parameters nothing is saved, and backpropagation follows the gradient itself."""


class TooFewDirections(Error):
    code = "N0741"
    title = "fewer random directions than compartments"
    message = "`dim` is {dim}, and {parts} compartments are to share these directions"
    label = "some compartments would have none"
    help = "take a `dim` of {parts} or more, or fewer compartments"
    explain = """Each compartment of `random_subspace` has a basis of its own, and the directions are shared evenly.
A compartment without any would never learn."""


class RowsSeeEachOther(Error):
    code = "N0742"
    title = "samples that see each other"
    message = "`{rule}` looks at each sample alone, and {why}"
    label = "looks at samples one by one"
    help = "{help}"
    explain = """The gradient of one sample, and its share of a batch's, are defined where the output of a sample
depends on that sample alone. Batch normalization computes with the mean of the whole batch, and a loss that reads
`all(..)` or `row` compares samples with each other. `layernorm` takes the mean of one sample instead."""


class NoFiniteSet(Error):
    code = "N0743"
    title = "weight without values to try"
    message = "`coordinate_descent` tries the values that a weight may have, and `{key}` may be any number"
    label = "needs a finite set for each weight"
    help = "give the rule `values = [-1, 0, 1]`, or lay `ternary`, `binary` or `values(..)` on it"
    explain = """Coordinate descent over finite values compares the loss for every value of one weight at a time. The
values are those of the weight's constraint, or for weights that have none the rule's own."""


class NotOneByOne(Error):
    code = "N0744"
    title = "weight that cannot change one entry at a time"
    message = "`coordinate_descent` sets single entries of `{path}`, and {why}"
    label = "sets single entries"
    help = "leave `{constraint}` out, or learn by `backprop`"
    explain = """Coordinate descent stores in each entry one of finitely many numbers, which the network uses as they are.
That holds under `binary`, `ternary` and `values` without a scale, and under masks. A symmetric or low-rank weight has no
entries of its own, and projections and proximal maps move entries after each step."""


class OptimizerHasNoPart(Error):
    code = "N0745"
    severity = "warning"
    title = "optimizer without a part"
    message = "`{rule}` sets weights itself, and `{field}` changes nothing"
    label = "takes no part"
    help = "leave it out"
    explain = """An optimizer steps along the direction that a rule gives it. A rule that chooses weights among finitely many
values gives no direction."""


class DrawsInBetween(Error):
    code = "N0746"
    title = "network that draws"
    message = "`{rule}` computes with one function of the weights, and `{word}` draws at each forward"
    label = "needs the same network every time"
    help = "{help}"
    explain = """Jacobians of single samples, and a surrogate that is minimised, belong to one function. A network that
draws, as `dropout` does, is another function at every forward."""


class NotConvexInOutputs(Error):
    code = "N0747"
    title = "loss without a convex surrogate"
    message = "`successive_convex` keeps a loss that is known to be convex and smooth in the outputs: {known}"
    label = "cannot keep this loss"
    help = 'take one of these, or `successive_convex(linearise = "all")`, which linearises the loss too'
    explain = """The surrogate of successive convex approximation is convex because the network is linear in it and the loss
is convex in the outputs; Newton's method asks for second derivatives too. Of an expression, or of a loss with a kink, that
is not known."""


class KinkOutsideSurrogate(Error):
    code = "N0752"
    title = "penalty with a kink beside a surrogate"
    message = "`{penalty}` on `{weight}` has a kink, which the surrogate of `successive_convex` leaves out"
    label = "minimises a surrogate of smooth penalties"
    help = "take `l2` in its place, the argument or the constraint, or learn by a rule that gives a gradient"
    explain = """A penalty with a kink, such as `l1`, shrinks weights after the step, by its strength times the learning rate.
That leads to the minimum of loss and penalty where the step is the learning rate times a gradient. Steps of successive convex
approximation go to the minimum of a surrogate, which the shrinking then leaves by an amount that has nothing to do
with the loss. The paper has the penalty inside of the surrogate, which is not built. Smooth penalties are part of it."""


class TooManyToSolve(Error):
    code = "N0748"
    title = "too many parameters to solve for"
    message = "`successive_convex` solves for all {total:,} parameters at once, and {most:,} are the most"
    label = "a matrix of that many rows and columns each step"
    help = 'let it teach a part, in a `train` block, or take `successive_convex(linearise = "all")`'
    explain = """A step keeps a matrix with a row and a column for each parameter and solves a linear system with it: its cost
grows with the cube of their number."""


class NotAnEnergy(Error):
    code = "N0749"
    title = "loss that is no energy"
    message = (
        "`probability_flow` lowers the energy of the data, and `{loss}` compares an output with a target"
    )
    label = "needs an energy"
    help = "let the network give an energy of its input, one number a sample, and write `loss = energy`"
    explain = """Under `probability_flow` the loss of a sample is the energy of its bits: what the network gives for them. Data
get a lower energy than the states that differ from them in one bit. No target takes part."""


class NotHidden(Error):
    code = "N0750"
    title = "no hidden units of this name"
    message = "`{network}` has no value `{name}` that could be hidden units"
    label = "no value of the body"
    help = "{help}"
    explain = """`hidden` names values that the body of the network makes of its inputs, bits that are inferred from the data,
such as `h = where(sample(uniform, like = p) < p, 1, 0)`. The rule turns them one by one, and computes the energy with the turned
ones in their place."""


class NotBits(Error):
    code = "N0751"
    title = "data that are no bits"
    message = "`{rule}` turns bits, and the inputs hold other numbers than 0 and 1"
    label = "not all 0 or 1"
    help = "threshold the data first"
    explain = """Probability flow over bits compares each state with those in which one bit is turned, 0 to 1 or 1 to 0."""
