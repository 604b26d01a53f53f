"""Activations that learn nothing, as plain functions: each different one is written once."""

from __future__ import annotations

from collections.abc import Callable

from nnspec.compiler.emit.body import Body
from nnspec.compiler.emit.form import Form
from nnspec.compiler.emit.nesting import nested
from nnspec.compiler.emit.text import Line, docstring, indent, lines
from nnspec.compiler.ir import Block, Code, WeightMap
from nnspec.compiler.naming import Names, variable


class FunctionOnly(Form):
    """The form of a function: no children but other functions, no training."""

    training = "False"

    def __init__(self, batched: bool) -> None:
        self.batched = batched

    def owner(self, child: str) -> str:
        return child

    def member(self, owner: str, index: str) -> str:
        return owner


class Functions:
    """Writes each different function once. `batched` says whether a batch axis comes first."""

    def __init__(self, names: Names, library: Callable[[Code], str], batched: bool = True) -> None:
        self.names = names
        self.library = library  # gives the name of a function that an operation brings along
        self.batched = batched
        self.lines: list[Line] = []
        self._by_identity: dict[int, tuple[str, Block]] = {}
        self._by_text: dict[tuple[str, ...], str] = {}

    def function(self, block: Block) -> str:
        """Return the name of the function of a block, written on first use."""
        if id(block) not in self._by_identity:
            self._by_identity[id(block)] = (self._write(block), block)
        return self._by_identity[id(block)][0]

    def _write(self, block: Block) -> str:
        form = FunctionOnly(self.batched)
        body = Body(block, form, set(self.names.taken), _no_maps, self.function, self.library)
        written = [*(docstring(block.doc) if block.doc else []), *nested(body.returning())]
        wanted, argument = variable(block.name), body.inputs[0]
        key = (wanted, argument, *(line.code for line in written))
        if key not in self._by_text:
            name = self.names.claim(wanted)
            self._by_text[key] = name
            head = lines("", "", f"def {name}({argument}: Tensor) -> Tensor:")
            self.lines += [*head, *indent(written)]
        return self._by_text[key]


def _no_maps(item: WeightMap) -> str:
    raise TypeError(f"the map {item.name} stands inside an activation")
