"""The symmetry group of a network: its wires, factors, order and dimension, and how complete that is.

In: a typed graph; no weights. Out: `SymmetryGroup`. The component group (permutations and signs) has an
order; the connected component has a dimension, counted on the parameters: a direction that moves none does
not count. Families: scale, shift, linear (GL), orthogonal, kernel (seen through narrow readers only) and
unused (no output depends on it).
"""

from __future__ import annotations

from functools import cached_property
from math import factorial, lgamma, log, log10, prod
from typing import Any

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.actions import scales, shifts, signs
from nnspec.compiler.symmetry.forgetting import Forgotten, forgotten_dimension, forgotten_directions
from nnspec.compiler.symmetry.freedom import free_spaces, orthogonal_dimension
from nnspec.compiler.symmetry.kinds import Kind, kinds, nonlinear_tensors
from nnspec.compiler.symmetry.regions import Unseen, unseen_directions
from nnspec.compiler.symmetry.relate import Related, relate_graph
from nnspec.compiler.symmetry.spaces import Atom, Spaces, Why
from nnspec.compiler.symmetry.unknowns import Unknowns
from nnspec.compiler.symmetry.witness import completeness_notes
from nnspec.dsl.node import Node

FAMILIES = ("scale", "shift", "linear", "orthogonal", "kernel", "unused")
EXACT_BELOW = 300  # orders of fewer digits are given exactly


class Wire(Node):
    """An index space that some weight has: its group, and what decided it."""

    name: str
    size: int
    group: str
    multiplicity: int
    reason: str
    line: int | None
    is_fixed: bool
    tensors: tuple[str, ...]
    weights: tuple[str, ...]
    space: Atom


class Factor(Node):
    """A factor of the component group."""

    group: str
    wire: str | None
    order: int | None
    log10_order: float


class Derivation(Node):
    """What the derivation rests on, for generators and pictures."""

    related: Related
    spaces: Spaces
    kinds: dict[Atom, Kind]
    scales: Unknowns
    signs: Unknowns
    shifts: Unknowns
    unseen: Unseen
    forgotten: tuple[Forgotten, ...]


class SymmetryGroup(Node):
    """What is known of the group of a network."""

    network: str
    wires: tuple[Wire, ...]
    factors: tuple[Factor, ...]
    log10_order: float
    order: int | None  # None when large
    families: dict[str, int]
    is_exact: bool  # the dimension, at generic weights
    notes: tuple[str, ...]
    derivation: Derivation

    @property
    def continuous_dimension(self) -> int:
        return sum(self.families.values())

    @property
    def completeness(self) -> str:
        return "exact at generic weights" if self.is_exact else "lower bound"

    def json(self) -> dict[str, Any]:
        """Return the group as JSON."""
        return {
            "network": self.network,
            "log10_order": self.log10_order,
            "order": None if self.order is None else str(self.order),
            "factors": [
                {"group": f.group, "wire": f.wire, "log10_order": f.log10_order} for f in self.factors
            ],
            "continuous_dimension": self.continuous_dimension,
            "families": dict(self.families),
            "wires": [
                {
                    "name": w.name,
                    "size": w.size,
                    "group": w.group,
                    "multiplicity": w.multiplicity,
                    "reason": w.reason,
                    "line": w.line,
                }
                for w in self.wires
            ],
            "completeness": self.completeness,
            "notes": list(self.notes),
        }


def symmetry_group(graph: Graph) -> SymmetryGroup:
    """Derive the symmetry group of a typed graph."""
    related = relate_graph(graph)
    spaces = Spaces(related)
    unseen = unseen_directions(related)
    derivation = Derivation(
        related=related,
        spaces=spaces,
        kinds=kinds(spaces),
        scales=scales(spaces),
        signs=signs(spaces),
        shifts=shifts(spaces),
        unseen=unseen,
        forgotten=forgotten_directions(related, unseen.alone),
    )
    return _Group(graph, derivation).run()


class _Group:
    def __init__(self, graph: Graph, derivation: Derivation) -> None:
        self.graph = graph
        self.derivation = derivation
        self.spaces = derivation.spaces
        self.weights = [c.name for c in derivation.related.carriers.values() if c.kind == "weight"]
        self.classes = self.spaces.classes()
        self.weight_atoms = {
            space: [a for a in atoms if derivation.related.carriers[a.tensor].kind == "weight"]
            for space, atoms in self.classes.items()
        }
        self.used = [space for space, atoms in self.weight_atoms.items() if atoms]
        self.groups = {space: self.group_of(space) for space in self.used}

    # -------------------------------------------------------------------------------------------- one space

    def rank(self, system: Unknowns, space: Atom) -> int:
        """Return how many independent actions the entries of a space have on the weights."""
        if self.spaces.sizes[space] == 1:
            return 0
        return system.vectors[space].rank(self.weight_atoms[space])

    def group_of(self, space: Atom) -> str:
        """Return "linear", "orthogonal", "centred", "monomial" or "fixed"."""
        kind = self.derivation.kinds[space].name
        if space in self.spaces.fixed:
            return "fixed"
        if kind != "linear" or self.spaces.sizes[space] == 1:
            return kind
        scale, sign = self.rank(self.derivation.scales, space), self.rank(self.derivation.signs, space)
        if scale == 1 and sign == 1:
            return "linear"
        # A wire that meets its own dual (a transposed tie) keeps what is its own inverse transpose.
        return "orthogonal" if scale == 0 and sign == 1 else "monomial"

    # ------------------------------------------------------------------------------------------- dimensions

    def run(self) -> SymmetryGroup:
        families = self.families()
        unseen = self.derivation.unseen
        notes = completeness_notes(self.derivation.related, self.spaces)
        if unseen.note is not None:
            notes = (*notes, unseen.note)
        if unseen.complete:
            self.correct(families, unseen.dimension)
        factors = self.factors()
        total = sum(factor.log10_order for factor in factors)
        orders = [factor.order for factor in factors]
        small = total < EXACT_BELOW and None not in orders
        return SymmetryGroup(
            network=self.graph.name,
            wires=self.wires(),
            factors=factors,
            log10_order=total,
            order=prod(order for order in orders if order is not None) if small else None,
            families=families,
            is_exact=not notes,
            notes=notes,
            derivation=self.derivation,
        )

    def families(self) -> dict[str, int]:
        """Count dimensions by family, as far as they follow from the equations."""
        found = dict.fromkeys(FAMILIES, 0)
        found["scale"], found["linear"] = self.scale_and_linear()
        for space in self.used:
            if self.groups[space] in ("orthogonal", "centred"):
                acting = self.spaces.sizes[space] - (self.groups[space] == "centred")
                found["orthogonal"] += self.orthogonal(space, acting)
        found["shift"] = self.total_rank(self.derivation.shifts, self.shiftable())
        found["shift"] += forgotten_dimension(self.derivation.related, self.derivation.forgotten)
        found["unused"] = sum(
            prod(size for size in held.weight.shape if isinstance(size, int))
            for held in self.derivation.related.unused
        )
        return found

    def scale_and_linear(self) -> tuple[int, int]:
        """Count scales and GL; where it is not certain that GL moves weights freely, its diagonal only."""
        linear = 0
        for space in self.of_group("linear"):
            size = self.spaces.sizes[space]
            linear += size * size if space in self.free else size
        return self.diagonal(self.derivation.scales) - self.scalars_of_linear(), linear

    @cached_property
    def free(self) -> set[Atom]:
        return free_spaces(self.derivation.related, self.spaces, self.groups)

    def scalars_of_linear(self) -> int:
        """Count the scales of whole GL wires, which are counted with GL."""
        return min(len(self.of_group("linear")), self.joint_rank(self.linear_scales))

    def of_group(self, group: str) -> list[Atom]:
        return [space for space in self.used if self.groups[space] == group]

    def orthogonal(self, space: Atom, acting: int) -> int:
        still = {s for s in self.used if self.groups[s] in ("fixed", "monomial")}
        trusted = self.derivation.unseen.plain
        return orthogonal_dimension(
            self.derivation.related, self.spaces, space, acting, trusted, still | self.free
        )

    def correct(self, families: dict[str, int], unseen: int) -> None:
        """Make the families that act within linear regions add up to what those leave unseen.

        Where a wire is wider than all it is made from and read by, part of GL(n) moves no weight.
        """
        dual = [s for s in self.of_group("orthogonal") if self.derivation.kinds[s].name == "linear"]
        sizes = [self.spaces.sizes[space] for space in dual]
        families["orthogonal"] -= sum(self.orthogonal(space, n) for space, n in zip(dual, sizes, strict=True))
        shift = self.total_rank(shifts(self.spaces, forgetting=False), self.shiftable())
        scale = self.diagonal(self.linear_scales) - self.scalars_of_linear()
        rest = unseen - shift - scale
        turned = min(rest, sum(size * (size - 1) // 2 for size in sizes))
        full = sum(self.spaces.sizes[space] ** 2 for space in self.of_group("linear"))
        families["orthogonal"] += turned
        families["linear"] = min(full, rest - turned)
        families["kernel"] = rest - turned - families["linear"]

    def shiftable(self) -> list[str]:
        carriers = self.derivation.related.carriers.values()
        return [carrier.name for carrier in carriers if carrier.live or carrier.kind == "weight"]

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

    def diagonal(self, system: Unknowns) -> int:
        """Count scales of weights, but of GL wires only those of the whole wire."""
        return self.joint_rank(system) + sum(
            (self.spaces.sizes[space] - 1) * self.rank(system, space)
            for space in self.used
            if self.groups[space] != "linear"
        )

    @cached_property
    def linear_scales(self) -> Unknowns:
        """Return the scales that act only where nothing but linear maps sees them."""
        system = scales(self.spaces)
        for tensor in nonlinear_tensors(self.spaces):
            system.still(tensor)
        return system

    def joint_unknowns(self) -> list[Any]:
        return [name for weight in self.weights for name in self.derivation.scales.joint_unknowns(weight)]

    def joint_rank(self, system: Unknowns) -> int:
        return system.joint.rank(self.joint_unknowns())

    # --------------------------------------------------------------------------------------------- the order

    def factors(self) -> tuple[Factor, ...]:
        """List the factors; a flip of a whole wire is counted with a wire that has flips, while there are."""
        found: list[Factor] = []
        names = self.names()
        common = self.common_signs()
        for space in self.used:
            size, group = self.spaces.sizes[space], self.groups[space]
            if group in ("linear", "orthogonal", "centred"):
                found.append(_factor(0, 1, f"components of {self.label(space)}", names[space]))
                continue
            bits = (size - 1) * self.rank(self.derivation.signs, space)
            if common and bits:
                bits, common = bits + 1, common - 1
            permuted = size if group == "monomial" else 0
            if permuted > 1 or bits:
                found.append(_factor(permuted, bits, _finite_label(permuted, bits), names[space]))
        if common:
            found.append(_factor(0, common, _finite_label(0, common), None))
        return tuple(found)

    def common_signs(self) -> int:
        """Count the sign flips of whole wires; those of GL and O wires are in their determinant."""
        system = signs(self.spaces)
        for space in self.used:
            if self.groups[space] in ("linear", "orthogonal", "centred"):
                for atom in self.classes[space]:
                    carrier = self.derivation.related.carriers[atom.tensor]
                    if carrier.live:
                        for name in system.joint_unknowns(atom.tensor):
                            system.joint.zero(name)
        return self.joint_rank(system)

    # --------------------------------------------------------------------------------------------- the wires

    def names(self) -> dict[Atom, str]:
        """Name each space after the first value that it flows through, else after a weight."""
        found: dict[Atom, str] = {}
        taken: set[str] = set()
        for space in self.used:
            carriers = [self.derivation.related.carriers[a.tensor] for a in self.classes[space]]
            values = [c.shown for c in carriers if c.kind == "value"] + [c.shown for c in carriers]
            name = next((shown for shown in values if shown not in taken), values[0])
            taken.add(name)
            found[space] = name
        return found

    def wires(self) -> tuple[Wire, ...]:
        names = self.names()
        return tuple(self.wire(space, names[space]) for space in self.used if self.is_shown(space))

    def is_shown(self, space: Atom) -> bool:
        """Leave out what an operation fixes, such as the places of a kernel; the border is shown."""
        why = self.spaces.fixed.get(space)
        return why is None or why.stated is None

    def wire(self, space: Atom, name: str) -> Wire:
        size = self.spaces.sizes[space]
        why = self.spaces.fixed.get(space) or self.derivation.kinds[space].why
        atoms = self.classes[space]
        return Wire(
            name=name,
            size=size,
            group=self.label(space),
            multiplicity=max(self.multiplicity(atom) for atom in self.weight_atoms[space]),
            reason=_reason(why),
            line=None if why is None else _line(why),
            is_fixed=space in self.spaces.fixed,
            tensors=tuple(dict.fromkeys(atom.tensor for atom in atoms)),
            weights=tuple(dict.fromkeys(atom.tensor for atom in self.weight_atoms[space])),
            space=space,
        )

    def multiplicity(self, atom: Atom) -> int:
        """Return in how many places of a weight's axis the space stands."""
        segment = self.spaces.layouts[atom.tensor, atom.axis][atom.segment]
        return prod(segment) // segment[atom.factor]

    def label(self, space: Atom) -> str:
        """Write the group that acts on a space."""
        size, group = self.spaces.sizes[space], self.groups[space]
        named = {"linear": f"GL({size})", "orthogonal": f"O({size})", "centred": f"O({size - 1})"}
        if group in named:
            return named[group]
        scale = self.scalar_rank(self.derivation.scales, space)
        sign = self.scalar_rank(self.derivation.signs, space)
        scalars = {(1, 1): "R*", (1, 0): "R>0", (0, 1): "Z2"}.get((min(scale, 1), min(sign, 1)))
        if group == "fixed" or size == 1:
            return "1" if scalars is None else scalars if size == 1 else f"{scalars}^{size}"
        return f"S_{size}" if scalars is None else f"{scalars} wr S_{size}"

    def scalar_rank(self, system: Unknowns, space: Atom) -> int:
        if self.spaces.sizes[space] > 1:
            return self.rank(system, space)
        live = [a for a in self.classes[space] if self.derivation.related.carriers[a.tensor].live]
        return system.joint.rank([("k", atom.tensor) for atom in live])


def _finite_label(permuted: int, bits: int) -> str:
    flips = {0: "", 1: "Z2"}.get(bits, f"Z2^{bits}")
    if permuted <= 1:
        return flips
    if bits == permuted:
        return f"Z2 wr S_{permuted}"
    return f"{flips} x S_{permuted}" if flips else f"S_{permuted}"


def _factor(permuted: int, bits: int, group: str, wire: str | None) -> Factor:
    value = lgamma(permuted + 1) / log(10) + bits * log10(2)
    order = factorial(permuted) * 2**bits if value < EXACT_BELOW else None
    return Factor(group=group, wire=wire, order=order, log10_order=value)


def _reason(why: Why | None) -> str:
    if why is None:
        return "only linear maps see it"
    if why.stated is None:
        return why.text
    use = why.stated.use
    return (
        f"{use.primitive.operation} is {why.text}" if why.text.startswith("a") else f"{use.path}: {why.text}"
    )


def _line(why: Why) -> int | None:
    span = None if why.stated is None else why.stated.use.span
    return None if span is None else span.line
