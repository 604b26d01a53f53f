"""The constraints of the library, and what a `constrain` line's expression means."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

from nnspec.compiler.constraints.binary import Binary
from nnspec.compiler.constraints.box import Box
from nnspec.compiler.constraints.constraint import KINDS, Constraint
from nnspec.compiler.constraints.equivariant import Equivariant
from nnspec.compiler.constraints.frozen import Frozen
from nnspec.compiler.constraints.group_lasso import GroupLasso
from nnspec.compiler.constraints.groups import groups
from nnspec.compiler.constraints.kst import Kst
from nnspec.compiler.constraints.l1 import L1
from nnspec.compiler.constraints.l2 import L2
from nnspec.compiler.constraints.locally_connected import LocallyConnected
from nnspec.compiler.constraints.low_rank import LowRank
from nnspec.compiler.constraints.mask import Mask
from nnspec.compiler.constraints.max_norm import MaxNorm
from nnspec.compiler.constraints.near_identity import NearIdentity
from nnspec.compiler.constraints.nonnegative import Nonnegative
from nnspec.compiler.constraints.normalized import Normalized
from nnspec.compiler.constraints.orthogonal import Orthogonal
from nnspec.compiler.constraints.psd import Psd
from nnspec.compiler.constraints.quantize import Quantize
from nnspec.compiler.constraints.shared_with import SharedWith
from nnspec.compiler.constraints.simplex import Simplex
from nnspec.compiler.constraints.sparse import Sparse
from nnspec.compiler.constraints.spectral import Spectral
from nnspec.compiler.constraints.symmetric import Skew, Symmetric
from nnspec.compiler.constraints.ternary import Ternary
from nnspec.compiler.constraints.tied import Tied
from nnspec.compiler.constraints.toeplitz import Circulant, Toeplitz
from nnspec.compiler.constraints.values import Values
from nnspec.compiler.constraints.written import Written
from nnspec.compiler.ir import Constraint as Laid
from nnspec.compiler.values import Layer, Refused
from nnspec.dsl.catalog import Entry
from nnspec.dsl.definitions import Definition
from nnspec.dsl.errors.names import NotAConstraint
from nnspec.dsl.errors.selectors import ConflictingConstraints
from nnspec.dsl.syntax import Binary as BinaryExpression
from nnspec.dsl.syntax import CallOf, Expression, Name

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator
    from nnspec.compiler.evaluate import Evaluator

_CONSTRAINTS: dict[str, Constraint] = {
    rule.name: rule
    for rule in (
        *(Binary(), Ternary(), Quantize(), Values()),
        *(Orthogonal(), Spectral(), Normalized()),
        *(LowRank(), Symmetric(), Skew(), Psd(), Circulant(), Toeplitz(), Equivariant()),
        *(Sparse(), Mask(), LocallyConnected(), Kst()),
        *(Nonnegative(), MaxNorm(), Box(), Simplex()),
        *(L1(), L2(), GroupLasso(), NearIdentity()),
        *(Frozen(), Tied(), SharedWith()),
    )
}

# Kinds of which a weight may have several; those of one kind are applied in the order written.
_SEVERAL = ("topology", "projection", "penalty")
_REPEATED = {
    "tie": "a weight is stored in one place",
    "structure": "each says which numbers the weight is made of",
    "manifold": "the second would undo the first",
    "values": "the second would undo the first",
    "frozen": "it is said twice",
}
# Kinds that cannot stand together, whatever the constraints.
_KINDS_REFUSED = {
    ("tie", kind): "the other instance stores the weight; constrain it there"
    for kind in KINDS
    if kind not in ("tie",)
} | {
    ("manifold", "values"): "rounding the entries leaves the set that the first asks for",
    ("manifold", "topology"): "setting entries to zero leaves the set that the first asks for",
    ("structure", "topology"): "setting entries to zero leaves the set that the first asks for",
}


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the constraints, and of the words in their arguments."""
    return (*(rule.entry() for rule in _CONSTRAINTS.values()), *(group.entry() for group in groups()))


def constraints() -> tuple[Constraint, ...]:
    """Return the constraints of the library."""
    return tuple(_CONSTRAINTS.values())


def laid_constraints(
    elaborator: Elaborator, evaluator: Evaluator, expression: Expression
) -> tuple[Laid, ...]:
    """Return the constraints of `a & b(..)` in their canonical order, or raise Refused.

    The weight that each is laid on is left empty; a selector says which ones there are.
    """
    found: list[Laid] = []
    for part in _parts(expression):
        found += _constraint(elaborator, evaluator, part)
    ordered = sorted(found, key=lambda laid: KINDS.index(laid.rule.kind))
    for first, second in combinations(ordered, 2):
        why = conflict(first, second)
        if why is not None:
            names = {"first": first.rule.name, "second": second.rule.name}
            raise Refused(ConflictingConstraints(expression.span, why=why, **names))
    return tuple(ordered)


def conflict(first: Laid, second: Laid) -> str | None:
    """Return why two constraints, in canonical order, cannot stand on one weight; None if they can."""
    for one, other in ((first, second), (second, first)):
        why = one.rule.refusal(dict(one.options), other.rule, dict(other.options))
        if why is not None:
            return why
    kinds = (first.rule.kind, second.rule.kind)
    if kinds[0] == kinds[1]:
        return None if kinds[0] in _SEVERAL else _REPEATED[kinds[0]]
    return _KINDS_REFUSED.get(kinds)


def _parts(expression: Expression) -> list[Expression]:
    if isinstance(expression, BinaryExpression) and expression.operator == "&":
        return [*_parts(expression.left), *_parts(expression.right)]
    return [expression]


def _constraint(elaborator: Elaborator, evaluator: Evaluator, expression: Expression) -> tuple[Laid, ...]:
    function = expression.function if isinstance(expression, CallOf) else expression
    arguments = expression.arguments if isinstance(expression, CallOf) else ()
    if not isinstance(function, Name):
        member = evaluator.expression(function)
        found = member.target if isinstance(member, Layer) else None
    else:
        found = evaluator.builder.module.names.get(function.name)
    if isinstance(found, Definition) and found.kind == "constraint":
        given = tuple(evaluator.given(argument) for argument in arguments)
        return Written.clauses(elaborator, found, given, expression.span)
    rule = _CONSTRAINTS.get(function.name) if isinstance(function, Name) else None
    if rule is None:
        raise Refused(NotAConstraint(function.span, name=function.span.text, kind="value"))
    options = rule.use(evaluator, arguments, expression.span)
    laid = Laid(weight="", rule=rule, options=tuple(sorted(options.items())), span=expression.span)
    return (laid,)
