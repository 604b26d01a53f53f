"""`progress`: how far training has come, as a value.

A number from 0 to 1 that each body reading it keeps as a buffer: the share of the steps of the run that are done.
Training sets it before each step and leaves it at 1, so that evaluation, a new module and an exported program
are the network as it is in the end.
"""

from __future__ import annotations

from nnspec.compiler.ir import Init, Tensor, Type
from nnspec.compiler.operations.operation import Operation, Site
from nnspec.compiler.relations import Elementwise, Relation, Term


class Progress(Operation):
    name = "progress"
    doc = """How far training has come, a number: the share of the steps of the run, of all its stages together, that
    are done; 0 in the first step. Where nothing is trained, in evaluation too, it is 1."""
    inputs = (0, 0)
    tracks = True
    example = "temperature = 1 + 9 * (1 - progress)"

    def shape(self, site: Site) -> tuple[Type, ...]:
        return (Type(axes=()),)

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        return (Tensor(name="", shape=(), kind="buffer", init=Init(name="ones")),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        return weights[""]

    def relate(self, site: Site) -> tuple[Relation, ...]:
        # No function of it is known, so that nothing acts on it: it is what training says.
        return (Elementwise(terms=(Term(tensor="", labels=()),), output=Term(tensor="out0", labels=())),)


OPERATIONS = (Progress(),)
