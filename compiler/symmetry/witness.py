"""What keeps a derived dimension from being the whole truth, in words.

An empty answer means: at generic weights the derived dimension is that of the fibre. That holds where
every nonlinearity is a function of single entries without scales, flat pieces or other affine symmetries
in a parameter, and all linear regions were searched.
"""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.relations import Contract, Elementwise, Normalize, Part, Relation, Softmax
from nnspec.compiler.symmetry.composites import Unseen
from nnspec.compiler.symmetry.relate import Related, flow
from nnspec.compiler.symmetry.spaces import Spaces


def completeness_notes(related: Related, spaces: Spaces, unseen: Unseen) -> tuple[str, ...]:
    """Return what may add dimensions to those derived."""
    regions = () if unseen.note is None else (unseen.note,)
    return tuple(
        dict.fromkeys(
            (*_sealed(related), *_functions(related), *_blocks(related, spaces), *_unread(related), *regions)
        )
    )


def _sealed(related: Related) -> Iterator[str]:
    for stated in related.sealed.values():
        name = stated.use.word
        yield f"`{name}` states no relations: nothing is derived that acts on what it takes or gives"


def _unread(related: Related) -> Iterator[str]:
    """Yield values of which parts are read, and not all: nothing says what makes the rest."""
    readers: dict[str, list[Relation]] = {}
    for stated in related.stated:
        for name in flow(stated.relation)[0]:
            readers.setdefault(name, []).append(stated.relation)
    for name, found in readers.items():
        carrier = related.carriers[name]
        cuts = [one for one in found if isinstance(one, Part) and one.whole == name]
        if not carrier.live or name in related.outputs or len(cuts) < len(found):
            continue
        if not _cover(related, cuts):
            yield f"entries of {carrier.shown} are read by nothing"


def _cover(related: Related, cuts: list[Part]) -> bool:
    """Whether parts along one axis are all entries of it."""
    read: set[int] = set()
    first = cuts[0]
    for cut in cuts:
        size = 1 if cut.part_axis is None else related.carriers[cut.part].shape[cut.part_axis]
        if not isinstance(size, int) or not isinstance(cut.start, int) or cut.axis != first.axis:
            return False
        read.update(range(cut.start, cut.start + size))
    return len(read) == related.carriers[first.whole].shape[first.axis]


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
