"""What symmetries are used for, from Python: on a `Network` and state dicts of its weights.

In: a network of a spec, and weights that are its own (RunError otherwise). All results are in double precision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nnspec.spec import Network

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.symmetry.align import Aligned
    from nnspec.compiler.symmetry.canonical import Canonical
    from nnspec.compiler.symmetry.equivalent import Equivalence
    from nnspec.compiler.symmetry.teleport import Teleported

State = dict[str, "Tensor"]


def canonical(network: Network, state: State) -> Canonical:
    """Return the canonical member of the orbit of some weights, with its hash and the element that leads to it.

    Of weights that take few values it is one of those values: they are stored for learning, too, with scales that give them.
    """
    from nnspec.compiler.rewrites.hard import is_soft, soft_state
    from nnspec.compiler.symmetry.canonical import canonical as found
    from nnspec.compiler.symmetry.group import symmetry_group
    from nnspec.compiler.symmetry.weights import in_use

    given = _own(network, state)
    form = found(symmetry_group(network.graph), in_use(network.graph, given))
    if not is_soft(network.graph):
        return form
    return form.replace(state=soft_state(network.graph, form.state, given))


def align(network: Network, ours: State, theirs: State, *, restarts: int = 4, seed: int = 0) -> Aligned:
    """Return `theirs` moved near to `ours` by an element of the group: a local optimum."""
    from nnspec.compiler.symmetry.align import align as found
    from nnspec.compiler.symmetry.group import symmetry_group

    return found(
        symmetry_group(network.graph),
        _own(network, ours),
        _own(network, theirs),
        restarts=restarts,
        seed=seed,
    )


def equivalent(
    ours: Network, our_state: State, theirs: Network, their_state: State, *, tolerance: float = 1e-6
) -> Equivalence:
    """Return whether a symmetry takes one network with its weights to the other: yes, no or undecided, and why."""
    from nnspec.compiler.symmetry.equivalent import equivalent as found

    states = _own(ours, our_state), _own(theirs, their_state)
    return found(ours.graph, states[0], theirs.graph, states[1], tolerance)


def moved(network: Network, state: State, seed: int = 0, *, spread: float = 0.3) -> State:
    """Return weights moved by a random element of the group: other numbers, the same function.

    For tests: whatever is said to depend on the function alone must not change.
    """
    from nnspec.compiler.symmetry.canonical import exact
    from nnspec.compiler.symmetry.elements import act, random_element
    from nnspec.compiler.symmetry.group import symmetry_group

    group = symmetry_group(network.graph)
    return act(group.derivation, random_element(group, seed, spread), exact(_own(network, state)))


def teleport(
    network: Network,
    state: State,
    loss: Callable[[State], Tensor],
    *,
    steps: int = 20,
    rate: float = 0.1,
    reach: float = 1.0,
) -> Teleported:
    """Return weights moved along their orbit to where the gradient of `loss` is steeper, to go on training from there.

    `loss` is a function of a state dict, such as the mean over a batch by `network.function()`.
    """
    from nnspec.compiler.symmetry.group import symmetry_group
    from nnspec.compiler.symmetry.teleport import teleport as found
    from nnspec.compiler.tensors import learned_keys

    given = _own(network, state)
    learned = tuple(key for key in learned_keys(network.graph) if given[key].dtype.is_floating_point)
    return found(symmetry_group(network.graph), given, loss, learned, steps=steps, rate=rate, reach=reach)


def _own(network: Network, state: State) -> State:
    from nnspec.compiler.symmetry.weights import checked

    return checked(network.graph, state, "the state")
