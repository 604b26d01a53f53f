"""What keeps a derived dimension from being the whole truth, in words.

An empty answer means: at generic weights the derived dimension is that of the fibre. That holds where
every nonlinearity is a function of single entries without scales, flat pieces or other affine symmetries
in a parameter, and all linear regions were searched.
"""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.relations import Contract, Elementwise, Normalize, Softmax
from nnspec.compiler.symmetry.composites import Unseen
from nnspec.compiler.symmetry.relate import Related
from nnspec.compiler.symmetry.spaces import Spaces


def completeness_notes(related: Related, spaces: Spaces, unseen: Unseen) -> tuple[str, ...]:
    """Return what may add dimensions to those derived."""
    regions = () if unseen.note is None else (unseen.note,)
    return tuple(dict.fromkeys((*_functions(related), *_blocks(related, spaces), *regions)))


def _functions(related: Related) -> Iterator[str]:
    for stated in related.stated:
        name = stated.use.word
        match stated.relation:
            case Elementwise() if not stated.relation.complete:
                yield f"{name} may hide more (dead or always linear units, other affine symmetries)"
            case Normalize():
                yield f"{name} may hide more (gains that fold into maps, wires wider than what feeds them)"
                if stated.relation.epsilon > 0:
                    yield f"scales before {name} hold up to its epsilon of {stated.relation.epsilon:g}"
            case Softmax():
                yield f"{name} may hide more"
            case Contract() if sum(related.carriers[t.tensor].live for t in stated.relation.terms) > 1:
                yield f"{name} multiplies values, and products may hide more"
            case _:
                pass


def _blocks(related: Related, spaces: Spaces) -> Iterator[str]:
    if spaces.unlinked:
        yield "some entries are regrouped across blocks, and nothing was derived for them"
    for (tensor, axis), layout in spaces.layouts.items():
        if related.carriers[tensor].kind != "weight":
            continue
        for segment, atoms in zip(layout, spaces.atoms((tensor, axis)), strict=True):
            moving = [a for a in atoms if spaces.space(a) not in spaces.fixed]
            if len(segment) > 1 and len(moving) > 1:
                yield "wires made of blocks: blocks are permuted, and entries within all blocks alike"
