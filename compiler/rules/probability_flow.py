"""`probability_flow`: an energy learns to make its data more stable than their neighbours.

Minimum probability flow (Sohl-Dickstein, Battaglino and DeWeese, arXiv:0906.4779): of an energy E over bits, dynamics
that leave exp(-E) alone carry probability from the data x to the states x^(i) with one bit turned; the flow

    K = mean_x sum_i exp((E(x) - E(x^(i))) / 2)

is made small, with no sum over all states. Of a Boltzmann machine E = -sum_{i<j} W_ij x_i x_j - b'x its gradient
is local: dK/dW_ij = mean [(1 - 2 x_i) G_i x_j + (1 - 2 x_j) G_j x_i] / 2 with G_i the i-th exponential. Of a machine with
hidden units the flow is that of visible and hidden bits together, the hidden ones being inferred from the data as the
network says, by their posterior exactly or by mean field: variational probability flow (Liu, Quek and Lin,
arXiv:1711.07732). States that are several turns apart exchange no flow, so modes far apart are not balanced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nnspec.compiler.experiment import Choice
from nnspec.compiler.ir import Graph
from nnspec.compiler.rules.backprop import differentiate
from nnspec.compiler.rules.cut import cut, showing
from nnspec.compiler.rules.needs import losses_apart, same_every_time, samples_apart
from nnspec.compiler.rules.rule import Rule
from nnspec.compiler.rules.setting import Setting
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error, Related, RunError
from nnspec.dsl.errors.learning import NotAnEnergy, NotBits, NotHidden
from nnspec.dsl.suggest import nearest

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams

_ROWS = 1 << 16  # of turned states whose energies are computed at a time


class Begun(NamedTuple):
    """The energy as a function of the bits, and what infers the hidden ones."""

    names: tuple[str, ...]  # of the hidden values
    infer: Callable[..., Any] | None
    energy: Callable[..., Any]


class ProbabilityFlow(Rule):
    name = "probability_flow"
    doc = """Minimum probability flow (Sohl-Dickstein, Battaglino and DeWeese, 2011): the loss of the experiment is an
energy of the inputs, which are bits, and the optimizer gets the gradient of the mean of sum_i exp((E(x) - E(x^(i))) / 2)
over the data, x^(i) being x with bit i turned. `hidden` names values of the network that are bits too, which it infers from
the inputs; they are turned as well (variational probability flow: Liu, Quek and Lin, 2018). The history
tells the `flow` of each epoch; the loss, which is measured, is the energy."""
    requires = ("gradient",)
    objective = "flow"
    arguments = (
        Argument(
            name="hidden",
            kind="text",
            listed="either",
            default=(),
            doc="values of the network's body that are hidden units",
        ),
    )
    example = 'learn = probability_flow(hidden = "h")'

    def refusals(self, setting: Setting) -> Iterator[Error]:
        span, root = setting.choice.span, setting.graph.root
        if isinstance(setting.loss, Choice):
            related = (
                () if setting.loss.span is None else (Related(span=setting.loss.span, label="the loss"),)
            )
            yield NotAnEnergy(span, related, loss=setting.loss.name)
        made = [name for name in root.named if name not in {port.value for port in root.inputs}]
        for name in hidden_of(setting.choice.options):
            declared = dict(root.types).get(name)
            if name not in made or declared is None or declared.dtype != "real" or not declared.batched:
                near = nearest(name, made)
                help_text = (
                    f"did you mean `{near}`?" if near else "name a value of the body that is made of bits"
                )
                yield NotHidden(span, name=name, network=setting.graph.name, help=help_text)
                return
        energy = setting.replace(graph=cut(setting.graph, hidden_of(setting.choice.options)))
        yield from losses_apart(setting)
        yield from samples_apart(energy)
        yield from same_every_time(energy, 'if hidden units are drawn here, name them: `hidden = "h"`')

    def begin(self, run: LearningGroup) -> Begun:
        from nnspec.compiler.emit.load import function

        for values in run.learner.plan.train.inputs:
            if not bool(((values == 0) | (values == 1)).all()):
                raise RunError(NotBits(run.learner.plan.experiment.data.span, rule=self.name))
        graph: Graph = run.learner.plan.sources.graph
        names = hidden_of(run.options)
        infer = function(showing(graph, names)) if names else None
        return Begun(names, infer, function(cut(graph, names)))

    def direction(self, run: LearningGroup, batch: Batch, streams: Streams) -> Tensor:
        run.optimizer.zero_grad(set_to_none=True)
        bits = self.bits(run, batch)
        return differentiate(run, run.penalized(flow(run, batch, bits)))

    def bits(self, run: LearningGroup, batch: Batch) -> tuple[Tensor, ...]:
        """Return the visible bits of a batch and the hidden ones that the network infers, row first."""
        import torch

        begun = cast("Begun", run.begun)
        if begun.infer is None:
            return batch.inputs
        with torch.no_grad():
            found = begun.infer(run.functional.state({}), *batch.inputs, training=True)
        return (*batch.inputs, *(found if isinstance(found, tuple) else (found,)))


def hidden_of(options: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the hidden values."""
    given = options["hidden"]
    return (given,) if isinstance(given, str) else tuple(given)


def flow(run: LearningGroup, batch: Batch, bits: tuple[Tensor, ...]) -> Tensor:
    """Return the mean over a batch of the flow out of its states: the sum over bits of exp((E(x) - E(x^(i))) / 2)."""
    import torch

    here = energies(run, batch, bits)
    parts: list[Tensor] = []
    for place, own in enumerate(bits):
        units = own[0].numel()
        most = max(1, _ROWS // batch.rows)
        for start in range(0, units, most):
            turned = turn(own, range(start, min(start + most, units)))
            count = len(turned)
            others = [v.unsqueeze(0).expand(count, *v.shape).flatten(0, 1) for v in bits]
            others[place] = turned.flatten(0, 1)
            rows = torch.arange(batch.rows, device=own.device).repeat(count)
            there = energies(run, batch.take(rows), tuple(others)).view(count, batch.rows)
            parts.append(((here - there) / 2).exp().sum(0))
    return torch.stack(parts).sum(0).mean()


def turn(bits: Tensor, units: range) -> Tensor:
    """Return the states with one unit turned, each of these in its place: (unit, row, ...)."""
    import torch

    flat = bits.flatten(1)
    mark = torch.zeros(len(units), flat.shape[1], dtype=flat.dtype, device=flat.device)
    mark[torch.arange(len(units)), torch.arange(units.start, units.stop)] = 1.0
    turned = flat + mark.unsqueeze(1) * (1 - 2 * flat)
    return turned.view(len(units), *bits.shape)


def energies(run: LearningGroup, batch: Batch, bits: tuple[Tensor, ...]) -> Tensor:
    """Return the energy of each row, where inputs and hidden values are these bits: the loss of a sample, (row,)."""
    begun = cast("Begun", run.begun)
    state = run.functional.state({})
    values = begun.energy(state, *bits, training=True)
    inputs = len(batch.inputs)
    return run.each_loss(values, batch._replace(inputs=bits[:inputs]), state)


RULES = (ProbabilityFlow(),)
