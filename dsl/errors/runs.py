"""What can go wrong while training, and with the folder of a run (N08xx)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class LossNotFinite(Error):
    code = "N0801"
    title = "the loss is no longer a number"
    message = "seed {seed}: the loss became {value} in epoch {epoch}, step {step}"
    label = "stopped here; {where}"
    help = "lower the learning rate, or scale the data; the weights before epoch {epoch} are in {path}"
    explain = """A loss that is infinite or not a number makes every weight useless at the next step. The seed
is stopped there and the others go on. Its last epoch is replayed to say where the first value that is not
finite appeared: in the data, the output of a layer, the loss, a gradient, or a parameter. The run is kept
with the weights of the last epoch that was sound. Usual causes are a learning rate that is too high, inputs
that are not scaled, and `log`, `sqrt` or a division near zero."""


class RunLocked(Error):
    code = "N0802"
    title = "the run is in use"
    message = "another process{holder} is training in {path}"
    label = "not started"
    help = "wait for it to end, or train into another folder with `--out`"
    explain = """Two processes that write one run would mix their numbers. A run is locked while it is trained;
the lock goes with the process that holds it, even if that process is killed."""


class DiskFull(Error):
    code = "N0803"
    title = "the disk is full"
    message = "there is no space left to write {path}"
    label = "stopped here"
    help = "free some space, then go on with `--resume`"
    explain = """A file of the run could not be written. Checkpoints are replaced only once the new one is
whole on the disk, so the run is as it was at the last checkpoint and can be resumed."""


class RunNotWritable(Error):
    code = "N0804"
    title = "the run cannot be written"
    message = "cannot write {path}: {why}"
    label = "stopped here"
    help = "choose another folder with `--out`"
    explain = """The folder of a run must be one that can be written to."""


class NotEnoughMemory(Error):
    code = "N0805"
    title = "not enough memory"
    message = "training needs at least {needed}, and {available} are free on {device}"
    label = "{count:,} parameters"
    help = "use a smaller network, an optimizer without a state such as sgd, or fewer bits (`precision`)"
    explain = """Weights, gradients, the optimizer's state and the copy for the last checkpoint are counted
before anything is allocated. Activations come on top, so that this is the least a run can take."""


class OutOfMemory(Error):
    code = "N0806"
    title = "out of memory"
    message = "{device} ran out of memory in epoch {epoch}"
    label = "stopped here"
    help = "lower `batch`; the run goes on from its last checkpoint with `--resume` if only that changes"
    explain = """The weights fit, but the activations of a batch did not. Their size grows with the batch."""


class CheckpointUnreadable(Error):
    code = "N0807"
    title = "the checkpoint cannot be read"
    message = "cannot go on from {path}: {why}"
    label = "not resumed"
    help = "train anew, without `--resume`"
    explain = """A checkpoint holds the weights, the state of the optimizer and the states of the random
generators. This one is damaged, or was written for another network or by another version."""


class NothingToJudgeBy(Error):
    code = "N0808"
    title = "nothing to judge epochs by"
    message = "{why}"
    label = "watches the validation part"
    help = "{help}"
    explain = """Early stopping, and keeping the best weights, choose an epoch by a number on the validation
part. The test part is no substitute: what is chosen by it can no longer be judged by it."""


class BatchOfOne(Error):
    code = "N0809"
    title = "a batch of one row"
    message = "{rows} rows in batches of {batch} leave a last batch of one row, which cannot be normalised"
    label = "normalises over the batch"
    help = "write `batch = {better}`"
    explain = """`batchnorm` divides by the standard deviation over the batch, which one row does not have."""


class StartDiverged(Error):
    code = "N0811"
    title = "weights to begin with diverged"
    message = "seed {seed} of `{name}` diverged, so there are no weights to begin with"
    label = "begins with these"
    help = "lower the learning rate of `{name}`, or leave that seed out"
    explain = """`network = trained(other)` begins with the weights that training the other experiment gave. A
training whose loss is no longer finite gives none."""


class WeightsMissing(Error):
    code = "N0812"
    title = "weights that a file does not have"
    message = "`{path}` does not have the weights that are to begin with it: {why}"
    label = "read from this file"
    help = "it has {there}; `prefix` says what names begin with there"
    explain = """Every tensor that `initialize ...: load(...)` selects is in the file, under its name in the network
or under what `prefix` makes of it, and of the same shape. Nothing is left as it began by oversight."""


class WeightsUnreadable(Error):
    code = "N0813"
    title = "file of weights that cannot be read"
    message = "`{path}` cannot be read as a safetensors file: {why}"
    label = "named here"
    explain = """Weights are read from safetensors files, whose header is checked before anything else."""


class NoSuchRun(Error):
    code = "N0810"
    title = "no trained weights"
    message = "{why}"
    help = "train it first"
    explain = """An analysis of trained weights reads them from the folder of a run, where training has left
them."""


class DeviceAbsent(Error):
    code = "N0820"
    title = "no such device here"
    message = "`{device}` is asked for, and {why}"
    label = "not here"
    help = "{help}"
    explain = """`device = "auto"` takes a GPU if torch can use one and the CPU otherwise. A device that is
named must be there: falling back silently would change the time a run takes, and its last digits."""


class PrecisionUnsupported(Error):
    code = "N0821"
    title = "precision not supported here"
    message = "{device} cannot compute in {precision}"
    label = "not on this device"
    help = "{help}"
    explain = """Apple's GPUs have no double precision."""
