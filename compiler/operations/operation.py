"""What an operation is: one class that says everything about one word of the language.

A subclass in a file of this folder states its signature and its rules. Transfer rules: `shape`,
`weights`, `cost`, and the emission rules `module`, `call`. Relate rule: `relate`. All of them see
`Site`: the arguments (complete, validated), the input types and, after shape, the outputs and weights.
Nothing here imports torch; emission is text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from nnspec.compiler.ir import Code, Tensor, Type
from nnspec.compiler.relations import Relation
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.dimensions import Size
from nnspec.dsl.errors.shapes import ShapeMismatch
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from nnspec.compiler.expansion import Expansion


class ShapeProblem(Exception):
    """Raised by a shape rule. `expected` and `found` are short; `axes` point at axes whose reasons matter.

    `axes` are (input index, axis index); the typing stage adds where those sizes came from. `error` is the
    diagnostic that it becomes.
    """

    error: ClassVar[type[Error]] = ShapeMismatch

    def __init__(
        self,
        message: str,
        *,
        expected: str | None = None,
        found: str | None = None,
        axes: tuple[tuple[int, int], ...] = (),
        help: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.expected = expected
        self.found = found
        self.axes = axes
        self.help = help


class Cost(Node):
    """For one sample: floating-point operations forward, counting a multiply-add as two."""

    flops: Size = 0


class Site(Node):
    """One use of an operation: its arguments and the types around it."""

    arguments: dict[str, Any]
    inputs: tuple[Type, ...]
    outputs: tuple[Type, ...] = ()
    tensors: tuple[Tensor, ...] = ()
    batched: bool = (
        True  # in emitted code a batch axis comes first; not so in a constraint or on parameters alone
    )

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]


class Around(Node):
    """The names around a way back: of the cotangent, and of input and output where they are at hand."""

    cotangent: str  # "1.0": ones
    given: str | None = None
    result: str | None = None


class Operation:
    """Base of every operation; final methods below, rules to override above them."""

    name: str
    doc: str  # first sentence is the summary; gives the formula
    arguments: tuple[Argument, ...] = ()
    others: ClassVar[str] = ""  # the argument that collects named values beside those listed: sizes, as pairs
    inputs: tuple[int, int | None] = (1, 1)  # least, most tensors taken
    tensor_names: ClassVar[tuple[str, ...]] = ()  # names under which inputs may be given: `like = x`
    owns: ClassVar[tuple[str, ...]] = ()  # names of its tensors, for selectors; () if stateless
    products: ClassVar[tuple[str, ...]] = ()  # those that `call` only multiplies its input by, as F.linear
    linear: ClassVar[bool] = False  # in its one input, its bias apart: what may connect states of neurons
    keeps: ClassVar[bool] = False  # is an nn.Module although it owns nothing (dropout)
    draws: ClassVar[bool] = False  # takes random numbers in training
    is_holomorphic: bool = False  # torch computes it for complex numbers, and it has a derivative there
    batch_coupled: ClassVar[bool] = False  # samples of a batch see each other in training (batchnorm)
    written: ClassVar[bool] = True  # a word that a spec may use; others stand in graphs only
    borrows: ClassVar[bool] = False  # its tensor is another instance's, and has that one's shape
    tracks: ClassVar[bool] = (
        False  # its one tensor, a number, is how far training has come; a bare word is its value
    )
    aligns: ClassVar[bool] = False  # its call rule takes inputs with and without a batch axis together
    takes: ClassVar[int] = (
        0  # how many entries of the last axis one unit of it takes; 0: no function of entries
    )
    expands: ClassVar[bool] = False  # stands for uses of other operations, by `expand`, and is in no graph
    example: str = ""

    def outputs(self, arguments: dict[str, Any]) -> int:
        """Return how many tensors come out, from the arguments alone (`split` gives several)."""
        return 1

    def expand(
        self, expansion: Expansion, inputs: tuple[Any, ...], arguments: dict[str, Any]
    ) -> tuple[Any, ...]:
        """Return the values that come out, after other operations were put in its place."""
        raise TypeError(f"{self.name} stands for itself")

    def shape(self, site: Site) -> tuple[Type, ...]:
        """Return the output types, or raise ShapeProblem. Pass input axes on where they are kept:
        their names, factors and reasons travel with them. New axes need no reason; typing gives one."""
        raise TypeError(f"{self.name} has no shape rule")

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        """Return the stored tensors, in state-dict order, as torch's own module would have them."""
        return ()

    def cost(self, site: Site) -> Cost:
        """Return the cost of one sample; `site.outputs` is known."""
        return Cost()

    def module(self, site: Site) -> str | None:
        """Return the constructor text, such as `nn.Linear(64, 128)`; None for a stateless operation."""
        return None

    def arranged(self, site: Site, text: str) -> str:
        """Return the input as torch's own module takes it, its axes in another order perhaps."""
        return text

    def restored(self, site: Site, text: str) -> str:
        """Return what torch's own module gives with its axes in the order of the output."""
        return text

    def code(self, site: Site) -> Code | None:
        """Return the function of `operations/code` that `call` calls, by the name `weights["function"]`."""
        return None

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        """Return the Python expression of the forward from input names and weight expressions.

        The functional form: `F.linear(x, weight, bias)`. For a module with plain weights emission
        writes `self.name(x)` instead. May use `torch`, `F`, `nn`, `math`.
        A weight of `products` may be given as what is stored of it, for the function under `product` that
        then stands in the place of `F.linear`.
        `weights` also holds `training`, an expression that is true in training, and `dtype`, the number
        type of the real values around.
        """
        raise TypeError(f"{self.name} has no call rule")

    def pullback(self, site: Site, around: Around, weights: dict[str, str]) -> str | None:
        """Return the expression of a cotangent times the Jacobian at the one input.

        None: there is no simple one, and autograd finds it."""
        return None

    def identity_on(self, arguments: dict[str, Any]) -> tuple[float, float] | None:
        """Return an interval on which a function of entries gives what it takes, and has slope 1; None: there is none."""
        return None

    def kinks(self, arguments: dict[str, Any]) -> tuple[float, ...]:
        """Return where the slope of a function of entries jumps."""
        return ()

    def constant(self, arguments: dict[str, Any]) -> float | None:
        """Return the number that every entry of the output is, whatever comes in; None where it depends on that."""
        return None

    def number(self, arguments: dict[str, Any], values: tuple[Any, ...]) -> Any:
        """Return what a function of entries gives for single numbers (floats, or exact fractions).

        None: there is no such rule. May raise ArithmeticError or ValueError where there is no value.
        """
        return None

    def relate(self, site: Site) -> tuple[Relation, ...] | None:
        """Return the relations between axes; None means no rule: passes say so and stop."""
        return None

    def entry(self) -> Entry:
        """Return the catalog entry."""
        return Entry(
            name=self.name,
            family="operation",
            doc=self.doc,
            arguments=self.arguments,
            others=self.others,
            inputs=self.inputs,
            tensor_names=self.tensor_names,
            weights=self.owns,
            example=self.example,
        )


def last_axis(site: Site, index: int = 0) -> Any:
    """Return the last axis of an input, or raise ShapeProblem if it is a single number."""
    axes = site.inputs[index].axes
    if not axes:
        raise ShapeProblem("needs at least one axis", expected="at least one axis", found="a single number")
    return axes[-1]
