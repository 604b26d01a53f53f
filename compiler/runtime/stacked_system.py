"""Networks that settle, many at once: their forward, a step of which is one flat program for all.

In: a plan whose graph has states of its own, settled by steps that are all alike. All steps are taken: none looks at the
residual on the way, so that a network's numbers do not depend on its company.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnspec.compiler.runtime.many import Many, ManySteps

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.ir import Graph
    from nnspec.compiler.runtime.settling import Unsettled
    from nnspec.compiler.runtime.streams import Streams

    States = tuple[Tensor, ...]
    Draw = Callable[[Streams, Callable[[], list[States]]], list[States]]


class StackedSystem:
    """The forward of many networks that settle."""

    def __init__(self, graph: Graph, names: Sequence[str]) -> None:
        from nnspec.compiler.emit.system import system

        self.system = system(graph)
        self.names = tuple(names)
        count = len(self.system.states)
        self.steps = ManySteps(lambda *given: self._step(given[:count], *given[count:]))
        self.outputs = Many(lambda *given: self._outputs(given[:count], *given[count:]))

    def _begun(self, given: tuple[Tensor, ...]) -> Any:
        weights = self.system.weights(dict(zip(self.names, given, strict=False)))
        return self.system.begin(weights, *given[len(self.names) :])

    def _step(self, states: States, *given: Tensor) -> States:
        return self.system.moved(self._begun(given), states)

    def _outputs(self, states: States, *given: Tensor) -> States:
        return self.system.readout(self._begun(given), states)

    def begin(
        self,
        state: Mapping[str, Tensor],
        pieces: Sequence[tuple[Tensor, ...]],
        each: Sequence[Streams],
        draw: Draw,
    ) -> list[States]:
        """Return where the states begin for pieces of rows that all share, as `draw` says from each one's streams."""
        own = tuple(state[name][0] for name in self.names)
        return starts(self.system, [self._begun((*own, *inputs)) for inputs in pieces], each, draw)

    def __call__(
        self,
        state: Mapping[str, Tensor],
        begin: States,
        inputs: tuple[Tensor, ...],
        unsettled: Unsettled | None = None,
    ) -> Any:
        """Return what each network gives for rows that all share: one value (network, row, ..), or several.

        `unsettled` is told of networks whose states did not settle.
        """
        own = [state[name] for name in self.names]
        before = states = self.system.begun(begin)
        advance = self.steps.begin(states, own, inputs)
        options, size = self.system.loop.solver.options, self.system.size(None, None)
        for _ in range(options["steps"]):
            before, states = states, advance(states)
        if unsettled is not None and options["tolerance"]:
            found = residual(before, states) / size
            unsettled.note("states", found, options["steps"], options["tolerance"], size)
        found = self.outputs((*states, *own), inputs)
        return found[0] if len(found) == 1 else found


def residual(before: States, after: States) -> Tensor:
    """Return the largest change of any unit of each network."""
    import torch

    found = [(a - b).abs().flatten(1).amax(1) for a, b in zip(after, before, strict=True)]
    return torch.stack(found).amax(0)


def starts(system: Any, given: Sequence[Any], each: Sequence[Streams], draw: Draw) -> list[States]:
    """Return the states of many networks as they begin, of batches with these `given` of one of them."""
    import torch

    if not system.draws:
        return [tuple(s.expand(len(each), *s.shape) for s in system.start(own)) for own in given]
    made = [draw(streams, lambda: [system.start(own) for own in given]) for streams in each]
    return [
        tuple(torch.stack(states) for states in zip(*batch, strict=True)) for batch in zip(*made, strict=True)
    ]
