"""The equations of a rule at one junction, written out as ordinary torch code: what they came to, to be read and checked.

In: the normal form of an update, and a junction. Out: a function of tensors, those that the equations read, which gives
minus the wished change of the weight, the bias or learned feedback, averaged over the batch: what the optimizer gets. No
tensor of (batch, targets, sources) is made where an equation separates: matrix products contract the batch. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Sequence

from nnspec.compiler.emit.text import INDENT
from nnspec.compiler.rules.written.expressions import (
    NAME,
    PRODUCT,
    Expressions,
    Feed,
    Pairs,
    Text,
    Turned,
    added,
    multiplied,
    raised,
)
from nnspec.compiler.rules.written.scheme import Junction
from nnspec.compiler.rules.written.terms import Atom, Factors, Sum, Term, is_even, parted, sum_text

HELPERS = {
    "by_weight": '''def by_weight(function, post, pre, weight):
    """The outer product of a map: the derivative of function(pre, weight) by the weight, contracted with post."""
    weight = weight.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(pre, weight), weight, post)[0]
''',
    "by_bias": '''def by_bias(function, post, pre, weight, bias):
    """The sum over the uses of each bias: the derivative of function(pre, weight, bias) by the bias, contracted with post."""
    bias = bias.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(pre, weight, bias), bias, post)[0]
''',
    "back": '''def back(function, post, pre, weight):
    """The transposed map: what arrives at the sources of what is at the targets."""
    pre = pre.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(function(pre, weight), pre, post)[0]
''',
}


class JunctionFunction:
    """The function of one junction: its text, and what it is given, by phase and word."""

    def __init__(
        self,
        name: str,
        junction: Junction,
        changes: Sequence[tuple[str, Sum]],
        feeds: dict[str, Feed],
        ranks: dict[str, int],
        first: str = "",
        steps: str = "",
    ) -> None:
        """`first` is the phase whose values give shapes, where none is read. `steps` is the phase over which this is summed."""
        self.name, self.junction, self.steps = name, junction, steps
        own = Expressions(junction, feeds, ranks)
        own.first = first
        self.results = tuple(target for target, _ in changes)
        found = [_Changes(own).of(target, value).code for target, value in changes]
        self.given, self.helpers = own.given, own.helpers
        body = [*own.lines, f"return {', '.join(found)}"]
        if any("rows" in line for line in body):
            body.insert(0, f"rows = len({_batched(own)})")
        wishes = [f"{target}: {sum_text(value)}" for target, value in changes]
        once = f", of one step of `{steps}` or one of its nudges, to be added up" if steps else ""
        doc = [f'"""At `{junction.path}`, the mean over the batch{once}:', "", *wishes, '"""']
        head = f"def {name}({', '.join(dict.fromkeys(own.given.values()))}):"
        self.text = "\n".join([head, *(f"{INDENT}{line}".rstrip() for line in (*doc, *body))]) + "\n"


def _batched(own: Expressions) -> str:
    """Return something that the function is given and that has the batch first."""
    known = [
        name
        for (phase, word), name in own.given.items()
        if phase != "feedback" and word not in ("weight", "bias")
    ]
    return known[0] if known else own.any("pre").code


class _Changes:
    """Wished changes as code: each term an outer product, or a product with what is learned."""

    def __init__(self, own: Expressions) -> None:
        self.own = own
        self.junction = own.junction
        self.broadcasts = self.junction.matrix  # a side that is the same for all its units needs no product

    def of(self, target: str, value: Sum) -> Text:
        """Return the change of the weight, the bias, or feedback."""
        parts = list(map(self.bias_term, value)) if target == "bias" else self.weight(value)
        name = f"d_{target}"
        for place, part in enumerate(parts):
            own = added([Text(name), part]) if place else part
            self.own.lines.append(f"{name} = {own.code}")
        if target not in ("bias", "weight") and self.junction.weight.transposed:
            self.own.lines.append(f"{name} = {name}.t()")
        return Text(name)

    def weight(self, value: Sum) -> list[Text]:
        """Return the terms of the change of the weight: of one that is used both ways, by both of its uses."""
        straight = list(map(self.term, value))
        if not self.junction.both or (is_even(value) and not self.junction.within):
            return straight
        if self.junction.within:  # the matrix holds each pair twice
            return (
                [Text(f"{part.at(PRODUCT)} / 2", PRODUCT) for part in straight]
                if is_even(value)
                else straight
            )
        return [*straight, *map(_Back(self.own).term, value)]

    def term(self, term: Term) -> Text:
        if any(atom.word == "dense" for atom, _ in term.factors):
            shape = ", ".join(map(str, self.junction.weight.weight.shape))
            found = Pairs(self.own).product(term)
            return Text(f"({found.code}).expand(rows, {shape}).mean(0)")
        post, pre, own, running = parted(term)
        if running is not None:
            return self.running(post, running, term.coefficient)
        if not any(atom.batched or atom.spaces for atom, _ in (*post, *pre)):
            return self.learned(multiplied(term.coefficient, self.factors(post)), own)
        return self.times(self.outer(post, pre, term.coefficient), own)

    def factors(self, factors: Factors) -> list[Text]:
        return [raised(self.own.atom(atom), power) for atom, power in factors]

    def learned(self, found: Text, own: Factors) -> Text:
        """Return a number times what is learned, once a weight."""
        parts = self.factors(own)
        if not parts:
            return Text(f"{found.at(NAME)} * torch.ones_like({self.own.take('', 'weight').code})", PRODUCT)
        return multiplied(1.0, [*([] if found.code == "1.0" else [found]), *parts])

    def times(self, found: Text, own: Factors) -> Text:
        return multiplied(1.0, [found, *self.factors(own)])

    def left(self, factors: Factors, coefficient: float) -> Text | None:
        """Return the factor of the target, as something that has the shape of a drive; None for the number 1."""
        if not factors:
            return None if coefficient == 1.0 else Text(repr(coefficient), PRODUCT)
        return self.own.name(self.own.product(Term(coefficient=coefficient, factors=factors)), "at_post")

    def full(self, found: Text, factors: Factors, axes: Sequence[object]) -> Text:
        """Return a factor for every sample and unit."""
        spaces = frozenset[str]().union(*(atom.spaces for atom, _ in factors))
        if spaces and any(atom.batched for atom, _ in factors):
            return found
        if not spaces and factors:
            found = Text(f"{found.at(NAME)}[:{', None' * len(axes)}]") if _batches(factors) else found
        if not factors:
            found = Text(f"{self.like()}.new_tensor({found.code})")
        return Text(f"{found.at(NAME)}.expand(rows, {', '.join(map(str, axes))})")

    def outer(self, post: Factors, pre: Factors, coefficient: float) -> Text:
        """Return the mean over the batch of a factor of the target times one of the source."""
        left, right = self.left(post, coefficient), self.right(pre)
        targets, sources = self.junction.drive.shape, self.junction.pre.shape
        like = self.own.take("", "weight").code if left is None or right is None else ""
        if self.broadcasts and right is None and left is not None:
            return Text(
                f"{self.shares(self.full(left, post, targets), targets)}.sum(0)[:, None].expand_as({like})"
            )
        if self.broadcasts and right is not None and not _placed(post):
            both = right if left is None else multiplied(1.0, [self.beside(left, post, sources), right])
            shares = self.shares(self.full(both, (*post, *pre), sources), sources)
            return Text(f"{shares}.sum(0).expand_as({like or self.like()})")
        one = Text(f"{like}.new_ones(())") if like else Text("")
        left = self.full(left or one, post, targets) if left is not None else self.spread(one, targets)
        right = self.full(right, pre, sources) if right is not None else self.spread(one, sources)
        return self.contracted(left, right)

    def like(self) -> str:
        return self.own.take("", "weight").code

    def beside(self, left: Text, post: Factors, axes: Sequence[object]) -> Text:
        return Text(f"{left.at(NAME)}[:{', None' * len(axes)}]") if _batches(post) else left

    def spread(self, one: Text, axes: Sequence[object]) -> Text:
        return Text(f"{one.code}.expand(rows, {', '.join(map(str, axes))})")

    def right(self, pre: Factors) -> Text | None:
        return self.own.name(self.own.product(Term(coefficient=1.0, factors=pre)), "at_pre") if pre else None

    def contracted(self, left: Text, right: Text) -> Text:
        """Return the contraction of both over the batch, in the shape of the weight, divided by the rows."""
        if not self.junction.matrix:
            self.own.helpers.add("by_weight")
            return Text(
                f"by_weight({self.own.map()}, {left.code}, {right.code}, {self.like()}) / rows", PRODUCT
            )
        targets, sources = self.junction.drive.shape, self.junction.pre.shape
        return Text(f"{self.shares(left, targets)}.t() @ {flat(right, sources)}", PRODUCT)

    def shares(self, found: Text, axes: Sequence[object]) -> str:
        """Return what each sample adds to a mean, as a matrix: its numbers are fewer than those of a weight."""
        return self.own.name(Text(f"{flat(found, axes)} / rows", PRODUCT), "shares").code

    def running(self, post: Factors, running: Atom, coefficient: float) -> Text:
        """a_i sum_{k <= i} b_k w_kj, averaged: the lower triangle of the mean of a b', times w."""
        targets = self.junction.drive.shape
        left = self.full(self.left(post, 1.0) or Text("1.0"), post, targets)
        parts: list[Text] = []
        for term in running.of[0]:
            inner, _, own, _ = parted(term)
            right = self.full(self.left(inner, 1.0) or Text("1.0"), inner, targets)
            among = f"({flat(left, targets)}.t() @ {flat(right, targets)}).tril()"
            scale = coefficient * term.coefficient
            among = f"({scale!r} * {among} / rows)" if scale != 1.0 else f"({among} / rows)"
            parts.append(self.mixed(Text(among), self.learned(Text("1.0"), own)))
        return added(parts)

    def mixed(self, among: Text, own: Text) -> Text:
        return Text(f"{among.code} @ {own.at(NAME)}", PRODUCT)

    def bias_term(self, term: Term) -> Text:
        """Return a term of the change of the bias."""
        post, _, own, _ = parted(term)
        bias = self.own.take("", "bias") if own or not _touched(post) else None
        if not _touched(post):
            parts = self.factors(own) or [Text(f"torch.ones_like({bias.code if bias else ''})")]
            return multiplied(term.coefficient, [*self.factors(post), *parts])
        left = self.left(post, term.coefficient)
        assert left is not None
        return self.times(self.over_uses(self.full(left, post, self.junction.drive.shape)), own)

    def over_uses(self, found: Text) -> Text:
        """Return the mean over the batch of the sum over the uses of each bias."""
        kept, axes = self.junction.bias_axis, range(len(self.junction.drive.axes) + 1)
        if kept is None and self.junction.has_weight:
            self.own.helpers.add("by_bias")
            given = (self.own.any("pre").code, self.like(), self.own.take("", "bias").code)
            return Text(f"by_bias({self.own.map()}, {found.code}, {', '.join(given)}) / rows", PRODUCT)
        if kept == len(self.junction.drive.axes) - 1:
            return Text(f"{self.shares(found, self.junction.drive.shape)}.sum(0)")
        others = [0] if kept is None else [axis for axis in axes if axis != kept + 1]
        return Text(f"{found.at(NAME)}.sum({others[0] if len(others) == 1 else others}) / rows", PRODUCT)


class _Back(_Changes):
    """Those by the use of a weight on its way back: what stands at the targets is its source."""

    def __init__(self, own: Expressions) -> None:
        turned = Turned(own.junction, own.feeds, own.ranks)
        turned.ranks = own.ranks | {"post": own.ranks["pre"], "pre": own.ranks["post"]}
        turned.given, turned.lines, turned.named, turned.helpers = (
            own.given,
            own.lines,
            own.named,
            own.helpers,
        )
        super().__init__(turned)
        self.junction = own.junction.replace(pre=own.junction.drive, drive=own.junction.pre)
        self.broadcasts = False

    def contracted(self, left: Text, right: Text) -> Text:
        if self.junction.matrix:
            return Text(f"{right.at(NAME)}.t() @ {self.shares(left, self.junction.drive.shape)}", PRODUCT)
        return super().contracted(right, left)

    def mixed(self, among: Text, own: Text) -> Text:
        return Text(f"{own.at(NAME)} @ {among.code}.t()", PRODUCT)


def flat(found: Text, axes: Sequence[object]) -> str:
    """Return a value as a matrix: all but the last axis of it are samples."""
    return found.at(NAME) if len(axes) == 1 else f"{found.at(NAME)}.flatten(0, -2)"


def _touched(factors: Factors) -> bool:
    return any(atom.batched or atom.spaces for atom, _ in factors)


def _placed(factors: Factors) -> bool:
    return any(atom.spaces for atom, _ in factors)


def _batches(factors: Factors) -> bool:
    return any(atom.batched for atom, _ in factors)
