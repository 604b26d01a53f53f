"""What a form of emission is: how it reaches tensors and calls blocks; and the sites of primitives.

`Body` writes a body once for every form: the module, the pure function, functions of weights.
"""

from __future__ import annotations

from nnspec.compiler.ir import Block, Code, Primitive
from nnspec.compiler.naming import Names
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation


class Form:
    """How a form of emission writes what a body needs; the module form and the functional form."""

    batched = True
    training = "self.training"
    has_effects = False  # writes what a body does in training beside giving outputs
    keeps_residual = False  # keeps how far from settled the states of a loop are

    def owner(self, child: str) -> str:
        """Return how to reach a child."""
        raise TypeError("this form has no children")

    def member(self, owner: str, index: str) -> str:
        """Return how to reach one instance of a repeated child."""
        raise TypeError("this form has no children")

    def loop(self, owner: str, count: int, names: Names) -> tuple[str, str]:
        """Return the head of a loop over the instances of a repeated child, and how to reach each."""
        raise TypeError("this form has no children")

    def tensor(self, owner: str, name: str, kind: str) -> str:
        """Return how to reach a stored tensor of an instance."""
        raise TypeError("this form has no children")

    def block_call(self, owner: str, block: Block, inputs: tuple[str, ...]) -> str:
        """Return the call of a child that is a block."""
        raise TypeError("this form has no children")

    def product(self, code: Code) -> str | None:
        """Return a function that multiplies by a weight as it is stored; None to make the weight first."""
        return None

    def plain_call(self, owner: str, inputs: tuple[str, ...]) -> str | None:
        """Return the call of a child whose weights are its own; None to write the operation out."""
        return None


def site_of(primitive: Primitive, batched: bool = True) -> Site:
    """Return the site of a typed primitive; its values have a batch axis if any of its inputs has one."""
    batched = batched and any(given.batched for given in primitive.inputs)
    site = Site(
        arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs, batched=batched
    )
    return site.replace(tensors=operation(primitive.operation).tensors(site))


def expanded(site: Site, inputs: tuple[str, ...]) -> tuple[str, ...]:
    """Return input expressions that all have a batch axis if one of them has."""
    pairs = list(zip(inputs, site.inputs, strict=True))
    count = next((f"{text}.shape[0]" for text, given in pairs if given.batched), None)
    if not site.batched or count is None:
        return inputs
    return tuple(
        text if given.batched else f"{text}.expand({', '.join((count, *['-1'] * len(given.axes)))})"
        for text, given in pairs
    )


def is_plain(primitive: Primitive) -> bool:
    """Return whether the weights of an instance are its own and used as they are stored."""
    return not any(weight.maps or weight.tie for weight in primitive.weights)
