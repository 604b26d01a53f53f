"""How complete a derived group is: by which theorem, and whether that holds on weights; else why only a bound.

In: a derived group, and where there are some, weights. Out: `Completeness`. What a theorem covers is read off the
relations; that the group is larger than one allows is a bug of ours.
"""

from __future__ import annotations

from math import log10
from typing import Any

from nnspec.compiler.symmetry.chain import Chain, chain_of
from nnspec.compiler.symmetry.gauge import gauge_wires, short_of_rank
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.settled import settled_units
from nnspec.compiler.symmetry.theorems import (
    OTHER_FUNCTIONS,
    THEOREMS,
    Gauge,
    Resting,
    State,
    Theorem,
    VlacicBolcskei,
)
from nnspec.compiler.symmetry.units import Units, units_of
from nnspec.dsl.diagnostics import InternalError
from nnspec.dsl.node import Node


class Applied(Node):
    """A theorem and what came of it: the wires that it covers, and what it finds on weights.

    `holds` is None where there are no weights, or where more is asked than could be tested.
    """

    theorem: Any  # a Theorem, or Gauge
    wires: tuple[str, ...]
    is_all: bool  # the group is as large as the theorem allows
    everywhere: bool
    is_whole: bool = True  # it speaks of all that was derived, once it covers every wire
    tested: bool = False  # there were weights
    holds: bool | None = None
    violated: tuple[str, ...] = ()

    def json(self) -> dict[str, Any]:
        return {
            "name": self.theorem.name,
            "citation": self.theorem.citation,
            "statement": self.theorem.statement,
            "read": self.theorem.read,
            "condition": self.theorem.condition,
            "wires": list(self.wires),
            "matches": self.is_all,
            "holds": self.holds,
            "violated": list(self.violated),
        }


class Completeness(Node):
    """How complete a group is: in a sentence, and by theorem."""

    text: str
    applied: tuple[Applied, ...]

    def theorem_of(self, wire: str | None) -> str | None:
        """Return the name of the theorem that covers a wire."""
        return next((one.theorem.name for one in self.applied if one.is_all and wire in one.wires), None)


def completeness(group: SymmetryGroup, states: tuple[State, ...] = ()) -> Completeness:
    """Return how complete a group is, on weights where there are some: by which theorem, or why only a bound."""
    if group.derivation.related.sealed:  # no theorem speaks of operations that could mean anything
        return Completeness(text=f"lower bound only: {group.notes[0]}", applied=())
    chain = chain_of(group.derivation.related)
    applied: list[Applied] = []
    reasons: list[str] = []
    units = units_of(group.derivation)
    last: list[str] = []
    for theorem in THEOREMS:
        if isinstance(theorem, VlacicBolcskei):
            lacking = units if isinstance(units, str) else theorem.lacks(units)
            if lacking is None and isinstance(units, Units):
                applied.append(_of_units(theorem, group, units, states))
            last = [] if lacking is None or isinstance(chain, Chain) else [lacking]
        else:
            lacking = chain if isinstance(chain, str) else theorem.lacks(chain)
            if lacking is None and isinstance(chain, Chain):
                applied.append(_applied(theorem, group, chain, states))
        reasons += [] if lacking is None else [lacking]
    reasons += last  # of what is no chain, it says more
    at_rest = _at_rest(group, states) if group.derivation.related.loops else None
    if at_rest is not None:
        applied += [at_rest] if isinstance(at_rest, Applied) else []
        reasons = [at_rest] if isinstance(at_rest, str) else []
    gauge = gauge_wires(group)
    if gauge:
        applied.append(_gauge(group, gauge, states))
    return Completeness(text=_text(group, applied, reasons), applied=tuple(applied))


def _applied(theorem: Theorem, group: SymmetryGroup, chain: Chain, states: tuple[State, ...]) -> Applied:
    more = (
        group.log10_order - theorem.log10_order(chain),
        group.continuous_dimension - theorem.dimension(chain),
    )
    if more[0] > 1e-6 or more[1] > 0:
        raise InternalError(f"{group.network}: more was derived than {theorem.name} allows")
    violated = tuple(dict.fromkeys(text for state in states for text in theorem.violated(chain, state)))
    return Applied(
        theorem=theorem,
        wires=tuple(wire.name for wire in group.wires if not wire.is_fixed),
        is_all=more[0] > -1e-6 and more[1] == 0,
        everywhere=theorem.everywhere,
        tested=bool(states),
        holds=False if violated else True if states and theorem.settled else None,
        violated=violated,
    )


def _of_units(
    theorem: VlacicBolcskei, group: SymmetryGroup, units: Units, states: tuple[State, ...]
) -> Applied:
    """Apply a theorem to the wires of units; what linear maps between these leave is no matter of it."""
    d = group.derivation
    matrices = sum(strand.copies for strand in d.of_group("linear", "orthogonal", "centred"))
    more = group.log10_order - matrices * log10(2) - theorem.log10_order(units)
    if more > 1e-6 or (units.is_chain and group.continuous_dimension):
        raise InternalError(f"{group.network}: more was derived than {theorem.name} allows")
    violated = tuple(dict.fromkeys(text for state in states for text in units.violated(state)))
    return Applied(
        theorem=theorem,
        wires=_wires(group, [layer.made for layer in units.layers]),
        is_all=more > -1e-6,
        everywhere=theorem.everywhere,
        is_whole=units.is_chain,
        tested=bool(states),
        holds=False if violated else None,
        violated=violated,
    )


def _at_rest(group: SymmetryGroup, states: tuple[State, ...]) -> Applied | str:
    """Apply the theorem on settled states, or say why it does not speak of them."""
    units, theorem = settled_units(group.derivation), Resting()
    lacking = units if isinstance(units, str) else theorem.lacks(units)
    if isinstance(units, str) or lacking is not None:
        return f"the theorem on settled states does not cover it: {lacking}"
    more = group.log10_order - units.log10_order()
    if more > 1e-6 or group.continuous_dimension > group.families["unused"]:
        raise InternalError(f"{group.network}: more was derived than {theorem.name} allows")
    violated = tuple(dict.fromkeys(text for state in states for text in units.violated(state)))
    return Applied(
        theorem=theorem,
        wires=_wires(group, [*units.loop.before]),
        is_all=more > -1e-6,
        everywhere=theorem.everywhere,
        tested=bool(states),
        holds=False if violated else True if states else None,
        violated=violated,
    )


def _wires(group: SymmetryGroup, vectors: list[str]) -> tuple[str, ...]:
    """Return the wires that some vectors are on."""
    d = group.derivation
    own = {d.spaces.space(atom) for name in vectors for s in d.spaces.atoms((name, 0)) for atom in s}
    return tuple(w.name for w in group.wires if own.intersection(d.by_space[w.space].spaces))


def _gauge(group: SymmetryGroup, wires: tuple[str, ...], states: tuple[State, ...]) -> Applied:
    violated = tuple(dict.fromkeys(text for state in states for text in short_of_rank(group, wires, state)))
    return Applied(
        theorem=Gauge(),
        wires=wires,
        is_all=True,
        everywhere=True,
        is_whole=group.continuous_dimension
        == group.families["linear"],  # it says nothing of shifts by biases
        tested=bool(states),
        holds=False if violated else None,
        violated=violated,
    )


def _text(group: SymmetryGroup, applied: list[Applied], reasons: list[str]) -> str:
    moving = {wire.name for wire in group.wires if not wire.is_fixed}
    whole = [o for o in applied if o.is_all and o.is_whole and o.wires and moving <= set(o.wires)]
    if not group.factors and not group.continuous_dimension and not whole:
        return "lower bound only: no wire has symmetries, and no theorem says that there are no others"
    for one in (*(o for o in whole if o.holds is not False), *whole):
        return _covered(one)
    partly = [_partly(one) for one in applied if one.is_all]
    missing = [f"{one.theorem.name} allows more than was derived" for one in applied if not one.is_all]
    closer = [reason for reason in reasons if reason not in OTHER_FUNCTIONS]
    why = missing[:1] or closer[-1:] or ["no theorem here speaks of its functions"]
    exact = "; the dimension is exact at generic weights" if group.is_exact else ""
    notes = "" if group.is_exact else "".join(f"; {note}" for note in group.notes[:1])
    return f"lower bound only: {'; '.join((*partly, *why)) or 'no theorem covers it'}{exact}{notes}"


def _listed(wires: tuple[str, ...]) -> str:
    shown = ", ".join(wires[:4])
    return shown if len(wires) <= 4 else f"{shown} and {len(wires) - 4} more wires"


def _partly(one: Applied) -> str:
    """Say which wires a theorem covers, or what stands against it."""
    if one.violated:
        return f"{one.theorem.name} would make {_listed(one.wires)} complete, but {one.violated[0]}"
    return f"{_listed(one.wires)} complete by {one.theorem.name}"


def _covered(one: Applied) -> str:
    name = one.theorem.name
    if one.violated:
        found = f"{one.violated[0]}" + (
            f", and {len(one.violated) - 1} more" if len(one.violated) > 1 else ""
        )
        return f"lower bound on these weights: {name} would make it complete, but {found}"
    if one.everywhere:
        said = "which hold on these weights" if one.tested else "not tested on weights"
        said += ", as far as they are known" if one.tested and not one.theorem.settled else ""
        return f"complete by {name}, under its conditions ({said})"
    return f"complete by {name}: at some weights there are no other symmetries, so none holds at all weights"
