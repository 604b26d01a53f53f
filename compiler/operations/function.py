"""An activation written in the language, as one operation of a network.

It stands in flat graphs only: `flatten` makes one use of each call of a block that is a function. Its
relations come from its expression; where that decides nothing, from the steps it consists of.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Apply, Block, Call, Instance, Primitive, Tensor, Type, instances
from nnspec.compiler.operations.operation import Cost, Operation, Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import (
    Elementwise,
    Fixed,
    Middle,
    Relation,
    Sum,
    Term,
    aligned_terms,
    renamed,
)
from nnspec.dsl.catalog import Argument


class Function(Operation):
    name = "function"
    doc = "An activation written in the language."
    arguments = (Argument(name="body", kind="value", doc="its block"),)
    written = False

    def shape(self, site: Site) -> tuple[Type, ...]:
        return site.inputs

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        found = instances(site["body"])
        return tuple(tensor for located in found for w in located.primitive.weights for tensor in w.stored)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=_flops(site["body"]))

    def relate(self, site: Site) -> tuple[Relation, ...] | None:
        from nnspec.compiler.traits.decide import traits

        block: Block = site["body"]
        found = traits(block)
        if not found.entrywise or (not block.is_pure and found.parity == "none" and found.degree is None):
            return _steps(block)
        shape = site.inputs[0].shape
        given, out = aligned_terms(("in0", "out0"), (shape, shape))
        if found.linear is not None:
            return (Sum(terms=(given,), output=out, coefficients=(found.linear,)),)
        function = Elementwise(
            terms=(given,),
            output=out,
            parity=found.parity,
            degree=found.degree,
            shifts=found.shifts,
            complete=found.complete,
        )
        return (function, *_held(block, given))


def _flops(block: Block) -> Any:
    total: Any = 0
    for statement in block.plain:
        if isinstance(statement, Apply):
            primitive = statement.operation
            site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
            total = total + operation(primitive.operation).cost(site).flops
        else:
            child = block.child(statement.child)
            for instance in child.instances:
                total = total + (_flops(instance) if isinstance(instance, Block) else 0)
    return total


def _held(block: Block, given: Term) -> tuple[Relation, ...]:
    """Say that parameters follow the permutations of the input, and that nothing else acts on them."""
    types = dict(block.types)
    shape = types[block.inputs[0].value].shape
    found: list[Relation] = []
    for located in instances(block):
        own = located.primitive.outputs[0].shape
        shared: int = located.primitive.options["follows"]
        labels = (*given.labels[len(given.labels) - shared :], *(f"#{i}" for i in range(len(own) - shared)))
        still, beside = f"{located.path}.still", f"{located.path}.beside"
        whole = (*given.labels, *labels[shared:])
        found += [
            # `still` has the axes of the input, and neither scales nor signs reach it.
            Middle(tensor=still, shape=shape),
            Elementwise(
                terms=(given,), output=Term(tensor=still, labels=given.labels), parity="even", degree=0
            ),
            Middle(tensor=beside, shape=(*shape, *own[shared:])),
            Elementwise(
                terms=(Term(tensor=still, labels=given.labels), Term(tensor=located.path, labels=labels)),
                output=Term(tensor=beside, labels=whole),
            ),
        ]
    return tuple(found)


def _steps(
    block: Block, inputs: tuple[str, ...] = ("in0",), output: str = "out0", path: str = ""
) -> tuple[Relation, ...] | None:
    """Return the relations of the steps, inner values as middles; None if one of them states none."""
    types = dict(block.types)
    names = dict(zip((port.value for port in block.inputs), inputs, strict=True))
    result = block.outputs[0].value
    found: list[Relation] = []
    if result in names:  # the identity
        shape = types[result].shape
        given, out = aligned_terms((names[result], output), (shape, shape))
        return (Sum(terms=(given,), output=out, coefficients=(1.0,)),)
    for statement in block.plain:
        if isinstance(statement, Call) and not statement.inputs:  # a parameter is its weight
            own = names[statement.outputs[0]] = f"{path}{statement.child}"
            found.extend(_parameter(own, block.child(statement.child).instances[0]))
            continue
        for value in statement.outputs:
            names[value] = output if value == result else f"{path}{value}"
            if value != result:
                found.append(Middle(tensor=names[value], shape=types[value].shape))
        stated = _statement(block, statement, names, path)
        if stated is None:
            return None
        found.extend(stated)
    return tuple(found)


def _parameter(name: str, instance: Instance) -> tuple[Relation, ...]:
    """The axes of a parameter that are not the input's: what reads it may tell their entries apart.

    Nothing acts on what is no parameter, and says how far training has come.
    """
    if not isinstance(instance, Primitive):
        return ()
    rule = operation(instance.operation)
    if rule.tracks:
        value = f"{name}.value"
        site = Site(arguments=instance.options, inputs=(), outputs=instance.outputs)
        stated = rule.relate(site) or ()
        return (Middle(tensor=value, shape=()), *(renamed(r, {"": name, "out0": value}) for r in stated))
    rank = len(instance.outputs[0].axes)
    axes = tuple(range(instance.options["follows"], rank))
    return (Fixed(tensor=name, axes=axes, why="entries of a row that are told apart"),) if axes else ()


def _statement(
    block: Block, statement: Apply | Call, names: dict[str, str], path: str
) -> tuple[Relation, ...] | None:
    given = tuple(names[value] for value in statement.inputs)
    made = tuple(names[value] for value in statement.outputs)
    own = {f"in{i}": name for i, name in enumerate(given)} | {f"out{i}": name for i, name in enumerate(made)}
    if isinstance(statement, Call):
        instance = block.child(statement.child).instances[0]
        inside = f"{path}{statement.child}."
        if isinstance(instance, Block):
            return _steps(instance, given, made[0], inside)
        return None
    primitive, inside = statement.operation, f"{path}{statement.name}."
    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    relations = operation(primitive.operation).relate(site)
    if relations is None:
        return None
    own |= {r.tensor: f"{inside}{r.tensor}" for r in relations if isinstance(r, Middle)}
    return tuple(renamed(relation, own) for relation in relations)


OPERATIONS = (Function(),)
