"""`rearrange` and `reduce`: axes split, reordered, merged, and made to disappear, by a pattern of names."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Type
from nnspec.compiler.operations import patterns
from nnspec.compiler.operations.axes import elements
from nnspec.compiler.operations.operation import Cost, Operation, Site
from nnspec.compiler.operations.patterns import Axes, Side
from nnspec.compiler.operations.reduction import OPERATIONS as REDUCTIONS
from nnspec.compiler.relations import Middle, Move, Relation, renamed
from nnspec.dsl.catalog import Argument

_PATTERN = Argument(name="pattern", kind="text", doc="the axes before and after")
_SIZES = Argument(name="sizes", kind="value", doc="sizes of names in the pattern, `h = 4`", default=())


class Rearrange(Operation):
    name = "rearrange"
    doc = """Splits, reorders and merges axes by name: `"T (h d) -> h T d", h = 4` makes an axis of h * d two.

    `(h d)` is one axis, h times d in row-major order; `1` is an axis of size 1 and `..` any number of axes. The
    pattern never names the batch. Of the sizes in a group all but one must be given."""
    arguments = (_PATTERN, _SIZES)
    others = "sizes"
    example = 'heads = x -> rearrange("T (h d) -> h T d", h = 4)'

    def laid(self, site: Site) -> tuple[Axes, Side]:
        """Return the input's axes by name, and the groups of the output."""
        pattern: str = site["pattern"]
        (left,), right = patterns.read(pattern)
        axes = patterns.lay(left, site.inputs[0], patterns.sizes_of(site["sizes"], pattern))
        return axes, patterns.agree(axes, right, pattern, all_kept=self.keeps_all)

    keeps_all = True

    def shape(self, site: Site) -> tuple[Type, ...]:
        axes, groups = self.laid(site)
        patterns.split_text("", axes, site.batched)  # sizes that no code can tell are refused here
        return (site.inputs[0].replace(axes=patterns.grouped(groups, axes.named)),)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        axes, groups = self.laid(site)
        text = patterns.split_text(inputs[0], axes, site.batched)
        text = patterns.order_text(text, axes.names, _names(groups), site.batched)
        return patterns.merge_text(text, groups, site.batched)

    def relate(self, site: Site) -> tuple[Relation, ...]:
        axes, groups = self.laid(site)
        return (
            Middle(tensor="split", shape=patterns.shape_of(axes.names, axes.named)),
            *_split(axes),
            _merged("split", axes.names, groups),
        )


class Reduce(Rearrange):
    name = "reduce"
    doc = """Axes that the pattern does not name after the arrow disappear: `"h w c -> c", mean` is the mean over h and w.

    Else as `rearrange`; `"(h 2) .."` patterns with sizes given pool over blocks: `"(h p) (w q) c -> h w c", max,
    p = 2, q = 2`."""
    arguments = (
        _PATTERN,
        Argument(
            name="by",
            kind="choice",
            doc="how they disappear",
            choices=tuple(rule.name for rule in REDUCTIONS),
        ),
        _SIZES,
    )
    example = 'y = image -> reduce("h w c -> c", mean)'
    keeps_all = False

    def reduction(self, site: Site, axes: Axes, groups: Side) -> tuple[Any, Site]:
        """Return the reduction and its use on the split axes."""
        kept = _names(groups)
        gone = tuple(place for place, name in enumerate(axes.names) if name not in kept)
        rule = next(rule for rule in REDUCTIONS if rule.name == site["by"])
        given = site.inputs[0].replace(axes=tuple(axes.named[name] for name in axes.names))
        inner = site.replace(arguments={"axis": gone}, inputs=(given,))
        return rule, inner.replace(outputs=rule.shape(inner))

    def shape(self, site: Site) -> tuple[Type, ...]:
        axes, groups = self.laid(site)
        patterns.split_text("", axes, site.batched)
        _, inner = self.reduction(site, axes, groups)
        return (inner.outputs[0].replace(axes=patterns.grouped(groups, axes.named)),)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=elements(site.inputs[0]))

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        axes, groups = self.laid(site)
        rule, inner = self.reduction(site, axes, groups)
        text = rule.call(inner, (patterns.split_text(inputs[0], axes, site.batched),), weights)
        left = tuple(name for name in axes.names if name in _names(groups))
        return patterns.merge_text(
            patterns.order_text(text, left, _names(groups), site.batched), groups, site.batched
        )

    def relate(self, site: Site) -> tuple[Relation, ...]:
        axes, groups = self.laid(site)
        rule, inner = self.reduction(site, axes, groups)
        left = tuple(name for name in axes.names if name in _names(groups))
        inside: tuple[Relation, ...] = rule.relate(inner)
        middles = {m.tensor: f"inner {m.tensor}" for m in inside if isinstance(m, Middle)}
        return (
            Middle(tensor="split", shape=inner.inputs[0].shape),
            Middle(tensor="reduced", shape=inner.outputs[0].shape),
            *_split(axes),
            *(renamed(relation, {"in0": "split", "out0": "reduced", **middles}) for relation in inside),
            _merged("reduced", left, groups),
        )


def _names(groups: Side) -> tuple[str, ...]:
    return tuple(name for group in groups for name in group)


def _split(axes: Axes) -> tuple[Relation, ...]:
    names = axes.names
    groups = tuple(
        ((place,), tuple(names.index(name) for name in group)) for place, group in enumerate(axes.groups)
    )
    return (Move(input="in0", output="split", groups=groups),)


def _merged(tensor: str, names: tuple[str, ...], groups: Side) -> Move:
    found = tuple(
        (tuple(names.index(name) for name in group), (place,)) for place, group in enumerate(groups)
    )
    return Move(input=tensor, output="out0", groups=found)


OPERATIONS = (Rearrange(), Reduce())
