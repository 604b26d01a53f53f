"""`gradient_check`: what a learning rule gives the optimizer, beside the exact gradient of the loss.

In: an experiment with its data, and the weights it begins with or ended with. Out: cosine and relative error of every
parameter and of all together, for each value of what is varied, and along a training by the rule itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.checks import gradient_views
from nnspec.compiler.experiment import Choice
from nnspec.compiler.passes.analysis import Pass, Result, Subject
from nnspec.dsl.catalog import Argument, Entry
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.checks import GivesNoDirection
from nnspec.dsl.errors.weights import NeedsTraining

if TYPE_CHECKING:
    from nnspec.compiler.runtime.plan import Plan


class GradientCheck(Pass):
    name = "gradient_check"
    doc = """What the learning rule of an experiment gives the optimizer, beside the exact gradient of its loss: for each
    parameter d and for all of them together cos(d, g) and |d - g| / |g|, the means over `batches` and seeds. The
    exact gradient g is that of backpropagation; through a loop that of implicit differentiation, or of
    backpropagation through time where the network says `gradient = unrolled`.

    Any argument of the rule, or of the solver of a loop, may be given too, as a value or a list of values, which are
    compared: `gradient_check(beta = [0.01, 0.1, 1])`. `asymmetry = a` multiplies the antisymmetric part of weights
    from states to the same states by a: 0 makes them symmetric. `along` follows the angle over steps of training."""
    arguments = (
        Argument(
            name="weights",
            kind="choice",
            choices=("initial", "trained"),
            doc="those the experiment begins with, or those it ended with",
            default="initial",
        ),
        Argument(
            name="batches", kind="int", doc="of each seed, in the order of training", default=1, at_least=1
        ),
        Argument(
            name="seeds",
            kind="int",
            doc="how many of the experiment's seeds; none: all",
            default=None,
            nullable=True,
            at_least=1,
        ),
        Argument(
            name="draws",
            kind="int",
            doc="directions that are averaged, of a rule that draws them",
            default=1,
            at_least=1,
        ),
        Argument(
            name="along",
            kind="int",
            doc="steps of training along which the angle is measured; 0: none",
            default=0,
            at_least=0,
        ),
        Argument(
            name="precision",
            kind="choice",
            choices=("float64", "float32"),
            doc="of weights and directions",
            default="float64",
        ),
        Argument(name="over", kind="value", doc="what is varied, by its own name", default=()),
    )

    def entry(self) -> Entry:
        return super().entry().replace(others="over")

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        return options.get("weights") == "trained"

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.checks.rows import course_of, row_of
        from nnspec.compiler.checks.sweep import places

        if subject.plan is None or subject.experiment is None:
            raise SpecError((NeedsTraining(None, pass_name=self.name, target=subject.graph.name),))
        plan = _at(subject.plan, options.get("precision", "float64"))
        _refuse_searches(plan)
        given: tuple[tuple[str, Any], ...] = options.get("over", ())
        varied: dict[str, tuple[Any, ...]] = {n: v if isinstance(v, tuple) else (v,) for n, v in given}
        rows = [row_of(place, subject, options) for place in places(plan, varied, self.name)]
        first = next(places(plan, {name: values[:1] for name, values in varied.items()}, self.name))
        data: dict[str, Any] = _facts(first.plan, subject, options) | rows[0]
        if varied:
            data["sweep"] = rows
        if options.get("along", 0):
            data["course"] = course_of(first.plan, subject, options)
        return Result(
            data=data,
            summary=gradient_views.summary(data, varied),
            tables=gradient_views.tables(data, varied),
            plots=gradient_views.plots(data, varied),
        )


def _at(plan: Plan, precision: str) -> Plan:
    """Return the plan on the CPU in a precision."""
    import torch

    from nnspec.compiler.runtime.short_training import exactly

    if precision == "float64":
        return exactly(plan).replace(initial=plan.initial)
    train = plan.train.each(lambda t: t.cpu())
    experiment = plan.experiment.replace(precision=precision)
    return plan.replace(experiment=experiment, dtype=torch.float32, train=train, device=torch.device("cpu"))


def _refuse_searches(plan: Plan) -> None:
    from nnspec.compiler.checks.directions import gives_direction
    from nnspec.compiler.rules.registry import rule_of

    for choice in _rules(plan):
        if not gives_direction(rule_of(choice)):
            raise SpecError((GivesNoDirection(None, rule=choice.name),))


def _rules(plan: Plan) -> tuple[Choice, ...]:
    from nnspec.compiler.runtime.group import chosen

    return tuple(chosen(group.rule) for group in plan.phases[0].groups)


def _facts(plan: Plan, subject: Subject, options: Mapping[str, Any]) -> dict[str, Any]:
    from nnspec.compiler.checks.loops import forward_kind, gradient_kind

    assert subject.experiment is not None
    rules = dict.fromkeys(choice.name for choice in _rules(plan))
    return {
        "network": subject.graph.name,
        "rule": " and ".join(rules),
        "exact": gradient_kind(plan.graph),
        "forward": forward_kind(plan.graph),
        "weights": options.get("weights", "initial"),
        "seeds": list(subject.experiment.seeds[: options.get("seeds")]),
        "batches": options.get("batches", 1),
        "precision": options.get("precision", "float64"),
    }


PASSES = (GradientCheck(),)
