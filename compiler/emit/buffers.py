"""Sums and buffers of a step in place: values are sums of terms until something needs their numbers.

In: what is known of a loop's values. Out: lines that make buffers once, and lines that fill them in each step.
"""

from __future__ import annotations

from nnspec.compiler.ir import Carried, Type
from nnspec.compiler.naming import Names, variable
from nnspec.dsl.node import Node


class Unfit(Exception):
    """A step that has no form in place."""


class Part(Node):
    """A term of a sum: coefficient * value, or coefficient * value @ matrix."""

    coefficient: float
    value: str
    matrix: str | None = None


class Buffers:
    """Values by name, sums that are not made yet, and the lines so far."""

    def __init__(
        self,
        names: Names,
        types: dict[str, Type],
        outer: dict[str, str],
        states: dict[str, str],
        readers: dict[str, int],
    ) -> None:
        self.names, self.types, self.states, self.readers = names, types, states, readers
        self.text = {**outer, **states}  # value -> its name here
        self.same: dict[str, str] = {}  # value -> another that it equals
        self.constants: dict[str, float] = {}
        self.sums: dict[str, tuple[Part, ...]] = {}  # values not made yet
        self.own: set[str] = set()  # names of buffers
        self.fixed = set(outer)  # values that no step changes
        self.prepared: list[str] = []
        self.renewed: list[
            str
        ] = []  # what of it is made of weights and values, for others of these in the same memory
        self.lines: list[str] = []

    def resolved(self, value: str) -> str:
        while value in self.same:
            value = self.same[value]
        return value

    def name(self, value: str) -> str:
        """Return the name of a value, made here if it is a sum that nothing needed so far."""
        value = self.resolved(value)
        if value in self.constants:
            self.make_constant(value)
        if value not in self.text:
            if value not in self.sums:
                raise Unfit
            self.text[value] = self.made(value, self.sums[value])
        return self.text[value]

    def make_constant(self, value: str) -> None:
        name = self.buffer(value)
        self.prepared.append(f"{name}.fill_({self.constants.pop(value)!r})")
        self.own.discard(name)
        self.text[value] = name

    def parts(self, value: str) -> tuple[Part, ...]:
        """Return a value as a sum: of its terms if this alone reads it, else of itself."""
        value = self.resolved(value)
        if value in self.sums and value not in self.text and self.readers.get(value, 0) <= 1:
            return self.sums[value]
        self.name(value)
        return (Part(coefficient=1.0, value=value),)

    def buffer(self, value: str) -> str:
        name = self.names.claim(variable(value))
        like = next(iter(self.states.values()))
        given = self.types.get(value)
        if given is None:
            raise Unfit
        sizes = ", ".join((f"{like}.shape[0]", *(str(size) for size in given.shape)))
        self.prepared.append(f"{name} = {like}.new_empty({sizes})")
        self.own.add(name)
        return name

    def made(self, value: str, parts: tuple[Part, ...], like: str | None = None) -> str:
        """Write a sum into a buffer; return its name."""
        fixed = [p for p in parts if p.matrix is None and p.value in self.fixed]
        products = [p for p in parts if p.matrix is not None]
        others = [p for p in parts if p.matrix is None and p.value not in self.fixed]
        terms = [(p.coefficient, self.name(p.value)) for p in others]
        if fixed:
            terms.insert(0, (1.0, self.base(fixed)))
        name = self.buffer(like or value)
        terms = self.multiplied(name, products, terms) if products else self.begun(name, terms)
        for coefficient, text in terms:
            self.lines.append(f"{name}.add_({text}{_alpha(coefficient)})")
        return name

    def base(self, fixed: list[Part]) -> str:
        """Return the sum of the terms that no step changes, added once."""
        if len(fixed) == 1 and fixed[0].coefficient == 1.0:
            return self.text[fixed[0].value]
        name = self.names.claim("base")
        terms = " + ".join(
            self.text[p.value] if p.coefficient == 1.0 else f"{p.coefficient!r} * {self.text[p.value]}"
            for p in fixed
        )
        self.prepared.append(f"{name} = {terms}")
        self.renewed.append(f"{name}.copy_({terms})")
        return name

    def multiplied(
        self, name: str, products: list[Part], terms: list[tuple[float, str]]
    ) -> list[tuple[float, str]]:
        """Write the products into the buffer, upon one of the other terms; return those that are left."""
        place = next((n for n, (c, _) in enumerate(terms) if c == 1.0), None)
        first, *rest = products
        vector = self.name(first.value)
        alpha = _alpha(first.coefficient)
        if place is not None:
            upon = terms.pop(place)[1]
            self.lines.append(f"torch.addmm({upon}, {vector}, {first.matrix}{alpha}, out={name})")
        elif first.coefficient == 1.0:
            self.lines.append(f"torch.mm({vector}, {first.matrix}, out={name})")
        else:
            self.lines.append(f"torch.addmm({name}, {vector}, {first.matrix}, beta=0{alpha}, out={name})")
        for part in rest:
            self.lines.append(
                f"{name}.addmm_({self.name(part.value)}, {part.matrix}{_alpha(part.coefficient)})"
            )
        return terms

    def begun(self, name: str, terms: list[tuple[float, str]]) -> list[tuple[float, str]]:
        """Write the first terms of a sum without products into the buffer; return those that are left."""
        if not terms:
            self.lines.append(f"{name}.zero_()")
            return []
        place = next((n for n, (c, _) in enumerate(terms) if c == 1.0), 0)
        coefficient, first = terms.pop(place)
        if coefficient == 1.0 and terms:
            other, second = terms.pop(0)
            self.lines.append(f"torch.add({first}, {second}{_alpha(other)}, out={name})")
        elif coefficient == 1.0:
            self.lines.append(f"{name}.copy_({first})")
        else:
            self.lines.append(f"torch.mul({first}, {coefficient!r}, out={name})")
        return terms

    def apart(self, state: Carried, name: str) -> str:
        """Return a name that no update changes: states move one after another, but all at once."""
        if name not in self.states.values():
            return name
        copy = self.buffer(state.before)
        self.lines.append(f"{copy}.copy_({name})")
        return copy


def _alpha(coefficient: float) -> str:
    return "" if coefficient == 1.0 else f", alpha={coefficient!r}"
