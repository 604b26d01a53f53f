"""Typed graph -> readable Python: one `nn.Module` class a block, as an expert writes it by hand.

The text needs torch and nothing of ours; it is what `compile` writes and what training executes. Names
are those of the spec, made safe; equal blocks share a class. Assumes a typed graph. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from nnspec.compiler.emit.body import Body
from nnspec.compiler.emit.form import Form, is_plain, site_of
from nnspec.compiler.emit.functions import Functions
from nnspec.compiler.emit.initial import filling, owned
from nnspec.compiler.emit.maps import Maps
from nnspec.compiler.emit.nesting import nested
from nnspec.compiler.emit.stored import reached, stored_lines
from nnspec.compiler.emit.targets import multiplies_as_stored
from nnspec.compiler.emit.text import Line, docstring, imports, indent, lines, listed, one_line, place, spaced
from nnspec.compiler.ir import Block, Child, Code, Graph, Instance, Primitive
from nnspec.compiler.naming import EMITTED_WORDS, Names, attribute, class_name
from nnspec.compiler.operations.registry import operation


class Frame(NamedTuple):
    """What stands around the classes of a module: code before them, and code after, given the network's name."""

    reserved: frozenset[str]  # the names that it takes
    before: str
    after: Callable[[str], str]


def emit(graph: Graph, target: str = "train", frame: Frame | None = None) -> str:
    """Return the source of a Python module whose last class is the network, for a target of the table."""
    writer = _Writer(
        multiplies_as_stored(target), frame.reserved if frame else frozenset(), target != "export"
    )
    name = writer.class_of(graph.root)
    written = [*writer.maps.lines, *writer.functions.lines, *writer.lines]
    if frame is not None:
        before, after = (lines("", "", *text.split("\n")) for text in (frame.before, frame.after(name)))
        written = [*before, *written, *after]
    code = "\n".join(line.text for line in written)
    about = "\n".join(line.text for line in docstring(heading(graph)))
    top = "\n".join(imports("\n".join(line.code for line in written)))
    return f"{about}\n\n{top}\n{code}\n"


def network_class(graph: Graph) -> str:
    """Return the name of the class of the network in the emitted text."""
    return _Writer().class_of(graph.root)


def heading(graph: Graph) -> str:
    """Return the docstring of an emitted file."""
    source = graph.source
    name = getattr(source, "name", None)
    origin = f" from {one_line(name)}" if isinstance(name, str) else ""
    return f"The network `{one_line(graph.name)}`, written by nnspec{origin}. Needs torch only."


class ModuleForm(Form):
    """Tensors are attributes of modules, blocks are modules."""

    has_effects = True

    def __init__(self, products: Callable[[Code], str] | None, keeps_residual: bool = True) -> None:
        self.products = products
        self.keeps_residual = keeps_residual

    def owner(self, child: str) -> str:
        return f"self.{attribute(child)}"

    def member(self, owner: str, index: str) -> str:
        return f"{owner}[{index}]"

    def loop(self, owner: str, count: int, names: Names) -> tuple[str, str]:
        each = names.claim("layer")
        return f"for {each} in {owner}:", each

    def tensor(self, owner: str, name: str, kind: str) -> str:
        return reached(owner, name)

    def block_call(self, owner: str, block: Block, inputs: tuple[str, ...]) -> str:
        return f"{owner}({', '.join(inputs)})"

    def plain_call(self, owner: str, inputs: tuple[str, ...]) -> str | None:
        return f"{owner}({', '.join(inputs)})"

    def product(self, code: Code) -> str | None:
        return None if self.products is None else self.products(code)


class _Writer:
    """Writes classes, inner blocks first; a block that comes out as another did shares its class."""

    def __init__(
        self, products: bool = True, reserved: frozenset[str] = frozenset(), residuals: bool = True
    ) -> None:
        self.residuals = residuals  # whether a module keeps how far from settled its states are
        self.products = products  # whether a product may read what is stored of a weight
        self.names = Names(EMITTED_WORDS | reserved)
        self.maps = Maps(self.names)
        self.functions = Functions(self.names, self.maps.code)
        self.lines: list[Line] = []
        self._by_identity: dict[int, str] = {}
        self._by_text: dict[tuple[str, ...], str] = {}

    def class_of(self, block: Block) -> str:
        if id(block) not in self._by_identity:
            self._by_identity[id(block)] = self._write(block)
        return self._by_identity[id(block)]

    def _write(self, block: Block) -> str:
        for child in block.children:
            for instance in child.instances:
                self._prepare(instance)
        parts = [docstring(block.doc) if block.doc else [], self._constructor(block), self._forward(block)]
        inside = spaced([part for part in parts if part])
        wanted = class_name(block.name)
        key = (wanted, *(line.code for line in inside))
        if key not in self._by_text:
            name = self.names.claim(wanted)
            self._by_text[key] = name
            self.lines += [*lines("", "", f"class {name}(nn.Module):"), *indent(inside)]
        return self._by_text[key]

    def _prepare(self, instance: Instance) -> None:
        """Write what an instance needs first, so that its names are taken before ours."""
        if isinstance(instance, Block):
            if instance.is_pure:
                self.functions.function(instance)
            else:
                self.class_of(instance)
            return
        for weight in instance.weights:
            self.maps.prepare(weight, self.products)

    def _constructor(self, block: Block) -> list[Line]:
        made = [line for child in block.children for line in self._child(child)]
        made += [line for child in block.children for line in self._followed(child)]
        if block.penalties:
            comment = "of the last forward in training, to be added to the loss"
            made.append(Line(code="self.penalties: dict[str, Tensor] = {}", comment=comment))
        if not made:
            return []
        head = lines("def __init__(self) -> None:")
        return [*head, *indent([*lines("super().__init__()"), *made])]

    def _child(self, child: Child) -> list[Line]:
        name = f"self.{attribute(child.name)}"
        comment = place(child.span or (child.instances[0].span if child.instances else None))
        if child.begins is not None:
            part = ".".join(filter(None, (child.begins.experiment, child.begins.path)))
            comment = f"fresh here; in training it begins as `{one_line(part)}` ends"
        if child.repeated:
            made = [self._construct(instance) or "nn.Identity()" for instance in child.instances]
            first = Line(code=f"{name} = nn.ModuleList({listed(made)})", comment=comment)
            return [first, *self._each_stored(name, child.instances)]
        instance = child.instances[0]
        own = owned(attribute(child.name), instance)
        made_one = self._construct(instance)
        if own is None and made_one is None:
            return []
        if isinstance(instance, Primitive) and operation(instance.operation).tracks:
            comment = "share of training done, 0 to 1: a training loop sets it"
        first = Line(code=own or f"{name} = {made_one}", comment=comment)
        return [first, *self._stored(name, instance)]

    def _followed(self, child: Child) -> list[Line]:
        """Let a follower begin equal to what it follows."""
        if child.follows is None or not any(_stores(instance) for instance in child.instances):
            return []
        own, leader = f"self.{attribute(child.name)}", f"self.{attribute(child.follows.leader)}"
        return lines(f"{own}.load_state_dict({leader}.state_dict())")

    def _each_stored(self, name: str, instances: tuple[Instance, ...]) -> list[Line]:
        """Set up the tensors of all copies: in a loop where they are alike."""
        common = [self._stored("layer", instance) for instance in instances]
        if len(instances) > 1 and common[0] and all(found == common[0] for found in common):
            return [*lines(f"for layer in {name}:"), *indent(common[0])]
        return [line for i, x in enumerate(instances) for line in self._stored(f"{name}[{i}]", x)]

    def _stored(self, name: str, instance: Instance) -> list[Line]:
        """Set up what an instance stores other than as torch's own module does."""
        if not isinstance(instance, Primitive) or not any(weight.stored for weight in instance.weights):
            return []
        found = filling(name, instance)
        return [*found, *(line for w in instance.weights for line in stored_lines(name, w, self.maps))]

    def _construct(self, instance: Instance) -> str | None:
        """Return the constructor; None for what stores nothing and is written out where it is used."""
        if isinstance(instance, Block):
            return None if instance.is_pure else f"{self.class_of(instance)}()"
        if not is_plain(instance) and not any(weight.stored for weight in instance.weights):
            return None
        return operation(instance.operation).module(site_of(instance))

    def _forward(self, block: Block) -> list[Line]:
        form = ModuleForm(self.maps.code if self.products else None, self.residuals)
        body = Body(
            block, form, self.names.taken, self.maps.function, self.functions.function, self.maps.code
        )
        written = nested(body.returning()) if block.function else body.returning()
        arguments = ", ".join(["self", *(f"{name}: Tensor" for name in body.inputs)])
        kind = returned_type(len(body.outputs))
        head = lines(f"def forward({arguments}) -> {kind}:")
        return [*head, *indent(written)]


def _stores(instance: Instance) -> bool:
    if isinstance(instance, Primitive):
        return any(weight.stored for weight in instance.weights)
    return any(_stores(own) for child in instance.children for own in child.instances)


def returned_type(count: int) -> str:
    """Return the annotation of a function that returns so many tensors."""
    return "Tensor" if count == 1 else f"tuple[{', '.join(['Tensor'] * count)}]"
