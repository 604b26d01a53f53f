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
from nnspec.compiler.emit.text import Line, docstring, indent, lines
from nnspec.compiler.ir import Block, Code, Projection, Weight, WeightMap
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
        self.functions = Functions(names, batched=False)
        self._lines: list[Line] = []
        self._by_identity: dict[int, tuple[str, object]] = {}
        self._by_text: dict[tuple[str, ...], str] = {}
        self._code: dict[tuple[str, str], str] = {}  # (file, name) -> its name here

    @property
    def lines(self) -> list[Line]:
        return [*self.functions.lines, *self._lines]

    def prepare(self, weight: Weight) -> None:
        """Write all that a weight needs."""
        for item in weight.maps:
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
        return self._known(item, lambda: self._plain(item.name, item.block))

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
        window = _window(item)
        if window is None:
            return self._plain(item.name, item.block)
        assert item.block is not None
        body, argument = self._body(item.block)
        key = (variable(item.name), str(window), argument, *(line.code for line in body))
        if key not in self._by_text:
            name = self._by_text[key] = self.names.claim(variable(item.name))
            about = docstring(item.block.doc or _summary(item.name, window))
            self._straight_through(item, name, about, body, argument, window)
        return self._by_text[key]

    def _plain(self, title: str, block: Block | None) -> str:
        assert block is not None
        body, argument = self._body(block)
        key = (variable(title), argument, *(line.code for line in body))
        if key not in self._by_text:
            name = self._by_text[key] = self.names.claim(variable(title))
            about = docstring(block.doc or _summary(title, None))
            head = lines(f"def {name}({argument}: Tensor) -> Tensor:")
            self._lines += [*lines("", ""), *head, *indent([*about, *body])]
        return self._by_text[key]

    def _body(self, block: Block) -> tuple[list[Line], str]:
        """Return the lines of the function of a block, and the name of its argument."""
        body = Body(block, MapForm(), set(EMITTED_WORDS), _no_maps, self.functions.function)
        return body.returning(), body.inputs[0]

    def _straight_through(
        self, item: WeightMap, name: str, about: list[Line], body: list[Line], argument: str, window: float
    ) -> None:
        owner = self.names.claim(class_name(item.name))
        passes_all = math.isinf(window)
        passed = (
            ["return gradient"]
            if passes_all
            else ["(stored,) = ctx.saved_tensors", f"return gradient * (stored.abs() <= {window!r})"]
        )
        # No `jvp`: torch.compile refuses functions that have one, so Jacobians are taken in reverse mode.
        inside = [
            *about,
            *lines("", "generate_vmap_rule = True", "", "@staticmethod", f"def forward({argument}):"),
            *indent(body),
            *lines("", "@staticmethod", "def setup_context(ctx, inputs, output):"),
            *indent(lines("pass" if passes_all else "ctx.save_for_backward(*inputs)")),
            *lines("", "@staticmethod", "def backward(ctx, gradient):"),
            *indent(lines(*passed)),
        ]
        self._lines += [
            *lines("", "", f"class {owner}(torch.autograd.Function):"),
            *indent(inside),
            *lines("", "", f"{name} = {owner}.apply"),
        ]


def _window(item: WeightMap) -> float | None:
    """Return the half-width of the straight-through window, None for the map's own derivative."""
    if not item.straight_through:
        return None
    return math.inf if item.clip is None else float(item.clip)


def _summary(name: str, window: float | None) -> str:
    if window is None:
        return f"The constraint {name}: stored weight to effective weight."
    where = "everywhere" if math.isinf(window) else f"where |w| <= {window:g}"
    return f"The constraint {name}; gradients pass straight through {where}."


def _no_maps(item: WeightMap) -> str:
    raise TypeError(f"the map {item.name} stands inside another map")
