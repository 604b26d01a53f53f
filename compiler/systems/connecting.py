"""Reads a `connect` line: which states and values it joins, by which layer, and which of their units.

In: the line and the states of the body. Out: a `Route`, after its child was added to the block. A plain connection is
one matrix without a bias from all sources, laid end to end, to all targets.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.conditions import Condition, condition
from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.mask import Mask, MaskFile, MaskGraph, rows_of
from nnspec.compiler.constraints.symmetric import Symmetric
from nnspec.compiler.ir import Constraint, Init, Primitive
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.systems.graphs import edges_of
from nnspec.compiler.systems.parts import End, Route, State
from nnspec.compiler.systems.selfless import apart
from nnspec.compiler.systems.through import layers_of
from nnspec.compiler.values import UNKNOWN, Refused, Value, describe, source_text
from nnspec.dsl.bind import duplicate
from nnspec.dsl.errors.systems import WrongEnd, WrongGraph, WrongVia
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Connect, Expression, Lambda

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


_MASK, _SYMMETRIC = Mask(), Symmetric()


def connected(evaluator: Evaluator, statement: Connect, states: dict[str, State]) -> Route:
    """Return the route of a `connect` line."""
    sources = tuple(_end(evaluator, name, statement, states) for name in statement.sources)
    targets = tuple(_target(evaluator, name, statement, states) for name in statement.targets)
    both = statement.arrow == "<->"
    if both:
        _check_two_way(sources, targets, statement)
    if statement.via is not None:
        return _via(evaluator, statement, sources, targets, both)
    total = sum(state.size for state in targets)
    constraints = _constraints(evaluator, statement, sources, targets, both)
    arguments: tuple[tuple[str, Any], ...] = (("bias", False), ("units", total))
    primitive = Primitive(
        operation="dense",
        arguments=arguments,
        constraints=constraints,
        inits=_begins(sources, total) if both else (),
        span=statement.span,
    )
    child = evaluator.builder.add_child(_name(evaluator, statement, "dense"), (primitive,), statement.span)
    return Route(child, sources, targets, both, statement.span)


def _begins(sources: tuple[End, ...], total: int) -> tuple[tuple[str, Init], ...]:
    """Return how a two-way weight begins: half as wide as torch's own.

    A directed n x n matrix of entries within 1 / sqrt(n) has a spectral radius of about 0.58; one that is symmetric, or
    that leads to and fro between equal groups, of twice that, with which states need not settle.
    """
    width = 0.5 / sqrt(max(total, sum(end.size or 0 for end in sources)))
    return (("weight", Init(name="uniform", arguments=(("high", width), ("low", -width)))),)


def _name(evaluator: Evaluator, statement: Connect, base: str) -> str:
    if statement.name is None:
        return base
    taken, first = evaluator.builder.instance_span(statement.name)
    if taken:
        raise Refused(duplicate(statement.name, statement.span, first))
    return statement.name


def _end(evaluator: Evaluator, name: str, statement: Connect, states: dict[str, State]) -> End:
    builder = evaluator.builder
    if name in states:
        return End(name, states[name], None, len(states[name].shape))
    found = builder.scope.get(name)
    if found is UNKNOWN:
        raise Refused
    if not isinstance(found, Value):
        why = f"it is {describe(found)}"
        help_text = f"write `state {name}: real[n]` above, or an input's name"
        raise Refused(WrongEnd(statement.span, name=name, way="lead from", why=why, help=help_text))
    declared = next((kind for _, value, kind, _ in builder.inputs if value is found), None)
    if declared is None or any(axis.rest for axis in declared.axes):
        return End(name, None, found, None)
    return End(name, None, found, len(declared.axes), declared.shape)


def _target(evaluator: Evaluator, name: str, statement: Connect, states: dict[str, State]) -> State:
    if name in states:
        return states[name]
    found = evaluator.builder.scope.get(name)
    if found is UNKNOWN:
        raise Refused
    is_input = any(value is found for _, value, _, _ in evaluator.builder.inputs)
    why = "it is an input" if is_input else f"it is {describe(found)}, not a state"
    help_text = f"declare `state {name}: real[n]`"
    if is_input:
        help_text = f"nothing enters an input; let it lead somewhere: `connect {name} -> ..`"
    raise Refused(WrongEnd(statement.span, name=name, way="lead to", why=why, help=help_text))


def _check_two_way(sources: tuple[End, ...], targets: tuple[State, ...], statement: Connect) -> None:
    outside = next((end for end in sources if end.state is None), None)
    if outside is not None:
        help_text = f"write `connect {outside.name} -> {', '.join(statement.targets)}`"
        why = "it is no state, and `<->` leads back to it"
        raise Refused(WrongEnd(statement.span, name=outside.name, way="lead to", why=why, help=help_text))
    left, right = [end.state for end in sources], list(targets)
    shared = [state for state in left if state in right]
    if shared and left != right:
        assert shared[0] is not None
        why = "it stands on both sides of `<->`, beside others"
        help_text = "join one list of states with itself, or lists that have nothing in common"
        error = WrongEnd(statement.span, name=shared[0].name, way="lead to", why=why, help=help_text)
        raise Refused(error)


def _constraints(
    evaluator: Evaluator,
    statement: Connect,
    sources: tuple[End, ...],
    targets: tuple[State, ...],
    both: bool,
) -> tuple[Constraint, ...]:
    """Return what the line says of the matrix: symmetric, and which units it joins."""
    found: list[Constraint] = []
    if both and [end.state for end in sources] == list(targets):
        options = (("diagonal", False),)
        found.append(
            Constraint(weight="weight", rule=_SYMMETRIC, options=options, own=True, span=statement.span)
        )
    written: list[Condition | MaskFile] = []
    if statement.where is not None:
        written.append(_reversed(evaluator, statement))
    if statement.except_ is not None:
        written.append(apart(evaluator, statement, sources, targets))
    if statement.from_ is not None:
        written.append(_graph(evaluator, statement, statement.from_, sources, targets))
    if found:
        for entries in written:
            _check_symmetric(entries, statement, sum(state.size for state in targets))
    found += [_mask(entries, statement.span) for entries in written]
    return tuple(found)


def _graph(
    evaluator: Evaluator,
    statement: Connect,
    written: Expression,
    sources: tuple[End, ...],
    targets: tuple[State, ...],
) -> MaskGraph:
    """Return which entries are edges of a graph on the sources' units."""
    text = source_text(written)
    states = [end.state for end in sources]
    outside = next((state.name for state in targets if state not in states), None)
    if outside is not None or len({id(s) for s in states if s}) < len([s for s in states if s]):
        why = f"`{outside}` is not among the sources" if outside else "a state stands among the sources twice"
        names = ", ".join(dict.fromkeys((*statement.sources, *statement.targets)))
        help_text = f"its nodes are the sources' units: `connect [{names}] -> [{', '.join(statement.targets)}] from ..`"
        raise Refused(WrongGraph(written.span, text=text, why=why, help=help_text))
    sizes = [end.size for end in sources]
    if None in sizes:
        name = sources[sizes.index(None)].name
        why = f"the size of `{name}` is not known here"
        raise Refused(WrongGraph(written.span, text=text, why=why, help="write its shape in numbers"))
    starts = [sum(size or 0 for size in sizes[:number]) for number in range(len(sizes))]
    rows = [starts[states.index(t)] + n for t in targets for n in range(t.size)]
    total = sum(size or 0 for size in sizes)
    place = {unit: row for row, unit in enumerate(rows)}
    entries = bytearray(len(rows) * total)
    for i, j in edges_of(evaluator, written, total).edges:
        if j in place:
            entries[place[j] * total + i] = 1
    return MaskGraph(path=text, shape=(len(rows), total), entries=bytes(entries), span=written.span)


def _check_symmetric(entries: Condition | MaskFile, statement: Connect, units: int) -> None:
    """Of states joined with themselves both ways an entry and its mirror image stand or fall together."""
    site = WeightSite(name="weight", shape=(units, units), options={"entries": entries})
    try:
        rows = rows_of(site)
    except Misfit:
        return  # said when the mask is laid
    for j, row in enumerate(rows):
        i = next((i for i in range(j) if row[i] != rows[i][j]), None)
        if i is not None:
            one, other = (i, j) if rows[j][i] else (j, i)
            why = f"it joins {one} -> {other} and not {other} -> {one}, and `<->` has one weight for both"
            text = str(entries) if isinstance(entries, MaskFile) else "where"
            help_text = "write a relation that is symmetric, such as `abs(i - j) <= 2`, or write `->`"
            raise Refused(WrongGraph(statement.span, text=text, why=why, help=help_text))


def _mask(entries: Condition | MaskFile, span: Span | None) -> Constraint:
    return Constraint(weight="weight", rule=_MASK, options=(("entries", entries),), own=True, span=span)


def _reversed(evaluator: Evaluator, statement: Connect) -> Condition:
    """Return the condition on (target, source), rows and columns of the matrix, of one on (source, target)."""
    written = statement.where
    if not isinstance(written, Lambda) or len(written.parameters) != 2:
        assert written is not None
        from nnspec.dsl.errors.topologies import WrongCondition

        why = "it names the unit that a connection leaves and the one that it reaches: `(i, j) => i != j`"
        raise Refused(WrongCondition(written.span, why=why))
    source, target = written.parameters
    return condition(evaluator, written.replace(parameters=(target, source)))


def _via(
    evaluator: Evaluator,
    statement: Connect,
    sources: tuple[End, ...],
    targets: tuple[State, ...],
    both: bool,
) -> Route:
    """Return the connection by a layer, one value to one state."""
    assert statement.via is not None
    text = " ".join(statement.via.span.text.split())
    if len(sources) != 1 or len(targets) != 1:
        why = "a layer leads from one value to one state"
        help_text = "write a `connect` line for each pair"
        raise Refused(WrongVia(statement.span, text=text, why=why, help=help_text))
    if statement.where is not None or statement.except_ is not None or statement.from_ is not None:
        why = "which units it joins is the layer's own matter"
        help_text = "leave `where`, `except` and `from` out, or leave `via` out; `constrain` says which weights there are"
        raise Refused(WrongVia(statement.span, text=text, why=why, help=help_text))
    if both and sources[0].state is targets[0]:
        why = "used both ways within one state it would be two connections with one weight"
        help_text = "write `->`"
        raise Refused(WrongVia(statement.span, text=text, why=why, help=help_text))
    ahead, primitive, behind = layers_of(evaluator, statement.via)
    rule = operation(primitive.operation)
    child = evaluator.builder.add_child(_name(evaluator, statement, rule.name), (primitive,), statement.span)
    targets[0].channels |= len(targets[0].shape) > 1
    return Route(child, sources, targets, both, statement.span, ahead, behind, plain=False)
