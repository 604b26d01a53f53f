"""The connections of a system as linear maps of their own: what arrives at each state, and what leaves it.

In: a system and a value for each state. Out: sums over the connections, by the statements of the loop that lead from
what enters a connection to what it gives.
"""

from __future__ import annotations

from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, cast

from nnspec.compiler.ir import Apply, Call, Connection, Port, Primitive, Pullback, Statement, walked
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Middle, Move, Part, Relation, Sum

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.emit.system import Given, States, System


class Connections:
    """Runs the connections of one system."""

    def __init__(self, own: System) -> None:
        self.own = own
        self.loop = own.loop
        self.befores = {state.before: place for place, state in enumerate(self.loop.carried)}
        self.places = {name: place for place, name in enumerate(own.states)}
        self.types = dict(own.root.types)
        self.between = {c.child: self.statements(c) for c in self.loop.connections}
        self.linear = {name: all(map(self.is_linear, body)) for name, body in self.between.items()}

    def incoming(self, given: Given, e: States, at: States | None) -> States:
        """Return sum_i W_ij e_i at each state j."""
        totals: list[Any] = [None] * len(e)
        for connection in self.loop.connections:
            if any(source in self.befores for source in connection.sources):
                made = self.forward(given, connection, e, at)
                self.add(totals, self.cut(made, self.targets(connection), e))
            if connection.both and not self.within(connection):
                made = self.backward(given, connection, e, at)
                self.add(totals, self.cut(made, self.sources(connection), e))
        return self.filled(totals, e)

    def outgoing(self, given: Given, e: States, at: States | None) -> States:
        """Return sum_j W_ij e_j at each state i."""
        totals: list[Any] = [None] * len(e)
        for connection in self.loop.connections:
            if any(source in self.befores for source in connection.sources):
                made = self.backward(given, connection, e, at)
                self.add(totals, self.cut(made, self.sources(connection), e))
            if connection.both and not self.within(connection):
                made = self.forward(given, connection, e, at)
                self.add(totals, self.cut(made, self.targets(connection), e))
        return self.filled(totals, e)

    # ---------------------------------------------------------------------------------------------- one map

    def statements(self, connection: Connection) -> tuple[Statement, ...]:
        """Return the statements that lead from what enters a connection to what it gives."""
        found: list[Statement] = []
        wanted = {connection.given}
        for statement in reversed(tuple(walked((*self.own.before, *self.loop.body)))):
            if wanted.intersection(statement.outputs) and connection.taken not in statement.outputs:
                found.append(statement)
                wanted.update(value for value in statement.inputs if value != connection.taken)
        return tuple(reversed(found))

    def is_linear(self, statement: Statement) -> bool:
        """Return whether a statement only multiplies by weights, or moves numbers."""
        if isinstance(statement, Call):
            instance = self.own.root.child(statement.child).instances[0]
        else:
            instance = statement.operation if isinstance(statement, Apply) else None
        if not isinstance(instance, Primitive):
            return False
        tensors = tuple(tensor for weight in instance.weights for tensor in weight.stored)
        site = Site(
            arguments=instance.options, inputs=instance.inputs, outputs=instance.outputs, tensors=tensors
        )
        found = operation(instance.operation).relate(site) or (Relation(),)
        return all(_is_linear(relation) for relation in found)

    def forward(self, given: Given, connection: Connection, e: States, at: States | None) -> Tensor:
        """Send values along a connection; one that is not linear as it is at some states."""
        import torch

        taken = self.laid(connection.taken, self.sources(connection), e)
        run = partial(self.along(connection), given.weights)
        if self.linear[connection.child]:
            return run(taken)
        here = (
            torch.zeros_like(taken)
            if at is None
            else self.laid(connection.taken, self.sources(connection), at)
        )
        return torch.func.jvp(run, (here,), (taken,))[1]

    def backward(self, given: Given, connection: Connection, e: States, at: States | None) -> Tensor:
        """Send values back along a connection, by the transpose."""

        cotangent = self.laid(connection.given, self.targets(connection), e)
        shape = self.types[connection.taken].shape
        here = cotangent.new_zeros(len(cotangent), *(int(str(size)) for size in shape))
        if at is not None and not self.linear[connection.child]:
            here = self.laid(connection.taken, self.sources(connection), at)
        return self.back(connection)(given.weights, here, cotangent)

    def along(self, connection: Connection) -> Any:
        """Return a connection as a function of the weights and of what enters it."""
        port = Port(name=connection.taken, value=connection.taken)
        own = f"{connection.child} forward"
        return self.own.cached(own, self.between[connection.child], (port,), (connection.given,))

    def back(self, connection: Connection) -> Any:
        """Return its transpose as a function of the weights, of what enters it and of what comes back."""
        back = Pullback(
            name=connection.child,
            through=self.between[connection.child],
            at=(connection.taken,),
            end=connection.given,
            cotangent="what comes back",
            outputs=("what arrives",),
        )
        ports = tuple(Port(name=value, value=value) for value in (connection.taken, back.cotangent))
        types = {back.cotangent: self.types[connection.given], "what arrives": self.types[connection.taken]}
        return self.own.cached(f"{connection.child} back", (back,), ports, back.outputs, types)

    def within(self, connection: Connection) -> bool:
        """Whether it leads from some states to themselves by a symmetric weight."""
        return self.sources(connection) == self.targets(connection)

    def sources(self, connection: Connection) -> tuple[int | None, ...]:
        return tuple(self.befores.get(source) for source in connection.sources)

    def targets(self, connection: Connection) -> tuple[int | None, ...]:
        return tuple(self.places[target] for target in connection.targets)

    def laid(self, value: str, places: tuple[int | None, ...], e: States) -> Tensor:
        """Return the parts of several states end to end, in the shape of a value; from outside come zeros."""
        import torch

        shape = tuple(int(str(size)) for size in self.types[value].shape)
        known = [None if place is None else e[place].flatten(1) for place in places]
        rest = prod(shape) - sum(part.shape[1] for part in known if part is not None)
        count = e[0].shape[0]
        parts = [e[0].new_zeros(count, rest) if part is None else part for part in known]
        return torch.cat(parts, 1).reshape(count, *shape)

    def cut(self, made: Tensor, places: tuple[int | None, ...], e: States) -> dict[int, Tensor]:
        """Return the pieces that belong to states; what leads outside is left out."""
        flat = made.flatten(1)
        sizes = [0 if place is None else e[place][0].numel() for place in places]
        sizes = [
            flat.shape[1] - sum(sizes) if place is None else n for place, n in zip(places, sizes, strict=True)
        ]
        parts = cast("Any", flat).split(sizes, 1)
        pieces = zip(places, parts, strict=True)
        return {place: piece.reshape(e[place].shape) for place, piece in pieces if place is not None}

    def add(self, totals: list[Any], found: dict[int, Tensor]) -> None:
        for place, piece in found.items():
            totals[place] = piece if totals[place] is None else totals[place] + piece

    def filled(self, totals: list[Any], e: States) -> States:
        import torch

        return tuple(torch.zeros_like(v) if t is None else t for t, v in zip(totals, e, strict=True))


def _is_linear(relation: Relation) -> bool:
    if isinstance(relation, Contract):
        return relation.bias is None and sum(term.tensor.startswith("in") for term in relation.terms) == 1
    return isinstance(relation, Sum | Move | Part | Middle)
