"""Loops as code: what no step changes, one step as a function of the states, and the call of a solver.

In: the writer of a body, whose loops are hoisted. Out: its lines. The functional form takes every step, for how many
there are may not depend on numbers under `vmap`, and its implicit gradient is as many terms of the Neumann series.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.distributions.registry import distributions
from nnspec.compiler.emit.text import Line, indent, lines
from nnspec.compiler.ir import (
    Call,
    Carried,
    Code,
    Graph,
    Loop,
    Port,
    Primitive,
    Statement,
    Word,
    blocks,
    walked,
)
from nnspec.compiler.naming import variable
from nnspec.compiler.solvers import FLOWS

if TYPE_CHECKING:
    from nnspec.compiler.emit.body import Body

FILE = "settle"
_DEFAULTS = {"damping": 1.0, "tolerance": 0.0}


def loop_codes(loop: Loop, differentiates_implicitly: bool) -> list[Code]:
    """Return the functions of the library that a loop calls."""
    flow = loop.form == "flow" and loop.solver.name in FLOWS
    found = [loop.solver.name]
    if loop.gradient.name == "ift" and differentiates_implicitly:
        found.append("implicit")
    elif loop.gradient.name != "unrolled":
        found += ["phantom", loop.solver.name if flow else "fixed_point"]
    if loop.form == "flow" and not flow:
        found.append("shifted")
    return [Code(file=FILE, name=name) for name in found]


def alike_in_both_forms(graph: Graph) -> bool:
    """Return whether a network's loops give one gradient as a module and as a pure function.

    Not where an implicit gradient is solved by more than the loop's own steps, of which a function takes as many.
    """
    loops = (s for block in blocks(graph.root) for s in walked(block.body) if isinstance(s, Loop))
    return all(loop.gradient.name != "ift" or loop.solver.name in ("fixed_point", "euler") for loop in loops)


def random_starts(graph: Graph) -> bool:
    """Return whether states of a network's loops begin at random."""
    loops = (s for block in blocks(graph.root) for s in walked(block.body) if isinstance(s, Loop))
    starts = (state.start for loop in loops for state in loop.carried)
    return any(start is not None and start.name != "constant" for start in starts)


def write_loop(body: Body, index: int, loop: Loop) -> None:
    """Write a loop: weights made once, a step, where the states begin, and the solver."""
    settle_weights(body, loop.body)
    step = write_step(body, loop)
    flow = loop.form == "flow" and loop.solver.name in FLOWS
    if loop.form == "flow" and not flow:
        step = _balance(body, step)
    start = _start(body, loop)
    body.drop_dead(index)
    results = tuple(body.new_variable(state.result, set()) for state in loop.carried)
    left = f"({', '.join(results)}{',' * (len(results) == 1)})"
    residual = "self.residual" if body.form.keeps_residual else "_"
    body.lines += lines(*_solved(body, loop, step, start, flow, f"{left}, {residual}"))


def settle_weights(body: Body, statements: tuple[Statement, ...]) -> None:
    """Compute the effective weights that a body reads, once, before it."""
    for statement in walked(statements):
        child = body.children[statement.child] if isinstance(statement, Call) else None
        if child is None or child.repeated or not isinstance(child.instances[0], Primitive):
            continue
        owner = body.form.owner(child.name)
        for weight in child.instances[0].weights:
            if body.product(weight) is None and (weight.maps or weight.tie):
                body.settle_weight(owner, weight)


def write_step(body: Body, loop: Loop) -> str:
    """Write the function of one step; return its name."""
    ports = tuple(Port(name=state.name, value=state.before) for state in loop.carried)
    outputs = tuple(Port(name=state.name, value=state.after) for state in loop.carried)
    return write_function(body, "rate" if loop.form == "flow" else "step", loop.body, ports, outputs)


def write_function(
    body: Body,
    wanted: str,
    statements: tuple[Statement, ...],
    ports: tuple[Port, ...],
    outputs: tuple[Port, ...],
) -> str:
    """Write some statements as an inner function of the values at `ports`; return its name."""
    name = body.names.claim(wanted)
    inner = body.inside(statements, ports, outputs)
    written = inner.returning()
    several = len(outputs) > 1
    if not several and wanted in ("step", "rate"):  # a step gives a tuple, whatever it holds
        written = [*written[:-1], *lines(f"return ({written[-1].code.removeprefix('return ')},)")]
        several = True
    kind = f"tuple[{', '.join(['Tensor'] * len(outputs))}]" if several else "Tensor"
    arguments = ", ".join(f"{given}: Tensor" for given in inner.inputs)
    gap = lines("") if body.lines else []
    body.lines += [*gap, *lines(f"def {name}({arguments}) -> {kind}:"), *indent(written), *lines("")]
    return name


def _balance(body: Body, rate: str) -> str:
    """Write the map whose fixed points are those of a flow."""
    name, states = body.names.claim("step"), body.names.claim("states")
    shifted = body.library(Code(file=FILE, name="shifted"))
    head = Line(code=f"def {name}(*{states}: Tensor) -> tuple[Tensor, ...]:")
    body.lines += [
        head,
        *indent(lines(f"return {shifted}({states}, {rate}(*{states}), 1.0)")),
        *lines(""),
    ]
    return name


def _solved(body: Body, loop: Loop, step: str, start: str, flow: bool, left: str) -> list[str]:
    """Return the lines that call the solver, as the kind of gradient asks."""
    solver, gradient = _word(body, loop.solver), loop.gradient
    clip = () if loop.clip is None else (f"clip={loop.clip!r}",)
    if gradient.name == "unrolled":
        call = ", ".join((step, start, *_options(body, loop.solver), *clip))
        return [f"{left} = {solver}({call})"]
    forward = _partial(body, solver, _options(body, loop.solver))
    steps = {key: value for key, value in gradient.arguments if key in ("steps", "tolerance")}
    implicit = gradient.name == "ift" and body.form.has_effects
    if implicit:
        backward = _partial(body, solver, _options(body, loop.solver, **steps))
        name = body.library(Code(file=FILE, name="implicit"))
        rest = ("flow=True",) if flow else ()
    else:
        word = loop.solver.name if flow else "fixed_point"
        kept = {k: v for k, v in loop.solver.arguments if k in ("damping", "dt")}
        given = Word(name=word, arguments=tuple({**kept, "steps": steps["steps"], "tolerance": 0.0}.items()))
        backward = _partial(body, _word(body, given), _options(body, given))
        name, rest = body.library(Code(file=FILE, name="phantom")), ()
    first = body.names.claim("solve")
    second = first if backward == forward else body.names.claim("solve_back" if implicit else "unroll")
    made = [f"{first} = {forward}", *([f"{second} = {backward}"] if second != first else [])]
    return [*made, f"{left} = {name}({', '.join((step, start, first, second, *rest, *clip))})"]


def _word(body: Body, word: Word) -> str:
    return body.library(Code(file=FILE, name=word.name))


def _partial(body: Body, name: str, options: tuple[str, ...]) -> str:
    return f"partial({', '.join((name, *options))})"


def _options(body: Body, word: Word, **other: Any) -> tuple[str, ...]:
    """Return the options of a solver as they are written, without those that say nothing."""
    given: dict[str, Any] = {**word.options, **other}
    if not body.form.has_effects:
        given["tolerance"] = 0.0
    order = sorted(given, key=lambda name: (name != "steps", name))
    return tuple(f"{name}={given[name]!r}" for name in order if given[name] != _DEFAULTS.get(name))


def _start(body: Body, loop: Loop) -> str:
    """Return the tuple of the states as they begin, in the batch of what the loop reads."""
    like, real = _like(body, loop)
    made: list[str] = []
    for state in loop.carried:
        sizes = ", ".join((f"{like}.shape[0]", *(str(size) for size in state.declared.shape)))
        kind = f"dtype={body.dtype()}, device={like}.device"
        zeros = f"{like}.new_zeros({sizes})" if real else f"torch.zeros({sizes}, {kind})"
        made.append(_begun(body, state, zeros))
    text = f"({', '.join(made)}{',' * (len(made) == 1)})"
    name = body.names.claim("start")
    body.lines += lines(f"{name} = {text}")
    return name


def _begun(body: Body, state: Carried, zeros: str) -> str:
    """Return a state as it begins; one that is drawn is drawn in every forward."""
    if state.start is None:
        return zeros
    if state.start.name == "constant":
        return started(state.start, zeros)
    name = body.names.claim(variable(f"{state.name}_start"))
    body.lines += lines(f"{name} = {zeros}", f"{name} = {started(state.start, name)}")
    return name


def started(word: Word, zeros: str) -> str:
    """Return the expression of a state that begins so, in the shape of some zeros."""
    if word.name == "constant":
        return f"{zeros} + {word.options['value']!r}" if word.options["value"] else zeros
    return distributions()[word.name].draw(word.options, zeros)


def _like(body: Body, loop: Loop) -> tuple[str, bool]:
    """Return a variable that has the batch axis, of real numbers if there is one, and whether it is."""
    values = (*loop.inputs, *(port.value for port in body.block.inputs))
    batched = [value for value in values if body.types[value].batched and value in body.variables]
    real = [value for value in batched if body.types[value].dtype == "real"]
    return body.variables[(real or batched)[0]], bool(real)
