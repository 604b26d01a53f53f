"""Constraints as functions: stored weight -> effective weight.

A map with its own derivative is a plain function, and so is a straight-through one, which adds a zero that has
the gradient: `autograd.Function` binds its arguments at every call, which is the larger part of a small step
(`benchmarks/constrained_step.py`). Only a gradient that is written out needs one.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from nnspec.compiler.emit.body import Body
from nnspec.compiler.emit.code import definitions
from nnspec.compiler.emit.form import Form
from nnspec.compiler.emit.functions import Functions
from nnspec.compiler.emit.nesting import WIDEST, nested
from nnspec.compiler.emit.text import Line, docstring, indent, lines
from nnspec.compiler.ir import Block, Code, Penalty, Projection, Weight, WeightMap
from nnspec.compiler.naming import EMITTED_WORDS, Names, class_name, variable


class MapForm(Form):
    """The form of a map: no children, no batch, no training."""

    batched = False
    training = "False"

    def owner(self, child: str) -> str:
        return child


class Maps:
    """Writes each different map once, and the functions that the library brings along."""

    def __init__(self, names: Names) -> None:
        self.names = names
        self.functions = Functions(names, self.code, batched=False)
        self._lines: list[Line] = []
        self._by_identity: dict[int, tuple[str, object]] = {}
        self._by_text: dict[tuple[str, ...], str] = {}
        self._code: dict[tuple[str, str], str] = {}  # (file, name) -> its name here

    @property
    def lines(self) -> list[Line]:
        return [*self.functions.lines, *self._lines]

    def prepare(self, weight: Weight, products: bool = False) -> None:
        """Write all that a weight needs; with `products`, those that multiply by it as it is stored."""
        for item in weight.maps:
            if products and item.product is not None and len(weight.maps) == 1:
                self.code(item.product)
            else:
                self.function(item)
            if item.start is not None:
                self.code(item.start)
        for projection in weight.projections:
            self.projection(projection)

    def function(self, item: WeightMap) -> str:
        """Return the name of the function of a map, written on first use."""
        if item.code is not None:
            return self.code(item.code)
        return self._known(item, lambda: self._write(item))

    def projection(self, item: Projection) -> str:
        """Return the name of the function of a projection, written on first use."""
        if item.code is not None:
            return self.code(item.code)
        about = f"The constraint {item.name}: what the stored weight becomes after each step."
        return self._known(item, lambda: self._plain(item.name, item.block, about))

    def penalty(self, item: Penalty) -> str:
        """Return the name of the function of a penalty's value, written on first use."""
        if item.value is not None:
            return self.code(item.value)
        about = f"The constraint {item.name}: what the weight costs."
        return self._known(item, lambda: self._plain(item.name, item.block, about))

    def code(self, code: Code) -> str:
        """Return the name of a function of the library, written on first use with what it needs."""
        if (code.file, code.name) not in self._code:
            found = definitions(code.file, code.name)
            new = [item for item in found if (code.file, item.name) not in self._code]
            for item in new:
                self._code[code.file, item.name] = self.names.claim(item.name)
            for item in new:
                text = item.text
                for name in (item.name, *item.uses):
                    text = re.sub(rf"\b{name}\b", self._code[code.file, name], text)
                self._lines += lines("", "", *text.split("\n"))
        return self._code[code.file, code.name]

    def _known(self, item: object, write: Callable[[], str]) -> str:
        if id(item) not in self._by_identity:
            self._by_identity[id(item)] = (write(), item)
        return self._by_identity[id(item)][0]

    def _write(self, item: WeightMap) -> str:
        if item.straight_through:
            return self._passing(item)
        if item.gradient is None:
            about = f"The constraint {item.name}: stored weight to effective weight."
            return self._plain(item.name, item.block, about)
        assert item.block is not None
        body, argument = self._body(item.block)
        backward = self._backward(item.gradient)
        key = (variable(item.name), argument, *(line.code for line in (*body, *backward)))
        if key not in self._by_text:
            name = self._by_text[key] = self.names.claim(variable(item.name))
            about = docstring(item.block.doc or f"The constraint {item.name}, with a gradient of its own.")
            self._with_gradient(item, name, [*about, *_forward(argument, body), *backward])
        return self._by_text[key]

    def _passing(self, item: WeightMap) -> str:
        """Write a straight-through map: its value, with the gradient of the weight that it is made of."""
        assert item.block is not None
        body, argument = self._body(item.block)
        about = docstring(item.block.doc or _summary(item))
        kept = argument
        if any(line.code.startswith(f"{argument} = ") for line in body):
            body, kept = [*lines(f"stored = {argument}"), *body], "stored"
        chosen = body[-1].code.removeprefix("return ")
        passing = self.code(Code(file="discrete", name="pass_through"))
        ended = f"return {passing}({kept}, {chosen}, {item.clip!r})"
        if len(ended) > WIDEST:
            ended = f"return {passing}({kept}, chosen, {item.clip!r})"
            body = [*body[:-1], *lines(f"chosen = {chosen}"), *body[-1:]]
        return self._function(item.name, argument, [*about, *body[:-1], *lines(ended)])

    def _plain(self, title: str, block: Block | None, about: str) -> str:
        assert block is not None
        body, argument = self._body(block)
        return self._function(title, argument, [*docstring(block.doc or about), *body])

    def _function(self, title: str, argument: str, inside: list[Line]) -> str:
        key = (variable(title), argument, *(line.code for line in inside))
        if key not in self._by_text:
            name = self._by_text[key] = self.names.claim(variable(title))
            head = lines(f"def {name}({argument}: Tensor) -> Tensor:")
            self._lines += [*lines("", ""), *head, *indent(inside)]
        return self._by_text[key]

    def _body(self, block: Block) -> tuple[list[Line], str]:
        """Return the lines of the function of a block, and the name of its argument."""
        taken = {*EMITTED_WORDS, "stored", "chosen"}
        body = Body(block, MapForm(), taken, _no_maps, self.functions.function, self.code)
        return nested(body.returning()), body.inputs[0]

    def _backward(self, block: Block) -> list[Line]:
        """Return the lines that keep what the gradient needs, and those of the gradient."""
        body = Body(block, MapForm(), set(EMITTED_WORDS), _no_maps, self.functions.function, self.code)
        written = nested(body.returning())
        weight, gradient = body.inputs
        return [
            *lines("", "@staticmethod", "def setup_context(ctx, inputs, output):"),
            *indent(lines("ctx.save_for_backward(*inputs)")),
            *lines("", "@staticmethod", f"def backward(ctx, {gradient}):"),
            *indent([*lines(f"({weight},) = ctx.saved_tensors"), *written]),
        ]

    def _with_gradient(self, item: WeightMap, name: str, inside: list[Line]) -> None:
        owner = self.names.claim(class_name(item.name))
        self._lines += [
            *lines("", "", f"class {owner}(torch.autograd.Function):"),
            *indent(inside),
            *lines("", "", f"{name} = {owner}.apply"),
        ]


def _forward(argument: str, body: list[Line]) -> list[Line]:
    # No `jvp`: torch.compile refuses functions that have one, so Jacobians are taken in reverse mode.
    head = lines("", "generate_vmap_rule = True", "", "@staticmethod", f"def forward({argument}):")
    return [*head, *indent(body)]


def _summary(item: WeightMap) -> str:
    where = "everywhere" if item.clip is None else f"where |w| <= {item.clip:g}"
    return f"The constraint {item.name}; gradients pass straight through {where}."


def _no_maps(item: WeightMap) -> str:
    raise TypeError(f"the map {item.name} stands inside another map")
