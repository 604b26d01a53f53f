"""Selectors: which weights of a block a path pattern means, and laying constraints on them.

A pattern is matched part by part along the chain of child names, like a regular expression along a
word: `*` is one part, `**` any number, a repeated child without an index means all its copies. An
instance that several copies share is split only where a pattern tells the copies apart.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.compiler.ir import Block, Child, Constraint, Instance, Primitive, Tie, WeightMap
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Refused
from nnspec.dsl.errors.selectors import NothingSelected
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import Selection, Selector

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator

Part: TypeAlias = "tuple[str, int | None]"
Pattern: TypeAlias = "tuple[Part, ...]"
State: TypeAlias = "frozenset[Pattern]"


def lay(block: Block, selector: Selector, maps: tuple[WeightMap | Tie, ...], evaluator: Evaluator) -> Block:
    """Return the block with these maps on every weight selected; meaning nothing is an error."""
    chosen = _Choice(selector.chosen, evaluator)
    excepted = _Choice(selector.excepted, evaluator)
    layer = _Layer(chosen, excepted, maps)
    result = layer.block(block, chosen.start, excepted.start)
    for selection, pattern in zip(selector.chosen, chosen.patterns, strict=True):
        if pattern not in layer.used:
            paths = weight_paths(block)
            text = "".join(selection.span.text.split()).removeprefix("every")
            near = nearest(text, paths)
            some = ", ".join(f"`{path}`" for path in paths[:6]) or "none"
            error = NothingSelected(selection.span, text=text, suggestion=near, paths=some)
            raise Refused(error)
    return result


class _Choice:
    """The patterns of some selections, with their indices evaluated."""

    def __init__(self, selections: tuple[Selection, ...], evaluator: Evaluator) -> None:
        self.patterns: list[Pattern] = []
        self.by_operation: list[tuple[Pattern, str, str]] = []
        start: set[Pattern] = set()
        for selection in selections:
            pattern = tuple(
                (part.name, None if part.index is None else evaluator.expression(part.index))
                for part in selection.parts
            )
            self.patterns.append(pattern)
            if selection.every:
                (name, _), *tail = pattern
                self.by_operation.append((pattern, name, tail[0][0] if tail else "*"))
            else:
                start.add(pattern)
        self.start: State = frozenset(start)

    def matches(self, operation_name: str, weight: str, state: State) -> list[Pattern]:
        """Return what selects this weight, `state` being what is left of the patterns here."""
        found: list[Pattern] = [
            pattern
            for pattern, name, tail in self.by_operation
            if name == operation_name and tail in ("*", "**", weight)
        ]
        found.extend(p for p in state if () in _advance(frozenset((p,)), weight, None))
        return found


class _Layer:
    def __init__(self, chosen: _Choice, excepted: _Choice, maps: tuple[WeightMap | Tie, ...]) -> None:
        self.chosen = chosen
        self.excepted = excepted
        self.maps = maps
        self.used: set[Pattern] = set()
        self.known: dict[Any, Instance] = {}
        self.origin: dict[Pattern, set[Pattern]] = {p: {p} for p in chosen.patterns}

    def block(self, block: Block, state: State, excepted: State) -> Block:
        children = tuple(self.child(child, state, excepted) for child in block.children)
        same = all(a is b for a, b in zip(children, block.children, strict=True))
        return block if same else block.replace(children=children)

    def child(self, child: Child, state: State, excepted: State) -> Child:
        made = tuple(
            self.instance(
                instance,
                self.step(state, child, index),
                _advance(excepted, child.name, index if child.repeated else None),
            )
            for index, instance in enumerate(child.instances)
        )
        same = all(a is b for a, b in zip(made, child.instances, strict=True))
        return child if same else child.replace(instances=made)

    def step(self, state: State, child: Child, index: int) -> State:
        """Advance the patterns into a child, remembering which selection each remainder came from."""
        result: set[Pattern] = set()
        for pattern in state:
            for rest in _advance(frozenset((pattern,)), child.name, index if child.repeated else None):
                self.origin.setdefault(rest, set()).update(self.origin.get(pattern, ()))
                result.add(rest)
        return frozenset(result)

    def instance(self, instance: Instance, state: State, excepted: State) -> Instance:
        key = (id(instance), state, excepted)
        if key not in self.known:
            if isinstance(instance, Primitive):
                self.known[key] = self.primitive(instance, state, excepted)
            else:
                self.known[key] = self.block(instance, state, excepted)
        return self.known[key]

    def primitive(self, primitive: Primitive, state: State, excepted: State) -> Primitive:
        constraints = list(primitive.constraints)
        for weight in operation(primitive.operation).owns:
            found = self.chosen.matches(primitive.operation, weight, state)
            if not found or self.excepted.matches(primitive.operation, weight, excepted):
                continue
            for pattern in found:
                self.used.update(self.origin.get(pattern, {pattern}))
            constraints = [c for c in constraints if c.weight != weight]
            constraints.extend(Constraint(weight=weight, map=item) for item in self.maps)
        if len(constraints) == len(primitive.constraints) and constraints == list(primitive.constraints):
            return primitive
        return primitive.replace(constraints=tuple(constraints))


def _advance(state: State, name: str, index: int | None) -> State:
    """Return what is left of the patterns after one part of a path."""
    result: set[Pattern] = set()
    for pattern in state:
        if not pattern:
            continue
        head, at = pattern[0]
        if head == "**":
            result.add(pattern)
            result.update(_advance(frozenset((pattern[1:],)), name, index))
            if len(pattern) == 1:
                result.add(())
        elif head in ("*", name) and (at is None or at == index):
            result.add(pattern[1:])
    return frozenset(result)


def weight_paths(block: Block, limit: int = 1000) -> list[str]:
    """Return the paths of the weights under a block, at most `limit` of them."""
    from nnspec.compiler.ir import instances

    found: list[str] = []
    for located in instances(block):
        for weight in operation(located.primitive.operation).owns:
            found.append(f"{located.path}.{weight}")
        if len(found) >= limit:
            break
    return found
