"""`symmetry`: the parameter symmetries of a network, derived from its spec.

In: a typed graph. Out: wires with their groups and why, the order of the component group, the dimension of
the continuous one by family, and how complete that is. With `verify`, generators and the Jacobian's nullity
at random weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnspec.compiler.passes.analysis import Pass, Plot, Result, Subject, Table
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.passes import TooLargeToVerify


class Symmetry(Pass):
    name = "symmetry"
    doc = """Which changes of the weights leave the network's function as it is.

    Derived from the relations that every operation states: permutations, signs, scales, shifts, GL and O
    groups of each wire, without weights. `verify` applies the generators to random weights in double
    precision and compares the dimension with the nullity of the Jacobian."""
    arguments = (
        Argument(name="verify", kind="bool", doc="try the group on random weights", default=False),
        Argument(name="seed", kind="int", doc="of those weights", default=0, at_least=0),
    )

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        group = symmetry_group(subject.graph)
        data = group.json()
        tables = [_wires(group), _families(group)]
        if options.get("verify", False):
            data["verified"] = verified = self.verify(subject, group, options.get("seed", 0))
            rows = tuple((name, value) for name, value in verified.items())
            tables.append(Table(title="Verified", columns=("what", "value"), rows=rows))
        else:
            data["verified"] = None
        several = sum(bool(count) for count in group.families.values()) > 1
        plots = (Plot(name="dimensions", draw=lambda axes: _draw(axes, group)),) if several else ()
        return Result(data=data, summary=_summary(group), tables=tuple(tables), plots=plots)

    def verify(self, subject: Subject, group: SymmetryGroup, seed: int) -> dict[str, Any]:
        """Return what the guards found, or raise SpecError if the network is too large for them."""
        from nnspec.compiler.symmetry.guards import PARAMETER_LIMIT, verify_group

        count = cost_table(subject.graph).parameters
        if count > PARAMETER_LIMIT:
            error = TooLargeToVerify(
                subject.graph.root.inputs[0].span if subject.graph.root.inputs else None,
                pass_name=self.name,
                limit=PARAMETER_LIMIT,
                network=subject.graph.name,
                parameters=count,
            )
            raise SpecError((error,))
        return verify_group(subject.graph, group, seed).json()


def _wires(group: SymmetryGroup) -> Table:
    rows = tuple((w.name, w.size, w.group, w.multiplicity, w.reason, w.line) for w in group.wires)
    return Table(title="Wires", columns=("wire", "size", "group", "times", "because", "line"), rows=rows)


def _families(group: SymmetryGroup) -> Table:
    rows = tuple((name, count) for name, count in group.families.items() if count)
    return Table(title="Continuous directions", columns=("family", "dimension"), rows=rows)


def _summary(group: SymmetryGroup) -> str:
    small = group.order is not None and group.order < 10**15
    order = f"{group.order:,}" if small else f"about 10^{group.log10_order:.1f}"
    return (
        f"{group.network} has {order} discrete equivalents of each weight and "
        f"{group.continuous_dimension:,} flat directions ({group.completeness})."
    )


def _draw(axes: Any, group: SymmetryGroup) -> None:
    found = {name: count for name, count in group.families.items() if count}
    axes.barh(list(found)[::-1], list(found.values())[::-1], height=0.5, color="#3b78b8")
    axes.set_xlabel("dimension")
    axes.set_title("flat directions by family", loc="left")


PASSES = (Symmetry(),)
