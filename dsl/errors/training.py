"""Errors of how an experiment trains: stages, restarts, parts that learn differently, weights from elsewhere
(N0635 to N0649)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class NotASelector(Error):
    code = "N0635"
    title = "not a selector"
    message = "a selector is needed here: a path such as `encoder.**` or `head.weight`, or a list of these"
    label = "not a path"
    explain = """A stage is told which parameters it is about by a path of instance names that ends in a weight,
with `*` for one part and `**` for any number of parts."""


class NothingLearned(Error):
    code = "N0636"
    title = "nothing that is learned"
    message = "`{text}` selects nothing that is learned"
    label = "only tensors that are kept, frozen, or stored by another instance"
    explain = """Stages and `train` blocks are about what a network learns. Running statistics and frozen weights
are not learned, and a tied weight is learned where it is stored: select that one."""


class StagesAndLength(Error):
    code = "N0637"
    title = "both stages and a length"
    message = "`stages` and `{name}` both say how long to train"
    label = "a second length"
    help = "keep `stages`, each `fit` of which has a length of its own, or `{name}`"
    explain = """A run is as long as its stages together, or as `epochs` or `steps` say."""


class NothingToFit(Error):
    code = "N0638"
    title = "stages that train nothing"
    message = "{why}"
    label = "nothing learns here"
    help = "{help}"
    explain = """An experiment trains something in each `fit`: at least one stage is a `fit`, and in each of them
at least one parameter is neither frozen nor outside all `train` blocks."""


class PrunedThroughMap(Error):
    code = "N0639"
    title = "pruning a constrained weight"
    message = "`prune` cannot make `{key}` zero: the network uses `{map}` of what is stored"
    label = "would remove stored numbers, not weights"
    help = "select other weights: `prune(density = 0.1, select = head.weight)`"
    explain = """Pruning sets stored numbers to zero. Where a constraint lies between the stored numbers and the
weight, the weight need not be zero then: a binary weight is never zero. Masks and other constraints that only say which
weights there are do not come between; entries that they leave out are not counted."""


class BlocksOverlap(Error):
    code = "N0640"
    title = "two blocks train one parameter"
    message = "`{key}` is in two `train` blocks"
    label = "selected again here"
    help = "take it away from one of them: `train ... except ...`, or write `train rest` for what is left"
    explain = """Each parameter has one optimizer and one loss, so it is in one `train` block at most. `rest` is
everything that no other block selects."""


class WrongBlock(Error):
    code = "N0641"
    title = "wrong `train` block"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """A `train` block says how the parameters that it selects learn: `loss`, `learn`, `optimizer`,
`schedule`, `every` (steps from one of its own to the next) and `during` (a part of the run, `0.5..1.0`). What
it leaves out comes from the experiment."""


class WrongSelect(Error):
    code = "N0642"
    title = "wrong choice among restarts"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """`restarts = 5` trains five networks a seed from different initialisations, and `select` says which
of them is the result: `min(validation.loss)` or `max(validation.accuracy)`, on the training or the validation
part. A test part that chooses is no test any more."""


class WrongStart(Error):
    code = "N0643"
    title = "weights that cannot be begun with"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """`network = trained(other)` is the network of another experiment, and begins with the weights that
its training gave: those of the same seed, or of its one seed. The weights must have the same shapes; what
constraints store besides is made from them."""


class TrainedCycle(Error):
    code = "N0644"
    title = "experiments that begin with each other"
    message = "`{name}` would begin with weights that its own training gives: {cycle}"
    label = "closes the cycle"
    explain = """`network = trained(other)` trains the other experiment first, so the other cannot begin with
this one's weights."""


class WrongFollow(Error):
    code = "N0645"
    title = "wrong `follow`"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """`shared target = follow(online, every = 500)` is an instance of the same shape as the shared
`online`, whose weights begin equal and follow: copied after every so many steps, or with `decay = 0.995` a mean
over the past. They do not learn."""


class WrongLoad(Error):
    code = "N0646"
    title = "weights that cannot be loaded"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """`initialize backbone.**: load("f.safetensors")` in an experiment begins the selected tensors with those
of a file under the spec's folder, or under `--data-root`. Other formats can run code when they are read."""


class NoSuchPart(Error):
    code = "N0647"
    title = "no such part of a trained network"
    message = "`{of}` has no part `{name}`"
    label = "no such instance"
    help = "{help}"
    explain = """`trained(E).encoder` is a layer like the instance `encoder` of the network of the experiment `E`: a name
after `as`, of a `shared` instance, or of the layer itself."""


class WrongPart(Error):
    code = "N0648"
    title = "part of a trained network that is no layer"
    message = "{why}"
    label = "{label}"
    help = "{help}"
    explain = """A part of a trained network that stands as a layer is one instance with all that it needs: a layer of
the library or of the spec, or one copy of those that are repeated (`trained(E).repeat[2]`)."""


class LoadOutside(Error):
    code = "N0649"
    title = "weights from a file outside of an experiment"
    message = "weights begin as a file says only in an experiment"
    label = "stands in a layer or network"
    help = "write this line in the experiments that train the network, with the path from the network on"
    explain = """A layer or network says what is computed and how its weights begin by themselves; a module compiled
from it needs no file. Which file a training begins with is said by the experiment, whose run is named by what is in
that file: `initialize backbone.**: load("f.safetensors")`."""
