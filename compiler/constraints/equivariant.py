"""`equivariant(group)`: the layer commutes with a group of permutations of positions, W P_g = P_g W.

Both axes of the weight are channels times the positions that the group moves, positions fastest, as `flatten`
leaves [channels, positions]. The weights that commute are those with one number for each pair of channels and
each orbit of the group on pairs of positions (Ravanbakhsh, Schneider and Poczos 2017, "Equivariance through
parameter-sharing"); a bias has one for each channel and orbit of positions. There are as many orbits as Burnside's
lemma counts, the mean number of fixed pairs. These numbers are what is stored.

A weight begins with the number that each orbit's first member would have had, so that its spread is the usual one.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar, cast

from nnspec.compiler.constraints.constraint import Constraint, Misfit, WeightSite
from nnspec.compiler.constraints.groups import (
    MOST_POINTS,
    Generated,
    Permutation,
    checked,
    group,
    orbit_count,
)
from nnspec.compiler.ir import Code, Primitive, Tensor, WeightMap
from nnspec.compiler.values import Refused, describe, entries
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.topologies import UnequalBias
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument as WrittenArgument
from nnspec.dsl.syntax import CallOf, Expression, Name

if TYPE_CHECKING:
    import torch

    from nnspec.compiler.evaluate import Evaluator

_count = lru_cache(maxsize=64)(orbit_count)


class Equivariant(Constraint):
    name = "equivariant"
    doc = """The layer commutes with a group of permutations: one number an orbit.

    The group is `cyclic(n)`, `dihedral(n)`, `symmetric(n)`, `reflection(n)`, or generators: a list of permutations,
    in each of which position k goes to the k-th entry. Lay it on the bias too: `constrain fc1.*: equivariant(..)`."""
    kind = "structure"
    arguments = (Argument(name="group", kind="group", doc="the group, or a list of permutations"),)
    refuses: ClassVar[Mapping[str, str]] = {
        "topology": "a mask need not be the same on the whole of an orbit",
    }
    keeps = ("multiples",)
    example = "constrain fc1.*: equivariant(cyclic(8))"

    def use(
        self, evaluator: Evaluator, arguments: tuple[WrittenArgument, ...], span: Span | None
    ) -> dict[str, Any]:
        """Return the generators of the group."""
        from nnspec.compiler.constraints.arguments import validated

        if len(arguments) == 1 and arguments[0].name in (None, "group"):
            return {"group": _generated(evaluator, arguments[0].value)}
        return validated(self.entry(), evaluator, arguments, span)  # says what is wrong

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the map from numbers of orbits to the weight."""
        generators, channels = _fitted(site)
        axes, points = len(channels), len(generators[0])
        return WeightMap(
            name=self.name,
            code=Code(file="equivariant", name="equivariant"),
            stored=(
                Tensor(name=site.stored("values"), shape=(*channels, _count(generators, axes))),
                Tensor(name=site.stored("orbit"), shape=(points,) * axes, kind="buffer", dtype="int"),
            ),
            replaces=True,
            start=Code(file="equivariant", name="orbit_values", options=(("generators", generators),)),
            keeps=self.keeps,
            span=span,
        )

    def project(
        self, site: WeightSite, weight: torch.Tensor, kept: Mapping[str, torch.Tensor]
    ) -> torch.Tensor:
        """Return the nearest weight that commutes: the mean over each orbit."""
        import torch

        from nnspec.compiler.constraints.code.equivariant import equivariant, orbit_numbers

        generators, channels = _fitted(site)
        orbit = orbit_numbers(generators, len(channels)).to(weight.device)
        count = _count(generators, len(channels))
        each = torch.arange(prod(channels) * count, device=weight.device).view(*channels, count)
        which = equivariant(each, orbit).flatten()
        sums = weight.new_zeros(each.numel()).index_add(0, which, weight.flatten())
        return (sums / which.bincount(minlength=each.numel()))[which].view_as(weight)

    def doubts(self, site: WeightSite, primitive: Primitive, path: str) -> tuple[Error, ...]:
        """Warn of a bias that is free at every position."""
        bound = {laid.weight for laid in primitive.constraints if laid.rule.name == self.name}
        free = [w.name for w in primitive.weights if len(w.shape) == 1 and w.name not in bound and w.stored]
        if len(site.shape) != 2 or not free:
            return ()
        laid = next(c for c in primitive.constraints if c.rule.name == self.name and c.weight == site.name)
        return (UnequalBias(laid.span, path=f"{path}.{free[0]}", owner=path, name=self.name),)

    def free(self, site: WeightSite) -> int:
        """Return channels out times channels in times orbits."""
        generators, channels = _fitted(site)
        return prod(channels) * _count(generators, len(channels))


def _fitted(site: WeightSite) -> tuple[tuple[Permutation, ...], tuple[int, ...]]:
    """Return the generators, and the number of channels on each axis, or raise Misfit."""
    generators = checked(site["group"].generators)
    points = len(generators[0])
    if len(site.sizes) > 2:
        raise Misfit(f"it is for matrices and biases, and this weight has {len(site.sizes)} axes")
    for size, what in zip(site.sizes, ("units", "inputs"), strict=False):
        if size % points:
            raise Misfit(
                f"its {size} {what} are not channels times the {points} positions of the group",
                help=f"use a multiple of {points}",
            )
    return generators, tuple(size // points for size in site.sizes)


def _generated(evaluator: Evaluator, written: Expression) -> Generated:
    """Return the group that `cyclic(8)` or a list of permutations means, or raise Refused."""
    function = written.function if isinstance(written, CallOf) else written
    found = group(function.name) if isinstance(function, Name) else None
    if found is not None and isinstance(function, Name) and function.name not in evaluator.builder.scope:
        from nnspec.compiler.constraints.arguments import validated

        arguments = written.arguments if isinstance(written, CallOf) else ()
        points = validated(found.entry(), evaluator, arguments, written.span)["points"]
        if points > MOST_POINTS:
            why = f"`points` is at most {MOST_POINTS:,}"
            raise Refused(WrongArgument(written.span, callee=found.name, why=why, found=describe(points)))
        return Generated(text=f"{found.name}({points})", generators=found.generators(points))
    value = evaluator.expression(written)
    rows = [entries(row) for row in entries(value) or ()]
    if not rows or not all(_whole(row) and len(row or ()) == len(rows[0] or ()) for row in rows):
        why = "`group` must be a group such as `cyclic(8)`, or a list of permutations such as `[[1, 2, 0]]`"
        raise Refused(WrongArgument(written.span, callee="equivariant", why=why, found=describe(value)))
    generators = cast("tuple[Permutation, ...]", tuple(tuple(row or ()) for row in rows))
    return Generated(text=str([list(row) for row in generators]), generators=generators)


def _whole(row: tuple[Any, ...] | None) -> bool:
    return bool(row) and all(isinstance(k, int) and not isinstance(k, bool) for k in row or ())
