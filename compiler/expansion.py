"""Words that stand for others: an operation with `expands` is written as uses of other operations.

In: the block under construction and the tensors. Out: the tensors that come out. Errors of what is put in its
place name the word that the spec wrote.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.block_builder import BlockBuilder
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import (
    Given,
    Layer,
    Refused,
    SharedInstance,
    UnitCount,
    Value,
    describe,
    entries,
    tensors,
)
from nnspec.dsl.catalog import Entry
from nnspec.dsl.errors.arguments import NoUnits
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.callables import Callables


class Expansion:
    """Applies operations in the place of one word."""

    def __init__(
        self, callables: Callables, builder: BlockBuilder, word: str, span: Span | None, name: str = ""
    ) -> None:
        self.callables = callables
        self.builder = builder
        self.word = word
        self.name = name or word  # of the instance
        self.span = span

    def apply(self, name: str, inputs: tuple[Value, ...], **arguments: Any) -> tuple[Value, ...]:
        """Apply an operation of the library that owns nothing."""
        entry = self.callables.elaborator.catalog.find("operation", name)
        assert entry is not None, f"the library has no operation {name}"
        given = tuple(Given(name=k, value=v, expression=None, span=self.span) for k, v in arguments.items())
        layer = Layer(target=entry, name=name, given=given, span=self.span)
        primitive = self.callables.primitive(entry, layer, self.span).replace(word=self.word)
        count = operation(name).outputs(primitive.options)
        return self.builder.apply(name, primitive, inputs, count, self.span)

    def apply_layer(self, layer: Layer, value: Value) -> Value:
        """Apply a function that gives one tensor."""
        made = self.callables.apply(self.builder, layer, (value,), (), layer.name, layer.span or self.span)
        if not isinstance(made, Value):
            raise Refused(NoUnits(layer.span or self.span, found=describe(made), help=None))
        return made

    def units(self, given: tuple[Any, ...]) -> tuple[tuple[Layer, int, int], ...]:
        """Return the functions of `units`, how many units of each there are, and how many entries one takes."""
        if not given:
            raise Refused(NoUnits(self.span, found="an empty list", help="`units([sin, identity * 4])`"))
        return tuple(self.unit(item) for item in given)

    def unit(self, item: Any) -> tuple[Layer, int, int]:
        layer, count = (item.layer, item.count) if isinstance(item, UnitCount) else (item, 1)
        if not isinstance(layer, Layer):
            help_text = "give the functions alone, `sin` and not `sin(x)`" if tensors(item) else None
            shown = "a list in the list" if entries(item) else describe(item)
            raise Refused(NoUnits(self.span, found=shown, help=help_text))
        if isinstance(layer.target, Entry):
            takes = operation(layer.target.name).takes
        else:
            takes = 0 if isinstance(layer.target, SharedInstance) else 1
        if not takes:
            help_text = (
                f"`{layer.name}` does more than change each entry; apply it before or behind the units"
            )
            raise Refused(NoUnits(layer.span or self.span, found=describe(layer), help=help_text))
        return layer, count, takes
