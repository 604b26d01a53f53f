"""The normal form of an update: a sum of products, each a factor of the target times a factor of the source.

An equation speaks of one synapse and one sample. Each `Atom` lives in some spaces: "post" (one number a target
unit), "pre" (one a source unit), "edge" (functions of the weight, the same for every sample), "bias", "output" (one a
unit of the network's output), "module", "rest"; in none, it is one number a sample, or a number. A product of atoms is a
`Term`, a tuple of terms is their sum. A sum that lives on one side stays one atom, so that products of sums
are not written out where one matrix product serves them all.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

from nnspec.dsl.node import Node
from nnspec.dsl.source import Span

TARGET = frozenset({"post", "output"})  # one number a unit behind the synapse: the output is the last post
SOURCE = frozenset({"pre"})
OWN = frozenset({"edge", "bias"})  # what is learned itself
_NOWHERE: frozenset[str] = frozenset()


class Atom(Node):
    """A factor: `word` says what kind, `of` holds what it is made of, `text` is unique and canonical.

    read      `name` of `phase`             call     the operation `name` of its arguments, entry by entry
    group     a sum on one side             sum, mean  over the units, for each sample
    average   over the batch                incoming, outgoing  through the weight
    sent      through feedback `name`       running  the sum over target units up to this one
    compare   `name` is the operator        whole    an expression that is evaluated for every pair of units
    """

    word: str
    text: str
    name: str = ""
    phase: str = ""
    of: tuple[Sum, ...] = ()
    spaces: frozenset[str] = _NOWHERE
    batched: bool = True
    span: Span | None = None


class Term(Node):
    """`coefficient` times atoms to their powers.

    With `steps`, the name of a phase, it is gathered over that phase: the sum over its steps, or the slope in its nudge.
    """

    coefficient: float
    factors: tuple[tuple[Atom, float], ...] = ()
    steps: str = ""
    gathered: str = "sum"  # or "slope"

    @property
    def spaces(self) -> frozenset[str]:
        return frozenset[str]().union(*(atom.spaces for atom, _ in self.factors))

    @property
    def text(self) -> str:
        inside = " * ".join(_power_text(atom.text, power) for atom, power in self.factors)
        if not inside:
            return f"{self.coefficient:g}"
        sign = {1.0: "", -1.0: "-"}.get(self.coefficient, f"{self.coefficient:g} * ")
        return f"{self.steps}.{self.gathered}({sign}{inside})" if self.steps else f"{sign}{inside}"


Sum: TypeAlias = tuple[Term, ...]
Factors: TypeAlias = tuple[tuple[Atom, float], ...]

ZERO: Sum = ()


def number(value: float) -> Sum:
    """Return a number."""
    return (Term(coefficient=float(value)),) if value else ZERO


def single(atom: Atom) -> Sum:
    """Return an atom by itself."""
    return (Term(coefficient=1.0, factors=((atom, 1.0),)),)


def constant(value: Sum) -> float | None:
    """Return the number that a sum is, None if it is more."""
    if any(term.factors or term.steps for term in value):
        return None
    return sum(term.coefficient for term in value)


def add(left: Sum, right: Sum) -> Sum:
    """Return left + right, like terms together."""
    found: dict[tuple[frozenset[tuple[str, float]], str], Term] = {}
    for term in (*left, *right):
        key = (frozenset((atom.text, power) for atom, power in term.factors), term.steps + term.gathered)
        before = found.get(key)
        found[key] = (
            term if before is None else term.replace(coefficient=before.coefficient + term.coefficient)
        )
    return tuple(term for term in found.values() if term.coefficient)


def scale(value: Sum, by: float) -> Sum:
    """Return by * value."""
    return tuple(term.replace(coefficient=term.coefficient * by) for term in value) if by else ZERO


def multiply(left: Sum, right: Sum) -> Sum:
    """Return left * right: written out, but for sums that live on one side."""
    for own, other in ((left, right), (right, left)):
        number_ = constant(own)
        if number_ is not None:
            return scale(other, number_)
    found: Sum = ZERO
    for a in grouped(left):
        for b in grouped(right):
            found = add(found, (_product(a, b),))
    return found


def power(base: Sum, exponent: float) -> Sum | None:
    """Return base^exponent; None where it is no product of powers."""
    known = constant(base)
    if known is not None:
        return number(known**exponent)
    kept = grouped(base)
    if len(kept) == 1 and not kept[0].steps and (float(exponent).is_integer() or _is_one_factor(kept[0])):
        factors = tuple((atom, own * exponent) for atom, own in kept[0].factors)
        return (Term(coefficient=kept[0].coefficient ** exponent, factors=factors),)
    if exponent in (2.0, 3.0):
        return multiply(base, base if exponent == 2.0 else multiply(base, base))
    return None


def grouped(value: Sum) -> Sum:
    """Return a sum that lives on one side as one atom; any other as it is."""
    sides = {side(term.spaces) for term in value}
    if len(value) < 2 or len(sides) != 1 or sides == {"both"} or any(term.steps for term in value):
        return value
    text = f"({sum_text(value)})"
    spaces = frozenset[str]().union(*(term.spaces for term in value))
    batched = any(atom.batched for term in value for atom, _ in term.factors)
    return single(Atom(word="group", text=text, of=(value,), spaces=spaces, batched=batched))


def side(spaces: frozenset[str]) -> str:
    """Return where something lives: "post", "pre", "own", "none" (of no unit), "module", "rest", or "both"."""
    for name, known in (("post", TARGET), ("pre", SOURCE), ("own", OWN)):
        if spaces and spaces <= known:
            return name
    if not spaces:
        return "none"
    return next(iter(spaces)) if len(spaces) == 1 else "both"


def is_even(value: Sum) -> bool:
    """Return whether a sum stays the same when `pre` and `post` change places."""

    def keys(turned: bool) -> Counter[Any]:
        return Counter(
            (
                term.coefficient,
                term.steps,
                term.gathered,
                frozenset((_turned(a.text) if turned else a.text, power) for a, power in term.factors),
            )
            for term in value
        )

    return keys(False) == keys(True)


def _turned(text: str) -> str:
    return re.sub(r"\b(pre|post)\b", lambda found: "post" if found[1] == "pre" else "pre", text)


def atoms(value: Sum) -> Iterator[Atom]:
    """Yield every atom of a sum, those inside others too."""
    for term in value:
        for atom, _ in term.factors:
            yield atom
            for inner in atom.of:
                yield from atoms(inner)


def sum_text(value: Sum) -> str:
    """Return a sum as one would write it."""
    texts = [term.text for term in value]
    joined = " + ".join(texts) if texts else "0"
    return joined.replace("+ -", "- ")


def union(values: Iterable[Sum]) -> tuple[frozenset[str], bool]:
    """Return the spaces in which several sums live together, and whether they differ from sample to sample."""
    kept = [atom for value in values for term in value for atom, _ in term.factors]
    return frozenset[str]().union(*(atom.spaces for atom in kept)), any(atom.batched for atom in kept)


def parted(term: Term) -> tuple[Factors, Factors, Factors, Atom | None]:
    """Part a term: factors of the target and of the sample, of the source, of what is learned, and a running sum."""
    running = next((a for a, _ in term.factors if a.word == "running" and "edge" in a.spaces), None)
    left = tuple(f for f in term.factors if f[0] is not running)
    post = tuple(f for f in left if side(f[0].spaces) in ("post", "none"))
    pre = tuple(f for f in left if side(f[0].spaces) == "pre")
    own = tuple(f for f in left if side(f[0].spaces) == "own")
    return post, pre, own, running


def _product(a: Term, b: Term) -> Term:
    factors: dict[str, tuple[Atom, float]] = {}
    for atom, power_ in (*a.factors, *b.factors):
        before = factors.get(atom.text, (atom, 0.0))[1]
        factors[atom.text] = (atom, before + power_)
    kept = tuple((atom, power_) for atom, power_ in factors.values() if power_)
    return Term(
        coefficient=a.coefficient * b.coefficient,
        factors=kept,
        steps=a.steps or b.steps,
        gathered=(a if a.steps else b).gathered,
    )


def _is_one_factor(term: Term) -> bool:
    return len(term.factors) == 1 and term.coefficient == 1.0


def _power_text(text: str, power_: float) -> str:
    return text if power_ == 1.0 else f"{text}^{power_:g}"
