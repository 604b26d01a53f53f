"""What a derivation rests on: relations, spaces, kinds and the three systems of equations.

In: a typed graph; no weights. `Derivation` answers what acts on one index space, and how many dimensions a
system of equations has on the weights.
"""

from __future__ import annotations

from functools import cached_property
from typing import Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.actions import scales, signs
from nnspec.compiler.symmetry.composites import Unseen, unseen_directions
from nnspec.compiler.symmetry.forgetting import Forgotten, forgotten_directions
from nnspec.compiler.symmetry.kinds import Kind, kinds
from nnspec.compiler.symmetry.relate import Related, relate_graph
from nnspec.compiler.symmetry.shifts import shifts
from nnspec.compiler.symmetry.spaces import Atom, Spaces
from nnspec.compiler.symmetry.unknowns import Unknowns


class Derivation:
    """All that was derived from the relations of a network."""

    def __init__(self, graph: Graph) -> None:
        self.related: Related = relate_graph(graph)
        self.spaces = Spaces(self.related)
        self.kinds: dict[Atom, Kind] = kinds(self.spaces)
        self.scales = scales(self.spaces)
        self.signs = signs(self.spaces)
        self.shifts = shifts(self.spaces)
        self.unseen: Unseen = unseen_directions(self.related)
        self.forgotten: tuple[Forgotten, ...] = forgotten_directions(self.related, self.unseen.alone)
        self.weights = [c.name for c in self.related.carriers.values() if c.kind == "weight"]
        self.classes = self.spaces.classes()
        self.weight_atoms = {
            space: [a for a in atoms if self.related.carriers[a.tensor].kind == "weight"]
            for space, atoms in self.classes.items()
        }
        self.used = [space for space, atoms in self.weight_atoms.items() if atoms]  # those that weights have

    @cached_property
    def groups(self) -> dict[Atom, str]:
        """What acts on each used space: "linear", "orthogonal", "centred", "monomial" or "fixed"."""
        return {space: self._group_of(space) for space in self.used}

    def of_group(self, group: str) -> list[Atom]:
        """Return the used spaces on which this kind of group acts."""
        return [space for space in self.used if self.groups[space] == group]

    def rank(self, system: Unknowns, space: Atom) -> int:
        """Return how many independent actions the entries of a space have on the weights."""
        if self.spaces.sizes[space] == 1:
            return 0
        return system.vectors[space].rank(self.weight_atoms[space])

    def _group_of(self, space: Atom) -> str:
        kind = self.kinds[space].name
        if space in self.spaces.fixed:
            return "fixed"
        if kind != "linear" or self.spaces.sizes[space] == 1:
            return kind
        scale, sign = self.rank(self.scales, space), self.rank(self.signs, space)
        if scale == 1 and sign == 1:
            return "linear"
        # A wire that meets its own dual (a transposed tie) keeps what is its own inverse transpose.
        return "orthogonal" if scale == 0 and sign == 1 else "monomial"

    def joint_rank(self, system: Unknowns) -> int:
        """Return the dimension of what acts on the weights alike at all indices."""
        names: list[Any] = [name for weight in self.weights for name in system.joint_unknowns(weight)]
        return system.joint.rank(names)

    def total_rank(self, system: Unknowns, tensors: list[str]) -> int:
        """Return the dimension of what acts on some tensors."""
        joint = system.joint.rank([name for tensor in tensors for name in system.joint_unknowns(tensor)])
        atoms: dict[Atom, list[Atom]] = {}
        for tensor in tensors:
            for atom in system.tensor_atoms(tensor):
                atoms.setdefault(self.spaces.space(atom), []).append(atom)
        return joint + sum(
            (self.spaces.sizes[space] - 1) * system.vectors[space].rank(own) for space, own in atoms.items()
        )
