"""A function of tensors as a flat program: every operation that it makes on examples, with the shape of what each gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def trace(function: Callable[..., Any], *given: Any) -> Any:
    """Return what a function does with these tensors as an `fx.GraphModule`, whose nodes know their shapes.

    torch describes each value by a tensor without numbers, and would make a world of its own for every one of them, with
    the stack of calls that led there: half of the time of a trace. In a tracing context there is one world for all.
    """
    from torch._guards import TracingContext, tracing
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    with tracing(TracingContext(FakeTensorMode())):
        return make_fx(function)(*given)
