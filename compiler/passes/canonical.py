"""`canonical`: one and the same member for all weights that the group makes of each other, as a hash.

In: a network at initialisation, or the trained weights of an experiment. Out: by seed the hash of the canonical member
and what could not be told apart; the distances between seeds modulo symmetry. With `enumerate`, the size of each
orbit of the component group, counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Pass, Result, Subject, Table
from nnspec.compiler.passes.cost import cost_table
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import SpecError
from nnspec.dsl.errors.weights import TooLargeToCompare

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.record import SymmetryGroup

_MOST_PAIRS = 10  # seeds whose distances are taken
MOST_PARAMETERS = 20_000_000


class CanonicalForm(Pass):
    name = "canonical"
    heading = "Canonical forms"
    doc = """The canonical member of the orbit of given weights: scales and GL balanced to the least sum of squares, rotations
    to principal axes, units sorted, signs fixed. Its hash is that of all weights that symmetries make of each other; of
    several seeds the distances modulo symmetry are given too. `enumerate` counts the orbit of the component group element
    by element, for small networks."""
    arguments = (
        Argument(name="enumerate", kind="bool", doc="count the orbit element by element", default=False),
        Argument(
            name="limit", kind="int", doc="elements that are counted at most", default=20000, at_least=1
        ),
    )

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.emit.load import initial_state
        from nnspec.compiler.symmetry.align import align
        from nnspec.compiler.symmetry.canonical import canonical
        from nnspec.compiler.symmetry.enumeration import orbit_size
        from nnspec.compiler.symmetry.group import symmetry_group
        from nnspec.compiler.symmetry.weights import checked, in_use

        parameters = cost_table(subject.graph).parameters
        if parameters > MOST_PARAMETERS:
            error = TooLargeToCompare(
                None,
                pass_name=self.name,
                limit=MOST_PARAMETERS,
                network=subject.graph.name,
                parameters=parameters,
            )
            raise SpecError((error,))
        group = symmetry_group(subject.graph)
        seeds = (0,) if subject.experiment is None else subject.experiment.seeds
        given = subject.states or (initial_state(subject.graph, 0),)
        states = [
            in_use(subject.graph, checked(subject.graph, state, f"seed {seed}"))
            for seed, state in zip(seeds, given, strict=True)
        ]
        limit = options.get("limit", 20000)
        members: list[dict[str, Any]] = []
        for seed, state in zip(seeds, states, strict=True):
            found = canonical(group, state)
            size = orbit_size(group, state, limit) if options.get("enumerate") else None
            members.append({"seed": seed, "hash": found.hash, "notes": list(found.notes), "orbit": size})
        near = states[:_MOST_PAIRS]
        distances: list[dict[str, Any]] = [
            {"seeds": [seeds[i], seeds[j]], "distance": align(group, near[i], near[j]).after}
            for j in range(len(near))
            for i in range(j)
        ]
        data = {"members": members, "distances": distances}
        count = len({member["hash"] for member in members})
        left = any(member["notes"] for member in members)
        apart = "canonical forms; where something was left, one orbit may have several"
        several = f"{count} {apart if left else 'networks that no element of the group makes of each other'}"
        what = "one network" if count == 1 else several
        return Result(
            data=data, summary=f"{subject.graph.name}: {what}.", tables=_tables(data, _at_most(group, limit))
        )


def _tables(data: Mapping[str, list[dict[str, Any]]], bound: str) -> tuple[Table, ...]:
    """Return the members, with what is known of orbits that were not counted, and distances where there are pairs."""
    members = Table(
        title="Canonical members",
        columns=("seed", "hash", "orbit", "notes"),
        rows=tuple(
            (m["seed"], m["hash"], m["orbit"] or bound, "; ".join(m["notes"]) or "none")
            for m in data["members"]
        ),
    )
    if not data["distances"]:
        return (members,)
    distances = Table(
        title="Distances of the second, aligned, from the first",
        columns=("seeds", "over the norm of the first"),
        rows=tuple((f"{d['seeds'][0]} and {d['seeds'][1]}", d["distance"]) for d in data["distances"]),
    )
    return (members, distances)


def _at_most(group: SymmetryGroup, limit: int) -> str:
    """Return what is known of the size of an orbit that is not counted."""
    if group.order is not None and group.order <= limit:
        return f"at most {group.order:,}"
    return f"too large to count: at most 10^{group.log10_order:.1f}"


PASSES = (CanonicalForm(),)
