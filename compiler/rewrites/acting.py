"""Where pushes act on the units of a system: on the value through which the synapses themselves act.

A rule that takes d post/d beta times pre for the slope of the loss in a weight supposes a value X of each unit with
dX_j/dW_ji = post'(s_j) pre_i, to which its nudge is added: post is what a unit sends, post' its slope in the unit's state.
Where units send their states, X is what drives them; where they send rates, the slope of the rate times the drive (Scellier
and Bengio, 2017, equation 3). Terms of the unit's own are added, and functions of X follow, as they like.

In: a block whose loop is hoisted. Out: X of each state, or why there is none. Values are read forwards: what is sent,
slopes of what is sent, and by how much what arrives acts on a value.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nnspec.compiler.ir import Apply, Block, Call, Carried, Connection, Loop, Primitive, Pullback, Statement
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Elementwise, Move, Part, Relation, Sum
from nnspec.compiler.synapses import is_elementwise, relations

Functions = tuple[Any, ...]  # one after another; of the state itself none


class Act(NamedTuple):
    """By how much what arrives acts on a value: a number, times the slope of what is sent if `sloped`."""

    by: float = 1.0
    sloped: bool = False


_OTHER = Act(float("nan"))
_OTHERWISE = "the weights of `{}` act otherwise too than on what is sent through them"


class Acting(NamedTuple):
    """`at` is the value X of each state, by the state's name; `why` says why there is none."""

    at: dict[str, str]
    why: str | None = None


def acting(root: Block, loop: Loop) -> Acting:
    """Return where pushes act on the states of a loop."""
    if loop.energy is not None:  # its slope is the rate of change, to which a nudge adds its own
        return Acting({state.name: state.after for state in loop.carried})
    return _Reading(root, loop).result()


class _Reading:
    def __init__(self, root: Block, loop: Loop) -> None:
        self.root, self.loop = root, loop
        place = root.body.index(loop)
        self.body = (*root.body[:place], *loop.body)
        self.makers = {value: statement for statement in self.body for value in statement.outputs}
        self.inside = {value for statement in loop.body for value in statement.outputs}
        self.sent: dict[str, Functions] = {state.before: () for state in loop.carried}
        self.slopes: dict[str, Functions] = {}
        self.ones: set[str] = set()
        self.acts: dict[str, Act] = {}
        self.junctions = {connection.child for connection in loop.connections}
        self.junctions |= {state.name for state in loop.carried}
        self.sends: Functions | None = None
        self.why: str | None = None

    def result(self) -> Acting:
        for statement in self.body:
            self.send(statement)
        self.why = self.unlike()
        for statement in self.body if self.why is None else ():
            self.act(statement)
        if self.why is not None:
            return Acting({}, self.why)
        wanted = Act(1.0, bool(self.sends))
        found = {state.name: self.at(state, wanted) for state in self.loop.carried}
        missing = next((name for name, value in found.items() if value is None), None)
        if missing is not None:
            how = "by the slope of what it sends" if self.sends else "by the weights as they are"
            return Acting({}, f"what arrives at `{missing}` does not act on it {how}")
        return Acting({name: value for name, value in found.items() if value is not None})

    def unlike(self) -> str | None:
        """Say which connections are sent something else; note what all units send."""
        befores = {state.before for state in self.loop.carried}
        for connection in self.loop.connections:
            if not befores.intersection(connection.sources):
                continue
            found = self.sent.get(connection.taken)
            if found is None or (self.sends is not None and found != self.sends):
                return f"`{connection.child}` is sent what is no one function of each unit's state"
            self.sends = found
        return None

    def at(self, state: Carried, wanted: Act) -> str | None:
        """Return the last value on which what arrives acts as wanted, and by which alone it moves the state."""
        for statement in reversed(self.body):
            for value in statement.outputs:
                if self.acts.get(value) == wanted and self.only_by(state.after, value):
                    return value
        return None

    def only_by(self, after: str, value: str) -> bool:
        """Return whether `after` reads `value`, and nothing else on which anything arriving acts."""
        reached, waiting, seen = False, [after], set[str]()
        while waiting:
            own = waiting.pop()
            if own == value:
                reached = True
            elif own not in seen and own in self.makers:
                seen.add(own)
                inputs = [given for given in self.makers[own].inputs if given in self.acts]
                if own in self.acts and not inputs:
                    return False
                waiting += inputs
        return reached

    # ----------------------------------------------------------------------------------------- what is sent

    def send(self, statement: Statement) -> None:
        """Read functions of states, and their slopes."""
        if isinstance(statement, Pullback):
            key = self.chain(statement) if statement.cotangent in self.ones else None
            if key is not None:
                self.slopes[statement.outputs[0]] = key
        elif isinstance(statement, Apply | Call) and statement.inputs:
            instance = self.instance(statement)
            if isinstance(instance, Primitive) and _is_one(instance):
                self.ones.update(statement.outputs)
            elif (sent := self.passed(statement, instance)) is not None:
                self.sent.update(dict.fromkeys(statement.outputs, sent))

    def chain(self, statement: Pullback) -> Functions | None:
        """Return the functions that are pulled back at a state; None if they are no such."""
        value, found = statement.at[0], self.sent.get(statement.at[0])
        for own in statement.through:
            key = self.function(own)
            if found is None or key is None or own.inputs != (value,):
                return None
            value, found = own.outputs[0], (*found, key)
        return found if value == statement.end and self.sent.get(statement.at[0]) == () else None

    def passed(self, statement: Apply | Call, instance: Primitive | Block) -> Functions | None:
        """Return what is sent: functions of states, one after another, laid end to end with what comes from outside."""
        known = {self.sent[value] for value in statement.inputs if value in self.sent}
        if len(known) != 1 or any(v in self.inside and v not in self.sent for v in statement.inputs):
            return None
        (found,) = known
        key = self.function(statement)
        if key is not None:
            return (*found, key)
        return found if isinstance(instance, Primitive) and _moves(relations(instance)) else None

    # -------------------------------------------------------------------------------------- how arrivals act

    def act(self, statement: Statement) -> None:
        """Read by how much what arrives acts on what a statement gives."""
        if isinstance(statement, Pullback):
            self.pulled(statement)
        elif isinstance(statement, Call) and statement.child in self.junctions:
            self.called(statement)
        elif isinstance(statement, Apply | Call) and any(value in self.acts for value in statement.inputs):
            instance = self.instance(statement)
            found = self.acted(statement, relations(instance) if isinstance(instance, Primitive) else ())
            self.acts.update(dict.fromkeys(statement.outputs, found))

    def called(self, statement: Call) -> None:
        """Read a connection's linear map, or a bias."""
        (value,) = statement.outputs
        self.acts[value] = Act()
        connection = self.connection(statement.child)
        if connection is not None and not self.carries(connection, statement.inputs[0]):
            self.why = _OTHERWISE.format(statement.child)

    def carries(self, connection: Connection, value: str) -> bool:
        """Return whether a value is what enters a connection, or comes of it on the way."""
        while (
            value != connection.taken
            and value not in self.ones
            and len(getattr(self.makers.get(value), "inputs", ())) == 1
        ):
            (value,) = self.makers[value].inputs
        return value == connection.taken

    def connection(self, child: str) -> Connection | None:
        return next((c for c in self.loop.connections if c.child == child), None)

    def pulled(self, statement: Pullback) -> None:
        """Read a connection backwards: what arrives where it is used both ways."""
        crossed = [s.child for s in statement.through if isinstance(s, Call) and s.child in self.junctions]
        if crossed:
            connection = self.connection(crossed[0])
            if connection is None or not connection.both or statement.cotangent not in self.sent:
                self.why = _OTHERWISE.format(crossed[0])
            self.acts.update(dict.fromkeys(statement.outputs, Act()))
        elif any(value in self.acts for value in statement.inputs):
            self.acts.update(dict.fromkeys(statement.outputs, _OTHER))

    def acted(self, statement: Apply | Call, stated: tuple[Relation, ...]) -> Act:
        """Return by how much what arrives acts on what a statement gives."""
        given = [self.acts.get(value) for value in statement.inputs]
        moved = [act for act in given if act is not None]
        if _moves(stated):
            return moved[0] if len(set(moved)) == 1 else _OTHER
        if len(stated) != 1:
            return _OTHER
        (relation,) = stated
        if isinstance(relation, Elementwise) and relation.shifts is not None and len(given) == 1:
            return moved[0]._replace(by=moved[0].by * relation.shifts)
        if not isinstance(relation, Sum | Contract) or any(
            term.labels != relation.output.labels for term in relation.terms
        ):
            return _OTHER
        if isinstance(relation, Sum):
            pairs = zip(relation.coefficients, given, strict=True)
            sums = {act._replace(by=act.by * c) for c, act in pairs if act is not None}
            return sums.pop() if len(sums) == 1 else _OTHER
        return self.multiplied(statement, relation, moved)

    def multiplied(self, statement: Apply | Call, relation: Contract, moved: list[Act]) -> Act:
        others = [value for value in statement.inputs if value not in self.acts]
        if set(relation.powers) > {1} or len(moved) != 1 or len(others) != 1 or moved[0].sloped:
            return _OTHER
        if others[0] in self.ones:
            return moved[0]
        is_slope = bool(self.sends) and self.slopes.get(others[0]) == self.sends
        return moved[0]._replace(sloped=True) if is_slope else _OTHER

    # ------------------------------------------------------------------------------------------- operations

    def instance(self, statement: Apply | Call) -> Primitive | Block:
        return (
            statement.operation
            if isinstance(statement, Apply)
            else self.root.child(statement.child).instances[0]
        )

    def function(self, statement: Statement) -> Any:
        """Return what a function of single entries is, whatever the shape of what it is laid on; None of anything else."""
        if not isinstance(statement, Apply | Call):
            return None
        instance = self.instance(statement)
        if isinstance(instance, Block):
            body = tuple(_written(own) for own in instance.body)
            return (instance.name, body) if instance.is_pure and instance.function else None
        return (instance.operation, instance.arguments) if is_elementwise(instance) else None


def _written(statement: Statement) -> Any:
    own = statement.operation if isinstance(statement, Apply) else None
    return (own and (own.operation, own.arguments), statement.inputs, statement.outputs)


def _is_one(primitive: Primitive) -> bool:
    return operation(primitive.operation).constant(primitive.options) == 1.0


def _moves(stated: tuple[Relation, ...]) -> bool:
    return bool(stated) and all(isinstance(relation, Move | Part) for relation in stated)
