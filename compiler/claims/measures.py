"""What claims speak of: numbers of a network, of its symmetry, and the scores of its training.

In: a typed graph, and after training the scores by name. Out: the value of a measure. `check` knows the costs;
the symmetry is derived on demand, for it may need numpy. Imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from nnspec.compiler.claims.numbers import Large, NoNumber
from nnspec.compiler.ir import Graph
from nnspec.dsl.diagnostics import SpecError

if TYPE_CHECKING:
    from nnspec.compiler.passes.cost import CostTable
    from nnspec.compiler.symmetry.record import SymmetryGroup

_SYMMETRY: dict[str, Callable[[SymmetryGroup], Any]] = {
    "symmetry.order": lambda group: Large(log10=group.log10_order) if group.order is None else group.order,
    "symmetry.log10_order": lambda group: group.log10_order,
    "symmetry.dimension": lambda group: group.continuous_dimension,
}
COSTS = ("parameters", "buffers", "bytes", "flops")  # known without numpy, and so to `check`
OF_NETWORKS = (*COSTS, *_SYMMETRY)


def families() -> tuple[str, ...]:
    """Return the measures that are dimensions of one family of flat directions: `symmetry.scale`."""
    from nnspec.compiler.symmetry.dimensions import FAMILIES

    return tuple(f"symmetry.{name}" for name in FAMILIES)


class Measures:
    """The measures of one network, with the scores of its training if there are some."""

    def __init__(self, graph: Graph, scores: Mapping[str, float] | None = None, seeds: int = 1) -> None:
        self.graph = graph
        self.scores = scores
        self.seeds = seeds

    def value(self, name: str) -> Any:
        """Return the value of a measure; NoNumber if it is not known."""
        if name in COSTS:
            found: Any = getattr(self.cost, name)
            if not isinstance(found, int):
                raise NoNumber(f"`{name}` is {found}, which depends on the size of a dimension")
            return found
        if name in _SYMMETRY:
            return _SYMMETRY[name](self.symmetry)
        if name.startswith("symmetry."):
            return self.symmetry.families[name.removeprefix("symmetry.")]
        score = (self.scores or {}).get(name)
        if score is None or score != score:
            raise NoNumber(f"no seed has a score `{name}`")
        return score

    def note(self, name: str) -> str:
        """Return what is to be said beside the value of a measure."""
        scored = name not in COSTS and not name.startswith("symmetry.")
        return f", the mean of {self.seeds} seeds" if scored and self.seeds > 1 else ""

    @cached_property
    def cost(self) -> CostTable:
        from nnspec.compiler.passes.cost import cost_table

        return cost_table(self.graph)

    @cached_property
    def symmetry(self) -> SymmetryGroup:
        from nnspec.compiler.symmetry.group import symmetry_group

        try:
            return symmetry_group(self.graph)
        except SpecError as refused:
            why = f"its symmetry cannot be derived: {refused.errors[0].message}"
            raise NoNumber(why) from None
