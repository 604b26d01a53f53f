"""The way of feedback to one junction: none (the error is heard as it is), a matrix, the junction's own map, or a layer.

In: a line of feedback, a junction, the options of the rule. Out: a `Route`, or Refused where the shapes do not meet.
Imports no torch.
"""

from __future__ import annotations

from math import prod
from typing import Any

from nnspec.compiler.catalog import catalog
from nnspec.compiler.ir import Axis, Primitive, Type, Weight
from nnspec.compiler.operations.operation import ShapeProblem, Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.rules.written.equations import FeedbackLine
from nnspec.compiler.rules.written.reading import Reader
from nnspec.compiler.rules.written.scheme import Junction, Scheme
from nnspec.compiler.values import Refused
from nnspec.dsl.bind_rule import dotted
from nnspec.dsl.catalog import validate
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.rules import RuleShapes
from nnspec.dsl.node import Node
from nnspec.dsl.rule_words import INTO
from nnspec.dsl.syntax import CallOf, Expression

_WAY_ROUND = (
    "without `via` feedback is a matrix, which fits any two; of a convolution, "
    '`padding = "same"` keeps the size of a map'
)


class Route(Node):
    """How feedback reaches a junction. `shape` None: the error is heard as it is. `layer` is what it goes through."""

    shape: tuple[int, ...] | None
    layer: Primitive | None = None
    source: tuple[int, ...] = ()  # what comes in, without the batch


def route(line: FeedbackLine, junction: Junction, scheme: Scheme, reader: Reader) -> Route:
    """Return how feedback of a line reaches a junction."""
    if line.source in INTO:
        return Route(shape=_whole(junction.weight.weight.shape))
    begins = _begins(line, junction, scheme)
    if begins is None:
        return Route(shape=None)
    source = _whole(begins.shape)
    if line.via is None:
        return Route(shape=(prod(_whole(junction.drive.shape)), prod(source)), source=source)
    layer = _layer(line, line.via, junction, begins, reader)
    return Route(shape=_whole(layer.weights[0].shape), layer=layer, source=source)


def _begins(line: FeedbackLine, junction: Junction, scheme: Scheme) -> Type | None:
    """Return the type of what the feedback carries; None where that is the error of the junction's own post.

    Several outputs come laid end to end.
    """
    if junction.output is not None:
        return None
    if line.source == "module":
        assert scheme.wiring is not None and junction.end is not None
        return None if junction.end == junction.post else scheme.wiring.flat.values[junction.end].type
    root = scheme.graph.root
    types = [dict(root.types)[port.value] for port in root.outputs]
    return types[0] if len(types) == 1 else _line(sum(prod(_whole(own.shape)) for own in types))


def _line(size: int) -> Type:
    return Type(axes=(Axis(size=size),))


def _layer(
    line: FeedbackLine, via: Expression, junction: Junction, source: Type, reader: Reader
) -> Primitive:
    """Return the layer of `via conv2d(kernel = 3)`, its size chosen so that it gives what the junction has."""
    name = dotted(via.function if isinstance(via, CallOf) else via)
    entry = catalog().find("operation", name)
    if entry is None or entry.weights[:1] != ("weight",):
        why = f"feedback goes through a layer with a weight, and `{name}` is none"
        raise Refused(
            RuleShapes(via.span, why=why, label="no such layer", help="such as `dense` or `conv2d`")
        )
    written = via.arguments if isinstance(via, CallOf) else ()
    given = {a.name: reader.plain(a.value) for a in written if a.name}
    if entry.argument("bias") is not None:
        given["bias"] = False
    missing = next((a.name for a in entry.arguments if a.required and a.name not in given), None)
    sizes: tuple[Any, ...] = junction.drive.shape if missing is not None else (None,)
    tried: list[Primitive | str] = []
    for size in sizes:
        values, problems = validate(entry, given | ({missing: size} if missing is not None else {}))
        if problems:
            raise Refused(RuleShapes(via.span, why=problems[0].why, label="not possible", help=None))
        made = _made(name, values, source)
        if isinstance(made, Primitive) and made.outputs[0].shape == junction.drive.shape:
            return made
        tried.append(made)
    problem = next((made for made in reversed(tried) if isinstance(made, str)), None)
    first = next((str(made.outputs[0]) for made in tried if isinstance(made, Primitive)), None)
    label = "this layer" if problem is None else f"`{name}` {problem}, and {source} comes in"
    raise Refused(_misfit(line, via, junction, label, first if problem is None else None))


def _misfit(line: FeedbackLine, via: Expression, junction: Junction, label: str, found: str | None) -> Error:
    """Return the error of a layer that does not give what the junction has."""
    at = junction.span
    related = () if at is None else (Related(span=at, label=f"the synapse `{junction.path}`"),)
    return RuleShapes(
        via.span,
        related,
        why=f"the feedback `{line.name}` does not give what `{junction.path}` has",
        label=label,
        expected=str(junction.drive),
        found=found,
        help=_WAY_ROUND,
    )


def _made(name: str, values: dict[str, Any], source: Type) -> Primitive | str:
    """Return a layer on its own, or why there is none."""
    rule = operation(name)
    site = Site(arguments=values, inputs=(source,))
    try:
        site = site.replace(outputs=rule.shape(site))
    except ShapeProblem as problem:
        return problem.message
    weights = tuple(
        Weight(name=tensor.name, stored=(tensor,), shape=tensor.shape) for tensor in rule.tensors(site)
    )
    return Primitive(
        operation=name,
        arguments=tuple(sorted(values.items())),
        weights=weights,
        inputs=(source,),
        outputs=site.outputs,
    )


def _whole(shape: tuple[Any, ...]) -> tuple[int, ...]:
    return tuple(int(size) for size in shape)
