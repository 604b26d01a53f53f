"""What a constraint lets through: which actions on a weight its map carries along.

In: the maps of a weight, whose blocks are typed. A map that works entry by entry lets every permutation
through, sign flips if it is odd, and scales if it is homogeneous; one with a mask scales and flips alone. The
answer speaks of the effective weight. It is composed from the relations of the map's own operations; maps of
the library say it themselves.
"""

from __future__ import annotations

from nnspec.compiler.ir import Apply, Block, Weight, WeightMap
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Elementwise, Relation, Sum
from nnspec.dsl.node import Node


class Action(Node):
    """How the effective weight follows the stored one: `entrywise` for permutations; then f(-w) and f(a w)."""

    entrywise: bool = True
    parity: str = "odd"  # "odd", "even", "none", and within a map "complement"
    degree: float | None = 1.0  # f(a w) = a^degree f(w) for a > 0
    is_free: bool = True  # there is no map at all
    is_held: bool = False  # a straight-through map: the effective weight takes few values
    is_lifted: bool = False  # it acts on the effective weight; what is stored follows by the right inverse
    mirrored: bool = False  # what acts on rows acts on columns
    matrices: str = "linear"  # which matrices act on rows and on columns: "linear", "orthogonal", "none"
    multiples: bool = True  # the whole times any number
    is_masked: bool = False  # nothing but which entries there are, or are equal, keeps permutations out
    names: tuple[str, ...] = ()

    @property
    def flips(self) -> bool:
        """Whether every sign pattern of the effective weight can be reached."""
        return self.parity == "odd"

    @property
    def scales(self) -> bool:
        return self.degree is not None and self.moves

    @property
    def moves(self) -> bool:
        """Whether small steps of the stored weight move the effective one."""
        return self.degree != 0 and not self.is_held


FREE = Action()
STILL = Action(
    entrywise=False,
    parity="none",
    degree=None,
    is_free=False,
    is_held=True,
    matrices="none",
    multiples=False,
    names=("frozen",),
)


def action_of(weight: Weight) -> Action:
    """Return what may be done to a weight: nothing where it is frozen, nothing that leads out of a projection's set."""
    if any(tensor.kind == "frozen" for tensor in weight.stored):
        return STILL
    found = action_of_maps(weight.maps)
    for item in weight.projections:
        through = _keeping(item.keeps, found) if item.block is None else _block(item.block, found)
        found = through.replace(is_free=False, names=(*found.names, item.name))
    return found


def action_of_maps(maps: tuple[WeightMap, ...]) -> Action:
    """Return the action of maps applied one after another."""
    found = FREE
    for item in maps:
        held = found.is_held or item.has_own_gradient
        names = (*found.names, item.name)
        through = _code(item, found) if item.block is None else _block(item.block, found)
        found = through.replace(is_free=False, is_held=held, names=names)
    return found


def _code(item: WeightMap, given: Action) -> Action:
    """A map of the library says itself what it lets through.

    Where it stores learned tensors or mirrors entries, the effective weight moves, and what is stored is
    made from it anew; that is known of a map that stands alone.
    """
    remade = item.replaces or any(tensor.kind == "learned" for tensor in item.stored)
    lifted = remade or "mirrored" in item.keeps
    if remade and (item.start is None or not given.is_free):
        return _keeping((), given)
    patterned = bool(item.stored) and {"signs", "scales"} <= set(item.keeps) and not remade
    patterned = patterned or (remade and "multiples" in item.keeps)  # numbers that entries share
    return _keeping(item.keeps, given).replace(
        is_lifted=lifted or given.is_lifted,
        is_masked=(given.entrywise or given.is_masked) and patterned and "permutations" not in item.keeps,
    )


def _keeping(keeps: tuple[str, ...], given: Action) -> Action:
    return given.replace(
        entrywise=given.entrywise and "permutations" in keeps,
        mirrored=given.mirrored or "mirrored" in keeps,
        parity=given.parity if "signs" in keeps else "none",
        degree=given.degree if "scales" in keeps else None,
        matrices=_smaller(given.matrices, keeps),
        multiples=given.multiples and "multiples" in keeps,
    )


def _smaller(given: str, keeps: tuple[str, ...]) -> str:
    """Return which matrices are left of those that act so far."""
    if "matrices" in keeps:
        return given
    return "orthogonal" if "rotations" in keeps and given != "none" else "none"


def _block(block: Block, given: Action) -> Action:
    given = given.replace(matrices="none", multiples=False)
    opaque = given.replace(entrywise=False, parity="none", degree=None)
    if given.is_lifted:
        return opaque
    if block.children or len(block.inputs) != 1 or len(block.outputs) != 1:
        return opaque
    known = {block.inputs[0].value: given}
    for statement in block.body:
        if not isinstance(statement, Apply):
            return opaque
        site = Site(
            arguments=statement.operation.options,
            inputs=statement.operation.inputs,
            outputs=statement.operation.outputs,
            batched=False,
        )
        relations = operation(statement.operation.operation).relate(site)
        if relations is None or len(relations) != 1 or len(statement.outputs) != 1:
            return opaque
        found = _relation(relations[0], tuple(known[value] for value in statement.inputs))
        if found is None:
            return opaque
        known[statement.outputs[0]] = found
    return known[block.outputs[0].value]


def _relation(relation: Relation, given: tuple[Action, ...]) -> Action | None:
    """Return the action on the output of one operation; None if it is not entry by entry."""
    if not isinstance(relation, (Elementwise, Sum, Contract)):
        return None
    labels = relation.output.labels
    if any(term.labels != labels for term in relation.terms) or not all(a.entrywise for a in given):
        return None
    if isinstance(relation, Elementwise):
        return _function(relation, given)
    if isinstance(relation, Contract):
        powers = relation.powers or (1,) * len(given)
        degrees = [None if a.degree is None else a.degree * p for a, p in zip(given, powers, strict=True)]
        degree = None if None in degrees else sum(d for d in degrees if d is not None)
        return given[0].replace(parity=_product([a.parity for a in given]), degree=degree)
    alike = all((a.parity, a.degree) == (given[0].parity, given[0].degree) for a in given)
    return given[0] if alike else given[0].replace(parity="none", degree=None)


def _function(relation: Elementwise, given: tuple[Action, ...]) -> Action:
    if len(given) != 1:
        unmoved = all(a.parity == "even" for a in given)
        still = all(a.degree == 0 for a in given)
        return given[0].replace(parity="even" if unmoved else "none", degree=0.0 if still else None)
    inner = given[0]
    if inner.degree == 0:
        degree: float | None = 0.0
    elif inner.degree is None or relation.degree is None:
        degree = None
    else:
        degree = inner.degree * relation.degree
    return inner.replace(parity=_composed(relation.parity, inner.parity), degree=degree)


def _composed(outer: str, inner: str) -> str:
    if inner == "even":
        return "even"
    if inner == "odd":
        return "none" if outer == "exchange" else outer
    return "odd" if inner == "complement" and outer == "exchange" else "none"


def _product(parities: list[str]) -> str:
    if any(parity not in ("odd", "even") for parity in parities):
        return "none"
    return "odd" if parities.count("odd") % 2 else "even"
