"""Fits the constraints laid on a weight to its shape: what is stored, and the chain of maps.

In: a tensor of an operation and the constraints laid on it. Out: the `Weight`, or None after a diagnostic.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.declared import shape_text
from nnspec.compiler.ir import (
    Axis,
    Block,
    Child,
    Constraint,
    Frozen,
    Init,
    Part,
    Penalty,
    Primitive,
    Projection,
    Tensor,
    Tie,
    Type,
    Weight,
    WeightMap,
)
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import resolve
from nnspec.dsl.dimensions import Size
from nnspec.dsl.errors.definitions import GradientShape
from nnspec.dsl.errors.selectors import ConstraintMisfit, NothingStored, StoredNameTaken
from nnspec.dsl.errors.shapes import ConstraintShape
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.typing import Typer

P = TypeVar("P", bound=Part)


def constrained_weight(
    typer: Typer, tensor: Tensor, primitive: Primitive, sizes: Mapping[str, Size], span: Span | None
) -> Weight | None:
    """Return a weight under its constraints."""
    init: Init | None = dict(primitive.inits).get(tensor.name, tensor.init)
    laid = [constraint for constraint in primitive.constraints if constraint.weight == tensor.name]
    if not laid:
        stored = tensor if init is tensor.init else tensor.replace(init=init)
        return Weight(name=tensor.name, stored=(stored,), shape=tensor.shape, init=init)
    parts: list[Part] = []
    for constraint in laid:
        site = weight_site(constraint, tensor.name, tensor.shape, primitive, sizes)
        part = _part(typer, constraint, site, tensor, primitive)
        if part is not None:  # what is wrong has been said; the shape of the weight is right all the same
            parts.append(part)
    tie = next(iter(_only(parts, Tie)), None)
    if tie is not None:
        return Weight(name=tensor.name, stored=(), shape=tensor.shape, tie=tie)
    maps = _distinct(_only(parts, WeightMap))
    projections, penalties = _only(parts, Projection), _only(parts, Penalty)
    changed = next((item for item in maps if item.replaces), None)
    changes = [*projections, *(item for item in penalties if item.proximal is not None)]
    if changed is not None and changes:
        item = changes[0]
        typer.bag.add(NothingStored(item.span, typer.related(), name=item.name, other=changed.name))
        return None
    return Weight(
        name=tensor.name,
        stored=_stored(tensor.replace(init=init), maps, frozen=bool(_only(parts, Frozen))),
        shape=tensor.shape,
        maps=maps,
        projections=projections,
        penalties=penalties,
        init=init,
    )


def names_free(typer: Typer, children: Mapping[str, Child]) -> bool:
    """Check that what the constraints of parameters store has a name of its own in the block."""
    free = True
    found = [
        (c.name, w) for c in children.values() for w in getattr(c.instances[0], "weights", ()) if not w.name
    ]
    for owner, item, tensor in (
        (name, m, t) for name, weight in found for m in weight.maps for t in m.stored
    ):
        stored = owner + tensor.name
        if tensor.name and stored in children:
            typer.bag.add(StoredNameTaken(item.span, typer.related(), name=item.name, stored=stored))
            free = False
    return free


def _only(parts: list[Part], kind: type[P]) -> tuple[P, ...]:
    return tuple(part for part in parts if isinstance(part, kind))


def _distinct(maps: tuple[WeightMap, ...]) -> tuple[WeightMap, ...]:
    """Number the stored tensors whose names were taken by a map before: two masks on one weight."""
    taken: set[str] = set()
    found: list[WeightMap] = []
    for item in maps:
        stored: list[Tensor] = []
        for tensor in item.stored:
            number = next(n for n in count(1) if _numbered(tensor.name, n) not in taken)
            stored.append(tensor.replace(name=_numbered(tensor.name, number)))
            taken.add(stored[-1].name)
        found.append(item.replace(stored=tuple(stored)))
    return tuple(found)


def _numbered(name: str, number: int) -> str:
    return name if number == 1 else f"{name}_{number}"


def _stored(tensor: Tensor, maps: tuple[WeightMap, ...], frozen: bool) -> tuple[Tensor, ...]:
    """Return the stored tensors: the weight itself unless a map replaces it, then those of the maps."""
    found = [] if any(item.replaces for item in maps) else [tensor]
    found += [own for item in maps for own in item.stored]
    if not frozen:
        return tuple(found)
    return tuple(t.replace(kind="frozen") if t.kind == "learned" else t for t in found)


def weight_site(
    constraint: Constraint,
    name: str,
    shape: tuple[Size, ...],
    primitive: Primitive,
    sizes: Mapping[str, Size],
) -> WeightSite:
    """Return what a constraint is told of the weight that it is laid on."""
    others = (
        laid.rule.name for laid in primitive.constraints if laid.weight == name and laid is not constraint
    )
    return WeightSite(
        name=name,
        shape=shape,
        options={key: resolve(value, sizes) for key, value in constraint.options},
        others=tuple(others),
        product=name in operation(primitive.operation).products,
    )


def _part(
    typer: Typer, constraint: Constraint, site: WeightSite, tensor: Tensor, primitive: Primitive
) -> Part | None:
    """Return what a constraint comes to for this weight, its blocks typed."""
    rule, where = constraint.rule, constraint.span
    try:
        if tensor.kind == "buffer":
            raise Misfit("it is a buffer, which is not learned")
        if tensor.dtype != "real":
            raise Misfit(f"constraints are for real numbers, and its are {tensor.dtype}")
        part: Part = rule.part(site, where)
    except Misfit as misfit:
        typer.bag.add(
            ConstraintMisfit(
                where,
                typer.related(),
                name=rule.name,
                weight=tensor.name or primitive.operation,
                shape=shape_text(tensor.shape),
                why=misfit.why,
                remedy=misfit.help,
            )
        )
        return None
    if isinstance(part, WeightMap) and part.gradient is not None:
        gradient = _gradient(typer, part.name, part.gradient, tensor.shape, part.span)
        if gradient is None:
            return None
        part = part.replace(gradient=gradient)
    if isinstance(part, WeightMap | Projection | Penalty) and part.block is not None:
        expected = () if isinstance(part, Penalty) else tensor.shape
        block = _block(typer, part.name, part.block, tensor.shape, expected, part.span)
        return None if block is None else part.replace(block=block)
    return part


def _block(
    typer: Typer,
    name: str,
    block: Block,
    shape: tuple[Size, ...],
    expected: tuple[Size, ...],
    span: Span | None,
) -> Block | None:
    """Type the block of a function that takes a weight of a shape to a tensor of another."""
    weight = Type(axes=tuple(Axis(size=size) for size in shape))
    typer.uses.append((name, span))
    typed, outputs = typer.block(block, (weight,))
    typer.uses.pop()
    if typed is None or outputs is None:
        return None
    found = outputs[0]
    if found.shape == expected and found.dtype == "real":
        return typed
    kind = "" if found.dtype == "real" else found.dtype
    shown = kind + shape_text(found.shape)
    typer.bag.add(ConstraintShape(span, name=name, expected=shape_text(expected), found=shown))
    return None


def _gradient(
    typer: Typer, name: str, block: Block, shape: tuple[Size, ...], span: Span | None
) -> Block | None:
    """Type the gradient of a map: of the stored weight, and of the gradient of the weight in force."""
    weight = Type(axes=tuple(Axis(size=size) for size in shape))
    typer.uses.append((name, span))
    typed, outputs = typer.block(block, (weight, weight))
    related = typer.related()
    typer.uses.pop()
    if typed is None or outputs is None:
        return None
    found = outputs[0]
    if found.shape == shape and found.dtype == "real":
        return typed
    typer.bag.add(
        GradientShape(
            block.outputs[0].span or block.span, related, name=name, expected=str(weight), found=str(found)
        )
    )
    return None
