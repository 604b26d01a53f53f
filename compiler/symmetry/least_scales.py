"""The scales of least weights: of all that scales make of some weights, those of the least sum of squares.

The sum is a convex function of the logarithms of scales, and Newton's method finds its minimum.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.symmetry.amounts import Amounts
from nnspec.compiler.symmetry.blocks import Coordinates
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.elements import scale_directions
from nnspec.compiler.symmetry.places import State, key_of

if TYPE_CHECKING:
    from torch import Tensor

_NEWTON = 100
_FAR = 2.0  # the largest step of a logarithm of a scale


class Scales(Coordinates):
    """All scales of some weights as numbers, and the least sum of squares over them.

    `carried` is 0 for the entries of each key that are zero whatever scales do, else 1.
    """

    def __init__(self, d: Derivation, names: list[str], carried: State) -> None:
        super().__init__(d, scale_directions(d))
        from scipy.sparse import vstack

        self.names = names
        self.carried = carried
        self.still = self._still()
        parts = [self.rows(name) for name in names]
        self.matrix: Any = vstack(parts).tocsr() if parts and self.count else None
        if self.matrix is None or self.matrix.nnz == 0:
            self.count = 0
        else:
            self.held = self._held()

    def rows(self, name: str) -> Any:
        carried = self.carried[key_of(name)].numpy().reshape(-1, 1)
        found = super().rows(name).multiply(carried).tocsr()
        return found @ self.still if self.count else found

    def amounts(self, numbers: Tensor) -> Amounts:
        import torch

        return super().amounts(torch.from_numpy(self.still @ numbers.numpy()))

    def _still(self) -> Any:
        """Return the map to numbers under which gains that fold stay: what moves them is undone behind them."""
        from scipy.sparse import eye_array

        found: Any = eye_array(self.count).tolil()
        for fold in self.d.folds:
            rows = super().rows(fold.gain).tocsc()
            own = [
                place
                for start, one, shape in zip(self.starts, self.directions, self.shapes, strict=False)
                if one.spaces == (fold.behind,) and rows[:, [start]].nnz
                for place in range(start, start + prod(shape))
            ][: rows.shape[0]]
            if own:
                found[own, :] = -rows.toarray() / rows[:, own].diagonal()[:, None]
                found[:, own] = 0
        return found.tocsr()

    def holds(self, name: str) -> bool:
        """Return whether the logarithms of a weight's entries hold it."""
        return bool(self.count) and name in self.kept

    def _held(self) -> Any:
        """Return for each entry whether its tensor could shrink to nothing while no other grows.

        By symmetry under permutations that is so for all indices alike, so that common scales decide it.
        """
        import numpy as np
        from scipy.optimize import linprog

        parts = [self.rows(name)[:, self.common].toarray() for name in self.names]
        kinds = [np.unique(part, axis=0) for part in parts]
        stacked = np.concatenate(kinds)
        bounds = np.concatenate([np.zeros(len(stacked)), np.ones(len(stacked))])
        limits = np.concatenate([stacked, -stacked])
        found: list[Any] = []
        self.kept: set[str] = set()
        for name, part, kind in zip(self.names, parts, kinds, strict=True):
            solved = linprog(kind.sum(axis=0), A_ub=limits, b_ub=bounds, bounds=(None, None))
            if solved.fun < -1e-9:
                self.kept.add(name)
            found.append(np.full(len(part), name in self.kept))
        return np.concatenate(found)

    def least(self, state: State) -> Tensor:
        """Return the numbers of the least sum of squares, by Newton's method on a convex function."""
        import numpy as np
        import torch

        values = torch.cat([state[key_of(name)].detach().flatten() for name in self.names]).numpy() ** 2
        held = self.matrix.T @ self.held.astype(float)
        numbers = np.zeros(self.count)
        level = self._height(values, held, numbers)
        for _ in range(_NEWTON):
            terms = values * np.exp(2 * (self.matrix @ numbers))
            slope = 2 * (self.matrix.T @ terms - held)
            curve = (self.matrix.T @ (self.matrix * (4 * terms)[:, None])).toarray()
            step = -np.linalg.lstsq(curve, slope, rcond=1e-13)[0]
            step *= min(1.0, _FAR / max(float(np.abs(self.matrix @ step).max()), 1e-300))
            while self._height(values, held, numbers + step) > level + 1e-15 * abs(level):
                step /= 2
            numbers = numbers + step
            level = self._height(values, held, numbers)
            if float(np.abs(step).max()) < 1e-15:
                break
        return torch.from_numpy(numbers)

    def _height(self, values: Any, held: Any, numbers: Any) -> float:
        import numpy as np

        return float((values * np.exp(2 * (self.matrix @ numbers))).sum() - 2 * held @ numbers)
