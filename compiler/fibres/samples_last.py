"""Products of many small matrices with many samples, laid out so that BLAS is quick.

`vmap` turns a layer of K networks into K products [samples, n] @ [n, m] with n and m small, for which BLAS packs
tall thin matrices again and again. Transposed, with the samples along the last axis in memory, the same products
take a fraction of the time, and products with inputs that all networks share are one large product. The layout
passes through elementwise functions. Numbers are the same up to the order of sums.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


def samples_last() -> Any:
    """Return a context in which batched products keep the samples along the last axis in memory."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class SamplesLast(TorchDispatchMode):
        def __torch_dispatch__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
        ) -> Any:
            if func is torch.ops.aten.bmm.default:
                return _product(func, args[0], args[1])
            return func(*args, **(kwargs or {}))

    return SamplesLast()


def _product(bmm: Callable[[Tensor, Tensor], Tensor], left: Tensor, right: Tensor) -> Tensor:
    """Return left [K, n, k] @ right [K, k, m] as the transpose of a product."""
    count, inner, width = right.shape
    if left.stride(0) == 0:
        shared = right.mT.reshape(count * width, inner) @ left[0].mT
        return shared.view(count, width, left.shape[1]).mT
    return bmm(right.mT, left.mT).mT
