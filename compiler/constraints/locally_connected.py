"""`locally_connected(kernel)`: each unit reads a window of inputs around its own place, weights not shared.

Inputs and units lie on grids of the same number of axes, as many as `kernel` has numbers; without `inputs` and
`outputs` the grid is the axis itself. Where an axis is a multiple of its grid, the rest are channels, which vary
slowest, as `flatten` leaves an image. Along one axis of n inputs and m units, unit o looks at the `kernel` inputs
nearest to the point (o + 1/2) n / m; windows are cut off at the edges.
"""

from __future__ import annotations

from math import prod

from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.topology import MOST_ENTRIES, Topology
from nnspec.compiler.ir import Code
from nnspec.dsl.catalog import Argument


class LocallyConnected(Topology):
    name = "locally_connected"
    doc = "Each unit reads a window of inputs around its own place on a grid; weights are not shared."
    arguments = (
        Argument(
            name="kernel",
            kind="int",
            doc="width of the window, one number for each axis of the grids",
            listed="either",
            at_least=1,
        ),
        Argument(
            name="inputs", kind="int", doc="grid of the inputs", listed="either", default=None, nullable=True
        ),
        Argument(
            name="outputs",
            kind="int",
            doc="grid of the units; none: that of the inputs if both axes are equal, else the axis itself",
            listed="either",
            default=None,
            nullable=True,
        ),
    )
    example = "constrain fc1.weight: locally_connected([3, 3], inputs = [8, 8], outputs = [4, 4])"

    def begin(self, site: WeightSite) -> Code:
        """Return the call that makes the mask."""
        inputs, outputs, kernel = _grids(site)
        options = (("inputs", inputs), ("outputs", outputs), ("kernel", kernel))
        return Code(file="masks", name="neighbourhood", options=options)

    def entries(self, site: WeightSite) -> tuple[bytes, ...] | None:
        """Return which entries exist; None of a weight too large to be listed."""
        inputs, outputs, kernel = _grids(site)
        if prod(site.sizes) > MOST_ENTRIES:
            return None
        near: tuple[bytes, ...] = (b"\1",)
        for n, m, k in zip(inputs, outputs, kernel, strict=True):
            windows = [_window(n, m, k, o) for o in range(m)]
            near = tuple(
                b"".join(inside if outer else bytes(n) for outer in row)
                for row in near
                for inside in (
                    bytes(first) + b"\1" * (last - first) + bytes(n - last) for first, last in windows
                )
            )
        return tuple(row * (site.sizes[1] // prod(inputs)) for row in near) * (site.sizes[0] // prod(outputs))

    def free(self, site: WeightSite) -> int:
        """Return how many entries exist."""
        inputs, outputs, kernel = _grids(site)
        windows = prod(_windows(n, m, k) for n, m, k in zip(inputs, outputs, kernel, strict=True))
        return windows * (site.sizes[0] // prod(outputs)) * (site.sizes[1] // prod(inputs))


def _windows(n: int, m: int, k: int) -> int:
    """Return how many pairs of input and unit are near along one axis."""
    return sum(last - first for first, last in (_window(n, m, k, o) for o in range(m)))


def _window(n: int, m: int, k: int, o: int) -> tuple[int, int]:
    """Return the first input that unit o looks at along one axis, and the one behind the last."""
    # -k m <= m (2 i + 1) - n (2 o + 1) < k m
    middle = n * (2 * o + 1) - m
    first = max(0, -((k * m - middle) // (2 * m)))
    behind = min(n, -((-k * m - middle) // (2 * m)))
    return first, max(first, behind)


def _grids(site: WeightSite) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
    if len(site.shape) != 2:
        raise Misfit(f"it is for matrices, and this weight has {len(site.shape)} axes")
    units, width = site.sizes
    kernel = _listed(site["kernel"])
    inputs = _listed(site["inputs"]) or (width,)
    outputs = _listed(site["outputs"]) or (inputs if units == width else (units,))
    if not len(kernel) == len(inputs) == len(outputs):
        found = f"{len(kernel)}, {len(inputs)} and {len(outputs)}"
        raise Misfit(
            f"kernel, inputs and outputs have {found} numbers",
            help="give each a number for every axis of the grids, such as `[3, 3]`",
        )
    for name, grid, size in (("inputs", inputs, width), ("outputs", outputs, units)):
        if min(grid) < 1 or size % prod(grid):
            raise Misfit(f"its {size} {name} are no multiple of a grid of {' x '.join(map(str, grid))}")
    return inputs, outputs, kernel


def _listed(value: int | tuple[int, ...] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return (value,) if isinstance(value, int) else tuple(value)
