"""One step of a loop in place, on buffers that are made once: what an expert writes where no gradient flows.

In: a block whose loop is hoisted. Out: the source of `stepper(parameters, *outer, *states)`, which returns
`advance(size, pushes)`, one step that changes the states, and `renew()`, for parameters and values that were changed in
place. Nothing is allocated in a step but what operations without an
`out=` form give. Rewrites, by what operations are and not by their names: sums are gathered, what no step changes in
them is added once, products with a weight are accumulated (`addmm`), a step towards a value is `lerp_`; a function
that is the identity within the clip is left out, and its slope there is 1. None where a step needs more.
"""

from __future__ import annotations

from collections.abc import Iterable

from nnspec.compiler.emit.buffers import Buffers, Part, Unfit
from nnspec.compiler.emit.form import site_of
from nnspec.compiler.emit.text import imports
from nnspec.compiler.ir import Apply, Block, Call, Carried, Loop, Primitive, Pullback, Statement, state_key
from nnspec.compiler.naming import EMITTED_WORDS, Names, variable
from nnspec.compiler.operations.operation import Around, Operation, Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Contract, Sum

Clip = tuple[float, float]


def static_source(
    block: Block, loop: Loop, outer: tuple[str, ...], pushed: frozenset[str], clip: Clip | None, full: bool
) -> str | None:
    """Return the source, or None. `pushed` are names of states; `full` says that a map's step is its whole value."""
    try:
        return _Program(block, loop, outer, pushed, clip, full).source()
    except Unfit:
        return None


class _Program(Buffers):
    def __init__(
        self,
        block: Block,
        loop: Loop,
        outer: tuple[str, ...],
        pushed: frozenset[str],
        clip: Clip | None,
        full: bool,
    ) -> None:
        self.block, self.loop, self.outer = block, loop, outer
        self.pushed, self.clip, self.full = pushed, clip, full
        names = Names(EMITTED_WORDS | {"size", "pushes", "advance", "stepper"})
        self.arguments = {value: names.claim(variable(value)) for value in outer}
        states = {state.before: names.claim(variable(state.name)) for state in loop.carried}
        super().__init__(names, dict(block.types), self.arguments, states, _readers(loop))
        self.matrices: dict[tuple[str, bool], str] = {}
        self.applied: dict[tuple[object, ...], str] = {}  # (operation, arguments, value) -> what it gives
        self.within = set(self.states) if clip is not None else set[str]()

    def source(self) -> str:
        driven = {(state.driven or state.after): state for state in self.loop.carried}
        for value, state in driven.items():
            if value in self.text:
                self.push(value, state)
        for statement in self.loop.body:
            self.statement(statement)
            for value in statement.outputs:
                if value in driven:
                    self.push(value, driven[value])
        updates = [self.update(state) for state in self.loop.carried]
        arguments = ", ".join(("parameters", *self.arguments.values(), *self.states.values()))
        inside = "\n".join(f"        {line}" for line in (*self.lines, *updates))
        before = "".join(f"    {line}\n" for line in self.prepared)
        renew = "\n".join(f"        {line}" for line in self.renewed or ["pass"])
        code = f"def stepper({arguments}):\n{before}\n    def advance(size, pushes):\n{inside}\n\n"
        code += f"    def renew():\n{renew}\n\n    return advance, renew\n"
        return "\n".join((*imports(code), "", "", code))

    # ------------------------------------------------------------------------------------------- statements

    def statement(self, statement: Statement) -> None:
        if isinstance(statement, Pullback):
            self.pullback(statement)
        elif isinstance(statement, Apply):
            self.apply(statement)
        elif isinstance(statement, Call):
            self.call(statement)
        else:
            raise Unfit

    def apply(self, statement: Apply) -> None:
        primitive = statement.operation
        rule, site = operation(primitive.operation), site_of(primitive)
        value = "".join(statement.outputs[:1])
        if value in self.text:
            return  # made already
        constant = rule.constant(primitive.options)
        if constant is not None:
            self.constants[value] = constant
        elif self.is_identity(statement):
            self.same[value] = self.resolved(statement.inputs[0])
        elif (terms := self.linear(rule, site, statement.inputs)) is not None:
            self.sums[value] = terms
        else:
            self.general(rule, site, statement, {})

    def is_identity(self, statement: Apply) -> bool:
        """Return whether an operation gives what it takes, as far as the clip lets it vary."""
        held = operation(statement.operation.operation).identity_on(statement.operation.options)
        if held is None or self.clip is None or self.resolved(statement.inputs[0]) not in self.within:
            return False
        return held[0] <= self.clip[0] and self.clip[1] <= held[1]

    def linear(self, rule: Operation, site: Site, inputs: tuple[str, ...]) -> tuple[Part, ...] | None:
        """Return an operation as a sum of its inputs; None if it is none."""
        relations = rule.relate(site) or ()
        if len(relations) != 1:
            return None
        (relation,) = relations
        if isinstance(relation, Sum):
            if any(term.labels != relation.output.labels for term in relation.terms):
                return None
            given = zip(relation.coefficients, inputs, strict=True)
            return tuple(p for c, value in given for p in _scaled(self.parts(value), c))
        if isinstance(relation, Contract) and set(relation.powers) <= {1} and len(inputs) == 2:
            known = [self.constants.get(self.resolved(value)) for value in inputs]
            if any(term.labels != relation.output.labels for term in relation.terms):
                return None
            for constant, other in zip(known, reversed(inputs), strict=True):
                if constant is not None:
                    return _scaled(self.parts(other), constant)
        return None

    def general(self, rule: Operation, site: Site, statement: Apply | Call, weights: dict[str, str]) -> None:
        if rule.code(site) is not None or rule.draws or rule.batch_coupled:
            raise Unfit
        inputs = tuple(self.name(value) for value in statement.inputs)
        around = {"training": "False", "dtype": f"{inputs[0]}.dtype", **weights}
        self.keep(statement, rule, rule.call(site, inputs, around))

    def keep(self, statement: Statement, rule: Operation | None, text: str) -> None:
        """Write an expression into a buffer if torch can, else let it allocate."""
        if len(statement.outputs) > 1 or rule is None or not rule.takes or not text.startswith("torch."):
            names = [self.names.claim(variable(value)) for value in statement.outputs]
            self.lines.append(f"{', '.join(names)} = {text}")
            self.text.update(zip(statement.outputs, names, strict=True))
            return
        given, value = self.resolved(statement.inputs[0]), "".join(statement.outputs)
        name = self.text[given]
        reused = name in self.own and self.readers.get(given, 0) <= 1
        name = name if reused else self.buffer(value)
        self.applied = {key: held for key, held in self.applied.items() if held != name}
        if isinstance(statement, Apply):
            self.applied[_key(statement.operation, given)] = name
        self.lines.append(f"{text[:-1]}, out={name})")
        self.text[value] = name

    def call(self, statement: Call) -> None:
        primitive = self.primitive(statement)
        rule, site = operation(primitive.operation), site_of(primitive)
        weights = {w.name: self.weight(statement.child, w.name) for w in primitive.weights}
        if not self.is_matrix(rule, site):
            self.general(rule, site, statement, weights)
            return
        made = [
            Part(coefficient=1.0, value=self.vector(statement.inputs[0]), matrix=self.matrix(weights, True))
        ]
        for name, text in weights.items():
            if name not in rule.products:
                self.text[text] = text
                self.fixed.add(text)
                made.append(Part(coefficient=1.0, value=text))
        self.sums[statement.outputs[0]] = tuple(made)

    def is_matrix(self, rule: Operation, site: Site) -> bool:
        return len(rule.products) == 1 and len(site.inputs[0].axes) == 1 and site.batched

    def vector(self, value: str) -> str:
        self.name(value)
        return self.resolved(value)

    def matrix(self, weights: dict[str, str], transposed: bool) -> str:
        weight = next(iter(weights.values()))
        if not transposed:
            return weight
        if (weight, True) not in self.matrices:
            name = self.matrices[weight, True] = self.names.claim(f"{weight}_t")
            self.prepared.append(f"{name} = {weight}.t()")
        return self.matrices[weight, True]

    def primitive(self, statement: Call) -> Primitive:
        child = self.block.child(statement.child)
        instance = child.instances[0]
        if child.repeated or not isinstance(instance, Primitive) or not statement.inputs:
            raise Unfit
        return instance

    def weight(self, child: str, name: str) -> str:
        """Return the name of a weight, read once from the parameters."""
        owner = self.block.child(child).instances[0]
        assert isinstance(owner, Primitive)
        weight = next(w for w in owner.weights if w.name == name)
        path, turned = (child, name), ""
        if weight.tie is not None:
            path, turned = (weight.tie.child, weight.tie.weight), ".t()" if weight.tie.transpose else ""
        wanted = variable(f"{child}_{name}")
        if (wanted, False) not in self.matrices:
            own = self.matrices[wanted, False] = self.names.claim(wanted)
            self.prepared.append(f'{own} = parameters["{state_key(*path)}"]{turned}')
        return self.matrices[wanted, False]

    # -------------------------------------------------------------------------------------------- backwards

    def pullback(self, statement: Pullback) -> None:
        """Write the way back through a chain of operations, from its end."""
        if len(statement.at) > 1:
            raise Unfit
        for own in statement.through:
            if isinstance(own, Apply) and self.is_identity(own):
                self.same[own.outputs[0]] = self.resolved(own.inputs[0])
        made = {value: own for own in statement.through for value in own.outputs}
        value, at = statement.end, self.resolved("".join(statement.at))
        chain: list[Statement] = []
        while self.resolved(value) != at:
            own = made.get(value)
            if own is None or len(own.inputs) != 1:
                raise Unfit
            chain.append(own)
            value = own.inputs[0]
        if not chain:
            self.same["".join(statement.outputs)] = self.resolved(statement.cotangent)
        elif len(chain) == 1:
            self.back(statement, chain[0])
        else:
            raise Unfit

    def back(self, statement: Pullback, own: Statement) -> None:
        value = "".join(statement.outputs)  # there is one
        if isinstance(own, Call):
            primitive = self.primitive(own)
            rule, site = operation(primitive.operation), site_of(primitive)
            weights = {w.name: self.weight(own.child, w.name) for w in primitive.weights}
            if self.is_matrix(rule, site):
                vector = self.vector(statement.cotangent)
                self.sums[value] = (Part(coefficient=1.0, value=vector, matrix=self.matrix(weights, False)),)
                return
        elif isinstance(own, Apply):
            rule, site, weights = operation(own.operation.operation), site_of(own.operation), {}
        else:
            raise Unfit
        ones = self.constants.get(self.resolved(statement.cotangent)) == 1.0
        cotangent = "1.0" if ones else self.name(statement.cotangent)
        given = self.resolved(own.inputs[0])
        result = self.result(own.operation, given) if isinstance(own, Apply) else None
        around = Around(cotangent=cotangent, given=self.text.get(given), result=result)
        text = rule.pullback(site, around, weights)
        if text is None:
            raise Unfit
        self.keep(statement, None, text)

    def result(self, primitive: Primitive, given: str) -> str | None:
        """Return what an operation gives for a value, if the step needs that anyhow: then it is made now."""
        key = _key(primitive, given)
        for statement in self.loop.body:
            if key in self.applied:
                break
            inputs = [self.resolved(value) for value in statement.inputs]
            if isinstance(statement, Apply) and inputs == [given] and _key(statement.operation, given) == key:
                self.statement(statement)
        return self.applied.get(key)

    def push(self, value: str, state: Carried) -> None:
        """Add what pushes a state from outside to the value that drives it."""
        if state.name not in self.pushed:
            return
        place = [other.name for other in self.loop.carried].index(state.name)
        name = self.names.claim(variable(f"push_{state.name}"))
        self.lines.insert(0, f"{name} = pushes[{place}]")
        self.text[name] = name
        unpushed = f"{value} without push"
        source = self.resolved(value)
        if source in self.sums and source not in self.text:
            terms = self.sums[source] if source == value else (Part(coefficient=1.0, value=source),)
        else:
            self.text[unpushed] = self.name(value)
            if value in self.fixed:
                self.fixed.add(unpushed)
            terms = (Part(coefficient=1.0, value=unpushed),)
        self.same.pop(value, None)
        self.text.pop(value, None)
        self.fixed.discard(value)
        self.sums[value] = (*terms, Part(coefficient=1.0, value=name))

    # --------------------------------------------------------------------------------------------- the step

    def update(self, state: Carried) -> str:
        """Return the line that moves a state, after what it needs is written."""
        own = self.states[state.before]
        text = self.followed(state, own) if self.loop.form == "flow" else self.replaced(state, own)
        if self.clip is not None:
            text += f".clamp_({self.clip[0]!r}, {self.clip[1]!r})"
        return text

    def replaced(self, state: Carried, own: str) -> str:
        found = self.apart(state, self.name(state.after))
        return f"{own}.copy_({found})" if self.full else f"{own}.lerp_({found}, size)"

    def followed(self, state: Carried, own: str) -> str:
        """s + size * rate: where the rate is d - c s, a step of size * c towards d / c."""
        value = self.resolved(state.after)
        summed = value in self.sums and value not in self.text
        parts = self.sums[value] if summed else (Part(coefficient=1.0, value=value),)
        leak = sum(p.coefficient for p in parts if p.value == state.before and p.matrix is None)
        rest = tuple(p for p in parts if p.value != state.before or p.matrix is not None)
        if not rest:
            return f"{own}.mul_(1 + {leak!r} * size)"
        if leak < 0:
            rest = _scaled(rest, -1 / leak)
        if len(rest) == 1 and rest[0].matrix is None and rest[0].coefficient == 1.0:
            found = self.apart(state, self.name(rest[0].value))
        else:
            found = self.made(state.after, rest, like=state.before)
        if leak < 0:
            return f"{own}.lerp_({found}, {'size' if leak == -1.0 else f'{-leak!r} * size'})"
        grown = "" if leak == 0 else f".mul_(1 + {leak!r} * size)"
        return f"{own}{grown}.add_({found}, alpha=size)"


def _scaled(parts: Iterable[Part], by: float) -> tuple[Part, ...]:
    return tuple(part.replace(coefficient=part.coefficient * by) for part in parts)


def _key(primitive: Primitive, value: str) -> tuple[object, ...]:
    return (primitive.operation, primitive.arguments, value)


def _readers(loop: Loop) -> dict[str, int]:
    """Count how often each value of a loop is read."""
    read = [value for statement in loop.body for value in statement.inputs]
    read += [state.after for state in loop.carried]
    return {value: read.count(value) for value in set(read)}
