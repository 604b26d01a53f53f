"""The symmetry group of a network: its wires, factors, order and dimension, and how complete that is.

In: a typed graph; no weights. Out: `SymmetryGroup`. The component group (permutations and signs) has an
order; the connected component has a dimension, counted on the parameters.
"""

from __future__ import annotations

import gc
from collections.abc import Generator
from contextlib import contextmanager
from math import prod

from nnspec.compiler.ir import Graph
from nnspec.compiler.symmetry.components import EXACT_BELOW, factors
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.dimensions import dimensions, redundant_numbers
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.compiler.symmetry.wires import wires
from nnspec.compiler.symmetry.witness import completeness_notes


def symmetry_group(graph: Graph) -> SymmetryGroup:
    """Derive the symmetry group of a typed graph."""
    with _uncollected():
        return _derived(Derivation(graph))


@contextmanager
def _uncollected() -> Generator[None]:
    """Keep Python from looking for cycles: a derivation makes many small records, which all live to its end.

    They count as old afterwards, so that the next search does not begin with them.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if not gc.get_freeze_count():
                gc.freeze()
                gc.unfreeze()
            gc.enable()


def _derived(derivation: Derivation) -> SymmetryGroup:
    notes = completeness_notes(derivation.related, derivation.spaces, derivation.unseen)
    found = factors(derivation)
    total = sum(factor.log10_order for factor in found)
    orders = [factor.order for factor in found]
    small = total < EXACT_BELOW and None not in orders
    return SymmetryGroup(
        network=derivation.graph.name,
        wires=wires(derivation),
        factors=found,
        log10_order=total,
        order=prod(order for order in orders if order is not None) if small else None,
        families=dimensions(derivation),
        redundant=redundant_numbers(derivation),
        is_exact=not notes,
        notes=notes,
        derivation=derivation,
    )
