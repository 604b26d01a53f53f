"""Constraints as functions: stored weight -> effective weight.

A map with its own derivative is a plain function. A straight-through one is an `autograd.Function`, which
costs less than adding a detached difference, and works under `torch.compile`, export and vmap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable

from nnspec.compiler.emit.body import Body, Form
from nnspec.compiler.emit.code import definitions
from nnspec.compiler.emit.functions import Functions
from nnspec.compiler.emit.nesting import nested
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
        if not item.straight_through and item.gradient is None:
            about = f"The constraint {item.name}: stored weight to effective weight."
            return self._plain(item.name, item.block, about)
        assert item.block is not None
        body, argument = self._body(item.block)
        backward = self._backward(item)
        key = (variable(item.name), argument, *(line.code for line in (*body, *backward)))
        if key not in self._by_text:
            name = self._by_text[key] = self.names.claim(variable(item.name))
            about = docstring(item.block.doc or _summary(item))
            self._with_gradient(item, name, [*about, *_forward(argument, body), *backward])
        return self._by_text[key]

    def _plain(self, title: str, block: Block | None, about: str) -> str:
        assert block is not None
        body, argument = self._body(block)
        key = (variable(title), about, argument, *(line.code for line in body))
        if key not in self._by_text:
            name = self._by_text[key] = self.names.claim(variable(title))
            head = lines(f"def {name}({argument}: Tensor) -> Tensor:")
            self._lines += [*lines("", ""), *head, *indent([*docstring(block.doc or about), *body])]
        return self._by_text[key]

    def _body(self, block: Block) -> tuple[list[Line], str]:
        """Return the lines of the function of a block, and the name of its argument."""
        body = Body(block, MapForm(), set(EMITTED_WORDS), _no_maps, self.functions.function, self.code)
        return nested(body.returning()), body.inputs[0]

    def _backward(self, item: WeightMap) -> list[Line]:
        """Return the lines that keep what the gradient needs, and those of the gradient."""
        if item.gradient is None:
            window = _window(item)
            passes_all = math.isinf(window)
            passed = (
                lines("return gradient")
                if passes_all
                else lines("(stored,) = ctx.saved_tensors", f"return gradient * (stored.abs() <= {window!r})")
            )
            return _gradient("gradient", passed, keeps=not passes_all)
        body = Body(
            item.gradient, MapForm(), set(EMITTED_WORDS), _no_maps, self.functions.function, self.code
        )
        written = nested(body.returning())
        weight, gradient = body.inputs
        return _gradient(gradient, [*lines(f"({weight},) = ctx.saved_tensors"), *written], keeps=True)

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


def _gradient(gradient: str, body: list[Line], keeps: bool) -> list[Line]:
    return [
        *lines("", "@staticmethod", "def setup_context(ctx, inputs, output):"),
        *indent(lines("ctx.save_for_backward(*inputs)" if keeps else "pass")),
        *lines("", "@staticmethod", f"def backward(ctx, {gradient}):"),
        *indent(body),
    ]


def _window(item: WeightMap) -> float:
    """Return the half-width of the straight-through window."""
    return math.inf if item.clip is None else float(item.clip)


def _summary(item: WeightMap) -> str:
    if item.gradient is not None:
        return f"The constraint {item.name}, with a gradient of its own."
    window = _window(item)
    where = "everywhere" if math.isinf(window) else f"where |w| <= {window:g}"
    return f"The constraint {item.name}; gradients pass straight through {where}."


def _no_maps(item: WeightMap) -> str:
    raise TypeError(f"the map {item.name} stands inside another map")
