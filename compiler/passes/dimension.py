"""`dimension`: functional dimension, the rank of dF/dtheta, and the symmetries that no declaration shows.

In: a typed graph, trained states or none. Out: for each state the spectrum of the Jacobian, its rank, and
p - rank - (continuous dimension of the derived group) - (stored numbers that constraints do not use) = hidden
symmetries, by cause and by layer.
(Grigsby, Lindsey, Meyerhoff, Wu, Functional dimension of feedforward ReLU neural networks, 2022.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.fibres.probe import DEFAULT
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Pass, Plot, Result, Subject, Table
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.catalog import Argument, validate
from nnspec.dsl.diagnostics import Error, SpecError
from nnspec.dsl.errors.fibres import (
    RankPrecision,
    TooManyParameters,
    TooMuchWork,
    UnfitAnalysis,
    WeightsNotFinite,
)
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.emit.load import State
    from nnspec.compiler.fibres.hidden import Hidden

_LARGE = 1500  # parameters above which one set of weights is looked at
MOST_WORK = 1e12  # operations for derivatives: some minutes
_FLOOR = 1e-20  # of the largest singular value, below which a plot shows nothing


class Dimension(Pass):
    name = "dimension"
    heading = "Functional dimension"
    doc = """How many directions of the weights move the network's outputs, and why the others do not.

    The rank of the Jacobian of all outputs with respect to all learned weights, in double precision, on inputs
    that are doubled until it no longer grows. A singular value counts if it is above `tolerance` times the largest.
    What is left after the continuous dimension of the derived group and the redundant numbers that constraints store
    (masked entries, triangles of symmetric weights) are hidden symmetries, listed by cause: dead, constant,
    duplicate and always-on units, kernels of read-outs, directions within one linear map (its inputs do not fill their
    wire, or what follows forgets them), units' connections to themselves, what is free inside a constraint, polynomials of
    which many decompositions are one, statistics of a norm, weights behind a step, unknown."""
    arguments = (
        Argument(
            name="seeds",
            kind="int",
            doc=f"how many sets of random weights; none: 3, and 1 above {_LARGE:,} parameters",
            default=None,
            nullable=True,
            at_least=1,
        ),
        Argument(
            name="weights",
            kind="choice",
            choices=("initial", "normal"),
            doc="those the network begins with, or standard normal ones in every learned tensor",
            default="initial",
        ),
        Argument(name="probe", kind="probe", doc="the first inputs; more are drawn alike", default=DEFAULT),
        Argument(
            name="tolerance",
            kind="real",
            doc="of the largest singular value",
            default=1e-9,
            above=0,
            below=1,
        ),
        Argument(
            name="precision",
            kind="choice",
            choices=("float64", "float32"),
            doc="ranks need float64",
            default="float64",
        ),
    )

    def refusals(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        from nnspec.compiler.fibres.rank import PARAMETER_LIMIT

        if options["precision"] != "float64":
            yield RankPrecision(span, pass_name=self.name, precision=options["precision"])
        count = cost_table(graph).parameters
        if count > PARAMETER_LIMIT:
            yield TooManyParameters(
                span,
                pass_name=self.name,
                does="counts ranks of",
                limit=PARAMETER_LIMIT,
                network=graph.name,
                parameters=count,
                advice="analyse the same network with smaller widths",
            )
        elif (work := _work(graph, count)) > MOST_WORK:
            advice = "analyse the same network with smaller inputs, fewer weights, or fewer repetitions of its layers"
            yield TooMuchWork(
                span, pass_name=self.name, network=graph.name, work=work, limit=MOST_WORK, advice=advice
            )
        yield from fixed(graph, self.name, span)

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        given = complete(self, subject, options)
        found = _points(subject, given)
        return Result(
            data=_data(subject, found, given),
            summary=_summary(subject, found),
            tables=_tables(found),
            plots=(Plot(name="spectrum", draw=lambda axes: _draw(axes, found, given["tolerance"])),),
        )


def _work(graph: Graph, parameters: int) -> float:
    """Return how many operations the derivatives of two outputs for each weight take."""
    from nnspec.compiler.symmetry.draws import idealised

    return 2 * parameters * work_of_derivative(idealised(graph))


def work_of_derivative(graph: Graph) -> float:
    """Return how many operations it takes to differentiate one output of one sample: thrice a forward."""
    forward = cost_table(graph).flops
    return 3.0 * forward if isinstance(forward, int) else 0.0


def complete(one: Pass, subject: Subject, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return all options of a pass; raise SpecError for what it refuses, in them or in the states."""
    given, _ = validate(one.entry(), dict(options))
    errors = tuple(one.refusals(subject.graph, given, subject.experiment, subject.graph.root.span))
    if errors:
        raise SpecError(errors)
    refuse_infinite(subject, one.name)
    return given


def fixed(graph: Graph, pass_name: str, span: Span | None) -> Iterator[Error]:
    """Yield an error if no weight may move."""
    from nnspec.compiler.symmetry.draws import learned_keys

    if not learned_keys(graph):
        yield UnfitAnalysis(
            span,
            pass_name=pass_name,
            network=graph.name,
            why="it has no weights that may move by small steps",
            advice="give it a layer with learned weights that no straight-through constraint rounds",
        )


def refuse_infinite(subject: Subject, pass_name: str) -> None:
    """Raise SpecError naming tensors of trained states that hold NaN or infinity."""
    import torch

    for number, state in enumerate(subject.states):
        bad = [n for n, v in state.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
        if bad:
            where = f"{', '.join(f'`{name}`' for name in bad)} of {label_of(subject, number)}"
            raise SpecError((not_finite(subject.graph, pass_name, "weights", where),))


def not_finite(graph: Graph, pass_name: str, what: str, where: str) -> WeightsNotFinite:
    """Return the error for weights, outputs or derivatives that are NaN or infinite."""
    return WeightsNotFinite(graph.root.span, pass_name=pass_name, what=what, where=where)


def group_of(graph: Graph) -> SymmetryGroup | None:
    """Return the derived group; None where an operation states no relations."""
    try:
        return symmetry_group(graph)
    except SpecError:
        return None


def _points(subject: Subject, options: Mapping[str, Any]) -> list[Hidden]:
    from nnspec.compiler.fibres.hidden import hidden_at
    from nnspec.compiler.fibres.rank import NotFinite
    from nnspec.compiler.symmetry.draws import idealised

    group = group_of(subject.graph)
    graph = idealised(subject.graph)
    found: list[Hidden] = []
    for number, (label, state) in enumerate(_states(subject, options)):
        try:
            one = hidden_at(graph, group, state, options["probe"], label, number, options["tolerance"])
        except NotFinite as failure:
            error = not_finite(subject.graph, "dimension", str(failure), f"{label}, on the probe")
            raise SpecError((error,)) from None
        found.append(one)
    return found


def _states(subject: Subject, options: Mapping[str, Any]) -> Iterator[tuple[str, State]]:
    """Yield the trained states, or random ones, with what they are called."""
    from nnspec.compiler.emit.load import initial_state
    from nnspec.compiler.fibres.chart import normal_state

    if subject.states:
        yield from ((label_of(subject, number), state) for number, state in enumerate(subject.states))
        return
    drawn = normal_state if options["weights"] == "normal" else initial_state
    for seed in range(options["seeds"] or (1 if cost_table(subject.graph).parameters > _LARGE else 3)):
        yield f"seed {seed}", drawn(subject.graph, seed)


def label_of(subject: Subject, number: int) -> str:
    """Return what a trained state is called."""
    seeds = () if subject.experiment is None else subject.experiment.seeds
    return f"trained seed {seeds[number]}" if number < len(seeds) else f"state {number}"


def _data(subject: Subject, found: list[Hidden], options: Mapping[str, Any]) -> dict[str, Any]:
    group = group_of(subject.graph)
    return {
        "network": subject.graph.name,
        "parameters": found[0].parameters,
        "declared": None if group is None else found[0].declared,
        "redundant": found[0].redundant,
        "completeness": None if group is None else group.completeness,
        "dimension": max(one.spectrum.rank for one in found),
        "tolerance": options["tolerance"],
        "dtype": "float64",
        "stored": _stored(subject),
        "points": [one.json() for one in found],
    }


def _stored(subject: Subject) -> str:
    """Return the number type in which trained weights were stored."""
    for state in subject.states:
        for value in state.values():
            if value.is_floating_point():
                return str(value.dtype).removeprefix("torch.")
    return "float64"


def _summary(subject: Subject, found: list[Hidden]) -> str:
    ranks = sorted({one.spectrum.rank for one in found})
    hidden = sorted({one.hidden for one in found})
    stored = found[0].redundant
    unused = f" {stored:,} are stored numbers that constraints do not use," if stored else ""
    text = (
        f"{subject.graph.name} has {found[0].parameters:,} parameters; {_range(ranks)} directions move its outputs, "
        f"{found[0].declared:,} are declared symmetries,{unused} {_range(hidden)} hidden."
    )
    if _stored(subject) == "float32":
        text += " Its float32 weights were taken as they are; all was computed in float64."
    if not all(one.spectrum.settled for one in found):
        text += " The rank was still growing with the inputs: it is a lower bound."
    group = group_of(subject.graph)
    if group is not None and not group.is_exact and max(hidden):
        text += (
            " The declared group is a lower bound here, so some that are hidden may be the architecture's."
        )
    if group is None:
        text += (
            " Some operation states no relations, so no symmetry is declared and all are counted as hidden."
        )
    return text


def _range(numbers: list[int]) -> str:
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def _tables(found: list[Hidden]) -> tuple[Table, ...]:
    gaps = [one.spectrum.gap for one in found]
    rows = tuple(
        (
            one.label,
            one.spectrum.rank,
            one.spectrum.nullity,
            one.declared,
            one.redundant,
            one.hidden,
            _causes(one),
            one.spectrum.inputs,
            None if gap == float("inf") else gap,
        )
        for one, gap in zip(found, gaps, strict=True)
    )
    columns = ("weights", "rank", "nullity", "declared", "redundant", "hidden", "because", "inputs", "gap")
    tables = [Table(title="Functional dimension", columns=columns, rows=rows)]
    units = tuple(
        (one.label, u.wire, len(u.kinds), *_counts(u), 100 * min(u.active), 100 * max(u.active))
        for one in found
        for u in one.units
        if u.functions
    )
    if units:
        columns = ("weights", "wire", "units", "dead", "constant", "always on", "duplicates")
        shares = ("least active, %", "most active, %")
        tables.append(Table(title="Units on the probe", columns=(*columns, *shares), rows=units))
    layers = tuple(
        (one.label, key, 100 * share) for one in found for key, share in one.layers.items() if share > 0.005
    )
    if layers:
        columns = ("weights", "tensor", "share, %")
        tables.append(Table(title="Where the hidden directions lie", columns=columns, rows=layers))
    return tuple(tables)


def _counts(u: Any) -> tuple[int, int, int, int]:
    doubles = sum(len(group) - 1 for group in u.doubles)
    return u.count("dead"), u.count("constant"), u.count("always on"), doubles


def _causes(one: Hidden) -> str:
    return ", ".join(f"{cause}: {count}" for cause, count in one.causes.items() if count)


def _draw(axes: Any, found: list[Hidden], tolerance: float) -> None:
    """Draw the singular values of each point, and the tolerance that parts them."""
    from nnspec.compiler.runtime.figures import GREY, OTHERS

    for number, one in enumerate(found[:4]):
        values = [value / one.spectrum.values[0] for value in one.spectrum.values]
        places = range(1, len(values) + 1)
        shown = [max(value, _FLOOR) for value in values]
        style = "o" if len(values) <= 60 else "."
        axes.plot(places, shown, style, markersize=3, color=OTHERS[number % 4], label=one.label, alpha=0.8)
    axes.axhline(tolerance, color=GREY, linewidth=0.8, linestyle="--")
    across = axes.get_yaxis_transform()
    axes.text(0.99, tolerance, "tolerance", color=GREY, fontsize=7, va="bottom", ha="right", transform=across)
    axes.set_yscale("log")
    axes.set_ylim(_FLOOR / 5, 5)
    axes.set_xlabel("index")
    axes.set_ylabel("singular value / largest")
    axes.set_title("spectrum of dF/dθ", loc="left")
    axes.grid(axis="y", color=GREY, alpha=0.18, linewidth=0.6)
    if len(found) > 1:
        axes.legend(fontsize=7, loc="lower left")


PASSES = (Dimension(),)
