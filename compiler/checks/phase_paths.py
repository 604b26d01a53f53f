"""The states of a system over the steps of a learning rule's phases, as the rule itself runs them.

In: a plan, weights, and some rows of its data. Out: for each phase, and each strength of its nudge, the states after every
step, and how far they are from where they would come to rest.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.runtime.learner import Learner
from nnspec.compiler.runtime.plan import Plan
from nnspec.compiler.runtime.streams import kept_generators
from nnspec.compiler.runtime.trials import Trial

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.settled.phases import Settle, States, Sums

_MORE_STEPS = 5_000  # in which states may come to rest behind a phase
_AT_REST = 1e-10  # the residual of what counts as a fixed point


class Course(NamedTuple):
    """States in one phase under one nudge: [steps + 1, samples, units], complex under a complex nudge.

    `rest` is the fixed point, [samples, units], None where none was found; `residual` is that of the last step.
    """

    phase: str
    begins: str | None
    nudge: complex
    states: Tensor
    residual: float
    rest: Tensor | None

    @property
    def steps(self) -> int:
        return len(self.states) - 1

    @property
    def distances(self) -> Tensor | None:
        """Return the distance to the fixed point after each step, [steps + 1, samples]."""
        return None if self.rest is None else (self.states - self.rest).abs().square().sum(2).sqrt()

    @property
    def changes(self) -> Tensor:
        """Return how far each step moved the states, [steps, samples]."""
        return (self.states[1:] - self.states[:-1]).abs().square().sum(2).sqrt()


class Recorder:
    """Looks on while states settle, and keeps every step."""

    def __init__(self) -> None:
        self.courses: list[Course] = []

    def __call__(self, phase: Settle, nudge: complex, begin: States, run: Any, sums: Sums | None) -> Any:
        import torch

        path: list[Tensor] = []

        def told(before: States, after: States) -> tuple[Tensor, ...]:
            path.extend((_flat(before), _flat(after)) if not path else (_flat(after),))
            return () if sums is None else sums(before, after)

        found = run(begin, steps=phase.steps, tolerance=phase.tolerance, sums=told)
        end = run(found.states, steps=_MORE_STEPS, tolerance=_AT_REST)
        is_rest = float(end.residual) <= _AT_REST  # false for what is not a number, too
        self.courses.append(
            Course(
                phase=phase.name,
                begins=phase.begins,
                nudge=nudge,
                states=torch.stack(path),
                residual=float(found.residual),
                rest=_flat(end.states) if is_rest else None,
            )
        )
        return found


def phase_paths(
    plan: Plan, seed: int, state: Mapping[str, Tensor], samples: int
) -> tuple[tuple[Course, ...], tuple[str, ...]]:
    """Run the phases of a plan's rule on the first rows of the training part; return them, and the states' names."""
    from nnspec.compiler.rules.settled.scheme import loop_of

    recorder = Recorder()
    with kept_generators(plan.device), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # what does not settle is shown
        learner = Learner(plan, Trial(seed))
        learner.network.load_state_dict(state)
        learner.network.train()
        learner.watch = recorder
        batch = plan.train.between(0, samples)
        for group in learner.groups:
            if settles(group.rule, group.options):
                group.rule.direction(group, batch, learner.streams)
                break
    names = tuple(own.name for own in loop_of(plan.graph).carried)
    return tuple(recorder.courses), names


def settles(rule: Any, options: dict[str, Any]) -> bool:
    """Return whether a rule has phases in which states settle."""
    from nnspec.compiler.rules.written.rule import WrittenRule

    if not isinstance(rule, WrittenRule):
        return False
    return any(line.way == "settle" for line in rule.equations(options).phases)


def _flat(states: States) -> Tensor:
    import torch

    return torch.cat([state.detach().flatten(1) for state in states], 1).clone()
