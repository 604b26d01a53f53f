"""`sparse(density, pattern)`: only a share of the entries of a weight exist, chosen at construction.

Patterns, drawn from torch's generator: `random` keeps exactly round(density * size) entries wherever they fall;
`fan_in` the same number of inputs for each unit; `blocks` square blocks, the same number in each row of
blocks; `n_of_m` the n largest of each m neighbouring initial weights (2 of 4 by default), which is what
sparse tensor cores read (Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks"). The kept weights
begin as they would without the constraint.

Where measured to be faster (`benchmarks/sparse.py`), a matrix that a product reads is stored without its zeros:
as compressed rows, or as blocks. Density and size decide, never the machine, so that a state dict is the
same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.topology import Topology, called
from nnspec.compiler.ir import Code, Tensor, WeightMap
from nnspec.dsl.catalog import Argument
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch

# Measured, batch 128, one thread: a training step is faster than the masked dense one from here on.
# (the largest density, the least number of entries)
_ROWS = ((0.02, 512 * 512), (0.05, 1024 * 1024))
_BLOCKS, _BLOCKS_SIDE = (0.1, 256 * 256), 16

# The function that makes the stored tensors, by how the weight is stored and by pattern.
_START = {
    ("rows", "random"): "random_rows",
    ("rows", "fan_in"): "fan_in_rows",
    ("blocks", "blocks"): "random_blocks",
}


class Sparse(Topology):
    name = "sparse"
    doc = (
        "Only a share of the entries exist: `random`, `fan_in`, `blocks` or `n_of_m`, drawn at construction."
    )
    arguments = (
        Argument(
            name="density",
            kind="real",
            doc="the share of entries that exist; with n_of_m it is n / m, and left out",
            default=None,
            above=0,
            at_most=1,
            nullable=True,
        ),
        Argument(
            name="pattern",
            kind="choice",
            choices=("random", "fan_in", "blocks", "n_of_m"),
            doc="how they are chosen",
            default="random",
        ),
        Argument(name="block", kind="int", doc="side of a block, for `blocks`", default=16, at_least=1),
        Argument(name="n", kind="int", doc="how many are kept, for `n_of_m`", default=2, at_least=1),
        Argument(name="m", kind="int", doc="of so many inputs, for `n_of_m`", default=4, at_least=2),
    )
    example = "constrain fc1.weight: sparse(0.1)"

    def part(self, site: WeightSite, span: Span | None) -> WeightMap:
        """Return the product with a mask, or the map from what is kept to the matrix."""
        masked, form = super().part(site, span), self.form(site)
        if form == "masked":
            return masked
        stored = _rows(site, self.free(site)) if form == "rows" else _blocks(site)
        product = {"rows": "sparse_linear", "blocks": "block_linear"}[form]
        return masked.replace(
            code=Code(file="sparse", name=f"dense_{form}", options=(("inputs", site.sizes[1]),)),
            product=Code(file="sparse", name=product),
            stored=stored,
            replaces=True,
            start=Code(file="sparse", name=_START[form, site["pattern"]], options=_options(site)),
        )

    def form(self, site: WeightSite) -> str:
        """Return how the weight is stored: "masked" (with its zeros), "rows" or "blocks"."""
        if not site.product or site.others or len(site.shape) != 2:
            return "masked"
        density, size = site["density"] or 1.0, prod(site.sizes)
        if site["pattern"] in ("random", "fan_in"):
            fast = any(density <= most and size >= least for most, least in _ROWS)
            return "rows" if fast else "masked"
        most, least = _BLOCKS
        fast = site["block"] >= _BLOCKS_SIDE and density <= most and size >= least
        return "blocks" if site["pattern"] == "blocks" and fast else "masked"

    def begin(self, site: WeightSite) -> Code:
        """Return the call that draws the mask."""
        self.free(site)
        return Code(file="sparse", name=f"{site['pattern']}_mask", options=_options(site))

    def free(self, site: WeightSite) -> int:
        """Return how many entries exist."""
        if site["pattern"] == "n_of_m":
            return _n_of_m(site)
        if site["density"] is None:
            raise Misfit("`density` is missing, the share of entries that exist", help="write `sparse(0.1)`")
        if site["pattern"] == "fan_in":
            return site.sizes[0] * _inputs_kept(site)
        if site["pattern"] == "blocks":
            return _blocks_kept(site) * site["block"] * site.sizes[0]
        count = round(site["density"] * prod(site.sizes))
        return count if count else _nothing(site, f"of {prod(site.sizes)} entries")

    def without_input(self, site: WeightSite) -> tuple[int, ...]:
        """Return as many units as must be without input, there being fewer entries than units."""
        return tuple(range(site.sizes[0] - self.free(site)))

    def mask(self, site: WeightSite, kept: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Return the mask, also of a weight that is stored without its zeros."""
        import torch

        if "ends" in kept:
            values = torch.ones(kept["columns"].shape[0])
            code = Code(file="sparse", name="dense_rows", options=(("inputs", site.sizes[1]),))
            return called(code, values, kept["ends"], kept["columns"]).bool()
        if "columns" in kept:
            values = torch.ones(*kept["columns"].shape, site["block"], site["block"])
            code = Code(file="sparse", name="dense_blocks", options=(("inputs", site.sizes[1]),))
            return called(code, values, kept["columns"]).bool()
        return super().mask(site, kept)


def _options(site: WeightSite) -> tuple[tuple[str, Any], ...]:
    match site["pattern"]:
        case "fan_in":
            return (("kept", _inputs_kept(site)),)
        case "blocks":
            return (("kept", _blocks_kept(site)), ("block", site["block"]))
        case "n_of_m":
            return (("n", site["n"]), ("m", site["m"]))
        case _:
            return (("density", site["density"]),)


def _rows(site: WeightSite, count: int) -> tuple[Tensor, ...]:
    return (
        Tensor(name=site.stored("values"), shape=(count,)),
        Tensor(name=site.stored("ends"), shape=(site.sizes[0] + 1,), kind="buffer", dtype="int32"),
        Tensor(name=site.stored("columns"), shape=(count,), kind="buffer", dtype="int32"),
    )


def _blocks(site: WeightSite) -> tuple[Tensor, ...]:
    side, kept = site["block"], _blocks_kept(site)
    rows = site.sizes[0] // side
    return (
        Tensor(name=site.stored("blocks"), shape=(rows, kept, side, side)),
        Tensor(name=site.stored("columns"), shape=(rows, kept), kind="buffer", dtype="int"),
    )


def _inputs_kept(site: WeightSite) -> int:
    _, inputs = site.matrix
    count = round(site["density"] * inputs)
    return count if count else _nothing(site, f"of the {inputs} inputs of a unit")


def _blocks_kept(site: WeightSite) -> int:
    """Return how many blocks each row of blocks keeps."""
    side = site["block"]
    if len(site.sizes) != 2 or any(size % side for size in site.sizes):
        raise Misfit(f"blocks of {side} x {side} do not fill it", help="choose `block` to divide both sizes")
    count = round(site["density"] * (site.sizes[1] // side))
    return count if count else _nothing(site, f"of the {site.sizes[1] // side} blocks in a row")


def _n_of_m(site: WeightSite) -> int:
    n, m = site["n"], site["m"]
    rows, inputs = site.matrix
    if n > m:
        raise Misfit(f"{n} of every {m} cannot be kept", help="`n` is at most `m`")
    if site["density"] not in (None, n / m):
        raise Misfit(f"{n} of every {m} is a density of {n / m:g}, not {site['density']:g}")
    if inputs % m:
        raise Misfit(f"its {inputs} inputs a unit do not fall into groups of {m}")
    return rows * inputs // m * n


def _nothing(site: WeightSite, of: str) -> int:
    raise Misfit(f"a density of {site['density']:g} keeps none {of}", help="choose a higher density")
