"""Selectors: which weights of a block a path pattern means, and laying constraints on them.

A pattern is matched part by part along the chain of child names, like a regular expression along a
word: `*` is one part, `**` any number, a repeated child without an index means all its copies. An
instance that several copies share is split only where a pattern tells the copies apart.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import TYPE_CHECKING, Any, TypeAlias

from nnspec.compiler.constraints.constraint import KINDS
from nnspec.compiler.ir import (
    Block,
    Child,
    Constraint,
    Init,
    Instance,
    Primitive,
    blocks,
    connections,
    instances,
    weight_path,
)
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Refused, describe
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.selectors import ConflictingConstraints, NothingSelected, WrongEvery
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import Selection, Selector, SelectorPart

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nnspec.compiler.evaluate import Evaluator

PROJECTION = "projection"  # `every projection.weight`: of the connections between states

Part: TypeAlias = "tuple[str, int | None]"
Pattern: TypeAlias = "tuple[Part, ...]"
Change: TypeAlias = "Callable[[Primitive, tuple[str, ...]], Primitive]"  # and the names of its weights
State: TypeAlias = "frozenset[tuple[int, Pattern]]"  # which selection, and what is left of its pattern


def lay(block: Block, selector: Selector, laid: tuple[Constraint, ...], evaluator: Evaluator) -> Block:
    """Return the block with these constraints on every weight selected; a selection of nothing is an error."""
    # To freeze a weight says nothing of what it may be.
    replaces = any(item.rule.kind != "frozen" for item in laid)

    def constrained(primitive: Primitive, weights: tuple[str, ...]) -> Primitive:
        kept = tuple(
            c
            for c in primitive.constraints
            if c.weight not in weights or not replaces or c.rule.kind == "frozen" or c.own
        )
        added = tuple(item.replace(weight=weight) for weight in weights for item in laid)
        return primitive.replace(constraints=_beside(kept, added))

    return _laid(block, selector, constrained, evaluator)


def _beside(kept: tuple[Constraint, ...], added: tuple[Constraint, ...]) -> tuple[Constraint, ...]:
    """Return constraints with others beside them, in canonical order where some belong to the weight itself."""
    if not any(item.own for item in kept):
        return (*kept, *added)
    from nnspec.compiler.constraints.registry import conflict

    ordered = sorted((*kept, *added), key=lambda item: KINDS.index(item.rule.kind))
    for first, second in combinations(ordered, 2):
        if first.weight != second.weight or first.own == second.own:
            continue  # those that a line lays itself fit by construction, those of `constrain` were compared
        why = conflict(first, second)
        if why is not None:
            own, other = (first, second) if first.own else (second, first)
            related = (Related(span=own.span, label="this line makes the weight"),) if own.span else ()
            names = {"first": own.rule.name, "second": other.rule.name}
            raise Refused(ConflictingConstraints(other.span, related, why=why, **names))
    return tuple(ordered)


def initialize(block: Block, selector: Selector, init: Init, evaluator: Evaluator) -> Block:
    """Return the block in which every weight selected begins so; a selection of nothing is an error."""

    def initialized(primitive: Primitive, weights: tuple[str, ...]) -> Primitive:
        kept = tuple((weight, other) for weight, other in primitive.inits if weight not in weights)
        return primitive.replace(inits=(*kept, *((weight, init) for weight in weights)))

    return _laid(block, selector, initialized, evaluator)


def _laid(block: Block, selector: Selector, change: Change, evaluator: Evaluator) -> Block:
    chosen = _Choice(selector.chosen, evaluator)
    excepted = _Choice(selector.excepted, evaluator)
    result = _Layer(chosen, excepted, change).block(block, chosen.start, excepted.start)
    for choice in (chosen, excepted):
        for number, selection in enumerate(choice.selections):
            if number not in choice.used:
                raise Refused(_nothing_selected(selection, block))
    return result


def _nothing_selected(selection: Selection, block: Block, whole: bool = False) -> Error:
    """`whole`: an instance that is named stands for all its weights, not for the first."""
    paths = weight_paths(block)
    text = _text(selection)
    some = ", ".join(f"`{path}`" for path in paths[:6]) or "none"
    within = [path for path in paths if path.startswith(f"{text}.")]  # an instance, not its weight
    if selection.every:
        near = nearest(text, _weights_by_operation(block))
        suggestion = None if near is None else f"every {near}"
    else:
        named = f"{text}.**" if whole else next(iter(within), None)
        suggestion = named if within else nearest(text, [*paths, *_wider(paths)])
    return NothingSelected(selection.span, text=text, suggestion=suggestion, paths=some)


def _wider(paths: list[str]) -> list[str]:
    """Return a pattern for all that lies under each instance."""
    found = {".".join(path.split(".")[:size]) for path in paths for size in range(1, path.count(".") + 1)}
    return [f"{instance}.**" for instance in sorted(found)]


def _weights_by_operation(block: Block) -> list[str]:
    found = {
        f"{located.primitive.operation}.{weight}": None
        for located in instances(block)
        for weight in operation(located.primitive.operation).owns
    }
    if any(connections(inner) for inner in blocks(block)):
        found[f"{PROJECTION}.weight"] = None
    return list(found)


def _text(selection: Selection) -> str:
    text = "".join(selection.span.text.split())
    return text.removeprefix("every") if selection.every else text


def selected(block: Block, selector: Selector, evaluator: Evaluator) -> list[tuple[str, Primitive, str]]:
    """Return the weights that a selector means: path and instance, and the weight's name."""
    chosen = _Choice(selector.chosen, evaluator)
    excepted = _Choice(selector.excepted, evaluator)
    found = list(_selected(block, "", (chosen, excepted), (chosen.start, excepted.start)))
    for choice in (chosen, excepted):
        for number, selection in enumerate(choice.selections):
            if number not in choice.used:
                raise Refused(_nothing_selected(selection, block, whole=True))
    return found


def _selected(
    block: Block, prefix: str, choices: tuple[_Choice, _Choice], states: tuple[State, State]
) -> Iterator[tuple[str, Primitive, str]]:
    joins = connections(block)
    for child in block.children:
        kinds = (PROJECTION,) if child.name in joins else ()
        for number, instance in enumerate(child.instances):
            index = number if child.repeated else None
            path = f"{prefix}{child.name}[{number}]" if child.repeated else f"{prefix}{child.name}"
            left, right = (_advance(state, child.name, index) for state in states)
            if isinstance(instance, Block):
                yield from _selected(instance, path + ".", choices, (left, right))
                continue
            for weight in operation(instance.operation).owns:
                words = (instance.operation, *kinds)
                spared = choices[1].matches(words, weight, right)
                if choices[0].matches(words, weight, left) and not spared:
                    yield path, instance, weight


class _Choice:
    """Some selections with their indices evaluated, and which of them have selected something."""

    def __init__(self, selections: tuple[Selection, ...], evaluator: Evaluator) -> None:
        self.selections = selections
        self.used: set[int] = set()
        self.by_operation: list[tuple[int, str, str]] = []
        start: set[tuple[int, Pattern]] = set()
        for number, selection in enumerate(selections):
            pattern = tuple(
                (part.name, None if part.index is None else _index(evaluator.expression(part.index), part))
                for part in selection.parts
            )
            if selection.every:
                self.by_operation.append((number, *_operation_and_weight(selection, pattern)))
            else:
                start.add((number, pattern))
        self.start: State = frozenset(start)

    def matches(self, words: tuple[str, ...], weight: str, state: State) -> bool:
        """Return whether this weight is selected, `state` being what is left of the patterns here.

        `words` are what `every` may call its instance: its operation, and whether it is a projection.
        """
        found = {
            number
            for number, name, tail in self.by_operation
            if name in words and tail in ("*", "**", weight)
        }
        rests = _advance(state, weight, None) if weight else state  # a parameter's path ends in itself
        found.update(number for number, rest in rests if not rest)
        self.used |= found
        return bool(found)


def _index(value: Any, part: SelectorPart) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        why = "a copy is chosen by a whole number"
        raise Refused(WrongArgument(part.span, callee="[ ]", why=why, found=describe(value)))
    return value


def _operation_and_weight(selection: Selection, pattern: Pattern) -> tuple[str, str]:
    """`every dense.weight`: an operation and one of its weights, or `*` for all of them."""
    if len(pattern) != 2 or any(index is not None for _, index in pattern):
        raise Refused(WrongEvery(selection.span, text=_text(selection)))
    return pattern[0][0], pattern[1][0]


class _Layer:
    def __init__(self, chosen: _Choice, excepted: _Choice, change: Change) -> None:
        self.chosen = chosen
        self.excepted = excepted
        self.change = change
        self.known: dict[Any, Instance] = {}

    def block(self, block: Block, state: State, excepted: State) -> Block:
        joins = connections(block)
        children = tuple(
            self.child(child, state, excepted, (PROJECTION,) if child.name in joins else ())
            for child in block.children
        )
        same = all(a is b for a, b in zip(children, block.children, strict=True))
        return block if same else block.replace(children=children)

    def child(self, child: Child, state: State, excepted: State, kinds: tuple[str, ...]) -> Child:
        made: list[Instance] = []
        for number, instance in enumerate(child.instances):
            index = number if child.repeated else None
            left, right = _advance(state, child.name, index), _advance(excepted, child.name, index)
            made.append(self.instance(instance, left, right, kinds))
        same = all(a is b for a, b in zip(made, child.instances, strict=True))
        return child if same else child.replace(instances=tuple(made))

    def instance(self, instance: Instance, state: State, excepted: State, kinds: tuple[str, ...]) -> Instance:
        key = (id(instance), state, excepted, kinds)
        if key not in self.known:
            if isinstance(instance, Primitive):
                self.known[key] = self.primitive(instance, state, excepted, kinds)
            else:
                self.known[key] = self.block(instance, state, excepted)
        return self.known[key]

    def primitive(
        self, primitive: Primitive, state: State, excepted: State, kinds: tuple[str, ...]
    ) -> Primitive:
        selected: list[str] = []
        words = (primitive.operation, *kinds)
        for weight in operation(primitive.operation).owns:
            spared = self.excepted.matches(words, weight, excepted)
            if not spared and self.chosen.matches(words, weight, state):
                selected.append(weight)
        return self.change(primitive, tuple(selected)) if selected else primitive


def _advance(state: State, name: str, index: int | None) -> State:
    """Return what is left of the patterns after one part of a path."""
    result: set[tuple[int, Pattern]] = set()
    for number, pattern in state:
        if not pattern:
            continue
        head, at = pattern[0]
        if head == "**":
            result.add((number, pattern))
            result.update(_advance(frozenset(((number, pattern[1:]),)), name, index))
            if len(pattern) == 1:
                result.add((number, ()))
        elif head in ("*", name) and (at is None or at == index):
            result.add((number, pattern[1:]))
    return frozenset(result)


def weight_paths(block: Block, limit: int = 1000) -> list[str]:
    """Return the paths of the weights under a block, at most `limit` of them."""
    found: list[str] = []
    for located in instances(block):
        for weight in operation(located.primitive.operation).owns:
            found.append(weight_path(located.path, weight))
        if len(found) >= limit:
            break
    return found
