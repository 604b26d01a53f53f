"""Short trainings inside analyses: an experiment's own rule and optimizer, from weights of one's own.

In: a plan. Steps are those of the experiment, in its own order of batches; torch's generators are left as they were.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.runtime import objectives
from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Plan
from nnspec.compiler.runtime.streams import kept_generators
from nnspec.compiler.runtime.trials import Trial

if TYPE_CHECKING:
    from torch import Tensor

State = dict[str, "Tensor"]


def exactly(plan: Plan) -> Plan:
    """Return the plan in double precision, on the CPU."""
    import torch

    experiment = plan.experiment.replace(precision="float64")
    train = plan.train.each(lambda t: t.cpu().double() if t.dtype.is_floating_point else t.cpu())
    return plan.replace(
        experiment=experiment, dtype=torch.float64, train=train, device=torch.device("cpu"), initial=None
    )


def initial_weights(plan: Plan, seed: int) -> State:
    """Return the weights with which the training of a seed begins."""
    with kept_generators(plan.device):
        return state_of(Learner(plan, Trial(seed, 0)))


def course(
    plan: Plan, seed: int, steps: int, start: State | None = None
) -> Iterator[tuple[State, float | None]]:
    """Yield the state before the first step, and after each with the loss of its batch."""
    with kept_generators(plan.device):
        learner = Learner(plan, Trial(seed, 0))
        if start is not None:
            learner.network.load_state_dict(start)
        learner.network.train()
        yield state_of(learner), None
        done = 0
        while done < steps and learner.phase_step < learner.phase.steps:
            count = min(learner.phase.steps_per_epoch, steps - done, learner.phase.steps - learner.phase_step)
            for batch in learner.batches(count):
                loss: Any = learner.learn(batch)
                done += 1
                yield state_of(learner), float(loss)


def state_of(learner: Learner) -> State:
    """Return a copy of a learner's weights and buffers."""
    return {key: tensor.detach().clone() for key, tensor in learner.network.state_dict().items()}


def loss_of(plan: Plan) -> Callable[[State], Tensor]:
    """Return the mean loss over the training part as a function of a state that can be differentiated."""
    from torch.func import functional_call

    network = plan.make().to(device=plan.device, dtype=plan.dtype)
    network.eval()
    judge = objectives.mean(plan.experiment.loss, plan.sources)

    def loss(state: State) -> Tensor:
        return judge(functional_call(network, state, plan.train.inputs), plan.train, state)

    return loss
