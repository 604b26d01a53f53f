"""Fits where the weights of an experiment come from: `network = trained(other)` begins with another's weights.

In: the field `network` as written. Out: the other experiment's definition, and errors where the two do not
fit. The other is fitted, and trained, first. So it is for instances that are parts of others: `trained(E).encoder`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nnspec.compiler.derivation import resolve
from nnspec.compiler.experiment import Experiment, PartStart
from nnspec.compiler.ir import Begin, Block, Child, Graph, Weight, instances, weight_path
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Refused
from nnspec.dsl.definitions import Definition, Module
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.errors.experiments import NotAnExperiment
from nnspec.dsl.errors.names import UndefinedName
from nnspec.dsl.errors.training import TrainedCycle, WrongStart
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import CallOf, Expression, Name

_EXAMPLE = "write `trained(NAME)`, NAME being an experiment"


def parent_of(expression: Expression, module: Module) -> Definition | None:
    """Return the experiment that `trained(NAME)` means; None if the expression is another."""
    if not isinstance(expression, CallOf) or not isinstance(expression.function, Name):
        return None
    if expression.function.name != "trained" or "trained" in module.names:
        return None
    given = expression.arguments
    if len(given) != 1 or given[0].name is not None:
        why = "`trained` takes one experiment"
        raise Refused(WrongStart(expression.span, why=why, label="not one experiment", help=_EXAMPLE))
    named = given[0].value
    found = resolve(module, named)
    if isinstance(found, Definition) and found.kind == "experiment":
        return found
    if isinstance(found, Definition):
        what = f"{'an' if found.kind[0] in 'aeiou' else 'a'} {found.kind}"
        error: Error = NotAnExperiment(
            named.span, name=found.name, found=what, needed="an experiment", help=None
        )
    elif isinstance(named, Name):
        known = [n for n, d in module.names.items() if isinstance(d, Definition) and d.kind == "experiment"]
        error = UndefinedName(named.span, name=named.name, suggestion=nearest(named.name, known))
    else:
        error = WrongStart(named.span, why="this is no experiment", label="not a name", help=_EXAMPLE)
    raise Refused(error)


def check_cycle(definition: Definition, making: Sequence[Definition], span: Span) -> None:
    """Refuse an experiment that begins with weights which its own training gives."""
    if definition in making:
        members = [*making[list(making).index(definition) :], definition]
        cycle = " -> ".join(member.name for member in members)
        raise Refused(TrainedCycle(span, name=definition.name, cycle=cycle))


def check_start(parent: Experiment, graph: Graph, seeds: tuple[int, ...], span: Span) -> None:
    """Refuse a start whose seeds or tensors are not those of the other experiment."""
    check_seeds(parent, seeds, span)
    there = _weights(parent.graph)
    for path, weight in _weights(graph).items():
        _check_weight(parent, path, weight, path, there.get(path), span)


def begun(block: Block, prefix: str = "") -> Iterator[tuple[str, Child, Begin]]:
    """Yield the path of every child that begins as a part of another network, the child, and as what."""
    for child in block.children:
        for index, instance in enumerate(child.instances):
            path = f"{prefix}{child.name}[{index}]" if child.repeated else f"{prefix}{child.name}"
            if child.begins is not None:
                yield path, child, child.begins
            elif isinstance(instance, Block):
                yield from begun(instance, path + ".")


def fit_part(parent: Experiment, path: str, child: Child, begins: Begin, seeds: tuple[int, ...]) -> PartStart:
    """Return which instance of a child begins as which of the other network; Refused if one does not fit."""
    span = begins.span or parent.span
    assert span is not None
    check_seeds(parent, seeds, span)
    there, paths = _weights(parent.graph), list[tuple[str, str]]()
    alone = Block(name="", inputs=(), outputs=(), children=(child.replace(name="part"),), body=())
    for located in instances(alone):
        if operation(located.primitive.operation).tracks:
            continue
        inside = located.path.removeprefix("part")
        own, source = path + inside, (begins.path + inside).removeprefix(".")
        for weight in located.primitive.weights:
            other = weight_path(source, weight.name)
            _check_weight(parent, weight_path(own, weight.name), weight, other, there.get(other), span)
        paths.append((own, source))
    return PartStart(experiment=parent, paths=tuple(paths), span=span)


def check_seeds(parent: Experiment, seeds: tuple[int, ...], span: Span) -> None:
    """Refuse seeds that the other experiment does not train, unless it has a single one."""
    missing = [seed for seed in seeds if seed not in parent.seeds]
    if missing and len(parent.seeds) > 1:
        why = f"`{parent.name}` has no seed {missing[0]} whose weights this one's could begin with"
        help_text = "give both the same seeds, or the other a single one, whose weights all begin with"
        raise Refused(WrongStart(span, why=why, label=f"it has {len(parent.seeds)} seeds", help=help_text))


def _check_weight(
    parent: Experiment, path: str, weight: Weight, source: str, other: Weight | None, span: Span
) -> None:
    """Refuse a weight that cannot begin as another one, which stands at `source`."""
    if weight.tie is not None:
        return
    if other is None or _shape(other) != _shape(weight):
        why = f"`{path}` is not of the shape of `{source}` in `{parent.name}`"
        if source == path:
            why = f"`{path}` is not of the same shape in `{parent.name}`"
        label = f"{_shape(other) if other else 'nothing'} there, {_shape(weight)} here"
        help_text = "give both the same data"
        if source != path:
            help_text = "give it inputs of the shape that they have there"
        raise Refused(WrongStart(span, why=why, label=label, help=help_text))
    if other.tie is not None:
        why = f"`{source}` is tied to `{other.tie.child}.{other.tie.weight}` in `{parent.name}`"
        help_text = "let both experiments tie it, or neither"
        raise Refused(WrongStart(span, why=why, label="nothing of its own there", help=help_text))


def _weights(graph: Graph) -> Mapping[str, Weight]:
    return {
        weight_path(found.path, weight.name): weight
        for found in instances(graph.root)
        for weight in found.primitive.weights
        if not operation(found.primitive.operation).tracks
    }


def _shape(weight: Weight) -> str:
    return "[" + ", ".join(map(str, weight.shape)) + "]"
