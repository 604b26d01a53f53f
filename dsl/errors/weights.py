"""Errors of weights that are compared, brought together or moved along their orbit (N0959, N0962 to N0969)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class NotNumbers(Error):
    code = "N0962"
    title = "weights that are not numbers"
    message = "{where}: `{name}` holds {count} entries {what}"
    help = (
        "a training that diverged leaves such weights: lower its learning rate, or take an earlier checkpoint"
    )
    explain = """Weights with infinite entries or NaN have no distance from others and no normal form; of entries beyond
1e100 neither can be computed in double precision, which their products leave."""


class OtherTensors(Error):
    code = "N0963"
    title = "weights of another spec"
    message = "{where} does not hold the weights of `{network}`: {difference}"
    help = "{help}"
    explain = """The tensors of a run or of a file must have the names, the shapes and the kinds of numbers (real, complex,
whole, true or false) that the network has; real ones may be of any precision. The message lists those that are missing,
those that the network does not have, and those of another shape or another kind."""


class OtherArchitecture(Error):
    code = "N0964"
    title = "different architectures"
    message = "`{first}` and `{second}` are not one architecture: {difference}"
    help = (
        "only weights of one architecture can be aligned; `nnspec equivalent` compares specs without weights"
    )
    explain = """Alignment moves the weights of one network by permutations, signs, scales and rotations of its
wires. Two networks whose operations, sizes or connections differ have no such wires in common."""


class TooLargeToEnumerate(Error):
    code = "N0965"
    title = "a group too large to enumerate"
    message = (
        "the component group of {network} has about 10^{digits} elements, and at most {limit} are enumerated"
    )
    help = (
        "leave `enumerate` out: the order is known without counting, and orbits are found by `canonical` and `align`; "
        "or give a larger `limit`"
    )
    explain = """The size of the orbit of given weights is the order of the group over that of their stabiliser.
Counting it element by element is meant for small networks, where it checks what was derived."""


class OneMember(Error):
    code = "N0966"
    title = "nothing to compare with"
    message = "`{pass_name}` compares two seeds of an experiment, and there {count}"
    help = "{help}"
    explain = """A pass that compares trained networks takes two of the seeds that an experiment was trained with.
Weights of other runs or files are compared by the commands `nnspec align`, `nnspec merge` and `nnspec equivalent`."""


class NeedsTraining(Error):
    code = "N0967"
    title = "needs an experiment"
    message = "`{pass_name}` needs the data, the loss and the learning rule of an experiment, and `{target}` is a network"
    help = "analyse an experiment of the file: `analyze EXPERIMENT {{ {pass_name} }}`"
    explain = """Some analyses take steps of training or measure a loss. They are asked of an experiment, which says
on which data and how."""


class NoWeightsThere(Error):
    code = "N0968"
    title = "no weights there"
    message = "`{name}` has no weights to read: {why}"
    help = "write the folder of a run, `runs/NAME-HASH`, with `:SEED` behind it for one of its seeds, or a .safetensors file"
    explain = """Where a command compares weights, each is named by the folder of a run, with the seed behind a
colon (the first of its seeds otherwise), or by a file that holds tensors by their state-dict keys."""


class StepsNotFinite(Error):
    code = "N0959"
    title = "steps of training that are not finite"
    message = "`{pass_name}` compares steps of training of `{target}`, and after {steps} of them {what} is not finite"
    help = "make the steps smaller; in a network whose states settle, see whether they do: `--pass stability`"
    explain = """Whether a symmetry commutes with learning, and whether learning is faster from elsewhere on an orbit, is
read off weights and losses after a few steps. Where these are NaN or infinite there is nothing to compare."""


class TooLargeToCompare(Error):
    code = "N0969"
    title = "a network too large to bring into a canonical form"
    message = "`{pass_name}` works on networks of at most {limit} parameters, and {network} has {parameters}"
    help = "the symmetry group itself needs no weights: `--pass symmetry`"
    explain = """A canonical form turns, sorts and balances all weights at once, in double precision and several copies. Beyond
the limit that does not fit into the memory of an ordinary machine."""
