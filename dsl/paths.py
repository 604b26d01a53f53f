"""Paths that begin with `trained(E)`: which call they begin with.

In: an expression and the names that the body defines. Out: the call `trained(E)` at its head; None if there is none.
"""

from __future__ import annotations

from collections.abc import Container

from nnspec.dsl.syntax import CallOf, Expression, Index, Member, Name


def trained_root(expression: Expression, taken: Container[str]) -> CallOf | None:
    """Return the call in `trained(E)`, `trained(E).encoder` and `trained(E).repeat[2]`.

    None where the expression is another, or `trained` is among the names that mean something else.
    """
    while isinstance(expression, Member | Index):
        expression = expression.of
    function = expression.function if isinstance(expression, CallOf) else None
    if isinstance(expression, CallOf) and isinstance(function, Name) and function.name == "trained":
        return None if "trained" in taken else expression
    return None
