"""`equivariance`: which symmetries commute with the learning of an experiment.

In: an experiment with its data. Out: for each family of the group, how far a few steps from g(theta) are from g of the
same steps from theta, relative to the way of the steps: by the experiment's own rule, optimizer and penalties,
on the same batches, in double precision.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Pass, Plot, Result, Subject, Table
from nnspec.compiler.tensors import learned_keys
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.weights import NeedsTraining, StepsNotFinite

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.elements import Element
    from nnspec.compiler.symmetry.record import SymmetryGroup

_COMMUTES = 1e-6  # relative to the way of the steps


class Equivariance(Pass):
    name = "equivariance"
    doc = """Which symmetries commute with the learning rule and the optimizer of an experiment: a random element g of each
    family, `steps` steps from g(theta) against g of the steps from theta. Plain gradient descent commutes with
    permutations, signs and rotations, not with scales; adaptive optimizers with permutations and signs; weight decay
    keeps what leaves sums of squares alone; a rule that draws or holds numbers for each unit keeps nothing of it."""
    arguments = (
        Argument(name="steps", kind="int", doc="of training, each way", default=3, at_least=1),
        Argument(name="seed", kind="int", doc="of the weights and of the elements", default=0, at_least=0),
    )

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        return False

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.runtime.plan import draws
        from nnspec.compiler.symmetry.group import symmetry_group

        if subject.plan is None or subject.experiment is None:
            raise SpecError((NeedsTraining(None, pass_name=self.name, target=subject.graph.name),))
        group = symmetry_group(subject.graph)
        steps = options.get("steps", 3)
        found: list[dict[str, Any]] = [
            {"family": family, "difference": difference, "commutes": difference < _COMMUTES}
            for family, difference in self.differences(subject, group, steps, options.get("seed", 0))
        ]
        if not all(isfinite(one["difference"]) for one in found):
            target = subject.experiment.name
            error = StepsNotFinite(None, pass_name=self.name, target=target, steps=steps, what="a weight")
            raise SpecError((error,))
        rule = f"{subject.experiment.rule.name} with {subject.experiment.optimizer.name}"
        data = {"rule": subject.experiment.rule.name, "optimizer": subject.experiment.optimizer.name}
        kept = [one["family"] for one in found if one["commutes"]]
        broken = [one["family"] for one in found if not one["commutes"]]
        said = f"commutes with {_listed(kept)}" if kept else "commutes with none of its symmetries"
        summary = f"Learning by {rule} {said}" + (
            f", not with {_listed(broken)}." if kept and broken else "."
        )
        if draws(subject.graph):
            summary += " Its forward draws random numbers for each unit, which do not move with the units."
        rows = tuple((one["family"], one["difference"], "yes" if one["commutes"] else "no") for one in found)
        columns = ("symmetry", "difference over the way", "commutes")
        plots = (Plot(name="what commutes", draw=lambda axes: _draw(axes, found)),) if found else ()
        return Result(
            data={**data, "families": found},
            summary=summary,
            tables=(Table(title=f"Equivariance of {rule}", columns=columns, rows=rows),),
            plots=plots,
        )

    def differences(
        self, subject: Subject, group: SymmetryGroup, steps: int, seed: int
    ) -> Iterator[tuple[str, float]]:
        """Yield for each family the norm of the difference of both ways, over that of the way."""
        from nnspec.compiler.runtime.short_training import course, exactly, initial_weights
        from nnspec.compiler.symmetry.elements import act

        assert subject.plan is not None
        plan = exactly(subject.plan)
        keys = learned_keys(subject.graph)
        start = initial_weights(plan, seed)
        *_, (end, _) = course(plan, seed, steps, start)

        def gap(first: dict[str, Any], second: dict[str, Any]) -> float:
            return sum(float(((first[key] - second[key]) ** 2).sum()) for key in keys) ** 0.5

        for family, element in families(group, seed):
            *_, (other, _) = course(plan, seed, steps, act(group.derivation, element, start))
            yield family, gap(act(group.derivation, element, end), other) / max(gap(start, end), 1e-300)


def families(group: SymmetryGroup, seed: int) -> Iterator[tuple[str, Element]]:
    """Yield a random element of each family: those of GL as rotations and as stretches."""
    import torch

    from nnspec.compiler.symmetry.elements import Element, random_element
    from nnspec.compiler.symmetry.moves import Add, Exchange, Mix, Multiply, Permute, Shift
    from nnspec.compiler.symmetry.neurons import Rearrange
    from nnspec.compiler.symmetry.swaps import Swap

    linear_algebra: Any = torch.linalg
    sorted_: dict[str, list[Any]] = {
        name: [] for name in ("permutations", "signs", "rotations", "stretches", "scales", "shifts")
    }
    for move in random_element(group, seed).moves:
        if isinstance(move, Permute | Rearrange | Exchange | Swap):
            sorted_["permutations"].append(move)
        elif isinstance(move, Multiply):
            sorted_["signs" if move.sign else "scales"].append(move)
        elif isinstance(move, Shift | Add):
            sorted_["shifts"].append(move)
        elif isinstance(move, Mix):
            sorted_["stretches" if move.given.group == "linear" else "rotations"].append(move)
        else:
            left, size, right = linear_algebra.svd(move.matrix)
            sorted_["rotations"].append(move.replace(matrix=left @ right))
            if group.derivation.groups[move.space] in ("linear", "complex"):
                stretch = (left * size.unsqueeze(-2)) @ left.mT
                sorted_["stretches"].append(move.replace(matrix=stretch))
    for family, moves in sorted_.items():
        if moves:
            yield family, Element(moves=tuple(moves))


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _draw(axes: Any, found: list[dict[str, Any]]) -> None:
    names = [one["family"] for one in found][::-1]
    sizes = [max(one["difference"], 1e-17) for one in found][::-1]
    colours = ["#3b78b8" if one["commutes"] else "#c8553d" for one in found][::-1]
    axes.hlines(range(len(names)), 1e-18, sizes, color=colours, linewidth=1.2)
    axes.scatter(sizes, range(len(names)), color=colours, s=28, zorder=3)
    axes.axvline(_COMMUTES, color="#999999", linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(-0.6, len(names) - 0.4)
    axes.set_xscale("log")
    axes.set_xlim(1e-18, 10)
    axes.set_xlabel("difference over the way of the steps")


PASSES = (Equivariance(),)
