"""`stability`: whether the states of a network settle, where, and whether they stay.

In: a network with loops, or an experiment on one with its data. Out: for each loop and each state of the weights the
spectrum at the equilibrium, Gershgorin's discs, residuals, equilibria from random starts, and how paths come together.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.checks.loops import Placed, loops
from nnspec.compiler.experiment import Experiment
from nnspec.compiler.fibres.probe import draw_probe
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Pass, Plot, Result, Subject
from nnspec.compiler.passes.dimension import label_of
from nnspec.dsl.catalog import Argument, validate
from nnspec.dsl.diagnostics import Error, SpecError
from nnspec.dsl.errors.checks import NoLoop, TooManyUnits
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.emit.load import State

_MOST_UNITS = 3_000  # whose Jacobian is written out


class StabilityPass(Pass):
    name = "stability"
    doc = """Whether states settle, under `dynamics` or in an `equilibrium` layer, and whether they stay there.

    At the equilibrium of each of `samples` inputs: the eigenvalues of the Jacobian (a map s = f(s) comes back to it if all are
    within the unit disc, a flow ds/dt = f(s) if all are left of the imaginary axis), the discs of Gershgorin around
    them, which may prove it, and the contraction: the largest singular value, or of a flow the largest eigenvalue of
    the symmetric part. From its own start: the residual at each step. From `starts` random ones: how many equilibria
    they end at, whether the energy falls, where there is one, and the largest Lyapunov exponent of the way. Steps
    are plain ones, with the solver's damping or time step; inputs are rows of the training part, or drawn normally."""
    arguments = (
        Argument(
            name="weights",
            kind="choice",
            choices=("trained", "initial"),
            doc="of an experiment; those of a network alone are as it begins",
            default="trained",
        ),
        Argument(name="samples", kind="int", doc="how many inputs", default=4, at_least=1),
        Argument(name="starts", kind="int", doc="random starts of each", default=20, at_least=1),
        Argument(
            name="spread",
            kind="real",
            doc="random starts lie between -spread and spread, or within `clip`",
            default=1.0,
            above=0,
        ),
        Argument(name="steps", kind="int", doc="of each path", default=500, at_least=2),
        Argument(
            name="tolerance", kind="real", doc="the residual of what has settled", default=1e-6, above=0
        ),
        Argument(name="seed", kind="int", doc="of what is drawn", default=0, at_least=0),
    )

    def refusals(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        if not loops(graph):
            yield NoLoop(span, pass_name=self.name, network=graph.name)

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        return options.get("weights", "trained") == "trained"

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.checks import stability_views as views
        from nnspec.compiler.checks.motions import motions_of
        from nnspec.compiler.checks.stability import Settings, numbers, stability

        given, _ = validate(self.entry(), dict(options))
        errors = tuple(self.refusals(subject.graph, given, subject.experiment, subject.graph.root.span))
        if errors:
            raise SpecError(errors)
        settings = Settings(**{name: given[name] for name in Settings._fields})
        found: list[dict[str, Any]] = []
        plots: list[Plot] = []
        for label, state in _states(subject, given):
            inputs = _inputs(subject, given)
            for placed in loops(subject.graph):
                made = motions_of(subject.graph, placed, state, inputs)
                self._refuse(subject.graph, made)
                one = stability(made, settings)
                data = {"loop": _named(placed), "weights": label, "solver": placed.loop.solver.name}
                found.append(data | numbers(one))
                plots += views.plots(one, f"{_named(placed)}, {label}")
        return Result(
            data={"network": subject.graph.name, "loops": found},
            summary=" ".join(map(views.summary, found)),
            tables=views.tables(found),
            plots=tuple(plots),
        )

    def _refuse(self, graph: Graph, motions: Any) -> None:
        import torch

        units = motions(torch.tensor([0])).start.shape[1]
        if units > _MOST_UNITS:
            facts: dict[str, Any] = {
                "pass_name": self.name,
                "network": graph.name,
                "units": units,
                "limit": _MOST_UNITS,
            }
            raise SpecError((TooManyUnits(None, **facts),))


def _named(placed: Placed) -> str:
    return f"{placed.path}.{placed.loop.name}" if placed.path else placed.loop.name


def _states(subject: Subject, options: Mapping[str, Any]) -> Iterator[tuple[str, State]]:
    from nnspec.compiler.emit.load import initial_state
    from nnspec.compiler.runtime.short_training import initial_weights

    if options["weights"] == "trained" and subject.states:
        yield from ((label_of(subject, number), state) for number, state in enumerate(subject.states))
    elif subject.plan is not None and subject.experiment is not None:
        for seed in subject.experiment.seeds:
            yield f"initial, seed {seed}", initial_weights(subject.plan, seed)
    else:
        yield f"initial, seed {options['seed']}", initial_state(subject.graph, options["seed"])


def _inputs(subject: Subject, options: Mapping[str, Any]) -> tuple[Tensor, ...]:
    """Return the first rows of the training part, or inputs that are drawn, in double precision."""
    from nnspec.compiler.experiment import Choice

    samples = options["samples"]
    if subject.plan is not None:
        rows = tuple(values[:samples].cpu() for values in subject.plan.train.inputs)
        return tuple(values.double() if values.is_floating_point() else values for values in rows)
    probe = Choice(family="probe", name="gaussian", arguments=(("samples", samples), ("scale", 1.0)))
    return draw_probe(subject.graph, probe, options["seed"])


PASSES = (StabilityPass(),)
