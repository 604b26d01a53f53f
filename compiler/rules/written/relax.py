"""A phase of predictive coding: the values behind the linear maps are let go, and settle between what predicts them and
what they predict.

Behind every junction but those that give an output stands a value x of its own, which the rest of the network reads in
the place of the prediction `post`. The values descend F = sum |x - post|^2 / 2 + L, from a forward pass on: x <- x - rate dF/dx
(Whittington and Bogacz, 2017; Rao and Ballard, 1999). `post.error` is post - x, and at a junction whose value is
an output itself, dL/d output. Feed-forward networks of any shape relax; weights are not differentiated.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.written.equations import PhaseLine
from nnspec.compiler.rules.written.forward import ForwardRecord
from nnspec.compiler.rules.written.phase import Moment, Record

if TYPE_CHECKING:
    from torch import Tensor


class Relax:
    """The way `relax(steps, rate)`."""

    words = frozenset(
        {"pre", "drive", "post", "post.derivative", "post.error", "output", "output.target", "loss"}
    )
    options = ("steps", "rate")

    def run(
        self, moment: Moment, line: PhaseLine, each: Callable[[Record, complex], None] | None
    ) -> RelaxedRecord:
        """Let the values settle; sums over steps go over them."""
        import torch

        plain = moment.equations.reader.plain
        options = {name: plain(value) for name, value in line.given}
        record = RelaxedRecord(moment)
        with torch.enable_grad(), moment.run.learner.precision():
            record.relax(int(options.get("steps", 20)), float(options.get("rate", 0.1)), each)
        return record


class RelaxedRecord(ForwardRecord):
    """What a network did whose values were let go."""

    def __init__(self, moment: Moment) -> None:
        super().__init__(moment, 0.0, first=moment.moves and not moment.records)
        self.recorded = True
        last = {own.post for own in moment.scheme.junctions if own.output is not None}
        self.free = tuple(dict.fromkeys(synapse.post for synapse in self.wiring.synapses))
        self.free = tuple(value for value in self.free if value not in last)
        self.values: dict[int, Tensor] = {}

    def relax(self, steps: int, rate: float, each: Callable[[Record, complex], None] | None) -> None:
        """Run forward once, then let the values descend."""
        import torch

        run, inputs = self.moment.run, self.moment.batch.inputs
        draws = run.draws()
        self.run(inputs)
        self._mean = self._loss().detach()
        self.values = {value: self.posts[value].detach() for value in self.free}
        self.first = False
        for step in range(steps + 1):
            run.draw_again(draws)
            self.values = {value: x.detach().requires_grad_() for value, x in self.values.items()}
            self._known.clear()
            self.run(inputs)
            if each is not None:
                each(self, 1.0)
            if step < steps and self.values:
                slopes = torch.autograd.grad(self._energy(), list(self.values.values()))
                pairs = zip(self.values.items(), slopes, strict=True)
                self.values = {value: x.detach() - rate * slope for (value, x), slope in pairs}

    def _energy(self) -> Any:
        """Return F, summed over the batch."""
        errors = ((x - self.posts[value]).square().sum() for value, x in self.values.items())
        return 0.5 * sum(errors) + self.moment.batch.rows * self._loss()

    def held(self) -> dict[int, Callable[[Tensor], Tensor]]:
        """Return what stands behind the junctions instead of predictions."""
        return {value: _Instead(self, value) for value in self.free}

    def mean_loss(self) -> Tensor:
        """Return the mean loss of the forward pass, before anything moved."""
        return self._mean

    def value(self, word: str, junction: int) -> Tensor:
        """Return a word as the pass has it."""
        if word != "post.error":
            return super().value(word, junction)
        post = self.wiring.synapses[junction].post
        if post not in self.values:
            return self.value("output.error", junction)
        return (self.posts[post] - self.values[post]).detach()


class _Instead:
    """Notes a prediction, and gives the value that is there instead, once there is one."""

    def __init__(self, record: RelaxedRecord, value: int) -> None:
        self.record = record
        self.value = value

    def __call__(self, post: Tensor) -> Tensor:
        self.record.predicted[self.value] = post
        return self.record.values.get(self.value, post)
