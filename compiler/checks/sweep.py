"""What a truth check varies: arguments of a rule, of the solver of a loop, or the asymmetry of the weights.

In: the plan of an experiment and names with values. Out: `Place`s, the product of all values, each with the plan and
the change of weights that it stands for. What cannot be varied, or not to this value, raises SpecError.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from nnspec.compiler.checks.asymmetry import recurrent
from nnspec.compiler.checks.directions import with_graph
from nnspec.compiler.checks.loops import changed, loops
from nnspec.compiler.experiment import Choice, Experiment
from nnspec.compiler.fit_rules import settings
from nnspec.compiler.ir import Loop
from nnspec.compiler.rules.registry import rule_of
from nnspec.compiler.runtime.stages import phases
from nnspec.dsl.catalog import validate
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.arguments import WrongArgument
from nnspec.dsl.errors.checks import NoDirectedWeight, NothingToVary
from nnspec.dsl.node import Node
from nnspec.dsl.suggest import nearest

if TYPE_CHECKING:
    from nnspec.compiler.runtime.plan import Plan

ASYMMETRY = "asymmetry"
# What values the types of a written rule's parameters take.
_FITS: dict[str, Callable[[Any], bool]] = {
    "int": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "real": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "bool": lambda value: isinstance(value, bool),
}


class Place(Node):
    """One point of a sweep: the values, the plan with them, and what the antisymmetric parts are multiplied with."""

    values: tuple[tuple[str, Any], ...]
    plan: Plan
    asymmetry: float | None = None


def places(plan: Plan, varied: Mapping[str, tuple[Any, ...]], pass_name: str) -> Iterator[Place]:
    """Yield every point of the product of values, in the order written, the last one fastest."""
    for values in product(*varied.values()):
        point = dict(zip(varied, values, strict=True))
        own = plan
        for name, value in point.items():
            own = own if name == ASYMMETRY else _with(own, name, value, pass_name)
        if ASYMMETRY in point and not recurrent(plan.graph):
            raise SpecError((NoDirectedWeight(None, network=plan.graph.name),))
        _refuse(own)
        yield Place(values=tuple(point.items()), plan=own, asymmetry=point.get(ASYMMETRY))


def _with(plan: Plan, name: str, value: Any, pass_name: str) -> Plan:
    """Return the plan with another value of an argument of its rules, else of the solvers of its loops."""
    experiment = plan.experiment
    if any(name in choice.options for choice in _rules(experiment)):
        experiment = _with_rules(experiment, name, value)
        return plan.replace(experiment=experiment, phases=phases(experiment, plan.train.rows))
    if any(name in placed.loop.solver.options for placed in loops(plan.graph)):
        return with_graph(plan, changed(plan.graph, lambda loop: _solved(loop, name, value)))
    known = (*_known(plan), ASYMMETRY)
    near = nearest(name, known)
    error = NothingToVary(
        None,
        pass_name=pass_name,
        name=name,
        rule=experiment.rule.name,
        known=", ".join(f"`{one}`" for one in known),
        help=f"did you mean `{near}`?" if near else f"a parameter of the network is set by `-p {name}=..`",
    )
    raise SpecError((error,))


def written(value: Any) -> Any:
    """Return a value as it may stand in JSON, a word as it is written."""
    if not isinstance(value, Choice):
        return value
    arguments = ", ".join(f"{name} = {written(own)}" for name, own in value.arguments)
    return f"{value.name}({arguments})" if arguments else value.name


def _known(plan: Plan) -> Iterator[str]:
    names = [name for choice in _rules(plan.experiment) for name in choice.options]
    names += [name for placed in loops(plan.graph) for name in placed.loop.solver.options]
    yield from dict.fromkeys(names)


def _rules(experiment: Experiment) -> list[Choice]:
    others = [group.rule for group in experiment.groups]
    others += [stage.options.get("learn") for stage in experiment.stages if stage.name == "fit"]
    return [experiment.rule, *(choice for choice in others if choice is not None)]


def _with_rules(experiment: Experiment, name: str, value: Any) -> Experiment:
    def choice(given: Any) -> Any:
        if not isinstance(given, Choice) or given.family != "rule" or name not in given.options:
            return given
        why, arguments = _given(given, name, value)
        if why is not None:
            raise SpecError((WrongArgument(None, callee=given.name, why=why, found=str(written(value))),))
        return given.replace(arguments=arguments)

    def stage(given: Choice) -> Choice:
        return given.replace(arguments=tuple((word, choice(own)) for word, own in given.arguments))

    return experiment.replace(
        rule=choice(experiment.rule),
        groups=tuple(group.replace(rule=choice(group.rule)) for group in experiment.groups),
        stages=tuple(map(stage, experiment.stages)),
    )


def _given(choice: Choice, name: str, value: Any) -> tuple[str | None, tuple[tuple[str, Any], ...]]:
    """Return why a rule's argument cannot have a value, or None, and its arguments with this one in them."""
    arguments = {**choice.options, name: value}
    if choice.definition is None:
        complete, problems = validate(rule_of(choice).entry(), arguments)
        return (problems[0].why if problems else None), tuple(complete.items())
    kind = next(own.type for own in choice.definition.item.parameters if own.name == name)
    named = "" if kind is None else kind.name or ""
    fits = _FITS.get(named, lambda _: True)(value)
    if isinstance(value, Choice) or isinstance(choice.options[name], Choice):
        fits = isinstance(value, Choice) and value.family == named
    return (None if fits else f"`{name}` must be of the type `{named}`"), tuple(arguments.items())


def _solved(loop: Loop, name: str, value: Any) -> Loop:
    if name not in loop.solver.options:
        return loop
    arguments = tuple((word, value if word == name else own) for word, own in loop.solver.arguments)
    return loop.replace(solver=loop.solver.replace(arguments=arguments))


def _refuse(plan: Plan) -> None:
    """Raise what the rules lack with their new arguments."""
    own = plan.experiment
    values = {name: getattr(own, name) for name in ("loss", "optimizer", "stages", "groups", "batch", "data")}
    errors = [
        error
        for setting in settings(values | {"learn": own.rule}, own.graph)
        for error in rule_of(setting.choice).refusals(setting)
        if error.severity == "error"
    ]
    if errors:
        raise SpecError(tuple(errors))
