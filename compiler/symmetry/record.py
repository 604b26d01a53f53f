"""What is known of the symmetry group of a network, as records and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.spaces import Atom
from nnspec.dsl.node import Node


class Wire(Node):
    """A strand that some weight has: its group, and what decided it. `copies`: how often it acts apart.

    Of a wire that `is_fixed` no group of its own was derived: what masks leave and gains take is all that acts on it.
    """

    name: str
    size: int
    copies: int
    group: str
    multiplicity: int
    reason: str
    line: int | None
    is_fixed: bool
    tensors: tuple[str, ...]
    weights: tuple[str, ...]
    space: Atom
    file: str | None = None  # where `line` is, if not in the spec itself

    @property
    def place(self) -> str:
        """Write where it was decided: `12`, or `transformers.nnspec:12`."""
        return (
            "" if self.line is None else str(self.line) if self.file is None else f"{self.file}:{self.line}"
        )

    def json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "size": self.size,
            "copies": self.copies,
            "group": self.group,
            "multiplicity": self.multiplicity,
            "reason": self.reason,
            "line": self.line,
            "file": self.file,
            "fixed": self.group == "1",
            "weights": list(self.weights),
        }


class Factor(Node):
    """A factor of the component group."""

    group: str
    wire: str | None
    order: int | None
    log10_order: float


class SymmetryGroup(Node):
    """What is known of the group of a network."""

    network: str
    wires: tuple[Wire, ...]
    factors: tuple[Factor, ...]
    log10_order: float
    order: int | None  # None when large
    families: dict[str, int]
    redundant: int  # stored numbers beyond those that say which weight a constraint makes of them
    is_exact: bool  # the dimension, at generic weights
    notes: tuple[str, ...]
    derivation: Derivation

    @property
    def continuous_dimension(self) -> int:
        """Directions of the effective weights; `redundant` ones of what is stored are apart."""
        return sum(self.families.values())

    @property
    def completeness(self) -> str:
        return "exact at generic weights" if self.is_exact else "lower bound"

    def json(self, states: tuple[Mapping[str, Any], ...] = ()) -> dict[str, Any]:
        """Return the group as JSON; with weights, whether the theorems that make it complete hold on them."""
        from nnspec.compiler.symmetry.completeness import completeness

        known = completeness(cast(Any, self), states)
        return {
            "network": self.network,
            "log10_order": self.log10_order,
            "order": None if self.order is None else str(self.order),
            "factors": [
                {
                    "group": f.group,
                    "wire": f.wire,
                    "log10_order": f.log10_order,
                    "theorem": known.theorem_of(f.wire),
                }
                for f in self.factors
            ],
            "continuous_dimension": self.continuous_dimension,
            "families": dict(self.families),
            "redundant": self.redundant,
            "wires": [wire.json() for wire in self.wires],
            "completeness": known.text,
            "exact_dimension": self.is_exact,
            "theorems": [one.json() for one in known.applied],
            "notes": list(self.notes),
        }
