"""What stands around a system of neuron states: the bias of a state, where states begin, what they settle to.

No word of the language: dynamics put `bias` and `full` into a body; `begin` and `settled` stand in flat graphs only,
before and after the body of a loop, whose statements are walked once.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Apply, Axis, Call, Init, Primitive, Pullback, Tensor, Type, walked
from nnspec.compiler.operations.axes import elements
from nnspec.compiler.operations.operation import Cost, Operation, Site
from nnspec.compiler.relations import Elementwise, Relation, Sum, Term, aligned_terms, axes_of
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size


class Bias(Operation):
    """One number a unit; of a state of channels one a channel, as a convolution's bias is."""

    name = "bias"
    doc = "The learned bias of a state, a value of its shape; of channels, one number for each."
    inputs = (0, 0)
    arguments = (Argument(name="shape", kind="size", doc="the shape of the value", listed="yes"),)
    owns = ("bias",)
    written = False

    def shape(self, site: Site) -> tuple[Type, ...]:
        return (Type(axes=tuple(Axis(size=size) for size in site["shape"])),)

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        return (Tensor(name="bias", shape=site["shape"], init=Init(name="zeros")),)

    def module(self, site: Site) -> str:
        sizes = ", ".join(str(size) for size in site["shape"])
        return f'nn.ParameterDict({{"bias": nn.Parameter(torch.empty({sizes}))}})'

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return weights["bias"]

    def relate(self, site: Site) -> tuple[Relation, ...]:
        shape = site["shape"]
        bias, out = aligned_terms(("bias", "out0"), (shape, shape))
        return (Sum(terms=(bias,), output=out, coefficients=(1.0,)),)


class Full(Operation):
    name = "full"
    doc = "One number at every entry, in the shape of the input, or once for each sample of it."
    arguments = (
        Argument(name="single", kind="bool", doc="once for each sample", default=False),
        Argument(name="value", kind="real", doc="the number"),
    )
    written = False
    is_holomorphic = True  # a constant

    def shape(self, site: Site) -> tuple[Type, ...]:
        given = site.inputs[0]
        return (given.replace(axes=()) if site["single"] else given,)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]) * 0)

    def constant(self, arguments: dict[str, Any]) -> float:
        return float(arguments["value"])

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        value = float(site["value"])
        if site["single"]:
            return f"{inputs[0]}.new_full(({inputs[0]}.shape[0],), {value!r})"
        plain = {0.0: "zeros_like", 1.0: "ones_like"}.get(value)
        return f"torch.{plain}({inputs[0]})" if plain else f"torch.full_like({inputs[0]}, {value!r})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        shape = site.inputs[0].shape
        given, out = aligned_terms(("in0", "out0"), (shape, shape))
        if site["single"]:  # it is what it is, whatever acts on the input
            given = out = Term(tensor="out0", labels=())
        return (Elementwise(terms=(given,), output=out, parity="even", degree=0.0),)


class Begin(Operation):
    name = "begin"
    doc = "The states as they begin."
    inputs = (0, 0)
    arguments = (
        Argument(name="loop", kind="text", doc="its path, which tells systems apart"),
        Argument(name="types", kind="value", doc="their types"),
    )
    written = False

    def outputs(self, arguments: dict[str, tuple[Type, ...]]) -> int:
        return len(arguments["types"])

    def shape(self, site: Site) -> tuple[Type, ...]:
        return site["types"]

    def relate(self, site: Site) -> tuple[Relation, ...]:
        return ()  # where a system settles it has forgotten where it began


class Settled(Operation):
    name = "settled"
    arguments = (Argument(name="form", kind="text", doc="`map` or `flow`"),)
    doc = "The settled states, of the states before a step and, in the same order, their changes or next values."
    inputs = (2, None)
    written = False

    def outputs(self, arguments: dict[str, tuple[Type, ...]]) -> int:
        raise TypeError("it is made with its types")

    def shape(self, site: Site) -> tuple[Type, ...]:
        return site.inputs[: len(site.inputs) // 2]

    def relate(self, site: Site) -> tuple[Relation, ...]:
        """One wire: what acts on a state acts on its next value, or on its rate of change, alike."""
        half = len(site.inputs) // 2
        made: list[Relation] = []
        for place in range(half):
            labels = axes_of(len(site.inputs[place].axes))
            before, after, out = (
                Term(tensor=name, labels=labels)
                for name in (f"in{place}", f"in{half + place}", f"out{place}")
            )
            made.append(Sum(terms=(before,), output=out, coefficients=(1.0,)))
            if site["form"] == "map":
                made.append(Sum(terms=(after,), output=out, coefficients=(1.0,)))
            else:  # what is added to a state is not added to its rate
                made.append(Elementwise(terms=(after,), output=out, parity="odd", degree=1.0))
        return tuple(made)


class Pulled(Operation):
    name = "pullback"
    doc = "What a cotangent becomes on its way back through some statements."
    inputs = (2, None)
    arguments = (
        Argument(name="block", kind="value", doc="the block that the statement stands in"),
        Argument(name="statement", kind="value", doc="the pullback"),
    )
    written = False

    def outputs(self, arguments: dict[str, Pullback]) -> int:
        return len(arguments["statement"].outputs)

    def shape(self, site: Site) -> tuple[Type, ...]:
        return site.inputs[: len(site["statement"].at)]

    def relate(self, site: Site) -> tuple[Relation, ...] | None:
        from nnspec.compiler.operations.backward import pullback_relations

        return pullback_relations(site["statement"], site["block"])

    def cost(self, site: Site) -> Cost:
        """Return the work of the way there: the way back of a linear map does as much."""
        children = {child.name: child.instances[0] for child in site["block"].children}
        total: Size = 0
        for own in walked(site["statement"].through):
            done = own.operation if isinstance(own, Apply) else None
            if isinstance(own, Call):
                done = children[own.child]
            if isinstance(done, Primitive):
                total = total + _work(done)
        return Cost(flops=total)


def _work(primitive: Primitive) -> Size:
    from nnspec.compiler.operations.registry import operation

    site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
    return operation(primitive.operation).cost(site).flops


OPERATIONS = (Bias(), Full(), Begin(), Settled(), Pulled())
