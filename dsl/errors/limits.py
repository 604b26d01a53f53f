"""Static limits: a spec cannot exhaust the machine while being checked (N05xx, from N0520)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class NumberTooLarge(Error):
    code = "N0520"
    title = "number too large"
    message = "this comes out {what}"
    label = "beyond the limit of {limit}"
    explain = """Compile-time numbers are bounded: whole numbers to 2^63 - 1, other numbers to the range of
double precision. Sizes beyond that could not be allocated anyway."""


class GraphTooLarge(Error):
    code = "N0521"
    title = "network too large"
    message = "this makes {found} {what}, and the limit is {limit}"
    label = "grows past the limit"
    explain = """A network may have at most a million operations after all repeats are unfolded."""


class NestingTooDeep(Error):
    code = "N0522"
    title = "definitions nested too deeply"
    message = "definitions call each other more than {limit} levels deep"
    label = "goes one level deeper"
    explain = """Layers inside layers are limited in depth; use `repeat` for depth."""


class TensorTooLarge(Error):
    code = "N0523"
    title = "tensor too large"
    message = "`{operation}` makes {what}, more than can be counted"
    label = "too large"
    explain = (
        """A tensor has at most 2^63 - 1 entries, the largest number that sizes and memory are counted in."""
    )
