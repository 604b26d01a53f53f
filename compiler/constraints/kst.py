"""`kst(role)`: the topology of Kolmogorov's superposition theorem, made of dense layers and activations.

    f(x_1 .. x_n) = sum over q of Phi_q( sum over p of phi_qp(x_p) ),   q = 1 .. 2 n + 1

(Kolmogorov 1957). Every function in it has one argument. Here each is a small network of one hidden layer, or one
activation with parameters of its own:

    x -> dense(terms * n * k): kst("inner")   k units for each phi_qp, which read x_p alone
      -> activation
      -> dense(terms): kst("outer")           the sum over p, for each q
      -> dense(terms * m): kst("outer")       m units for each Phi_q
      -> activation
      -> dense(outputs)                       the sum over q: no constraint

`inner` falls into `terms` groups of n groups of k units, `outer` is block-diagonal with one block a term.
"""

from __future__ import annotations

from nnspec.compiler.constraints.conditions import Condition
from nnspec.compiler.constraints.constraint import Misfit, WeightSite
from nnspec.compiler.constraints.topology import MOST_ENTRIES, Topology
from nnspec.compiler.ir import Code
from nnspec.dsl.catalog import Argument


class Kst(Topology):
    name = "kst"
    doc = "The layers of f(x) = sum_q Phi_q(sum_p phi_qp(x_p)): `inner` reads one input a unit, `outer` one term."
    arguments = (
        Argument(
            name="role",
            kind="choice",
            choices=("inner", "outer"),
            doc="inner: each unit reads one input; outer: each unit reads its own term",
        ),
        Argument(
            name="terms",
            kind="int",
            doc="how many terms; none: 2 n + 1 for n inputs in `inner`, the smaller side in `outer`",
            default=None,
            at_least=1,
            nullable=True,
        ),
    )
    example = 'constrain inner.weight: kst("inner", terms = 9)'

    def begin(self, site: WeightSite) -> Code:
        """Return the call that makes the mask."""
        units, inputs = _matrix(site)
        terms = _terms(site)
        if site["role"] == "inner":
            text = f"i // {units // (terms * inputs)} % {inputs} == j"
        else:
            text = f"i // {units // terms} == j // {inputs // terms}"
        made = Condition(names=("i", "j"), text=text, plain=text, exact=True)
        return Code(file="masks", name="where", options=(("condition", made),))

    def entries(self, site: WeightSite) -> tuple[bytes, ...] | None:
        """Return which entries exist; None of a weight too large to be listed."""
        units, inputs = _matrix(site)
        terms = _terms(site)
        if units * inputs > MOST_ENTRIES:
            return None
        if site["role"] == "inner":
            width, starts = 1, [i // (units // (terms * inputs)) % inputs for i in range(units)]
        else:
            width = inputs // terms
            starts = [i // (units // terms) * width for i in range(units)]
        return tuple(bytes(n) + b"\1" * width + bytes(inputs - n - width) for n in starts)

    def free(self, site: WeightSite) -> int:
        """Return how many entries exist."""
        units, inputs = _matrix(site)
        return units if site["role"] == "inner" else units * inputs // _terms(site)


def _terms(site: WeightSite) -> int:
    units, inputs = _matrix(site)
    if site["role"] == "inner":
        terms = site["terms"] or 2 * inputs + 1
        if units % (terms * inputs):
            raise Misfit(
                f"its {units} units do not share {terms} terms of {inputs} inputs evenly",
                help=f"use a multiple of {terms * inputs} units, such as `dense({4 * terms * inputs})`",
            )
        return terms
    terms = site["terms"] or min(units, inputs)
    if units % terms or inputs % terms:
        raise Misfit(f"{terms} terms do not share {inputs} inputs and {units} units evenly")
    return terms


def _matrix(site: WeightSite) -> tuple[int, int]:
    if len(site.shape) != 2:
        raise Misfit(f"it is for matrices, and this weight has {len(site.shape)} axes")
    return site.matrix
