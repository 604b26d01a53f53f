"""Wished changes of one junction, term by term: what the text of a rule is held against.

In: the values at a junction. Out: changes in the shape of what is learned, averaged over the batch. No tensor of (batch,
targets, sources) is made where an equation separates: `LinearMap.outer` contracts the batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from values_by_atom import Pairs, Turned, Values, raised

from nnspec.compiler.rules.written.terms import Atom, Factors, Sum, Term, is_even, parted

if TYPE_CHECKING:
    from torch import Tensor


class Changes:
    """The wished changes at one junction, for terms that all read one step or none."""

    def __init__(self, values: Values) -> None:
        self.values = values

    def of(self, target: str, value: Sum) -> Any:
        """Return the wished change of "weight", "bias", or learned feedback; None for no terms."""
        if target == "bias":
            return self.bias(value)
        return self.weight(value) if target == "weight" else self.feedback(value)

    def weight(self, value: Sum) -> Tensor | None:
        """Return the wished change of the weight, averaged over the batch, for terms that all read this step.

        A weight that is used both ways has two uses, and what is the same for both counts once. Where it leads from some
        states to themselves, the matrix holds each pair twice.
        """
        own = self.values.moment.scheme.junctions[self.values.junction]
        total = self.terms(value)
        if total is None or not own.both:
            return total
        if is_even(value):
            return total / 2 if own.within else total
        if own.within:
            return total
        back = _Back(Turned(self.values)).terms(value)
        assert back is not None
        return total + back

    def terms(self, value: Sum) -> Tensor | None:
        total: Tensor | None = None
        for term in value:
            found = self._term(term)
            total = found if total is None else total + found
        return total

    def _term(self, term: Term) -> Tensor:
        if any(atom.word == "dense" for atom, _ in term.factors):
            return self._dense(term)
        post, pre, own, running = parted(term)
        scale = term.coefficient
        if running is not None:
            return self._running(post, running, scale)
        if not any(atom.batched or atom.spaces for atom, _ in (*post, *pre)):
            for atom, power in post:
                scale = scale * raised(self.values.atom(atom), power)
            return self._times_own(None, own, scale)
        rows = self.values.moment.batch.rows
        return self._times_own(self._outer(post, pre, scale / rows), own, 1.0)

    def _outer(self, post: Factors, pre: Factors, scale: float) -> Tensor:
        like = self.values.drives
        source = self.values.any("pre")
        left = self._target(post, like)
        if scale != 1.0:
            left = left * scale
        right = self.values.product(Term(coefficient=1.0, factors=pre)) if pre else None
        if self.values.map.matrix and not (post and pre):
            return self._broadcast(left.expand(like.shape), right, source)
        right = source.new_ones(()) if right is None else right
        return self.values.map.outer(left.expand(like.shape), right.expand(source.shape), self.values.weight)

    def _broadcast(self, left: Tensor, right: Tensor | None, source: Tensor) -> Tensor:
        """Return an outer product one side of which is the same for all its units."""
        if right is None:
            return left.reshape(-1, left.shape[-1]).sum(0).unsqueeze(1).expand(self.values.weight.shape)
        rows = (right * left[..., :1]).expand(source.shape)
        return rows.reshape(-1, source.shape[-1]).sum(0).expand(self.values.weight.shape)

    def _target(self, factors: Factors, like: Tensor) -> Tensor:
        """Return factors of the target and of the sample so that they broadcast to a drive."""
        if not factors:
            return like.new_ones(())
        found = self.values.product(Term(coefficient=1.0, factors=factors))
        if any(atom.spaces for atom, _ in factors) or not found.dim():
            return found
        return found.reshape(-1, *[1] * (like.dim() - 1))

    def _times_own(self, value: Tensor | None, own: Factors, scale: Any) -> Tensor:
        total: Any = value
        for atom, power in own:
            found = raised(self.values.atom(atom), power)
            total = found if total is None else total * found
        if total is None:
            total = self.values.weight.new_ones(self.values.weight.shape)
        return total if isinstance(scale, float) and scale == 1.0 else total * scale

    def _running(self, post: Factors, running: Atom, scale: float) -> Tensor:
        """a_i sum_{k <= i} b_k w_kj, averaged: the lower triangle of the mean of a b^T, times w."""
        left = self._matrix(self.values.product(Term(coefficient=1.0, factors=post)) if post else None)
        total: Any = None
        for term in running.of[0]:
            inner, _, own, _ = parted(term)
            right = self._matrix(self.values.product(Term(coefficient=1.0, factors=inner)) if inner else None)
            both = (left.t() @ right).tril() * (scale * term.coefficient / self.values.moment.batch.rows)
            found = self._mixed(both, self._times_own(None, own, 1.0))
            total = found if total is None else total + found
        return total

    def _mixed(self, among: Tensor, own: Tensor) -> Tensor:
        """Return numbers between target units times numbers of synapses."""
        return among @ own

    def _matrix(self, value: Tensor | None) -> Tensor:
        like = self.values.drives
        full = like.new_ones(like.shape) if value is None else value.expand(like.shape)
        return full.reshape(-1, full.shape[-1])

    def feedback(self, value: Sum) -> Tensor | None:
        """Return the wished change of learned feedback, laid out as it is stored."""
        found = self.weight(value)
        turned = self.values.moment.scheme.junctions[self.values.junction].weight.transposed
        return found.transpose(0, 1) if turned and found is not None else found

    def _dense(self, term: Term) -> Tensor:
        """Evaluate a term for every sample and pair of units: (batch, targets, sources)."""
        import torch

        found = torch.as_tensor(
            Pairs(self.values).product(term), dtype=self.values.weight.dtype, device=self.values.weight.device
        )
        return found.expand(self.values.moment.batch.rows, *self.values.weight.shape).mean(0)

    def bias(self, value: Sum) -> Tensor | None:
        """Return the wished change of the bias, averaged over the batch."""
        like = self.values.drives
        bias = self.values.moment.biases[self.values.junction]
        assert bias is not None
        total: Any = None
        for term in value:
            post, _, own, _ = parted(term)
            scale: Any = term.coefficient
            if any(atom.batched or atom.spaces for atom, _ in post):
                left = self._target(post, like).expand(like.shape)
                found = self.values.map.over_uses(left, self.values.any("pre"), self.values.weight) * (
                    scale / self.values.moment.batch.rows
                )
            else:
                for atom, power in post:
                    scale = scale * raised(self.values.atom(atom), power)
                found = bias.new_ones(bias.shape) * scale
            for atom, power in own:
                found = found * raised(self.values.atom(atom), power)
            total = found if total is None else total + found
        return total


class _Back(Changes):
    """Those by the use of a weight on its way back; `values` are turned."""

    def _mixed(self, among: Tensor, own: Tensor) -> Tensor:
        return own @ among.t()

    def _outer(self, post: Factors, pre: Factors, scale: float) -> Tensor:
        source, target = self.values.any("post"), self.values.any("pre")
        left = self._target(post, source) * scale
        right = self.values.product(Term(coefficient=1.0, factors=pre)) if pre else target.new_ones(())
        return self.values.map.outer(
            right.expand(target.shape), left.expand(source.shape), self.values.weight
        )
