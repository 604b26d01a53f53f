"""Copies whose results are all kept, as code: a comprehension for a fork, a loop that appends for a repeat.

The results are entries of a list, `levels[1]`; where they bear names of their own they are taken apart. Copies
that are not called alike are written one after another.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nnspec.compiler.emit.text import Line, indent, lines
from nnspec.compiler.ir import Call, Child
from nnspec.compiler.naming import variable

if TYPE_CHECKING:
    from nnspec.compiler.emit.body import Body


def write_copies(body: Body, index: int, statement: Call, child: Child) -> None:
    """Write a call of a child whose instances' results all flow on."""
    inputs = body.read(statement.inputs)
    owner, count = body.form.owner(child.name), len(child.instances)
    ports = [statement.outputs[start : start + count] for start in range(0, len(statement.outputs), count)]
    head, each = body.form.loop(owner, count, body.names)
    alike = {body.instance_call(each, instance, inputs, inline=True) for instance in child.instances}
    if len(alike) > 1:
        _one_by_one(body, index, statement, child, ports)
    elif child.flow == "fork":
        results = f"{alike.pop()} {head.removesuffix(':')}"
        body.drop_dead(index)
        _take_apart(body, child, ports, f"[{results}]" if len(ports) == 1 else f"zip(*({results}))")
    else:
        _loop(body, index, statement, child, ports, head, each)


def _one_by_one(body: Body, index: int, statement: Call, child: Child, ports: list[tuple[str, ...]]) -> None:
    inputs = body.read(statement.inputs)
    owner = body.form.owner(child.name)
    body.drop_dead(index)
    kept = set(inputs)  # later copies of a fork read them still
    for place, instance in enumerate(child.instances):
        member = body.form.member(owner, str(place))
        text = body.instance_call(member, instance, inputs, inline=True)
        made = tuple(body.new_variable(port[place], kept) for port in ports)
        body.lines += lines(f"{', '.join(made)} = {text}")
        inputs = inputs if child.flow == "fork" else made


def _loop(
    body: Body,
    index: int,
    statement: Call,
    child: Child,
    ports: list[tuple[str, ...]],
    head: str,
    each: str,
) -> None:
    """Write `for layer in self.levels:` with what flows from one copy to the next, and append it."""
    inputs = body.read(statement.inputs)
    body.drop_dead(index)
    live = set(body.variables.values())
    carried = tuple(
        name if name.isidentifier() and name not in live else body.short_name(set(inputs)) for name in inputs
    )
    if carried != inputs:
        body.lines += lines(f"{', '.join(carried)} = {', '.join(inputs)}")
    results = body.names.claim(variable(child.name))
    left = ", ".join(carried)
    added = left if len(carried) == 1 else f"({left})"
    inside = lines(
        f"{left} = {body.instance_call(each, child.instances[0], carried, inline=True)}",
        f"{results}.append({added})",
    )
    body.lines += [*lines(f"{results} = []"), Line(code=head), *indent(inside)]
    if len(ports) == 1:
        _named(body, ports[0], results)
    else:
        _take_apart(body, child, ports, f"zip(*{results})")


def _take_apart(body: Body, child: Child, ports: list[tuple[str, ...]], text: str) -> None:
    """Assign the lists of results."""
    if len(ports) == 1 and all(value in body.own_names for value in ports[0]) and len(ports[0]) > 1:
        made = ", ".join(body.new_variable(value, set()) for value in ports[0])
        body.lines += lines(f"{made} = {text}")
        return
    names = [body.names.claim(variable(child.name)) for _ in ports]
    body.lines += lines(f"{', '.join(names)} = {text}")
    for port, name in zip(ports, names, strict=True):
        _named(body, port, name)


def _named(body: Body, port: tuple[str, ...], name: str) -> None:
    """Let the values of a list be its entries."""
    if len(port) > 1 and all(value in body.own_names for value in port):
        made = ", ".join(body.new_variable(value, set()) for value in port)
        body.lines += lines(f"{made} = {name}")
        return
    body.variables.update({value: f"{name}[{place}]" for place, value in enumerate(port)})
    entries = ", ".join(f"{name}[{place}]" for place in range(len(port)))
    body.lists[f"({entries})"] = name
