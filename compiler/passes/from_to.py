"""`from_to`: the weights between all units of a network as one matrix, before and after training.

In: a network whose units are joined by linear maps (a system, or a chain). Out: W[to, from], group by group.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Cell, Pass, Result, Subject, Table
from nnspec.compiler.passes.unit_states import complete, states, unfit, wired
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.checks.wiring import Wiring


class FromTo(Pass):
    name = "from_to"
    heading = "Weights from and to each unit"
    doc = """The weights between all units of a network as one matrix: a row for each unit that is reached, a column for each from
    which, group by group. Positive and negative weights have colours of their own, connections that there are not, or
    that pruning took, are blank. Of an experiment, as it began and as it ended."""
    arguments = (
        Argument(name="seeds", kind="int", doc="how many of the experiment's", default=1, at_least=1),
    )
    example = "analyze boltzmann_digits { from_to }"

    def refusals(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        yield from unfit(self.name, graph, span)

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.checks.wiring_views import matrix_plot

        given = complete(self, subject, options)
        before = _wirings(self.name, subject, given | {"weights": "initial"})
        after = _wirings(self.name, subject, given | {"weights": "trained"}) if subject.states else []
        pairs = list(zip(before, after, strict=True)) if after else [(one,) for one in before]
        found = [*before, *after]
        name = f"weights from and to each unit of {subject.graph.name}"
        return Result(
            data=_data(subject.graph.name, found),
            summary=_summary(subject.graph.name, found),
            tables=(_table(found),),
            plots=tuple(matrix_plot(pair, name) for pair in pairs),
        )


def _wirings(name: str, subject: Subject, given: Mapping[str, Any]) -> list[tuple[str, Wiring]]:
    return [(label, wired(name, subject.graph, state)) for label, state in states(subject, given)]


def _data(name: str, found: Sequence[tuple[str, Wiring]]) -> dict[str, Any]:
    _, first = found[0]
    matrices: list[dict[str, Any]] = []
    for label, wiring in found:
        rows: Any = wiring.matrix
        matrices.append({"weights": label, "matrix": rows.tolist(), "blocks": list(_blocks(wiring))})
    groups = [{"name": g.name, "kind": g.kind, "begin": g.begin, "units": g.size} for g in first.groups]
    return {"network": name, "groups": groups, "weights": matrices}


def _blocks(wiring: Wiring) -> Iterator[dict[str, Any]]:
    """Yield what joins one group to another: how many connections there are of those there may be, and their size."""
    for target in wiring.groups:
        for source in wiring.groups:
            at = (
                slice(target.begin, target.begin + target.size),
                slice(source.begin, source.begin + source.size),
            )
            allowed = int(wiring.possible[at].sum())
            if allowed:
                own: Any = wiring.matrix[at]
                there = own[own != 0]
                yield {
                    "from": source.name,
                    "to": target.name,
                    "connections": len(there),
                    "allowed": allowed,
                    "rms": float(there.square().mean()) ** 0.5 if len(there) else None,
                    "positive": float((there > 0).double().mean()) if len(there) else None,
                }


def _summary(name: str, found: Sequence[tuple[str, Wiring]]) -> str:
    counts = [
        f"{int((w.matrix != 0).sum()):,} of {int(w.possible.sum()):,} connections ({label})"
        for label, w in found
    ]
    return f"{name} has {found[0][1].units} units; there are {', '.join(counts)}."


def _table(found: Sequence[tuple[str, Wiring]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (label, own["from"], own["to"], own["connections"], own["allowed"], own["rms"], own["positive"])
        for label, wiring in found
        for own in _blocks(wiring)
    ]
    columns = ("weights", "from", "to", "connections", "of", "root mean square", "share positive")
    return Table(title="Connections between groups", columns=columns, rows=tuple(rows))


PASSES = (FromTo(),)
