"""`shared_with(path)`: the weight is another instance's, as it is."""

from __future__ import annotations

from nnspec.compiler.constraints.tied import Tied


class SharedWith(Tied):
    """A weight that another instance of the same shape stores."""

    name = "shared_with"
    doc = "The weight is that of another instance of the same body, which stores it for both."
    arguments = Tied.arguments[:1]
    example = "constrain fc2.weight: shared_with(fc1.weight)"
