"""`symmetry`: the parameter symmetries of a network, derived from its spec.

In: a typed graph. Out: wires with their groups and why, the order of the component group, the dimension of
the continuous one by family, and how complete that is. With `verify`, generators and the Jacobian's nullity
at random weights.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Cell, Pass, Picture, Plot, Result, Subject, Table
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.catalog import Argument

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.verification import Verification


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
        found = self.verify(subject, group, options.get("seed", 0)) if options.get("verify", False) else None
        data = group.json(self.weights(subject, options))
        data["verified"] = None if found is None else found.json()
        tables, plots = [_wires(group), _factors(group), _families(group), _theorems(data)], [*_plots(group)]
        summary = _summary(group, str(data["completeness"]))
        if found is not None:
            tables += [_verified(found), _hidden(found)]
            plots += _spectrum(found)
            summary += f" {_verdict(group, found)}"
        return Result(
            data=data,
            summary=summary,
            tables=tuple(table for table in tables if table.rows),
            plots=tuple(plots),
            pictures=tuple(_pictures(subject, group)),
        )

    def weights(self, subject: Subject, options: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
        """Return the weights on which theorems are tested: trained ones, or those of one initialisation."""
        if subject.states or not options.get("verify", False):
            return subject.states
        from nnspec.compiler.emit.load import initial_state

        return (initial_state(subject.graph, options.get("seed", 0)),)

    def verify(self, subject: Subject, group: SymmetryGroup, seed: int) -> Verification:
        """Return what the guards found; SpecError for what cannot be verified."""
        from nnspec.compiler.symmetry.verification import verify

        seeds = () if subject.experiment is None else subject.experiment.seeds
        return verify(subject.graph, group, seed, tuple(zip(seeds, subject.states, strict=False)))


def _pictures(subject: Subject, group: SymmetryGroup) -> Iterator[Picture]:
    def draw(depth: int | None) -> str:
        from nnspec.compiler.diagrams.symmetry import draw_symmetry

        return draw_symmetry(subject.graph, group, depth=depth)

    yield Picture(name="wires by what acts on them", draw=draw)


def _wires(group: SymmetryGroup) -> Table:
    rows = tuple(
        (w.name, w.size, w.group, w.multiplicity, w.reason, w.line if w.file is None else w.place)
        for w in group.wires
    )
    return Table(title="Wires", columns=("wire", "size", "group", "times", "because", "line"), rows=rows)


def _families(group: SymmetryGroup) -> Table:
    rows = tuple((name, count) for name, count in group.families.items() if count)
    return Table(title="Continuous directions", columns=("family", "dimension"), rows=rows)


def _factors(group: SymmetryGroup) -> Table:
    rows = tuple((f.group, f.wire, f.log10_order) for f in group.factors)
    return Table(title="Factors of the discrete part", columns=("group", "wire", "log10 of order"), rows=rows)


def _verified(found: Verification) -> Table:
    """One row for each seed; of a large network one for what was looked at."""
    rows: list[tuple[Cell, ...]] = [
        (
            f"{which}, seed {one.seed}",
            one.generators,
            _rough(one.max_output_error),
            one.nullity,
            _rough(one.gap),
        )
        for which, trials in (("random", found.trials), ("trained", found.given))
        for one in trials
    ]
    if not rows:
        rows = [("random", *found.tried, None, None)]
    columns = ("weights", "generators", "largest change over the output", "nullity", "gap in the spectrum")
    return Table(title="Verified", columns=columns, rows=tuple(rows))


def _hidden(found: Verification) -> Table:
    rows = tuple((label, cause, count) for label, causes in found.hidden for cause, count in causes.items())
    return Table(
        title="Hidden directions, beyond those derived", columns=("weights", "cause", "directions"), rows=rows
    )


def _rough(number: float) -> float | None:
    """Return a number to two digits, of which the order of magnitude matters; None if it is not finite."""
    return float(f"{number:.2g}") if isfinite(number) else None


def _theorems(data: Mapping[str, Any]) -> Table:
    said = {True: "yes", False: "no", None: "not settled"}
    rows = tuple(
        (
            one["name"],
            one["statement"],
            "yes" if one["matches"] else "no, it allows more",
            "; ".join(one["violated"][:3]) or said[one["holds"]],
            one["read"],
        )
        for one in data["theorems"]
    )
    columns = ("theorem", "says", "group is as large", "condition holds on the weights", "read")
    return Table(title="Theorems that cover it", columns=columns, rows=rows)


def _summary(group: SymmetryGroup, completeness: str) -> str:
    small = group.order is not None and group.order < 10**15
    order = f"{group.order:,}" if small else f"about 10^{group.log10_order:.1f}"
    article = "" if completeness.startswith("complete") else "a "
    equivalents = "discrete equivalent" if group.order == 1 else "discrete equivalents"
    return (
        f"{group.network} has {order} {equivalents} of each weight and "
        f"{group.continuous_dimension:,} flat directions. The group is {article}{completeness}."
    )


def _verdict(group: SymmetryGroup, found: Verification) -> str:
    """Say in a sentence or two what verification came to."""
    tried = f"{found.generators} generators change no output by more than {found.max_output_error:.1e} of it"
    if found.surplus is None:
        part = found.sampled
        if part is None:
            return f"Verified in part: {tried}; the Jacobian is too large to look at."
        return (
            f"Verified in part: {tried}; of {found.parameters:,} parameters {part.columns:,} were moved, with "
            f"{part.nullity} flat directions among them, {part.derived} of these from the group at least."
        )
    seeds = f"{len(found.trials)} seeds"
    trained = {label: sum(own.values()) for label, own in found.hidden if label.startswith("trained")}
    also = "".join(
        f" With flat sides as they are, {count} more are flat at the weights called `{label}`."
        for label, count in trained.items()
    )
    if not found.surplus:
        counted = ""
        if group.redundant:
            counted = f" beside {group.redundant:,} stored numbers that constraints do not use"
        return (
            f"Verified: {tried}, and the Jacobian has as many flat directions{counted}, over {seeds}.{also}"
        )
    more = f"the Jacobian has {found.surplus} more flat directions than were derived, at each of {seeds}"
    claimed = " though none more were expected" if group.is_exact else ""
    return f"Verified as a lower bound: {tried}; {more}{claimed}.{also}"


def _plots(group: SymmetryGroup) -> Iterator[Plot]:
    if sum(bool(count) for count in group.families.values()) > 1:
        yield Plot(name="flat directions by family", draw=lambda axes: _draw(axes, group))


def _spectrum(found: Verification) -> Iterator[Plot]:
    best = found.best
    if best is not None and len(best.spectrum.values) > 1:
        values, rank = best.spectrum.values, best.spectrum.rank
        name = f"singular values of the Jacobian, seed {best.seed}"
        yield Plot(name=name, draw=lambda axes: draw_spectrum(axes, values, rank))


def draw_spectrum(axes: Any, values: Sequence[float], rank: int) -> None:
    """Draw singular values over the largest, with the gap between those kept and those dropped."""
    top = values[0] or 1.0
    floor = 1e-18
    shown = [max(value / top, floor) for value in values]
    kept, dropped = shown[:rank], shown[rank:]
    axes.semilogy(range(1, rank + 1), kept, color="#3b78b8", marker=".", markersize=3, linewidth=0.8)
    if dropped:
        places = range(rank + 1, len(shown) + 1)
        axes.semilogy(places, dropped, color="#d08a2e", marker=".", markersize=3, linewidth=0.8)
        axes.axvspan(rank + 0.5, len(shown) + 0.5, color="#d08a2e", alpha=0.12, linewidth=0)
    axes.set_xlabel("number")
    axes.set_ylabel("singular value / largest")
    axes.set_title(f"rank {rank}, {len(dropped)} flat", loc="left")


def _draw(axes: Any, group: SymmetryGroup) -> None:
    found = {name: count for name, count in group.families.items() if count}
    axes.barh(list(found)[::-1], list(found.values())[::-1], height=0.5, color="#3b78b8")
    axes.set_xlabel("dimension")
    axes.set_title("flat directions by family", loc="left")


PASSES = (Symmetry(),)
