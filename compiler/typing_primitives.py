"""Types one use of an operation: outputs, tensors, and the maps of constraints on its weights.

In: a primitive, its input types and the sizes that symbols are bound to. Out: the typed primitive, or None
after a diagnostic. New axes are given their reason here.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING

from nnspec.compiler.arithmetic import LARGEST
from nnspec.compiler.declared import shape_text
from nnspec.compiler.initializers.registry import problem_of
from nnspec.compiler.ir import Primitive, Reason, Type, Weight
from nnspec.compiler.operations.operation import Operation, ShapeProblem, Site
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.typing_weights import constrained_weight
from nnspec.compiler.values import resolve
from nnspec.dsl.dimensions import Size
from nnspec.dsl.errors.limits import TensorTooLarge
from nnspec.dsl.errors.owned import NeedsBatch, WrongInit
from nnspec.dsl.errors.shapes import EmptySize
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.typing import Typer


def entry_count(shape: tuple[Size, ...]) -> int:
    """Return how many entries a tensor has; symbolic sizes count as one."""
    return prod(size for size in shape if isinstance(size, int))


class PrimitiveTyper:
    """Types the primitives of one block."""

    def __init__(self, typer: Typer, sizes: Mapping[str, Size]) -> None:
        self.typer = typer
        self.sizes = sizes

    def primitive(
        self, primitive: Primitive, inputs: tuple[Type, ...], span: Span | None
    ) -> Primitive | None:
        rule = operation(primitive.operation)
        span = primitive.span or span
        arguments = {name: resolve(value, self.sizes) for name, value in primitive.arguments}
        site = Site(arguments=arguments, inputs=inputs)
        try:
            outputs = self.reasoned(rule, in_batch(rule.shape(site), inputs), span)
            site = site.replace(outputs=outputs)
            inits = dict(primitive.inits)
            tensors = tuple(t.replace(init=inits.get(t.name, t.init)) for t in rule.tensors(site))
            site = site.replace(tensors=tensors)
        except ShapeProblem as problem:
            self.shape_problem(primitive.word or rule.name, problem, inputs, span)
            return None
        if any(isinstance(size, int) and size < 1 for t in outputs for size in t.shape):
            self.empty(rule, outputs, span, inputs)
            return None
        large = next((t for t in (*outputs, *site.tensors) if entry_count(t.shape) > LARGEST), None)
        if large is not None:
            what = f"a tensor of {' x '.join(map(str, large.shape))} entries"
            self.typer.bag.add(TensorTooLarge(span, operation=rule.name, what=what))
            return None
        if rule.batch_coupled and not any(given.batched for given in inputs):
            self.typer.bag.add(NeedsBatch(span, self.typer.related(*inputs), operation=rule.name))
            return None
        if not self.inits_fit(primitive, site, span):
            return None
        weights = self.weights(primitive, site, span)
        return (
            None
            if weights is None
            else primitive.replace(
                arguments=tuple(sorted(arguments.items())), inputs=inputs, outputs=outputs, weights=weights
            )
        )

    def reasoned(self, rule: Operation, types: tuple[Type, ...], span: Span | None) -> tuple[Type, ...]:
        """Give the axes that an operation made new their reason."""
        return tuple(
            t.replace(
                axes=tuple(
                    axis
                    if axis.reason
                    else axis.replace(reason=Reason(span=span, text=f"`{rule.name}` makes {axis.size} here"))
                    for axis in t.axes
                )
            )
            if any(axis.reason is None for axis in t.axes)
            else t
            for t in types
        )

    def shape_problem(
        self, word: str, problem: ShapeProblem, inputs: tuple[Type, ...], span: Span | None
    ) -> None:
        blamed = tuple(
            Type(axes=(inputs[i].axes[a],))
            for i, a in problem.axes
            if i < len(inputs) and -len(inputs[i].axes) <= a < len(inputs[i].axes)
        )
        related = tuple(r for r in self.typer.related(*(blamed or inputs)) if r.span is not span)
        self.typer.bag.add(
            problem.error(
                span,
                related,
                operation=word,
                problem=problem.message,
                expected=problem.expected,
                found=problem.found,
                help=problem.help,
            )
        )

    def empty(
        self, rule: Operation, outputs: tuple[Type, ...], span: Span | None, inputs: tuple[Type, ...]
    ) -> None:
        size = next(s for t in outputs for s in t.shape if isinstance(s, int) and s < 1)
        related = self.typer.related(*inputs)
        self.typer.bag.add(EmptySize(span, related, what=f"an axis after `{rule.name}`", size=size))

    def inits_fit(self, primitive: Primitive, site: Site, span: Span | None) -> bool:
        """Report tensors that cannot begin as they are said to."""
        fits = True
        for tensor in site.tensors:
            why = problem_of(tensor)
            if why is None or tensor.init is None:
                continue
            fits = False
            related = self.typer.related()
            help_text = "choose another, such as `normal(std = 0.02)` or `zeros`"
            if tensor.name:
                help_text = f"leave it out of the selector: `except **.{tensor.name}`"
            error = WrongInit(
                tensor.init.span or span,
                related,
                name=f"`{tensor.name}`" if tensor.name else f"this {primitive.operation}",
                init=tensor.init.name,
                why=why,
                found=f"a tensor {tensor.dtype}{shape_text(tensor.shape)}",
                help=help_text,
            )
            self.typer.bag.add(error)
        return fits

    def weights(self, primitive: Primitive, site: Site, span: Span | None) -> tuple[Weight, ...] | None:
        made = [
            constrained_weight(self.typer, tensor, primitive, self.sizes, span) for tensor in site.tensors
        ]
        return None if None in made else tuple(weight for weight in made if weight is not None)


def in_batch(outputs: tuple[Type, ...], inputs: tuple[Type, ...]) -> tuple[Type, ...]:
    """What is made of values that are the same for every sample is the same for every sample too."""
    batched = any(given.batched for given in inputs)
    return tuple(t if t.batched == batched else t.replace(batched=batched) for t in outputs)
