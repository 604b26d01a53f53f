"""`surviving`: the connections that pruning left, as a directed graph, with dead units and its symmetry group.

In: a network whose units are joined by linear maps (a system, or a chain), and its trained or first weights. Out: what is left.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Pass, Result, Subject, Table
from nnspec.compiler.passes.unit_states import WEIGHTS, states
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.checks.survival import Survival

_MOST_EDGES = 20_000  # that are listed
_MOST_NAMED = 12  # units in a sentence or a row


class Surviving(Pass):
    name = "surviving"
    heading = "What survives"
    doc = """What pruning left of the connections between the units of a network: a directed graph of inputs, hidden units and
    outputs. Hidden units from which no way leads to an output are dead. Reported with it is the symmetry group of
    the network that has these connections alone: the order of its discrete part, and which units it exchanges."""
    arguments = (
        WEIGHTS,
        Argument(name="seeds", kind="int", doc="how many of the experiment's", default=1, at_least=1),
        Argument(
            name="below",
            kind="real",
            doc="weights of this magnitude at most count as gone, beside those that are 0",
            default=0.0,
            at_least=0,
        ),
    )
    example = "analyze boltzmann_digits { surviving }"

    def refusals(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        from nnspec.compiler.passes.unit_states import unfit

        yield from unfit(self.name, graph, span)

    def reads_weights(self, options: Mapping[str, Any]) -> bool:
        return options.get("weights", "trained") == "trained"

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.checks.survival import survival
        from nnspec.compiler.checks.wiring_views import graph_plot
        from nnspec.compiler.passes.unit_states import complete, wired

        given = complete(self, subject, options)
        found = [
            survival(label, wired(self.name, subject.graph, state), given["below"])
            for label, state in states(subject, given)
        ]
        return Result(
            data={"network": subject.graph.name, "weights": [_data(one) for one in found]},
            summary=" ".join(map(_sentence, found)),
            tables=(_table(found), *_orbits(found)),
            plots=tuple(graph_plot(one) for one in found),
        )


def _data(found: Survival) -> dict[str, Any]:
    wiring, group = found.wiring, found.group
    neurons = group.derivation.neurons
    edges = [
        {"from": wiring.name(source), "to": wiring.name(target), "weight": weight}
        for source, target, weight in found.edges
    ]
    return {
        "weights": found.label,
        "groups": [{"name": g.name, "kind": g.kind, "units": g.size} for g in wiring.groups],
        "connections": len(edges),
        "allowed": found.allowed,
        "sparsity": 1 - len(edges) / found.allowed if found.allowed else None,
        "dead": [wiring.name(unit) for unit in found.dead],
        "unfed": [wiring.name(unit) for unit in found.unfed],
        "symmetry": {
            "order": None if group.order is None else str(group.order),
            "log10_order": group.log10_order,
            "continuous_dimension": group.continuous_dimension,
            "factors": [factor.group for factor in group.factors],
            "exact": neurons is None or neurons.exact,
            "orbits": [[wiring.name(unit) for unit in units] for units in found.orbits],
        },
        "edges": edges if len(edges) <= _MOST_EDGES else None,
    }


def _sentence(found: Survival) -> str:
    gone = 1 - len(found.edges) / max(1, found.allowed)
    text = f"{found.label.capitalize()}: {len(found.edges):,} of {found.allowed:,} connections are left ({gone:.1%} gone)"
    if found.dead:
        text += f"; no way leads to an output from {_named(found, found.dead)}"
    moved = sum(map(len, found.orbits))
    said = f"; its symmetry group has {_order(found)} discrete elements"
    return f"{text}{said}{f' and exchanges {moved} units' if moved else ', and exchanges no units'}."


def _order(found: Survival) -> str:
    group = found.group
    known = group.order is not None and group.order < 10**9
    return f"{group.order:,}" if known else f"10^{group.log10_order:.1f}"


def _named(found: Survival, units: Sequence[int]) -> str:
    names = [found.wiring.name(unit) for unit in units[:_MOST_NAMED]]
    return ", ".join(names) + (f" and {len(units) - _MOST_NAMED} more" if len(units) > _MOST_NAMED else "")


def _table(found: Sequence[Survival]) -> Table:
    rows = tuple(
        (
            one.label,
            len(one.edges),
            one.allowed,
            len(one.dead),
            len(one.unfed),
            _order(one),
            ", ".join(factor.group for factor in one.group.factors) or "1",
        )
        for one in found
    )
    columns = ("weights", "connections", "of", "dead", "unfed", "order of the group", "its factors")
    return Table(title="What survives", columns=columns, rows=rows)


def _orbits(found: Sequence[Survival]) -> tuple[Table, ...]:
    rows = tuple((one.label, len(units), _named(one, units)) for one in found for units in one.orbits)
    columns = ("weights", "size", "units")
    return (Table(title="Units that the group exchanges", columns=columns, rows=rows),) if rows else ()


PASSES = (Surviving(),)
