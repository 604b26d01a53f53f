"""Factors of an update as tensors, atom by atom: what the text of a rule is held against.

In: a moment, the records of its phases, and a junction. Out: tensors, the batch first. `Turned` reads a connection the other
way, `Pairs` lays values out for every pair of units.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.written.feedback import entrywise
from nnspec.compiler.rules.written.phase import Moment, Record
from nnspec.compiler.rules.written.reading import kind
from nnspec.compiler.rules.written.terms import (
    Atom,
    Sum,
    Term,
    constant,
    side,
    union,
)

if TYPE_CHECKING:
    from torch import Tensor

_COMPARISONS = {">": "gt", "<": "lt", ">=": "ge", "<=": "le", "==": "eq", "!=": "ne"}


class Values:
    """The values of atoms at one junction. `step` is the record of a step, inside a sum over steps."""

    def __init__(
        self, moment: Moment, records: Mapping[str, Record], junction: int, step: Record | None = None
    ) -> None:
        self.moment = moment
        self.records = records
        self.junction = junction
        self.step = step
        self.map = moment.maps[junction]
        self._known: dict[str, Any] = {}

    # ------------------------------------------------------------------------------------------------ values

    def sum(self, value: Sum) -> Any:
        """Return a sum that lives on one side, or nowhere, as a tensor or a number."""
        known = constant(value)
        if known is not None:
            return known
        total: Any = None
        for found in self._aligned([((term,), self.product(term)) for term in value]):
            total = found if total is None else total + found
        return total

    def _aligned(self, found: list[tuple[Sum, Any]]) -> list[Any]:
        """Return values so that one number a sample meets those that have one a unit."""
        known = [(*union((of,)), value) for of, value in found]
        axes = max(
            (
                value.dim() + (not batched)
                for spaces, batched, value in known
                if spaces and hasattr(value, "dim")
            ),
            default=0,
        )
        return [
            value.reshape(-1, *[1] * (axes - 1))
            if batched and not spaces and axes > 1 and hasattr(value, "dim") and value.dim() == 1
            else value
            for spaces, batched, value in known
        ]

    def _values(self, of: tuple[Sum, ...]) -> list[Any]:
        return self._aligned([(value, self.sum(value)) for value in of])

    def product(self, term: Term) -> Any:
        """Return a term that lives on one side."""
        if not term.factors:
            return term.coefficient
        total: Any = None
        axes = max((_axes(self.atom(atom), atom) for atom, _ in term.factors if atom.spaces), default=0)
        for atom, power in term.factors:
            found = raised(self.atom(atom), power)
            if not atom.spaces and atom.batched and axes:
                found = found.reshape(-1, *[1] * (axes - 1))
            total = found if total is None else total * found
        if total.dtype == _bool():
            return total.to(self.weight.dtype) * term.coefficient
        return total if term.coefficient == 1.0 else total * term.coefficient

    def atom(self, atom: Atom) -> Any:
        """Return the value of an atom."""
        if atom.text not in self._known:
            self._known[atom.text] = self._made(atom)
        return self._known[atom.text]

    def _made(self, atom: Atom) -> Any:
        match atom.word:
            case "read":
                return self._read(atom)
            case "feedback":
                return self.moment.feedback.of(atom.name, self.junction, self.weight)
            case "group":
                return self.sum(atom.of[0])
            case "sum" | "mean":
                inside = self.sum(atom.of[0]).flatten(1)
                return inside.sum(1) if atom.word == "sum" else inside.mean(1)
            case "average":
                return self.sum(atom.of[0]).mean(0)
            case "incoming":
                return self._along(self._full(atom.of[0], "pre"))
            case "outgoing":
                return self._against(self._full(atom.of[0], "post"))
            case "running":
                return self.sum(atom.of[0]).cumsum(-1)
            case "sent":
                return self.moment.feedback.send(atom.name, self.junction, self.sum(atom.of[0]), self.moment)
            case "compare":
                left, right = self._values(atom.of)
                return getattr(_tensor(left, right), _COMPARISONS[atom.name])(right)
            case "power":
                left, right = self._values(atom.of)
                return left**right
            case "call":
                kinds = tuple(map(kind, atom.of))
                given = zip(atom.of, map(self._argument, atom.of, kinds), strict=True)
                return entrywise(atom.name, kinds)(*self._aligned(list(given)))
            case _:
                raise TypeError(f"no value for {atom.word}")

    def _along(self, value: Tensor) -> Tensor:
        """Return what arrives at the targets of what the sources send."""
        return self.map.forward(value, self.weight, None)

    def _against(self, value: Tensor) -> Tensor:
        """Return what arrives at the sources of what the targets send."""
        return self.map.back(value, self.weight, self.any("pre"))

    def _argument(self, value: Sum, of: str) -> Any:
        """Return what a function takes: the truth of a comparison, or numbers."""
        return self.atom(value[0].factors[0][0]) if of == "bool" else self.sum(value)

    def _read(self, atom: Atom) -> Any:
        if atom.name == "weight":
            return self.weight
        if atom.name == "bias":
            return self.moment.biases[self.junction]
        return self.record(atom).read(atom.name, self.junction)

    def record(self, atom: Atom) -> Record:
        if self.step is not None and not atom.phase:
            return self.step
        return self.records[atom.phase]

    @property
    def weight(self) -> Tensor:
        return self.moment.weights[self.junction]

    def any(self, word: str) -> Tensor:
        """Return a word of any phase, for its shape."""
        record = self.step if self.step is not None else next(iter(self.records.values()))
        return record.read(word, self.junction)

    @property
    def drives(self) -> Tensor:
        """Something in the shape of a drive."""
        return self.any("drive" if self.moment.scheme.wiring is not None else "post")

    def _full(self, value: Sum, word: str) -> Tensor:
        """Return a sum in the full shape of its side, where it may be a number or broadcast."""
        like = self.any("pre") if word == "pre" else self.drives
        found = self.sum(value)
        return (found if hasattr(found, "dim") else like.new_tensor(found)).expand(like.shape)


class Turned(Values):
    """Values of a connection read the other way: its targets send, and its sources receive."""

    def __init__(self, values: Values) -> None:
        moment, step = values.moment, values.step
        records = {name: Exchanged(record) for name, record in values.records.items()}
        super().__init__(moment, records, values.junction, None if step is None else Exchanged(step))

    def _along(self, value: Tensor) -> Tensor:
        return self.map.back(value, self.weight, self.any("post"))

    def _against(self, value: Tensor) -> Tensor:
        return self.map.forward(value, self.weight, None)


class Exchanged:
    """A record whose sources and targets have changed places."""

    def __init__(self, record: Record) -> None:
        self.record = record

    def read(self, word: str, junction: int) -> Tensor:
        """Return a word at a junction."""
        other = {"pre": "post", "post": "pre", "post.change": "pre.change"}.get(word, word)
        return self.record.read(other, junction)

    def mean_loss(self) -> Tensor:
        """Return the mean loss of the batch."""
        return self.record.mean_loss()

    def rest_errors(self) -> Mapping[str, Tensor]:
        """Return the derivative of the mean loss by other parameters."""
        return self.record.rest_errors()


class Pairs(Values):
    """Values laid out as (batch, targets, sources), for what does not separate."""

    def __init__(self, values: Values) -> None:
        super().__init__(values.moment, values.records, values.junction, values.step)
        self._plain = values

    def _made(self, atom: Atom) -> Any:
        if atom.word == "dense":
            return self.sum(atom.of[0])
        place = side(atom.spaces)
        if place == "both":
            return super()._made(atom)
        found = self._plain.atom(atom)
        if not hasattr(found, "dim") or place == "own":
            return found
        if place == "post":
            return found.unsqueeze(-1)
        if place == "pre":
            return found.unsqueeze(-2)
        return found.reshape(-1, 1, 1) if atom.batched else found

    def product(self, term: Term) -> Any:
        total: Any = term.coefficient
        for atom, power in term.factors:
            total = total * raised(self.atom(atom), power)
        return total


def _axes(value: Any, atom: Atom) -> int:
    """Return how many axes a value has with the batch, which one that is not batched lacks."""
    return value.dim() + (0 if atom.batched else 1) if hasattr(value, "dim") else 0


def _bool() -> Any:
    import torch

    return torch.bool


def raised(value: Any, power: float) -> Any:
    if power == 1.0:
        return value
    if power == 2.0:
        return value * value
    return value**power


def _tensor(left: Any, right: Any) -> Any:
    return left if hasattr(left, "dim") else right.new_tensor(left)
