"""A network cut open at its functions: what its linear pieces show of the weights, whatever flows between them.

In: a typed graph and a state. What a function makes is replaced by numbers of our own, and what it reads becomes an
output, so that a direction of the weights that changes no output of the cut network changes none of the network itself.
What functions let through takes part as unknowns beside the weights (see `openings`). Products and powers of values may
be left whole, too: what is null then beyond the rest is of polynomials, of which many decompositions are one, and no
group leads from one to another (J. Kileel, M. Trager, J. Bruna, On the expressive power of deep polynomial neural
networks, NeurIPS 2019). Directions are exact to first order, at the weights at hand.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.chart import Chart, State
from nnspec.compiler.fibres.openings import PASSED, Opening, opening_of, product_of_powers
from nnspec.compiler.fibres.probe import SYMBOLIC
from nnspec.compiler.fibres.rank import spectrum
from nnspec.compiler.fibres.values import Runner
from nnspec.compiler.flat import Flat, Use, flatten
from nnspec.compiler.ir import Graph, Type, state_key
from nnspec.compiler.symmetry.draws import learned_keys, random_inputs

if TYPE_CHECKING:
    from torch import Tensor

LIMIT = 1500  # unknowns; the cost grows with the cube


class Opened(Chart):
    """The cut network as a function of its weights and of what its functions let through.

    Only weights that linear pieces alone read move. Inputs are those of the network, then what functions make.
    """

    def __init__(
        self,
        graph: Graph,
        state: Mapping[str, Tensor],
        seed: int = 0,
        *,
        still: frozenset[str] = frozenset(),
        leave: str = "",
    ) -> None:
        import torch

        flat = flatten(graph)
        openings = _openings(flat, leave)
        cut = [use for use, found in zip(flat.uses, openings, strict=True) if found and not found.is_fed]
        taken = still.union(key for use in cut for key in _keys(use))
        moving = {key: torch.arange(state[key].numel()) for key in learned_keys(graph) if key not in taken}
        super().__init__(graph, state, seed, entries=moving)
        self.flat = flatten(self.graph)
        self.openings = openings
        self.runners = [
            None if found and not found.is_fed else Runner(use)
            for use, found in zip(self.flat.uses, openings, strict=True)
        ]
        self.unknowns = [shape for found in openings if found for shape in found.unknowns]
        self.own = [
            self.flat.values[number].type
            for use, found in zip(self.flat.uses, openings, strict=True)
            if found
            for number in use.outputs
        ]
        self.weights = self.count
        extra = sum(prod(shape) for shape in self.unknowns)
        self.count += extra
        self.point = torch.cat([self.point, torch.zeros(extra, dtype=torch.float64)])

    def state(self, vector: Tensor) -> State:
        return super().state(vector[: self.weights])

    def draw(self, seed: int, count: int) -> tuple[Tensor, ...]:
        """Return inputs of the network, and numbers in place of what its functions make."""
        import torch

        random = torch.Generator().manual_seed(2**32 + seed)  # other numbers than those of the inputs
        given = (*random_inputs(self.graph, count, seed), *(_drawn(kind, count, random) for kind in self.own))
        return tuple(torch.view_as_real(item) if item.is_complex() else item for item in given)

    def outputs(self, vector: Tensor, inputs: tuple[Tensor, ...]) -> Tensor:
        """Return all that is seen of the cut network [samples, m]."""
        import torch

        from nnspec.compiler.emit.load import plain_attention, plain_norms

        with torch.random.fork_rng(devices=[]), plain_attention(), plain_norms():
            torch.default_generator.manual_seed(self.seed)
            seen = self._seen(vector, inputs)
        return torch.cat(
            [_row(item) for item in seen if item.is_floating_point() or item.is_complex()], dim=1
        )

    def _seen(self, vector: Tensor, inputs: tuple[Tensor, ...]) -> list[Tensor]:
        state = self.state(vector)
        sizes = [prod(shape) for shape in self.unknowns]
        parts = zip(vector[self.weights :].split(sizes) if sizes else (), self.unknowns, strict=True)
        unknowns = iter([part.view(shape) for part, shape in parts])
        kinds = (*(self.flat.values[number].type for number in self.flat.inputs), *self.own)
        whole = [_whole(item, kind) for item, kind in zip(inputs, kinds, strict=True)]
        known = dict(zip(self.flat.inputs, whole, strict=False))
        own = iter(whole[len(self.flat.inputs) :])
        seen: list[Tensor] = []
        for use, found, run in zip(self.flat.uses, self.openings, self.runners, strict=True):
            given = tuple(known[number] for number in use.inputs)
            if found is not None:
                numbers = tuple(next(own) for _ in use.outputs)
                given = tuple(self._in_each(number, known, len(inputs[0])) for number in use.inputs)
                shown, given = found.act(given, numbers, tuple(next(unknowns) for _ in found.unknowns))
                seen += shown
            made = given if run is None else run(state, given)
            known.update(zip(use.outputs, made, strict=True))
        return seen + [self._in_each(number, known, len(inputs[0])) for number in self.flat.outputs]

    def _in_each(self, number: int, known: Mapping[int, Tensor], count: int) -> Tensor:
        """Return a value with a batch axis; what is the same for all samples, such as a parameter, in each of them."""
        found = known[number]
        has_batch = found.dim() > len(self.flat.values[number].type.shape)
        return found if has_batch else found.expand(count, *found.shape)


def unseen(
    graph: Graph,
    state: Mapping[str, Tensor],
    seed: int = 0,
    *,
    still: frozenset[str] = frozenset(),
    leave: str = "",
) -> tuple[Opened, Tensor] | None:
    """Return the cut network, and directions [weights, k] of its weights that change nothing seen of it.

    Weights whose keys are `still` do not move.

    None where states settle in loops, where gradients are taken inside, and beyond `LIMIT`.
    """
    import torch

    flat = flatten(graph)
    if flat.cycles or any(use.primitive.operation == "pullback" for use in flat.uses):
        return None
    opened = Opened(graph, state, seed, still=still, leave=leave)
    if not 0 < opened.count <= LIMIT or not opened.weights:
        return None
    null = spectrum(opened, opened.draw).null[: opened.weights]
    left, values, _ = torch.linalg.svd(null, full_matrices=False)
    return opened, left[:, values > 1e-8]


def _openings(flat: Flat, leave: str) -> list[Opening | None]:
    """Return for each use how it is cut; what does not depend on the network's inputs is not."""
    live = set(flat.inputs)
    found: list[Opening | None] = []
    for use in flat.uses:
        flowing = tuple(number in live for number in use.inputs)
        found.append(opening_of(use, flowing, leave) if any(flowing) else None)
        if any(flowing):
            live.update(use.outputs)
    readers = Counter(number for use in flat.uses for number in use.inputs) + Counter(flat.outputs)
    makers = {number: place for place, use in enumerate(flat.uses) for number in use.outputs}
    for place, use in enumerate(flat.uses):
        inside = [makers.get(number, -1) for number in use.inputs]
        if all(at >= 0 and readers[number] == 1 for at, number in zip(inside, use.inputs, strict=True)):
            joined = product_of_powers(use, [flat.uses[at] for at in inside])
            if joined is not None:
                found[place] = joined
                for at in inside:
                    found[at] = PASSED
    return found


def _keys(use: Use) -> list[str]:
    return [state_key(held.path, tensor.name) for _, held in use.weights for tensor in held.weight.stored]


def _drawn(kind: Type, count: int, random: Any) -> Tensor:
    import torch

    shape = (count, *(size if isinstance(size, int) else SYMBOLIC for size in kind.shape))
    if kind.dtype == "complex":
        return torch.randn(shape, generator=random, dtype=torch.complex128)
    if kind.dtype == "real":
        return torch.randn(shape, generator=random, dtype=torch.float64)
    drawn = torch.randint(0, 2, shape, generator=random)
    return drawn.bool() if kind.dtype == "bool" else drawn


def _whole(item: Tensor, kind: Type) -> Tensor:
    """Return complex numbers of their pairs, in which they are drawn: gradients are taken of functions of reals."""
    import torch

    return torch.complex(item[..., 0], item[..., 1]) if kind.dtype == "complex" else item


def _row(item: Tensor) -> Tensor:
    """Return what is seen as a row for each sample."""
    import torch

    real = torch.stack([item.real, item.imag], dim=-1) if item.is_complex() else item
    return real.reshape(len(item), -1)
