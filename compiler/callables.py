"""Applies layers to tensors: operations of the library, definitions, shared instances, anonymous chains.

In: a `Layer` with arguments, the tensors it is applied to, and the block under construction. Out: the
tensors that come out, after a child or an operation was added to the block.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.expansion import Expansion
from nnspec.compiler.ir import Block, Primitive
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import (
    Anonymous,
    Given,
    Layer,
    NamedSize,
    Refused,
    SharedInstance,
    TrainedPart,
    Value,
    describe,
    entries,
    tensors,
)
from nnspec.dsl.bind_callees import unknown_argument
from nnspec.dsl.catalog import Argument, Entry, validate
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Related
from nnspec.dsl.errors.arguments import (
    DuplicateArgument,
    MissingArgument,
    TooManyArguments,
    UnlikeCopies,
    WrongArgument,
)
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.limits import GraphTooLarge
from nnspec.dsl.errors.names import NotALayer
from nnspec.dsl.errors.shapes import WrongInputCount
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.elaborate import Elaborator

_MOST_OUTPUTS = 100_000  # of one operation


class Callables:
    """What can be applied, and how."""

    def __init__(self, elaborator: Elaborator) -> None:
        self.elaborator = elaborator
        self._checked: dict[Any, dict[str, Any]] = {}

    # -------------------------------------------------------------------------------------------- by kind

    def call(self, builder: BlockBuilder, layer: Layer, given: tuple[Given, ...], span: Span | None) -> Any:
        """`f(x, a)` applies, `f(a)` only gives configuration: what is a tensor decides."""
        inputs: list[Value] = []
        rest: list[Given] = []
        for index, item in enumerate(given):
            found = tensors(item.value)
            if found and (item.name is None or item.name in self.tensor_names(layer)):
                inputs.extend(found)
            elif inputs and item.name is None:
                rest.append(item.replace(name=self.name_at(layer, index, given)))
            else:
                rest.append(item)
        if inputs:
            return self.apply(builder, layer, tuple(inputs), tuple(rest), layer.name, span)
        return layer.replace(given=(*layer.given, *rest), span=span)

    def tensor_names(self, layer: Layer) -> tuple[str, ...]:
        """The names under which a layer of the library takes tensors."""
        return layer.target.tensor_names if isinstance(layer.target, Entry) else ()

    def name_at(self, layer: Layer, index: int, given: tuple[Given, ...]) -> str | None:
        """The argument that a position means in `f(x, a)`: those of the tensors are counted off first."""
        names = [p.name for p in self.parameters(layer)]
        least = layer.target.inputs[0] if isinstance(layer.target, Entry) else None
        before = sum(1 for item in given if item.name is None and tensors(item.value))
        at = index - (before if least is None else min(least, before))
        return names[at] if 0 <= at < len(names) else None

    def apply(
        self,
        builder: BlockBuilder,
        layer: Layer,
        inputs: tuple[Value, ...],
        given: tuple[Given, ...],
        name: str,
        span: Span | None,
    ) -> Any:
        """Apply a layer to tensors; return the value that comes out, or a tuple of several."""
        self.own(builder, inputs, span)
        layer = layer.replace(given=(*layer.given, *given))
        target = layer.target
        if isinstance(target, SharedInstance):
            outputs = self.call_shared(builder, target, layer, inputs, span)
        elif isinstance(target, TrainedPart):
            child = builder.add_child(name, (target.instance,), span, begins=target.begins)
            outputs = self.call_instance(builder, child, layer, inputs, span)
        elif isinstance(target, Entry):
            outputs = self.apply_operation(builder, target, layer, inputs, name, span)
        else:
            block = self.block(layer, len(inputs), span)
            self.count(layer.name, len(block.inputs), len(inputs), span)
            child = builder.add_child(name, (block,), span)
            outputs = builder.call(child, inputs, len(block.outputs), span)
        return outputs[0] if len(outputs) == 1 else outputs

    def repeat(
        self,
        builder: BlockBuilder,
        name: str,
        targets: tuple[Anonymous, ...],
        flow: str,
        inputs: tuple[Value, ...],
        span: Span | None,
    ) -> Any:
        """Apply an instance of each body, each with weights of its own; return what flows on.

        That is one value or a tuple; of a chain that keeps its results and of a fork, a list of one entry
        an instance, or as many such lists as the body has outputs.
        """
        self.own(builder, inputs, span)
        word = "fork" if flow == "fork" else "repeat"
        blocks = self.copies(targets, len(inputs), word, span)
        outputs = [len(block.outputs) for block in blocks]
        expected = outputs[0] if flow == "fork" else len(inputs)
        wrong = next((count for count in outputs if count != expected), None)
        if wrong is not None and flow == "fork":
            raise Refused(UnlikeCopies(span, first=expected, other=wrong))
        if wrong is not None:
            error = WrongInputCount(
                span,
                operation="repeat",
                expected=f"as many values as come out of its body ({wrong})",
                found=str(len(inputs)),
            )
            raise Refused(error)
        child = builder.add_child(name, blocks, span, repeated=True, flow=flow)
        count = expected if flow == "chain" else expected * len(blocks)
        made = builder.call(child, inputs, count, span)
        if flow == "chain":
            return made[0] if len(made) == 1 else made
        lists = tuple(made[start : start + len(blocks)] for start in range(0, count, len(blocks)))
        return lists[0] if len(lists) == 1 else lists

    def copies(
        self, targets: tuple[Anonymous, ...], inputs: int, word: str, span: Span | None
    ) -> tuple[Block, ...]:
        """Return the block of each body; those that come out alike are one object."""
        made: list[Block] = []
        for target in targets:
            block = self.elaborator.anonymous_block(target, inputs, word, span)
            made.append(made[0] if made and (block is made[0] or block == made[0]) else block)
        return tuple(made)

    def share(self, builder: BlockBuilder, name: str, layer: Layer, span: Span | None) -> Layer:
        """Make one instance that several calls use."""
        target = layer.target
        if isinstance(target, SharedInstance):
            return layer
        begins = None
        if isinstance(target, TrainedPart):
            instance, begins = target.instance, target.begins
        elif isinstance(target, Entry):
            instance = self.primitive(target, layer, span)
        else:
            instance = self.block(layer, 1, span)
        entry = operation(instance.operation).entry() if isinstance(instance, Primitive) else None
        inputs = entry.inputs[0] if entry else len(instance.inputs)
        child = builder.add_child(name, (instance,), span, shared=True, begins=begins)
        shared = SharedInstance(child=child, owner=builder, inputs=inputs)
        return Layer(target=shared, name=name, span=span)

    def call_shared(
        self,
        builder: BlockBuilder,
        target: SharedInstance,
        layer: Layer,
        inputs: tuple[Value, ...],
        span: Span | None,
    ) -> tuple[Value, ...]:
        if target.owner is not builder:
            raise Refused(NotBuiltYet(span, what="a shared instance used inside another body"))
        return self.call_instance(builder, target.child, layer, inputs, span)

    def call_instance(
        self, builder: BlockBuilder, child: str, layer: Layer, inputs: tuple[Value, ...], span: Span | None
    ) -> tuple[Value, ...]:
        """Call a child that is made already; it takes tensors and nothing else."""
        if layer.given:
            item = layer.given[0]
            error = TooManyArguments(
                item.span or span, callee=layer.name, expected="no further arguments", found="one"
            )
            raise Refused(error)
        instance = next(c for c in builder.children if c.name == child).instances[0]
        if isinstance(instance, Block):
            self.count(layer.name, len(instance.inputs), len(inputs), span)
            return builder.call(child, inputs, len(instance.outputs), span)
        self.count_entry(operation(instance.operation).entry(), len(inputs), span)
        count = operation(instance.operation).outputs(instance.options)
        return builder.call(child, inputs, count, span)

    def apply_operation(
        self,
        builder: BlockBuilder,
        entry: Entry,
        layer: Layer,
        inputs: tuple[Value, ...],
        name: str,
        span: Span | None,
    ) -> tuple[Value, ...]:
        self.count_entry(entry, len(inputs), span)
        rule = operation(entry.name)
        if rule.expands:
            arguments = self.operation_arguments(entry, layer, span)
            return rule.expand(Expansion(self, builder, entry.name, span, name), inputs, arguments)
        primitive = self.primitive(entry, layer, span)
        count = rule.outputs(primitive.options)
        if count > _MOST_OUTPUTS:
            raise Refused(GraphTooLarge(span, found=f"{count:,}", what="values", limit=f"{_MOST_OUTPUTS:,}"))
        if rule.owns or rule.keeps:
            child = builder.add_child(name, (primitive,), span)
            return builder.call(child, inputs, count, span)
        return builder.apply(name, primitive, inputs, count, span)

    def primitive(self, entry: Entry, layer: Layer, span: Span | None) -> Primitive:
        arguments = self.operation_arguments(entry, layer, span)
        return Primitive(operation=entry.name, arguments=tuple(sorted(arguments.items())), span=span)

    def block(self, layer: Layer, inputs: int, span: Span | None) -> Block:
        """The block of a definition or an anonymous chain with these arguments."""
        target = layer.target
        if isinstance(target, Definition):
            if target.kind not in ("layer", "network", "activation"):
                found = f"a {target.kind}"
                raise Refused(NotALayer(layer.span or span, name=layer.name, found=found))
            return self.elaborator.instantiate(target, layer.given, layer.name, span)
        if isinstance(target, Anonymous):
            return self.elaborator.anonymous_block(target, inputs, layer.name, span)
        raise Refused

    # ------------------------------------------------------------------------------------------- arguments

    def parameters(self, layer: Layer) -> tuple[Any, ...]:
        target = layer.target
        if isinstance(target, Entry):
            return target.arguments
        return target.item.parameters if isinstance(target, Definition) else ()

    def operation_arguments(self, entry: Entry, layer: Layer, span: Span | None) -> dict[str, Any]:
        """Match what is given to an operation's arguments and validate it."""
        names = tuple(a.name for a in entry.arguments if a.name != entry.others)
        others = tuple(item for item in layer.given if item.name is not None and item.name not in names)
        listed = tuple(item for item in layer.given if not entry.others or item not in others)
        matched = match_arguments(entry.name, names, listed, span)
        if entry.others and others:
            pairs = tuple((item.name, _plain(item.value, None)) for item in others)
            matched[entry.others] = Given(
                name=entry.others, value=pairs, expression=None, span=others[0].span
            )
        for argument in entry.arguments:
            if argument.required and argument.name not in matched:
                help_text = f"`{entry.name}({argument.name} = ...)`: {argument.doc}" if argument.doc else None
                raise Refused(
                    MissingArgument(layer.span or span, callee=entry.name, name=argument.name, help=help_text)
                )
        values = {name: _plain(item.value, entry.argument(name)) for name, item in matched.items()}
        key: Any = (entry.name, tuple((name, _kind(value), value) for name, value in values.items()))
        try:
            known = self._checked.get(key)
        except TypeError:  # a layer among the values cannot be hashed
            return self.validated(entry, values, matched, span)
        if known is None:
            known = self._checked[key] = self.validated(entry, values, matched, span)
        return known

    def validated(
        self, entry: Entry, values: dict[str, Any], matched: dict[str, Given], span: Span | None
    ) -> dict[str, Any]:
        arguments, problems = validate(entry, values)
        if problems:
            problem = problems[0]
            item = matched.get(problem.argument)
            place = item.span if item is not None and item.span else span
            found = describe(values.get(problem.argument))
            raise Refused(WrongArgument(place, callee=entry.name, why=problem.why, found=found))
        return arguments

    # ---------------------------------------------------------------------------------------------- counts

    def own(self, builder: BlockBuilder, inputs: tuple[Value, ...], span: Span | None) -> None:
        """Refuse tensors of an enclosing body."""
        from nnspec.dsl.errors.names import OuterValue

        for value in inputs:
            if value.owner is not builder:
                kind = f"`{builder.name}`" if builder.name in ("repeat", "fork") else "layer"
                raise Refused(OuterValue(span, name=value.name, kind=kind))

    def count(self, name: str, expected: int, found: int, span: Span | None) -> None:
        if expected != found:
            noun = "1 input" if expected == 1 else f"{expected} inputs"
            raise Refused(WrongInputCount(span, operation=name, expected=noun, found=str(found)))

    def count_entry(self, entry: Entry, found: int, span: Span | None) -> None:
        least, most = entry.inputs
        if found >= least and (most is None or found <= most):
            return
        if most is None:
            text = f"at least {least} inputs"
        elif least == most:
            text = "1 input" if least == 1 else f"{least} inputs"
        else:
            text = f"{least} to {most} inputs"
        raise Refused(WrongInputCount(span, operation=entry.name, expected=text, found=str(found)))


def match_arguments(
    callee: str, names: tuple[str, ...], given: tuple[Given, ...], span: Span | None
) -> dict[str, Given]:
    """Match positional and named arguments to names; refuse doubles, strangers and too many."""
    matched: dict[str, Given] = {}
    position = 0
    for item in given:
        name = item.name
        if name is None:
            while position < len(names) and names[position] in matched:
                position += 1
            if position == len(names):
                expected = "no arguments" if not names else f"at most {len(names)} here"
                found = str(len(given))
                raise Refused(
                    TooManyArguments(item.span or span, callee=callee, expected=expected, found=found)
                )
            name = names[position]
        if name not in names:
            raise Refused(unknown_argument(callee, name, names, item.span or span))
        if name in matched:
            first = matched[name].span
            related = (Related(span=first, label="first given here"),) if first else ()
            raise Refused(DuplicateArgument(item.span or span, related, name=name))
        matched[name] = item
    return matched


def _kind(value: object) -> str:
    """Tell 1, 1.0 and true apart, which are equal as keys."""
    return type(value).__name__


def _plain(value: Any, argument: Argument | None) -> Any:
    """Settle whether a dimension's name stands for an axis or for its size."""
    if isinstance(value, NamedSize):
        return value.name if argument is not None and argument.kind == "axis" else value.size
    if isinstance(value, Layer) and argument is not None and argument.kind == "choice" and not value.given:
        return value.name  # a word of the library: `reduce("h w c -> c", mean)`
    listed = entries(value)
    return value if listed is None else tuple(_plain(item, argument) for item in listed)
