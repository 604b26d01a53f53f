"""Typed graph -> the same network as a pure function of a flat dict of tensors (state-dict keys).

One call is one network; many are one `torch.vmap` over stacked dicts. A pure function updates no buffer:
in training, batch normalisation uses the statistics of its batch and leaves the running ones alone.
Assumes a typed graph. Imports no torch.
"""

from __future__ import annotations

from nnspec.compiler.emit.body import Body
from nnspec.compiler.emit.form import Form
from nnspec.compiler.emit.functions import Functions
from nnspec.compiler.emit.maps import Maps
from nnspec.compiler.emit.text import Line, docstring, imports, indent, lines
from nnspec.compiler.emit.torch import heading, returned_type
from nnspec.compiler.ir import Block, Graph, Instance, weight_path
from nnspec.compiler.naming import EMITTED_WORDS, Names, attribute, variable


def emit_functional(graph: Graph) -> str:
    """Return Python source whose `forward(parameters, *inputs, training=False)` is the network."""
    writer = Writer()
    writer.root(graph.root)
    written = [*writer.maps.lines, *writer.functions.lines, *writer.lines]
    doc = f"{heading(graph)}\n\nA pure function of the parameters, by state-dict key."
    about = "\n".join(line.text for line in docstring(doc))
    top = "\n".join(imports("\n".join(line.code for line in written)))
    code = "\n".join(line.text for line in written)
    return f"{about}\n\n{top}\n{code}\n"


class FunctionForm(Form):
    """An owner is the inside of an f-string: `{prefix}fc1`; blocks are functions that take a prefix."""

    training = "training"

    def __init__(self, writer: Writer, root: bool) -> None:
        self.writer = writer
        self.prefix = "" if root else "{prefix}"

    def owner(self, child: str) -> str:
        return f"{self.prefix}{attribute(child)}"

    def member(self, owner: str, index: str) -> str:
        return f"{owner}.{index}"

    def loop(self, owner: str, count: int, names: Names) -> tuple[str, str]:
        index = names.claim("index")
        return f"for {index} in range({count}):", f"{owner}.{{{index}}}"

    def tensor(self, owner: str, name: str, kind: str) -> str:
        found = f"parameters[{_key(weight_path(owner, name))}]"
        # Statistics that an operation keeps are those of the batch in training; a layer's own buffer is a value.
        return f"None if training else {found}" if kind == "buffer" and name else found

    def block_call(self, owner: str, block: Block, inputs: tuple[str, ...]) -> str:
        function = self.writer.function_of(block)
        return f"{function}({', '.join(('parameters', _key(owner + '.'), *inputs, 'training'))})"


class Writer:
    """Writes functions, inner blocks first; a block that comes out as another did shares its function."""

    def __init__(self) -> None:
        self.names = Names(EMITTED_WORDS | {"forward"})
        self.maps = Maps(self.names)
        self.functions = Functions(self.names, self.maps.code)
        self.lines: list[Line] = []
        self._by_identity: dict[int, str] = {}
        self._by_text: dict[tuple[str, ...], str] = {}

    def root(self, block: Block) -> None:
        body, written = self._body(block, root=True)
        arguments = ["parameters: dict[str, Tensor]", *(f"{name}: Tensor" for name in body.inputs)]
        kind = returned_type(len(body.outputs))
        head = f"def forward({', '.join(arguments)}, *, training: bool = False) -> {kind}:"
        self.lines += [*lines("", "", head), *indent(written)]

    def function_of(self, block: Block) -> str:
        if id(block) not in self._by_identity:
            self._by_identity[id(block)] = self._write(block)
        return self._by_identity[id(block)]

    def _write(self, block: Block) -> str:
        body, written = self._body(block, root=False)
        arguments = ["parameters: dict[str, Tensor]", "prefix: str", *(f"{n}: Tensor" for n in body.inputs)]
        tail = f"({', '.join(arguments)}, training: bool) -> {returned_type(len(body.outputs))}:"
        wanted = variable(block.name)
        key = (wanted, tail, *(line.code for line in written))
        if key not in self._by_text:
            name = self.names.claim(wanted)
            self._by_text[key] = name
            self.lines += [*lines("", "", f"def {name}{tail}"), *indent(written)]
        return self._by_text[key]

    def _body(self, block: Block, root: bool) -> tuple[Body, list[Line]]:
        for child in block.children:
            for instance in child.instances:
                self.prepare(instance)
        form = FunctionForm(self, root)
        body = Body(
            block, form, self.names.taken, self.maps.function, self.functions.function, self.maps.code
        )
        about = docstring(block.doc) if block.doc else []
        return body, [*about, *body.returning()]

    def prepare(self, instance: Instance) -> None:
        """Write what an instance needs first, so that its names are taken before ours."""
        if isinstance(instance, Block):
            if instance.is_pure:
                self.functions.function(instance)
            else:
                self.function_of(instance)
            return
        for weight in instance.weights:
            for item in weight.maps:
                self.maps.function(item)


def _key(inside: str) -> str:
    return f'f"{inside}"' if "{" in inside else f'"{inside}"'
