"""The fields of an experiment: its own, and those of the experiments that it derives from.

In: a bound experiment. Out: its fields by name, each with the module it was written in, whose names its
value sees. A field of the experiment replaces that of its base; `epochs`, `steps`
and `stages` replace each other, and `train` blocks those of the base.
"""

from __future__ import annotations

from nnspec.compiler.experiment_fields import FIELDS, LATER_FIELDS
from nnspec.compiler.laid import Laid
from nnspec.dsl.definitions import Definition, Module, is_load
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.errors.experiments import DuplicateField, ExperimentCycle, NotAnExperiment, UnknownField
from nnspec.dsl.errors.later import NotBuiltYet
from nnspec.dsl.errors.names import UndefinedName
from nnspec.dsl.node import Node
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import (
    Constrain,
    Expect,
    ExperimentDefinition,
    Expression,
    Field,
    Initialize,
    Member,
    Name,
    TrainBlock,
)

_LENGTHS = ("epochs", "steps", "stages")


class Written(Node):
    """A field as written, and where."""

    field: Field
    module: Module


class WrittenBlock(Node):
    """A `train` block as written, and where."""

    block: TrainBlock
    module: Module


def blocks(definition: Definition) -> tuple[WrittenBlock, ...]:
    """Return the `train` blocks of an experiment whose fields are known: its own, else those of its base."""
    for link in _chain(definition, Bag()) or ():
        body = link.item.body if isinstance(link.item, ExperimentDefinition) else ()
        own = tuple(WrittenBlock(block=b, module=link.module) for b in body if isinstance(b, TrainBlock))
        if own:
            return own
    return ()


def lines(definition: Definition) -> tuple[Laid, ...]:
    """Return what an experiment whose fields are known says of weights; its bases come first."""
    return tuple(line for line in _lines(definition) if not is_load(line.statement))


def loads(definition: Definition) -> tuple[Laid, ...]:
    """Return the lines that begin weights from files, `initialize backbone.**: load("f.safetensors")`."""
    return tuple(line for line in _lines(definition) if is_load(line.statement))


def claims_in(definition: Definition) -> tuple[Expect, ...]:
    """Return the claims that stand in an experiment itself: those of its base are about that one."""
    body = definition.item.body if isinstance(definition.item, ExperimentDefinition) else ()
    return tuple(statement for statement in body if isinstance(statement, Expect))


def _lines(definition: Definition) -> tuple[Laid, ...]:
    return tuple(
        Laid(statement=statement, module=link.module)
        for link in reversed(_chain(definition, Bag()) or ())
        for statement in (link.item.body if isinstance(link.item, ExperimentDefinition) else ())
        if isinstance(statement, Constrain | Initialize)
    )


def fields(definition: Definition, bag: Bag) -> dict[str, Written] | None:
    """Return an experiment's fields by name; None after an error that leaves them unknown."""
    chain = _chain(definition, bag)
    if chain is None:
        return None
    found: dict[str, Written] = {}
    sound = True
    for link in reversed(chain):
        own, fine = _own(link, bag)
        sound = sound and fine
        for name in own:
            for other in _LENGTHS if name in _LENGTHS else ():
                found.pop(other, None)
        found.update(own)
    return found if sound else None


def _chain(definition: Definition, bag: Bag) -> list[Definition] | None:
    """Return the experiment, its base, the base of that, and so on."""
    chain = [definition]
    while True:
        item = chain[-1].item
        base = item.base if isinstance(item, ExperimentDefinition) else None
        if base is None:
            return chain
        found = _base(chain[-1].module, base, bag)
        if found is None or found.broken:
            return None
        if found in chain:
            _report_cycle(chain[chain.index(found) :], definition, bag)
            return None
        chain.append(found)


def _report_cycle(members: list[Definition], asked: Definition, bag: Bag) -> None:
    """Report a cycle once: for that of its members which stands first."""
    if asked is not min(members, key=lambda member: member.span.start):
        return
    last = members[-1].item
    span = last.base.span if isinstance(last, ExperimentDefinition) and last.base else last.span
    cycle = " -> ".join(member.name for member in [*members, members[0]])
    bag.add(ExperimentCycle(span, name=asked.name, cycle=cycle))


def _base(module: Module, base: Expression, bag: Bag) -> Definition | None:
    found = resolve(module, base)
    if isinstance(found, Definition) and found.kind == "experiment":
        return found
    if isinstance(found, Definition):
        error = NotAnExperiment(
            base.span, name=found.name, found=f"a {found.kind}", needed="an experiment", help=None
        )
        bag.add(error)
    elif isinstance(base, Name):
        known = [n for n, d in module.names.items() if isinstance(d, Definition) and d.kind == "experiment"]
        bag.add(UndefinedName(base.span, name=base.name, suggestion=nearest(base.name, known)))
    else:
        bag.add(NotBuiltYet(base.span, what="experiments with parameters"))
    return None


def resolve(module: Module, expression: Expression) -> object:
    """Return what `name` or `module.name` stands for; None if nothing."""
    if isinstance(expression, Name):
        return module.names.get(expression.name)
    if isinstance(expression, Member):
        outer = resolve(module, expression.of)
        return outer.names.get(expression.name) if isinstance(outer, Module) else None
    return None


def _own(definition: Definition, bag: Bag) -> tuple[dict[str, Written], bool]:
    """Return the fields written in one experiment, and whether all of its body was understood."""
    item = definition.item
    if not isinstance(item, ExperimentDefinition):
        return {}, False
    sound = True
    if item.parameters:
        bag.add(NotBuiltYet(item.parameters[0].span, what="experiments with parameters"))
        sound = False
    found: dict[str, Written] = {}
    for statement in item.body:
        if isinstance(statement, Field):
            sound = _add(statement, definition.module, found, bag) and sound
    return found, sound


def _add(field: Field, module: Module, found: dict[str, Written], bag: Bag) -> bool:
    span, name = field.name_span or field.span, field.name
    known = [argument.name for argument in FIELDS.arguments]
    if name in LATER_FIELDS:
        bag.add(NotBuiltYet(span, what=LATER_FIELDS[name]))
        return False
    if name not in known:
        near = nearest(name, [*known, *LATER_FIELDS])
        help_text = f"did you mean `{near}`?" if near else f"the fields are {', '.join(known)}"
        bag.add(UnknownField(span, name=name, help=help_text))
        return False
    if name in found:
        first = found[name].field
        related = (Related(span=first.name_span or first.span, label="first set here"),)
        bag.add(DuplicateField(span, related, name=name))
        return False
    found[name] = Written(field=field, module=module)
    return True
