"""Checks what a body promises: requirements of sizes, ties of weights, and that an activation gives what it takes.

In: a block, the types of its values and its typed children. Out: diagnostics; False if a promise is broken.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.declared import shape_text
from nnspec.compiler.ir import Block, Child, Law, Type, Weight
from nnspec.dsl.dimensions import Size, substitute, symbols
from nnspec.dsl.errors.definitions import ActivationShape
from nnspec.dsl.errors.selectors import WrongTie
from nnspec.dsl.errors.shapes import RequirementFailed, TieMismatch, UnknownRequirement

if TYPE_CHECKING:
    from nnspec.compiler.typing import Typer


def promises_hold(
    typer: Typer,
    block: Block,
    types: Mapping[str, Type | None],
    children: Mapping[str, Child],
    sizes: Mapping[str, Size],
) -> bool:
    """Return whether all that a block promises holds; what no size is known for is left to its calls."""
    found = [_function_fits(typer, block, types)]
    found += [_law_holds(typer, law, sizes) for law in block.laws]
    found += [
        _tie_fits(typer, child.name, weight, children)
        for child in children.values()
        for instance in child.instances
        for weight in getattr(instance, "weights", ())
    ]
    return all(found)


def _function_fits(typer: Typer, block: Block, types: Mapping[str, Type | None]) -> bool:
    """An activation gives what it takes."""
    if not block.function:
        return True
    taken, given = (types.get(port.value) for port in (*block.inputs, *block.outputs))
    if taken is None or given is None or (taken.shape, taken.dtype) == (given.shape, given.dtype):
        return True
    span = block.outputs[0].span
    error = ActivationShape(span, typer.related(), name=block.name, expected=str(taken), found=str(given))
    typer.bag.add(error)
    return False


def _law_holds(typer: Typer, law: Law, sizes: Mapping[str, Size]) -> bool:
    left, right = substitute(law.left, sizes), substitute(law.right, sizes)
    if isinstance(left, int) and isinstance(right, int):
        if compare(law.relation, left, right):
            return True
        message = law.message or f"{law.text} does not hold"
        values = f"{left} {law.relation} {right} is false"
        typer.bag.add(RequirementFailed(law.span, typer.related(), message=message, values=values))
        return False
    if not (left == right and law.relation in ("==", "<=", ">=")):
        names = ", ".join(f"`{name}`" for name in sorted(symbols(left) | symbols(right)))
        typer.bag.add(UnknownRequirement(law.span, typer.related(), text=law.text, symbols=names))
    return True


def _tie_fits(typer: Typer, name: str, weight: Weight, children: Mapping[str, Child]) -> bool:
    tie = weight.tie
    if tie is None:
        return True
    other = children.get(tie.child)
    owned = getattr(other.instances[0], "weights", ()) if other is not None else ()
    found = next((w for w in owned if w.name == tie.weight and w.tie is None), None)
    if found is None or other is None or other.repeated:
        typer.bag.add(WrongTie(tie.span, typer.related(), text=f"{tie.child}.{tie.weight}"))
        return False
    shape = found.shape[::-1] if tie.transpose else found.shape
    if shape == weight.shape:
        return True
    turned = found.shape[::-1] == weight.shape and not tie.transpose
    typer.bag.add(
        TieMismatch(
            tie.span,
            typer.related(),
            name=f"{name}.{weight.name}",
            other=f"{tie.child}.{tie.weight}",
            expected=shape_text(weight.shape),
            found=shape_text(shape) + (" (transposed)" if tie.transpose else ""),
            help="say `transpose = true`" if turned else None,
        )
    )
    return False


def compare(relation: str, left: Any, right: Any) -> bool:
    """Return whether `left relation right` holds."""
    match relation:
        case "==":
            return left == right
        case "!=":
            return left != right
        case "<=":
            return left <= right
        case ">=":
            return left >= right
        case "<":
            return left < right
        case _:
            return left > right
