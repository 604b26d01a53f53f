"""What a derivation rests on: relations, spaces, strands and the three systems of equations.

In: a typed graph; no weights. `Derivation` answers what acts on one strand, and how many dimensions a
system of equations has on the weights.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.relations import Normalize
from nnspec.compiler.symmetry.actions import scales, signs
from nnspec.compiler.symmetry.branches import alike_branches
from nnspec.compiler.symmetry.composites import Unseen, unseen_directions
from nnspec.compiler.symmetry.flips import centred
from nnspec.compiler.symmetry.folding import Fold, fold_gains
from nnspec.compiler.symmetry.forgetting import Forgotten, forgotten_directions
from nnspec.compiler.symmetry.kinds import Kind
from nnspec.compiler.symmetry.masked import Masked, masked_of
from nnspec.compiler.symmetry.neurons import NeuronGroup, neuron_group
from nnspec.compiler.symmetry.orientation import Orientations
from nnspec.compiler.symmetry.parallel import Parallel, parallel_strands
from nnspec.compiler.symmetry.relate import Related, relate_graph
from nnspec.compiler.symmetry.shifts import shifts
from nnspec.compiler.symmetry.spaces import Atom, Cell, Spaces
from nnspec.compiler.symmetry.strands import Strand, strands
from nnspec.compiler.symmetry.swaps import Branches
from nnspec.compiler.symmetry.unknowns import Unknowns

if TYPE_CHECKING:
    from nnspec.compiler.symmetry.graded import Graded
    from nnspec.compiler.symmetry.incidence import Incidence

MATRICES = (
    "linear",
    "complex",
    "orthogonal",
    "centred",
)  # groups of matrices, of which scales and signs are part

SMALL = 2500  # parameters; of a network of so many, tangents are counted one by one


class Derivation:
    """All that was derived from the relations of a network."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        folded = fold_gains(relate_graph(graph))
        self.spaces: Spaces = folded.spaces
        self.related: Related = self.spaces.related
        self.kinds: dict[Atom, Kind] = folded.kinds
        self.folds: tuple[Fold, ...] = folded.folds
        self.strands: tuple[Strand, ...] = strands(self.spaces, self.kinds)
        self.scales = scales(self.spaces)
        self.centred = centred(self.spaces)
        self.signs = signs(self.spaces, frozenset(item.tensor for item in self.centred))
        self.shifts = shifts(self.spaces)
        self.weights = [c.name for c in self.related.carriers.values() if c.kind == "weight"]
        self.classes = self.spaces.classes
        self.weight_atoms = {
            space: [a for a in atoms if self.related.carriers[a.tensor].kind == "weight"]
            for space, atoms in self.classes.items()
        }
        # The strands that weights have, by the space that stands for each.
        self.used = [strand.space for strand in self.strands if self.weight_atoms[strand.space]]

    @cached_property
    def unseen(self) -> Unseen:
        return unseen_directions(self.related)

    @cached_property
    def forgotten(self) -> tuple[Forgotten, ...]:
        return forgotten_directions(self.related)

    @cached_property
    def orientations(self) -> Orientations:
        """Which tensors move with a wire, and which dually."""
        return Orientations(self.spaces)

    @cached_property
    def neurons(self) -> NeuronGroup | None:
        """What masks leave of the permutations of the wires that they touch; None where no mask is known."""
        return neuron_group(self.graph)

    @cached_property
    def masked(self) -> Masked | None:
        """The same, to draw from and to search; None where masks leave nothing."""
        return masked_of(self)

    @cached_property
    def graded(self) -> Graded:
        """Signs and scales of units that keep which entries of a weight share a number."""
        from nnspec.compiler.symmetry.graded import Graded, graded

        return graded(self) if self.neurons is not None and self.is_small else Graded()

    @cached_property
    def incidences(self) -> dict[Atom, Incidence]:
        """What masks leave of the matrices on wires that only linear maps and norms see, by space."""
        from nnspec.compiler.symmetry.incidence import incidences

        return incidences(self)

    @cached_property
    def is_small(self) -> bool:
        """Whether the numbers that outputs depend on and small steps move are few: then they are looked at singly."""
        carriers = (self.related.carriers[name] for name in self.weights)
        moving = (c for c in carriers if c.action is not None and c.action.moves)
        return sum(prod(size for size in c.shape if isinstance(size, int)) for c in moving) <= SMALL

    @cached_property
    def patterned(self) -> frozenset[Atom]:
        """The spaces whose permutations are counted among those of neurons."""
        if self.neurons is None:
            return frozenset()
        every = self.neurons.all_spaces
        atoms = [atom for space in self.neurons.spaces for atom in every.classes_of(space)]
        known = self.spaces.layouts
        return frozenset(
            self.spaces.space(atom)
            for atom in atoms
            if known.get((atom.tensor, atom.axis)) == every.layouts[atom.tensor, atom.axis]
        )

    @cached_property
    def parallel(self) -> tuple[Parallel, ...]:
        """Sets of strands between the same ends, whose units are one set."""
        return parallel_strands(self)

    @cached_property
    def branches(self) -> tuple[Branches, ...]:
        """Sets of branches that may change places."""
        return alike_branches(self)

    @cached_property
    def by_space(self) -> dict[Atom, Strand]:
        """The strand that each space belongs to."""
        return {space: strand for strand in self.strands for space in strand.spaces}

    @cached_property
    def groups(self) -> dict[Atom, str]:
        """What acts on each used strand, by its space: one of `MATRICES`, "monomial" or "fixed"."""
        return {space: self._group_of(self.by_space[space]) for space in self.used}

    def of_group(self, *groups: str) -> list[Strand]:
        """Return the used strands on which these kinds of group act."""
        return [self.by_space[space] for space in self.used if self.groups[space] in groups]

    def turns_ones(self, strand: Strand) -> bool:
        """Whether the vector of ones of a centred strand may change its sign, and not by small steps.

        A norm that subtracts the mean does not see it; one of root mean squares on the same strand keeps its size.
        """
        return self.groups[strand.space] == "centred" and any(
            isinstance(stated.relation, Normalize)
            and stated.relation.group == "orthogonal"
            and self._is_along(strand, stated.relation)
            for stated in self.related.stated
        )

    def _is_along(self, strand: Strand, norm: Normalize) -> bool:
        spaces = {
            self.spaces.space(atom)
            for axis in norm.axes
            for segment in self.spaces.atoms((norm.input, axis))
            for atom in segment
        }
        return bool(spaces.intersection(strand.spaces))

    def strand_rank(self, system: Unknowns, strand: Strand) -> int:
        """Return how many independent actions single entries of a strand, in single copies, have on the weights."""
        return self.rank(system, (*strand.spaces, *strand.outer))

    def rank(self, system: Unknowns, spaces: Iterable[Atom]) -> int:
        """Return how many independent actions combinations of indices of spaces have on the weights."""
        wide = frozenset(space for space in spaces if self.spaces.sizes[space] > 1)
        if not wide:
            return 0
        if len(wide) == 1:
            (space,) = wide
            return system.vectors[space].rank(self.weight_atoms[space])
        return system.compound_rank(wide, self.weight_cells.get(wide, []))

    @cached_property
    def weight_cells(self) -> dict[frozenset[Atom], list[Cell]]:
        found: dict[frozenset[Atom], list[Cell]] = {}
        for weight in self.weights:
            for cell in self.spaces.cells(weight):
                found.setdefault(self.scales.combination(cell), []).append(cell)
        return found

    def _group_of(self, strand: Strand) -> str:
        return "fixed" if strand.is_fixed else self.matrices_of(strand, strand.kind.name)

    def matrices_of(self, strand: Strand, kind: str) -> str:
        """Return the group of a strand of some kind: less, where scales and signs say that it meets its own dual."""
        if strand.size == 1 or kind not in ("linear", "complex"):
            return kind
        if kind == "complex":
            return kind
        scale, sign = self.strand_rank(self.scales, strand), self.strand_rank(self.signs, strand)
        if scale == 1 and sign == 1:
            return "linear"
        # A wire that meets its own dual (a transposed tie) keeps what is its own inverse transpose.
        return "orthogonal" if scale == 0 and sign == 1 else "monomial"

    def joint_rank(self, system: Unknowns) -> int:
        """Return the dimension of what acts on the weights alike at all indices."""
        names: list[Any] = [name for weight in self.weights for name in system.joint_unknowns(weight)]
        return system.joint.rank(names)

    @cached_property
    def own_scales(self) -> Unknowns:
        """The scales that are part of no group of matrices."""
        return self.without_matrices(self.scales)

    @cached_property
    def own_signs(self) -> Unknowns:
        """The sign flips that are part of no group of matrices."""
        return self.without_matrices(self.signs)

    def without_matrices(self, system: Unknowns) -> Unknowns:
        """Return a system of scales or signs without those that are part of a group of matrices."""
        system = system.copy()
        for strand in self.of_group(*MATRICES):
            live = [place for place in strand.places if self.related.carriers[place[0][0].tensor].live]
            # A number is in the group if it acts alike at all places; by what they may differ is beside it.
            atoms, outer = (live or strand.places)[0]
            system.close(atoms[0].tensor, (*atoms, *outer))
        return system
