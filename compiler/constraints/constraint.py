"""What a constraint is: one class that says everything about one word after `constrain`.

A subclass in a file of this folder states its signature, what it comes to for a weight of a known shape
(`part`), and what it can say of a weight that exists (`project`, `residual`, `free`). Its torch functions
stand in `compiler/constraints/code`, as text that emission writes out and as Python that runs. Nothing
here imports torch when it is loaded.

Kinds, in the one order in which they are applied:

    structure   how entries depend on fewer numbers: low_rank, symmetric, circulant, equivariant
    manifold    a smooth set: orthogonal, spectral, normalized
    values      which numbers an entry may be: binary, quantize
    topology    which entries there are: sparse, mask, kst
    projection  brings the stored weight back after each step: nonnegative, max_norm
    penalty     adds to the loss: l1, group_lasso
    frozen      not learned
    tie         another instance's weight
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any, ClassVar

from nnspec.compiler.ir import Part, Primitive
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.dimensions import Size
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span
from nnspec.dsl.syntax import Argument as WrittenArgument

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from nnspec.compiler.evaluate import Evaluator

KINDS = ("tie", "structure", "manifold", "values", "topology", "projection", "penalty", "frozen")


class Misfit(Exception):
    """Raised where a constraint cannot hold on a weight of this shape."""

    def __init__(self, why: str, help: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.help = help


class WeightSite(Node):
    """The weight that a constraint is laid on, with the arguments it was given (complete, validated)."""

    name: str  # "weight"
    shape: tuple[Size, ...]  # of the effective weight
    options: dict[str, Any]
    others: tuple[str, ...] = ()  # the other constraints laid on it
    product: bool = False  # the operation multiplies by it, as `F.linear` does, and does nothing else with it

    def __getitem__(self, name: str) -> Any:
        return self.options[name]

    def stored(self, what: str) -> str:
        """Return the name of a tensor that a constraint stores for this weight: `weight_mask`."""
        return f"{self.name}_{what}"

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape in numbers; Misfit where a size is only a symbol."""
        if not all(isinstance(size, int) for size in self.shape):
            raise Misfit("its sizes must be numbers", help="make the symbolic size a parameter")
        return tuple(size for size in self.shape if isinstance(size, int))

    @property
    def matrix(self) -> tuple[int, int]:
        """The weight as a matrix: outputs by everything else, as `weight.flatten(1)`."""
        if len(self.shape) < 2:
            raise Misfit("it is for matrices and kernels, and this weight has one axis")
        rows, *others = self.sizes
        return rows, prod(others)

    @property
    def flat(self) -> tuple[int, int]:
        """Rows and columns of a weight of two axes; Misfit for a kernel or a vector."""
        if len(self.shape) != 2:
            raise Misfit(f"it is for matrices, and this weight has {len(self.shape)} axes")
        return self.matrix

    @property
    def square(self) -> int:
        """The number of rows and of columns of a square matrix; Misfit for any other weight."""
        rows, columns = self.flat
        if rows != columns:
            help = "give the layer as many outputs as inputs"
            raise Misfit(f"it is for square matrices, and this one is {rows} x {columns}", help=help)
        return rows


class Constraint:
    """Base of every constraint."""

    name: str
    doc: ClassVar[str]
    kind: str  # one of KINDS
    arguments: ClassVar[tuple[Argument, ...]] = ()
    example: ClassVar[str] = ""
    # Other constraints or kinds that cannot stand on the same weight, each with the reason.
    refuses: ClassVar[Mapping[str, str]] = {}
    # What may act on rows and on columns, each side by itself, and lead from the set to itself:
    # "permutations", "signs" (one a row or column), "scales" (positive), "rotations" (orthogonal matrices),
    # "matrices" (invertible); "mirrored": if the same acts on both sides. "multiples": the whole times a number.
    keeps: ClassVar[tuple[str, ...]] = ()

    def entry(self) -> Entry:
        """Return the catalog entry."""
        return Entry(
            name=self.name, family="constraint", doc=self.doc, arguments=self.arguments, example=self.example
        )

    def use(
        self, evaluator: Evaluator, arguments: tuple[WrittenArgument, ...], span: Span | None
    ) -> dict[str, Any]:
        """Return the complete, validated arguments of a call; overridden where they are no plain values."""
        from nnspec.compiler.constraints.arguments import validated

        return validated(self.entry(), evaluator, arguments, span)

    def part(self, site: WeightSite, span: Span | None) -> Part:
        """Return what the constraint comes to for this weight, or raise Misfit."""
        raise TypeError(f"{self.name} has no part")

    def refusal(self, options: Mapping[str, Any], other: Constraint, theirs: Mapping[str, Any]) -> str | None:
        """Return why `other`, given `theirs`, cannot stand on the same weight as this one; None if it can."""
        return self.refuses.get(other.name) or self.refuses.get(other.kind)

    def doubts(self, site: WeightSite, primitive: Primitive, path: str) -> tuple[Error, ...]:
        """Return warnings about a constraint that holds on this weight of an instance, and is hardly meant."""
        return ()

    # ------------------------------------------------------------------- about a weight that exists (torch)

    def project(self, site: WeightSite, weight: Tensor, kept: Mapping[str, Tensor]) -> Tensor:
        """Return a member of the set near an effective weight; the nearest one where that is known.

        `kept` are the buffers that the constraint stores, by the end of their names ("mask").
        """
        raise TypeError(f"{self.name} has no projection")

    def residual(self, site: WeightSite, weight: Tensor, kept: Mapping[str, Tensor]) -> float:
        """Return how far a weight is from obeying: the distance to its projection over its own norm."""
        import torch

        norm = float(torch.linalg.vector_norm(weight))
        away = float(torch.linalg.vector_norm(weight - self.project(site, weight, kept)))
        return away / norm if norm else away

    def members(self, site: WeightSite) -> tuple[float, ...] | None:
        """Return the numbers, ascending, each of which an entry may be; None where they are no fixed finite set.

        A stored entry that is one of them is used as it is.
        """
        return None

    def free(self, site: WeightSite) -> int:
        """Return how many numbers say which member of the set it is: its dimension (0 if it is discrete)."""
        return prod(site.sizes)

    def alike(self, site: WeightSite) -> int:
        """Return how many entries each number that is free stands at; 1 where that differs from number to number."""
        return 1

    def sample(self, site: WeightSite, generator: Generator, kept: Mapping[str, Tensor]) -> Tensor:
        """Return a random member: the projection of a matrix of independent normal numbers."""
        import torch

        drawn = torch.randn(*site.sizes, generator=generator, dtype=torch.float64)
        return self.project(site, drawn, kept)
