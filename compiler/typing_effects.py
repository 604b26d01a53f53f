"""Checks what a body does beside giving outputs: updates of buffers and penalties.

In: a block and the types of its values. Out: diagnostics; False if there was one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.declared import shape_text
from nnspec.compiler.ir import Block, Charge, Instance, Type, Update
from nnspec.dsl.errors.owned import PenaltyShape, UpdateShape

if TYPE_CHECKING:
    from nnspec.compiler.typing import Typer


def effects_fit(typer: Typer, block: Block, types: Mapping[str, Type | None]) -> bool:
    """Return whether every update fits its buffer and every penalty is a single number."""
    updates = [_update_fits(typer, item, types) for item in block.updates]
    penalties = [_penalty_fits(typer, item, types) for item in block.penalties]
    return all(updates) and all(penalties)


def has_penalties(instance: Instance) -> bool:
    """Return whether an instance, or any inside it, has penalties."""
    if not isinstance(instance, Block):
        return False
    return bool(instance.penalties) or any(has_penalties(i) for c in instance.children for i in c.instances)


def has_effects(block: Block) -> bool:
    """Return whether a block, or any inside it, does something beside giving outputs."""
    inner = (i for c in block.children for i in c.instances if isinstance(i, Block))
    return bool(block.penalties or block.updates) or any(has_effects(i) for i in inner)


def _update_fits(typer: Typer, item: Update, types: Mapping[str, Type | None]) -> bool:
    found, buffer = types.get(item.value), types.get(item.child)
    if found is None or buffer is None:
        return True  # said already
    why = None
    if (found.shape, found.dtype) != (buffer.shape, buffer.dtype):
        why = "it has another shape or kind of numbers"
    elif found.batched and found.dtype != "real":
        why = "it differs from sample to sample, and such numbers have no mean"
    if why is None:
        return True
    error = UpdateShape(
        item.span,
        typer.related(buffer),
        name=item.child,
        why=why,
        expected=f"{buffer.dtype}{shape_text(buffer.shape)}",
        found=f"{found.dtype}{shape_text(found.shape)}",
    )
    typer.bag.add(error)
    return False


def _penalty_fits(typer: Typer, item: Charge, types: Mapping[str, Type | None]) -> bool:
    found = types.get(item.value)
    if found is None or (found.shape == () and found.dtype == "real"):
        return True
    typer.bag.add(PenaltyShape(item.span, typer.related(found), name=item.name, found=str(found)))
    return False
