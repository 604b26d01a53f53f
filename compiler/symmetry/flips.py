"""Flips of functions that are odd about a constant: f(-x) = 2 c - f(x), as of the logistic function.

In: index spaces. Where x is negated, f(x) becomes 2 c - f(x): negated, and shifted by 2 c. The maps behind take the
sign, and their biases the shift, if they can take up a shift of single entries of f(x) at all.
"""

from __future__ import annotations

from nnspec.compiler.relations import Elementwise
from nnspec.compiler.symmetry.shifts import shifts
from nnspec.compiler.symmetry.spaces import Atom, Spaces
from nnspec.dsl.node import Node


class Centred(Node):
    """A tensor f(x) whose entries may be shifted: along which atom, and what else is shifted with it."""

    tensor: str
    centre: float
    atom: Atom
    shifted: tuple[tuple[Atom, float], ...]  # how far each moves when entries of the tensor move by 1


def centred(spaces: Spaces) -> tuple[Centred, ...]:
    """Return the outputs of functions that are odd about a constant, and whose shifts biases take up."""
    functions = [
        stated.relation
        for stated in spaces.related.stated
        if isinstance(stated.relation, Elementwise) and stated.relation.centre is not None
    ]
    if not functions:
        return ()
    free = frozenset(relation.output.tensor for relation in functions)
    system = shifts(spaces, free=free)
    still = spaces.fixed.keys() - spaces.masked.keys()  # masks leave the signs of single units
    found: list[Centred] = []
    for relation in functions:
        tensor = relation.output.tensor
        atoms = [atom for atom in system.tensor_atoms(tensor) if spaces.space(atom) not in still]
        if len(atoms) != 1 or relation.centre is None:
            continue
        for solution in system.vector(atoms[0]).basis():
            own = solution.get(atoms[0], 0)
            others = {name for name in solution if isinstance(name, Atom) and name.tensor in free - {tensor}}
            if own and not others:
                shifted = tuple(
                    (a, float(n) / float(own)) for a, n in solution.items() if isinstance(a, Atom)
                )
                made = Centred(tensor=tensor, centre=relation.centre, atom=atoms[0], shifted=shifted)
                found.append(made)
                break
    return tuple(found)
