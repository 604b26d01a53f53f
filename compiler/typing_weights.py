"""Fits the constraints laid on a weight to its shape: what is stored, and the chain of maps.

In: a tensor of an operation and the constraints laid on it. Out: the `Weight`, or None after a diagnostic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.dimensions import Size
from nnspec.dsl.errors.definitions import ClauseShape
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
    if tensor.kind == "buffer":  # it does not learn anyway: `constrain backbone.**: frozen` means the weights
        laid = [constraint for constraint in laid if constraint.rule.kind != "frozen"]
    if not laid:
        stored = tensor if init is tensor.init else tensor.replace(init=init)
        return Weight(name=tensor.name, stored=(stored,), shape=tensor.shape, init=init)
    sites = [weight_site(own, tensor.name, tensor.shape, primitive, sizes) for own in laid]
    made = [_part(typer, own, site, tensor, primitive) for own, site in zip(laid, sites, strict=True)]
    parts = [part for part in made if part is not None]  # what is wrong has been said; the shape is right
    tie = next(iter(_only(parts, Tie)), None)
    if tie is not None:
        return Weight(name=tensor.name, stored=(), shape=tensor.shape, tie=tie)
    maps = _distinct(_only(parts, WeightMap))
    if _only(parts, Frozen):  # what it stores is not learned either, and nothing that it costs can change it
        tensor = _unlearned(tensor)
        maps = tuple(m.replace(stored=tuple(_unlearned(t) for t in m.stored)) for m in maps)
        parts = [part for part in parts if not isinstance(part, Penalty)]
    projections, penalties = _only(parts, Projection), _only(parts, Penalty)
    changed = next((item for item in maps if item.replaces), None)
    changes = [*projections, *(item for item in penalties if item.proximal is not None)]
    if changed is not None and changes:
        item = changes[0]
        typer.bag.add(NothingStored(item.span, typer.related(), name=item.name, other=changed.name))
        return None
    return Weight(
        name=tensor.name,
        stored=_stored(tensor.replace(init=init), maps),
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


def _only(parts: Sequence[Part], kind: type[P]) -> tuple[P, ...]:
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


def _stored(tensor: Tensor, maps: tuple[WeightMap, ...]) -> tuple[Tensor, ...]:
    """Return the stored tensors: the weight itself unless a map replaces it, then those of the maps."""
    found = [] if any(item.replaces for item in maps) else [tensor]
    return (*found, *(own for item in maps for own in item.stored))


def _unlearned(tensor: Tensor) -> Tensor:
    return tensor.replace(kind="frozen") if tensor.kind == "learned" else tensor


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
        gradient = _typed(typer, part, part.gradient, tensor.shape, "gradient", inputs=2)
        if gradient is None:
            return None
        part = part.replace(gradient=gradient)
    if isinstance(part, WeightMap | Projection | Penalty) and part.block is not None:
        plain = "map" if isinstance(part, WeightMap) else "projection"
        kind = "penalty" if isinstance(part, Penalty) else plain
        block = _typed(typer, part, part.block, tensor.shape, kind)
        return None if block is None else part.replace(block=block)
    return part


def _typed(
    typer: Typer,
    part: WeightMap | Projection | Penalty,
    block: Block,
    shape: tuple[Size, ...],
    kind: str,
    inputs: int = 1,
) -> Block | None:
    """Type a function of a weight (its gradient takes a second such tensor): what it gives must fit."""
    weight = Type(axes=tuple(Axis(size=size) for size in shape))
    expected = Type(axes=()) if kind == "penalty" else weight
    typer.uses.append((part.name, part.span))
    typed, outputs = typer.block(block, (weight,) * inputs)
    related = typer.related()
    typer.uses.pop()
    if typed is None or outputs is None:
        return None
    found = outputs[0]
    if (found.shape, found.dtype) == (expected.shape, "real"):
        return typed
    if kind == "map":
        shown = ("" if found.dtype == "real" else found.dtype) + shape_text(found.shape)
        error: Error = ConstraintShape(part.span, name=part.name, expected=shape_text(shape), found=shown)
    else:
        needed = "be one number" if kind == "penalty" else "have the shape of the weight"
        texts = {"kind": kind, "name": part.name, "needed": needed}
        error = ClauseShape(block.span, related, expected=str(expected), found=str(found), **texts)
    typer.bag.add(error)
    return None
