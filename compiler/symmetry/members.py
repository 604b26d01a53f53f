"""How a weight under a constraint may move by small steps: the tangent space of the set of its members.

In: a weight with its maps, and a state. The map from stored numbers to the effective weight is differentiated; where
it is smooth, as at generic numbers, its Jacobian spans the directions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.ir import Weight, state_key

if TYPE_CHECKING:
    from torch import Tensor

TOLERANCE = 1e-9  # of the largest singular value


def member_steps(weight: Weight, path: str, state: Mapping[str, Tensor]) -> Any:
    """Return an orthonormal basis of the steps of an effective weight, flat, a column each (a numpy array)."""
    import numpy as np
    import torch

    from nnspec.compiler.emit.load import weight_function

    compute = weight_function(weight, path)
    learned = [state_key(path, tensor.name) for tensor in weight.stored if tensor.kind == "learned"]

    def effective(given: dict[str, Tensor]) -> Tensor:
        return compute({**state, **given}).double().flatten()

    spread: Any = torch.func.jacrev(effective)({key: state[key] for key in learned})
    jacobian = np.concatenate([spread[key].flatten(1).numpy() for key in learned], axis=1)
    left, spectrum, _ = np.linalg.svd(jacobian, full_matrices=False)
    return left[:, spectrum > TOLERANCE * spectrum[0]] if spectrum.size else left
