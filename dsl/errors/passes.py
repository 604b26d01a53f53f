"""What analysis passes refuse (N0961 to N0979)."""

from __future__ import annotations

from nnspec.dsl.diagnostics import Error


class TooLargeToVerify(Error):
    code = "N0961"
    title = "too large to verify"
    message = "`{pass_name}` verifies networks of at most {limit} parameters, and {network} has {parameters}"
    help = "leave `verify` out, or verify the same network with smaller widths"
    explain = """Verification draws weights and tries the derived symmetries on them. Up to 1,500 parameters it also
compares the dimension with the rank of the network's Jacobian, whose cost grows with the cube of the number of
parameters; above that it looks at a part of the Jacobian. The derived group itself needs no weights and has no
such limit."""


class NothingToVerify(Error):
    code = "N0979"
    title = "a pass that has nothing to verify"
    message = "`--verify` belongs to the pass `symmetry`, and {asked}"
    help = "`nnspec analyze FILE NAME --pass symmetry --verify`"
    explain = """`--verify` tries a derived symmetry group on random weights. It stands for `symmetry(verify = true)`,
and other passes derive no group."""
