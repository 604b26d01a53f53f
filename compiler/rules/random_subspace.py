"""`random_subspace`: the gradient seen through few random directions.

Gressmann, Eaton-Rosen and Luschi, "Improving Neural Network Training in Low Dimensional Random Bases" (NeurIPS
2020). P is a D x d matrix of independent entries of variance 1 / D; the direction is P P' grad L, whose mean over P is
(d / D) grad L. Redrawn at each step that is random bases descent, drawn once fixed projection descent (Li and
others 2018, "Measuring the Intrinsic Dimension of Objective Landscapes"). Several workers take a part of the batch
each, project it on bases of their own and exchange the d coordinates alone: bases are never sent, they are rebuilt from
(seed, step, worker, compartment), and so every worker computes the same update bit by bit. Small ones are kept for a step.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from nnspec.compiler.rules.backprop import gradient
from nnspec.compiler.rules.flat import flat_gradient, lay, sizes_of
from nnspec.compiler.rules.rule import Rule
from nnspec.compiler.rules.setting import Setting
from nnspec.compiler.runtime.seeds import stream_seed
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors.learning import TooFewDirections, TooManyDirections

if TYPE_CHECKING:
    from torch import Tensor

    Kept = dict[tuple[int, int], list[Tensor]]  # of one step: worker, compartment -> blocks of a basis

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams

_BLOCK = 1 << 22  # numbers of a basis that exist at a time


class Key(NamedTuple):
    """What a basis is rebuilt from."""

    seed: int
    step: int
    worker: int
    compartment: int


class RandomSubspace(Rule):
    name = "random_subspace"
    doc = """Random bases descent: the optimizer gets P P' times the gradient, P being `dim` random directions with
entries of variance 1 / D, drawn anew each step (Gressmann, Eaton-Rosen and Luschi, 2020); `redraw = "never"` searches
one random subspace (Li and others, 2018). On average that is dim / D times the gradient of D parameters: learning rates
are larger by as much. Compartments share `dim` evenly, each with a basis of its own; each of the workers projects its part
of the batch on bases of its own, and the direction is the mean of theirs."""
    requires = ("gradient",)
    arguments = (
        Argument(name="dim", kind="int", at_least=1, doc="random directions a step, in all compartments"),
        Argument(
            name="redraw",
            kind="choice",
            choices=("step", "never"),
            default="step",
            doc="whether each step has a basis of its own",
        ),
        Argument(
            name="distribution",
            kind="choice",
            choices=("normal", "uniform", "rademacher"),
            default="normal",
            doc="of the entries of a basis",
        ),
        Argument(
            name="compartments",
            kind="int",
            default=1,
            at_least=1,
            choices=("layer",),
            doc="parts of the parameters with a basis each: so many, of equal size, or one a layer",
        ),
        Argument(
            name="workers", kind="int", default=1, at_least=1, doc="how many project a part of the batch"
        ),
    )
    example = "learn = random_subspace(dim = 50)"

    def refusals(self, setting: Setting) -> Iterator[Error]:
        options, span = setting.choice.options, setting.choice.span
        sizes = sizes_of(setting)
        if sizes is None:  # known when the data are read
            return
        total, parts = sum(sizes), len(spans(setting.keys, sizes, options["compartments"]))
        if options["dim"] > total:
            yield TooManyDirections(span, dim=options["dim"], total=total)
        elif options["dim"] < parts:
            yield TooFewDirections(span, dim=options["dim"], parts=parts)

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        import torch

        options = run.options
        workers = [own for own in _shares(batch, options["workers"]) if own.rows]
        losses: list[Tensor] = []
        coordinates: list[list[Tensor]] = []
        kept: Kept | None = {} if len(workers) * options["dim"] * _size(run) <= _BLOCK else None
        for worker, share in enumerate(workers):
            losses.append(gradient(run, share))
            coordinates.append(project(run, flat_gradient(run), worker, kept))
        lay(run, combine(run, coordinates, kept))
        return torch.stack(losses).mean()


def project(run: LearningGroup, vector: Tensor, worker: int, kept: Kept | None = None) -> list[Tensor]:
    """Return the coordinates of a flat vector on one worker's bases, a tensor a compartment."""
    import torch

    found: list[Tensor] = []
    for number, (start, stop) in enumerate(_compartments(run)):
        blocks = _blocks(run, worker, number, vector, kept)
        found.append(torch.cat([block @ vector[start:stop] for block in blocks]))
    return found


def combine(run: LearningGroup, coordinates: Sequence[list[Tensor]], kept: Kept | None = None) -> Tensor:
    """Return the mean of the workers' directions, each rebuilt from its coordinates, as a flat vector."""
    import torch

    total = torch.zeros(_size(run)).to(run.parameters[0])
    for worker, own in enumerate(coordinates):
        for number, (start, stop) in enumerate(_compartments(run)):
            at = 0
            for block in _blocks(run, worker, number, total, kept):
                total[start:stop] += own[number][at : at + len(block)] @ block
                at += len(block)
    return total / len(coordinates)


def basis(key: Key, rows: int, width: int, distribution: str, like: Tensor) -> Iterator[Tensor]:
    """Yield the `rows` directions of a basis, in blocks (row, width), entries of variance 1 / width.

    Drawn on the CPU, so that every device sees the same ones, by a generator that the key alone seeds.
    """
    import torch

    generator = torch.Generator().manual_seed(stream_seed(key.seed, f"subspace {key[1:]}"))
    most = max(1, _BLOCK // width)
    for start in range(0, rows, most):
        block = torch.empty(min(most, rows - start), width, dtype=like.dtype)
        match distribution:
            case "uniform":
                block.uniform_(-math.sqrt(3), math.sqrt(3), generator=generator)
            case "rademacher":
                block.bernoulli_(0.5, generator=generator).mul_(2).sub_(1)
            case _:
                block.normal_(generator=generator)
        yield (block / math.sqrt(width)).to(like.device)


def spans(names: Sequence[str], sizes: Sequence[int], compartments: int | str) -> list[tuple[int, int]]:
    """Return where each compartment starts and ends among all numbers: of a layer, or of about equal size."""
    total = sum(sizes)
    if compartments == "layer":
        cuts = [0]
        for place, (name, size) in enumerate(zip(names, sizes, strict=True)):
            layer = name.rpartition(".")[0]
            if place and layer == names[place - 1].rpartition(".")[0]:
                cuts[-1] += size
            else:
                cuts.append(cuts[-1] + size)
        return list(pairwise(cuts))
    count = min(int(compartments), total)
    cuts = [total * number // count for number in range(count + 1)]
    return list(pairwise(cuts))


def _compartments(run: LearningGroup) -> list[tuple[int, int]]:
    return spans(run.names, [p.numel() for p in run.parameters], run.options["compartments"])


def _size(run: LearningGroup) -> int:
    return sum(p.numel() for p in run.parameters)


def _blocks(
    run: LearningGroup, worker: int, number: int, like: Tensor, kept: Kept | None
) -> Iterable[Tensor]:
    """Return the basis of a worker and a compartment at this step: what is kept of it, else drawn anew."""
    if kept is None:
        return _drawn(run, worker, number, like)
    if (worker, number) not in kept:
        kept[worker, number] = list(_drawn(run, worker, number, like))
    return kept[worker, number]


def _drawn(run: LearningGroup, worker: int, number: int, like: Tensor) -> Iterator[Tensor]:
    compartments = _compartments(run)
    start, stop = compartments[number]
    parts = len(compartments)
    dim = int(run.options["dim"])
    rows = dim * (number + 1) // parts - dim * number // parts
    trial = run.learner.trials[0]
    seed = stream_seed(
        trial.seed, f"restart {trial.restart}{run.group.name}"
    )  # blocks have bases of their own
    step = run.learner.step if run.options["redraw"] == "step" else 0
    return basis(Key(seed, step, worker, number), rows, stop - start, run.options["distribution"], like)


def _shares(batch: Batch, workers: int) -> list[Batch]:
    if workers == 1:
        return [batch]
    cuts = [batch.rows * worker // workers for worker in range(workers + 1)]
    return [batch.between(start, stop) for start, stop in pairwise(cuts)]


RULES = (RandomSubspace(),)
