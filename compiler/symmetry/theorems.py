"""Theorems that make a derived group complete: what they cover, what they say, and when they hold.

In: a network as a chain of layers, or as units joined by linear maps. Out: whether a theorem covers it, the order and
dimension that it allows, and where weights break its genericity condition. `read` says how much of the source was read;
hypotheses that an abstract leaves open are tested as far as they are known, and said to be.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import lgamma, log, log10
from typing import TYPE_CHECKING, ClassVar

from nnspec.compiler.symmetry.chain import Chain, alike, cut_off, never_bending, rows
from nnspec.compiler.symmetry.settled import SettledUnits
from nnspec.compiler.symmetry.units import Units

if TYPE_CHECKING:
    from torch import Tensor

State = Mapping[str, "Tensor"]

OTHER_FUNCTIONS = ("its functions are not hyperbolic tangents", "its functions are not rectifiers")


class Theorem:
    """Base of the theorems about fully connected networks."""

    name: ClassVar[str]
    citation: ClassVar[str]
    statement: ClassVar[str]
    condition: ClassVar[str]
    read: ClassVar[str] = "abstract"
    everywhere: ClassVar[bool] = True  # at all weights that meet the condition; else at some weights
    settled: ClassVar[bool] = True  # whether what is tested is all that the condition asks

    def lacks(self, chain: Chain) -> str | None:
        """Return what a chain lacks to be covered, None if it is covered."""
        raise TypeError(f"{self.name} covers nothing")

    def log10_order(self, chain: Chain) -> float:
        """Return the order of the component group that the theorem allows."""
        return sum(lgamma(width + 1) / log(10) for width in chain.widths[1:-1])

    def dimension(self, chain: Chain) -> int:
        return 0

    def violated(self, chain: Chain, state: State) -> list[str]:
        """Say where weights break the condition."""
        raise TypeError(f"{self.name} tests nothing")


def _unbiased(chain: Chain, *, output: bool = False) -> str | None:
    layers = chain.layers if output else chain.hidden
    missing = [layer.path for layer in layers if layer.bias is None]
    return f"`{missing[0]}` has no bias" if missing else None


class Hyperbolic(Theorem):
    """Networks of hyperbolic tangents, and of their affine images where biases take up the constants."""

    def lacks(self, chain: Chain) -> str | None:
        if not chain.hidden or not chain.has("hyperbolic"):
            return OTHER_FUNCTIONS[0]
        shifted = any(layer.function and layer.function.parity != "odd" for layer in chain.hidden)
        return _unbiased(chain, output=shifted)

    def log10_order(self, chain: Chain) -> float:
        return super().log10_order(chain) + sum(chain.widths[1:-1]) * log10(2)

    def violated(self, chain: Chain, state: State) -> list[str]:
        return [*cut_off(chain, state), *alike(chain, state, up_to="sign")]


class Sussmann(Hyperbolic):
    name = "Sussmann 1992"
    citation = "H. J. Sussmann, Uniqueness of the weights for minimal feedforward nets with a given input-output map, 1992"
    statement = (
        "Two irreducible networks with one hidden layer of hyperbolic tangents compute the same function if and only "
        "if a permutation and sign flips of hidden units turn one into the other."
    )
    condition = (
        "irreducible: no unit without incoming or outgoing weights, no two units equal up to sign. Stated for one "
        "output; several follow by a generic combination of them"
    )
    read = "summary"

    def lacks(self, chain: Chain) -> str | None:
        lacking = super().lacks(chain)
        return lacking or ("it has more than one hidden layer" if len(chain.hidden) > 1 else None)


class VlacicBolcskei:
    """Of hyperbolic tangents joined in any way: masks, and streams that units read and add to."""

    name = "Vlačić and Bölcskei 2020"
    citation = (
        "V. Vlačić, H. Bölcskei, Affine symmetries and neural network identifiability, arXiv:2006.11727, 2020"
    )
    statement = (
        "For hyperbolic tangents, and any connectivity, networks that compute the same function are turned into each "
        "other by the affine symmetries of the nonlinearity: here permutations and sign flips."
    )
    condition = (
        "no clones, and every unit reaches an output. The exact conditions were not read; tested is that no two units of "
        "a layer are equal up to sign, none is without incoming or outgoing weights, and each reads the layer before it, "
        "where linear maps in a row and sums count as one map"
    )
    read = "abstract"
    everywhere = True
    settled = False

    def lacks(self, units: Units) -> str | None:
        if any(layer.function.curve != "hyperbolic" for layer in units.layers):
            return OTHER_FUNCTIONS[0]
        if units.masks and not units.is_chain:
            return "masks stand beside sums or maps in a row"
        shifted = any(layer.function.parity != "odd" for layer in units.layers)
        before = {layer.path for layer in units.layers}
        missing = [m.path for m in units.maps if m.bias is None and (shifted or m.path in before)]
        return f"`{missing[0]}` has no bias" if missing else units.masked_off()

    def log10_order(self, units: Units) -> float:
        """Return the order of the permutations and flips of units that the theorem allows."""
        return units.log10_permutations() + sum(layer.size for layer in units.layers) * log10(2)


class FeffermanMarkel(Hyperbolic):
    name = "Fefferman and Markel 1993"
    citation = "C. Fefferman, S. Markel, Recovering a feed-forward net from its output, NIPS 1993"
    statement = (
        "The output of a generic fully connected network of hyperbolic tangents determines its architecture, weights "
        "and thresholds up to the obvious symmetries."
    )
    condition = (
        "generic. The exact conditions were not read; tested is that no weight and no hidden bias is zero, and no two "
        "biases of a layer are of one magnitude"
    )
    settled = False

    def violated(self, chain: Chain, state: State) -> list[str]:
        found = super().violated(chain, state)
        for layer in chain.hidden:
            own = rows(layer, state)
            if bool((own == 0).any()):
                found.append(f"`{layer.path}` has weights or biases that are zero")
            sizes = own[:, -1].abs().sort().values
            if bool((sizes.diff() <= 1e-12 * sizes[1:]).any()):
                found.append(f"`{layer.path}` has biases of one magnitude")
        return found


class Rectified(Theorem):
    """Networks of rectifiers with biases: the theorems speak of some weights, not of all generic ones."""

    everywhere = False
    condition = (
        "weights in a set that the theorem does not describe; tested is what is necessary: no two units of a layer equal "
        "up to a positive scale, none without incoming or outgoing weights, none dead or always on"
    )
    settled = False

    def lacks(self, chain: Chain) -> str | None:
        if not chain.hidden or not chain.has("rectifier"):
            return OTHER_FUNCTIONS[1]
        return _unbiased(chain) or self.narrow(chain)

    def narrow(self, chain: Chain) -> str | None:
        """Return what is wrong with the widths."""
        return None

    def dimension(self, chain: Chain) -> int:
        return sum(chain.widths[1:-1])

    def violated(self, chain: Chain, state: State) -> list[str]:
        units = [*cut_off(chain, state), *alike(chain, state, up_to="scale")]
        return [*units, *never_bending(chain, state)]


class PhuongLampert(Rectified):
    name = "Phuong and Lampert 2020"
    citation = "M. Phuong, C. H. Lampert, Functional vs. parametric equivalence of ReLU networks, ICLR 2020"
    statement = (
        "Where widths do not increase, there are weights whose equivalents are exactly their permutations and positive "
        "rescalings."
    )

    def narrow(self, chain: Chain) -> str | None:
        widths = chain.widths
        grows = any(after > before for before, after in pairwise(widths))
        return "its widths increase" if grows else None


class GrigsbyLindseyRolnick(Rectified):
    name = "Grigsby, Lindsey and Rolnick 2023"
    citation = (
        "J. E. Grigsby, K. Lindsey, D. Rolnick, Hidden symmetries of ReLU networks, arXiv:2306.06179, 2023"
    )
    statement = (
        "Where no hidden layer is narrower than the input, there are weights without symmetries beyond permutations "
        "and positive rescalings."
    )

    def narrow(self, chain: Chain) -> str | None:
        return (
            "a hidden layer is narrower than the input" if min(chain.widths[1:-1]) < chain.widths[0] else None
        )


class GrilloMontufar(Rectified):
    name = "Grillo and Montúfar 2026"
    citation = "Grillo, Montúfar, arXiv:2605.03601, 2026"
    statement = (
        "With inputs and hidden layers of width 2 or more, an open set of weights is identifiable up to permutations and "
        "positive rescalings; there the functional dimension is the number of parameters less that of hidden units."
    )

    def narrow(self, chain: Chain) -> str | None:
        return "the input or a hidden layer is narrower than 2 units" if min(chain.widths[:-1]) < 2 else None


THEOREMS: tuple[Theorem | VlacicBolcskei, ...] = (
    Sussmann(),
    VlacicBolcskei(),
    FeffermanMarkel(),
    PhuongLampert(),
    GrigsbyLindseyRolnick(),
    GrilloMontufar(),
)


class Resting:
    """Of hyperbolic tangents that settle in a loop; proved in docs/settled.md, and not taken from elsewhere."""

    name = "the theorem on settled states"
    citation = "docs/settled.md of nnspec, with its proof; near to it are F. Albertini, E. D. Sontag, 1993"
    statement = (
        "Where h = f(W h + U x + b) rests, f a hyperbolic tangent, y = C h + D x + d as a function of all x determines W, U, "
        "b, C, D and d up to permutations and sign flips of units, among weights that drive each unit by x."
    )
    condition = (
        "three inputs or more drive each unit, and what drives no three of them lies in one plane; each unit is read by the "
        "output, or by every unit that the output reads"
    )
    read = "proved"
    everywhere = True
    settled = True

    def lacks(self, units: SettledUnits) -> str | None:
        if any(function.curve != "hyperbolic" for function in units.functions):
            return OTHER_FUNCTIONS[0]
        shifted = any(function.parity != "odd" for function in units.functions)
        return (
            "functions that are not odd have no biases behind them" if shifted and not units.biased else None
        )


class Gauge:
    """Of attention: of the wires between queries and keys, and between values and read-out."""

    name = "transformer gauge 2025"
    citation = "Complete characterization of gauge symmetries in transformer architectures, NeurReps 2025"
    statement = (
        "On the generic stratum the symmetries of standard attention are (GL(d_k)^h x GL(d_v)^h) with S_h over it in each "
        "layer; with rotary positions GL(d_k) shrinks to what commutes with them, typically GL(1, C)^(d_k / 2)."
    )
    settled = False
    condition = "the generic stratum, which the abstract does not define; tested is that each map along these wires has full rank"
    read = "abstract"
