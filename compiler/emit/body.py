"""The body of a block as a chain of assignments, for every form of emission.

In: a typed block and a `Form`, which says how a form reaches tensors and calls blocks. Out: lines and
the names of inputs and outputs. Values that the spec names keep their names; the others share a few
short ones, each reused as soon as its value is no longer needed, as one would write by hand.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain, count

from nnspec.compiler.emit.copies import write_copies
from nnspec.compiler.emit.effects import effect_lines, ordered
from nnspec.compiler.emit.form import Form, expanded, is_plain, site_of
from nnspec.compiler.emit.loops import loop_codes, write_loop
from nnspec.compiler.emit.pullbacks import write_pullback
from nnspec.compiler.emit.text import Line, indent, lines
from nnspec.compiler.emit.uses import effective_text, is_same, last_uses, readers
from nnspec.compiler.ir import (
    Apply,
    Block,
    Call,
    Child,
    Code,
    Instance,
    Loop,
    Port,
    Primitive,
    Statement,
    Tensor,
    Tie,
    Weight,
    WeightMap,
    walked,
)
from nnspec.compiler.naming import Names, variable
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.rewrites.hoist import hoisted


def _code(primitive: Primitive) -> Code | None:
    """Return the function that an operation brings along."""
    return operation(primitive.operation).code(site_of(primitive))


class _Around(dict[str, str]):
    """The expressions that a call rule may ask for; notes whether it asked for the number type."""

    asked = False

    def __missing__(self, key: str) -> str:
        if key != "dtype":
            raise KeyError(key)
        self.asked = True
        return key


class Body:
    """Writes the body of one block."""

    def __init__(
        self,
        block: Block,
        form: Form,
        taken: set[str],
        mapped: Callable[[WeightMap], str],
        function: Callable[[Block], str],
        library: Callable[[Code], str],
    ) -> None:
        self.order = ordered(block := hoisted(block))
        self.block = block = block.replace(body=self.order.body)
        self.form = form
        self.taken = taken
        self.mapped = mapped  # gives the name of the function of a constraint
        self.function = function  # gives the name of the function of an activation
        self.library = library  # gives the name of a function that an operation brings along
        self.names = Names({*taken, *self._brought()})
        self.types = dict(block.types)
        self.children = {child.name: child for child in block.children}
        self.variables: dict[str, str] = {}  # value -> variable, while it is live
        self.effective: dict[tuple[str, str], str] = {}  # (owner, weight) -> variable or expression
        self.last_use = last_uses(block)
        self.readers = readers(block)
        self.own_names: dict[str, str] = {}  # named value -> its variable
        self.lists: dict[str, str] = {}  # "(levels[0], levels[1])", all entries of a list -> the list
        self.lines: list[Line] = []
        self.waiting: dict[str, Apply] = {}  # constants, by their values
        self.needs_dtype = False
        self._name_values()

    def _brought(self) -> list[str]:
        """Return the names of the functions that the body calls, so that no variable takes them."""
        inside = list(walked(self.block.body))
        codes = [_code(s.operation) for s in inside if isinstance(s, Apply)]
        codes += [c for s in inside if isinstance(s, Loop) for c in loop_codes(s, self.form.has_effects)]
        return [self.library(code) for code in codes if code is not None]

    def _name_values(self) -> None:
        self.inputs: list[str] = []
        for port in self.block.inputs:
            self.inputs.append(self.names.claim(variable(port.name)))
            self.variables[port.value] = self.inputs[-1]
        given = {port.value for port in self.block.inputs}
        # What the step of a loop reads may be read again in the backward pass: it keeps its name.
        read = [v for s in self.block.body if isinstance(s, Loop) for v in s.inputs]
        self.pinned = {self.variables[value] for value in read if value in given}
        self.own_names = {
            value: self.names.claim(variable(value))
            for value in dict.fromkeys((*self.block.named, *read))
            if value not in given and value in self.types
        }

    def write(self) -> list[Line]:
        """Return the assignments; `outputs` then holds the expressions to return."""
        order = self.order
        first, second = len(order.main), len(order.main) + len(order.for_penalties)
        self.lines += self.statements(0, order.main)
        if self.form.has_effects:
            self.lines += effect_lines(
                self.block,
                order,
                self.form.training,
                lambda: self.statements(first, order.for_penalties),
                lambda: self.statements(second, order.for_updates),
                lambda value: self.variables[value],
                self.form.owner,
            )
        return [*lines(f"dtype = {self.dtype()}"), *self.lines] if self.needs_dtype else self.lines

    def statements(self, start: int, statements: tuple[Statement, ...]) -> list[Line]:
        """Return the lines of statements, the first of which stands at `start` in the body."""
        before, self.lines = self.lines, []
        for index, statement in enumerate(statements, start):
            if isinstance(statement, Apply):
                self.apply(index, statement)
            elif isinstance(statement, Call):
                self.call(index, statement)
            elif isinstance(statement, Loop):
                write_loop(self, index, statement)
            else:
                write_pullback(self, index, statement)
        written, self.lines = self.lines, before
        return written

    def inside(
        self, statements: tuple[Statement, ...], ports: tuple[Port, ...], outputs: tuple[Port, ...]
    ) -> Body:
        """Return the writer of some statements as a function inside this body, which reads its variables."""
        block = self.block.replace(
            inputs=ports, outputs=outputs, body=statements, updates=(), penalties=(), doc=None
        )
        given = {port.value for port in ports}
        reading = {value for statement in statements for value in statement.inputs}
        self.read(tuple(value for value in self.waiting if value in reading))
        outer = {value: text for value, text in self.variables.items() if value not in given}
        read = {*reading, *(port.value for port in outputs)} & outer.keys()
        taken = {*self.taken, *(outer[value] for value in read), *self.effective.values()}
        inner = Body(block, self.form, taken, self.mapped, self.function, self.library)
        inner.variables.update({value: outer[value] for value in read})
        inner.last_use.update({value: len(statements) for value in read})
        inner.effective = self.effective
        return inner

    @property
    def outputs(self) -> list[str]:
        return list(self.read(tuple(port.value for port in self.block.outputs)))

    def returning(self) -> list[Line]:
        """Return the assignments and the `return`; the last result without a name is returned at once."""
        written, result = self.write(), ", ".join(self.outputs)
        head = f"{result} = "
        unnamed = len(self.outputs) == 1 and result not in self.own_names.values()
        if unnamed and written and written[-1].code.startswith(head):
            return [*written[:-1], *lines(f"return {written[-1].code.removeprefix(head)}")]
        return [*written, *lines(f"return {result}")]

    # ----------------------------------------------------------------------------------------- statements

    def apply(self, index: int, statement: Apply) -> None:
        if operation(statement.operation.operation).constant(statement.operation.options) is not None:
            self.waiting[statement.outputs[0]] = statement  # written where it is read
            return
        self.write_apply(index, statement)

    def write_apply(self, index: int, statement: Apply) -> None:
        inputs = self.read(statement.inputs)
        expression = self.operation_call(statement.operation, inputs, {})
        self.assign(index, statement, expression)

    def call(self, index: int, statement: Call) -> None:
        child = self.children[statement.child]
        if child.flow != "chain":
            write_copies(self, index, statement, child)
            return
        if child.repeated:
            self.repeat(index, statement, child)
            return
        if not statement.inputs:
            self.owned(index, statement, child)
            return
        inputs = self.read(statement.inputs)
        expression = self.instance_call(self.form.owner(child.name), child.instances[0], inputs)
        self.assign(index, statement, expression)

    def owned(self, index: int, statement: Call, child: Child) -> None:
        """A parameter's value is written where it is read, under a name only if it is computed."""
        instance = child.instances[0]
        assert isinstance(instance, Primitive)
        text = self.instance_call(self.form.owner(child.name), instance, ())
        if any(weight.maps for weight in instance.weights):
            self.assign(index, statement, text)
        else:
            self.variables[statement.outputs[0]] = text

    def repeat(self, index: int, statement: Call, child: Child) -> None:
        """Write a loop if one call serves all instances, else one call after another."""
        owner = self.form.owner(child.name)
        inputs = self.read(statement.inputs)
        carried = self.targets(index, statement)
        if carried != inputs and not self.renamed(inputs, carried):
            self.lines += lines(f"{', '.join(carried)} = {', '.join(inputs)}")
        left = ", ".join(carried)
        head, each = self.form.loop(owner, len(child.instances), self.names)
        calls = {self.instance_call(each, instance, carried, inline=True) for instance in child.instances}
        if len(calls) == 1:
            self.lines += [Line(code=head), *indent(lines(f"{left} = {calls.pop()}"))]
            return
        for place, instance in enumerate(child.instances):
            member = self.form.member(owner, str(place))
            self.lines += lines(f"{left} = {self.instance_call(member, instance, carried, inline=True)}")

    def renamed(self, inputs: tuple[str, ...], outputs: tuple[str, ...]) -> bool:
        """Let the last line assign to the output at once, if nothing else reads what it assigns to."""
        head = f"{inputs[0]} = "
        if len(inputs) != 1 or not self.lines or not self.lines[-1].code.startswith(head):
            return False
        if inputs[0] in self.variables.values():
            return False
        self.lines[-1] = Line(code=f"{outputs[0]} = {self.lines[-1].code.removeprefix(head)}")
        return True

    def assign(self, index: int, statement: Apply | Call, expression: str) -> None:
        """Bind the outputs. A mere copy of a variable needs no statement."""
        copied = len(statement.outputs) == 1 and expression in self.read(statement.inputs)
        if copied:
            self.variables[statement.outputs[0]] = expression
            return
        targets = self.targets(index, statement)
        left = ", ".join(targets)
        self.lines += lines(f"{left} = {expression}")

    # ---------------------------------------------------------------------------------------- expressions

    def instance_call(
        self, owner: str, instance: Instance, inputs: tuple[str, ...], inline: bool = False
    ) -> str:
        if not isinstance(instance, Primitive):
            if instance.is_pure:
                return f"{self.function(instance)}({', '.join(inputs)})"
            return self.form.block_call(owner, instance, inputs)
        rule = operation(instance.operation)
        if inputs and is_plain(instance) and rule.module(site_of(instance)) is not None:
            site = site_of(instance)
            plain = self.form.plain_call(owner, tuple(rule.arranged(site, text) for text in inputs))
            if plain is not None:
                return rule.restored(site, plain)
        weights = {w.name: self.weight(owner, w, inline) for w in instance.weights if not self.product(w)}
        for weight in filter(self.product, instance.weights):
            weights |= {weight.name: self.kept(owner, weight), "product": self.product(weight) or ""}
        return self.operation_call(instance, inputs, weights)

    def site(self, primitive: Primitive) -> Site:
        """Return the site of a primitive in this form."""
        return site_of(primitive, self.form.batched)

    def operation_call(self, primitive: Primitive, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        site = self.site(primitive)
        around = _Around({"training": self.form.training, **weights})
        rule = operation(primitive.operation)
        code = rule.code(site)
        if code is not None:
            around["function"] = self.library(code)
        if not rule.aligns:
            inputs = expanded(site, inputs)
        text = rule.call(site, inputs, around)
        self.needs_dtype |= around.asked
        for entries, name in self.lists.items():
            text = text.replace(entries, name)
        return text

    def weight(self, owner: str, weight: Weight, inline: bool) -> str:
        """Return the effective weight: as stored, tied, or through its maps, computed once a forward."""
        if (owner, weight.name) in self.effective:
            return self.effective[owner, weight.name]
        text = self.tied(weight.tie) if weight.tie else self.mapped_weight(owner, weight)
        if weight.maps and not inline and self.readers.get((owner_name(owner), weight.name), 0) > 1:
            name = self.names.claim(variable("_".join(n for n in (owner_name(owner), weight.name) if n)))
            self.lines += lines(f"{name} = {text}")
            text = self.effective[owner, weight.name] = name
        return text

    def mapped_weight(self, owner: str, weight: Weight) -> str:
        def reach(tensor: Tensor) -> str:
            kind = tensor.kind if not weight.maps else "learned"  # a mask is there in training too
            return self.form.tensor(owner, tensor.name, kind)

        return effective_text(weight, reach, self.mapped)

    def settle_weight(self, owner: str, weight: Weight) -> None:
        """Compute an effective weight here, under a name, for all that reads it later."""
        text = self.weight(owner, weight, inline=True)
        if weight.maps and (owner, weight.name) not in self.effective:
            name = self.names.claim(variable("_".join(n for n in (owner_name(owner), weight.name) if n)))
            self.lines += lines(f"{name} = {text}")
            self.effective[owner, weight.name] = name

    def product(self, weight: Weight) -> str | None:
        """Return the function that multiplies by a weight as it is stored, if there is one for this form."""
        code = weight.maps[0].product if len(weight.maps) == 1 else None
        return None if code is None else self.form.product(code)

    def kept(self, owner: str, weight: Weight) -> str:
        return ", ".join(self.form.tensor(owner, tensor.name, "learned") for tensor in weight.stored)

    def tied(self, tie: Tie) -> str:
        other = self.children[tie.child]
        owner = self.form.owner(tie.child)
        if other.repeated:
            owner = self.form.member(owner, "0")
        instance = other.instances[0]
        assert isinstance(instance, Primitive)
        found = next(w for w in instance.weights if w.name == tie.weight)
        text = self.weight(owner, found, inline=False)
        return f"{text}.t()" if tie.transpose else text

    def dtype(self) -> str:
        """Return the number type of the real values in this block, read off an input or a weight."""
        for port, name in zip(self.block.inputs, self.inputs, strict=True):
            if self.types[port.value].dtype == "real":
                return f"{name}.dtype"
        for child in self.block.children:
            for weight in getattr(child.instances[0], "weights", ()):
                stored = next((tensor for tensor in weight.stored if tensor.dtype == "real"), None)
                if stored is not None and not child.repeated:
                    return f"{self.form.tensor(self.form.owner(child.name), stored.name, 'learned')}.dtype"
        return "torch.get_default_dtype()"

    # ------------------------------------------------------------------------------------------ variables

    def is_ones(self, value: str) -> bool:
        """Return whether a value is known to be 1 everywhere."""
        made = self.waiting.get(value)
        return (
            made is not None and operation(made.operation.operation).constant(made.operation.options) == 1.0
        )

    def applied(self, primitive: Primitive, value: str) -> str | None:
        """Return the variable that holds what an operation gives for a value, if there is one."""
        for statement in self.block.body:
            same = isinstance(statement, Apply) and statement.inputs == (value,)
            if same and isinstance(statement, Apply) and is_same(statement.operation, primitive):
                return self.variables.get(statement.outputs[0])
        return None

    def read(self, values: tuple[str, ...]) -> tuple[str, ...]:
        for value in values:
            if value in self.waiting and value not in self.variables:
                self.write_apply(-1, self.waiting[value])
        return tuple(self.variables[value] for value in values)

    def targets(self, index: int, statement: Statement) -> tuple[str, ...]:
        """Return variables for the outputs, after giving back those of values that are now dead."""
        self.drop_dead(index)
        return tuple(self.new_variable(value, set()) for value in statement.outputs)

    def drop_dead(self, index: int) -> None:
        """Give back the variables of values that no statement after this one reads."""
        for value in [v for v in self.variables if self.last_use.get(v, -1) <= index]:
            del self.variables[value]

    def new_variable(self, value: str, avoided: set[str]) -> str:
        """Return the variable of a value from here on: its own name, or a short one."""
        self.variables[value] = self.own_names.get(value) or self.short_name(avoided)
        return self.variables[value]

    def short_name(self, avoided: set[str]) -> str:
        """Return the first of `x`, `y`, `z`, .. that no live value uses and that is not avoided."""
        live = avoided.union(self.variables.values())
        free = set(self.inputs) - self.pinned
        kept = self.names.taken.difference(free).union(self.own_names.values())
        candidates = chain("xyzuvw", (f"x_{number}" for number in count(2)))
        return next(name for name in candidates if name not in live and name not in kept)


def owner_name(owner: str) -> str:
    """Return the bare name of a child from the text that reaches it."""
    return owner.replace("self.", "").replace("{prefix}", "")
