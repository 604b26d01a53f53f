"""Solvers of s = f(s) and of ds/dt = f(s), and the gradients of what they settle to.

States are tuples of tensors [batch, ..]. A solver takes a function of them and where they begin, and returns the
states and the residual, a tensor without axes: the largest |f(s) - s| of a map, the largest |ds/dt| of a flow, as of
the last step. With `tolerance` 0 a solver takes all its steps and never waits for the device; else it looks at the
residual every few steps, stops when that is small enough, and warns if that never happens; `of` says what settles.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

States = tuple[Tensor, ...]
Step = Callable[..., States]
Solver = Callable[..., tuple[States, Tensor]]


def fixed_point(
    step: Step,
    states: States,
    steps: int,
    damping: float = 1.0,
    tolerance: float = 0.0,
    clip: tuple[float, float] | None = None,
    every: int = 10,
    of: str = "states",
) -> tuple[States, Tensor]:
    """Iterate s = (1 - damping) s + damping f(s), kept between the two numbers of `clip`."""

    def advance(states: States) -> States:
        found = step(*states)
        if damping != 1.0:
            found = tuple(s.lerp(f, damping) for s, f in zip(states, found, strict=True))
        return within(found, clip)

    return iterate(advance, moved_by(damping), states, steps, tolerance, every, of)


def euler(
    rate: Step,
    states: States,
    steps: int,
    dt: float,
    tolerance: float = 0.0,
    clip: tuple[float, float] | None = None,
    every: int = 10,
    of: str = "states",
) -> tuple[States, Tensor]:
    """Follow ds/dt = rate(s) by steps s + dt rate(s), kept between the two numbers of `clip`."""

    def advance(states: States) -> States:
        return within(shifted(states, rate(*states), dt), clip)

    return iterate(advance, moved_by(dt), states, steps, tolerance, every, of)


def rk4(
    rate: Step,
    states: States,
    steps: int,
    dt: float,
    tolerance: float = 0.0,
    clip: tuple[float, float] | None = None,
    every: int = 10,
    of: str = "states",
) -> tuple[States, Tensor]:
    """Follow ds/dt = rate(s) by the classical method of Runge and Kutta, kept between the numbers of `clip`."""

    def advance(states: States) -> States:
        first = rate(*states)
        second = rate(*shifted(states, first, dt / 2))
        third = rate(*shifted(states, second, dt / 2))
        fourth = rate(*shifted(states, third, dt))
        slopes = zip(first, second, third, fourth, strict=True)
        mean = tuple((a + 2 * b + 2 * c + d) / 6 for a, b, c, d in slopes)
        return within(shifted(states, mean, dt), clip)

    return iterate(advance, moved_by(dt), states, steps, tolerance, every, of)


def anderson(
    step: Step,
    states: States,
    steps: int,
    memory: int = 5,
    damping: float = 1.0,
    ridge: float = 1e-4,
    tolerance: float = 0.0,
    clip: tuple[float, float] | None = None,
    every: int = 10,
    of: str = "states",
) -> tuple[States, Tensor]:
    """Mix the last iterates so that their residuals cancel best, for each sample (Anderson, 1965; Walker and Ni, 2011).

    The weights a, which add up to 1, minimise |sum a_i g_i|^2 + ridge sum a_i^2 |g_i|^2, g_i = f(s_i) - s_i: the ridge
    shrinks with the residuals, for one of fixed size stops the acceleration where they are smaller than it.
    """
    xs: list[Tensor] = []
    gs: list[Tensor] = []

    def advance(states: States) -> States:
        x = flat(states)
        for kept, value in ((xs, x), (gs, flat(within(step(*states), clip)) - x)):
            kept[:] = [*kept[max(0, len(kept) + 1 - memory) :], value]
        residuals = torch.stack(gs, 1)
        size = torch.linalg.vector_norm(residuals, dim=2) + torch.finfo(x.dtype).tiny
        unit = residuals / size.unsqueeze(2)
        scale = size.amin(1, keepdim=True) / size
        gram = unit.conj() @ unit.mT
        gram = gram + ridge * torch.eye(len(gs), dtype=x.dtype, device=x.device)
        a = scale * torch.linalg.solve_ex(gram, scale.to(x.dtype).unsqueeze(2))[0].squeeze(2)
        a = (a / a.sum(1, keepdim=True)).unsqueeze(1)
        return within(unflat((a @ torch.stack(xs, 1) + damping * (a @ residuals)).squeeze(1), states), clip)

    return iterate(advance, lambda _before, _after: largest(gs[-1]), states, steps, tolerance, every, of)


def broyden(
    step: Step,
    states: States,
    steps: int,
    memory: int = 10,
    tolerance: float = 0.0,
    clip: tuple[float, float] | None = None,
    every: int = 10,
    of: str = "states",
) -> tuple[States, Tensor]:
    """Newton's method with an inverse Jacobian that is learned on the way, for each sample (Broyden, 1965).

    The inverse of d(f(s) - s)/ds begins as -I and changes by one product of vectors a step; after `memory` of them it
    begins anew.
    """
    left: list[Tensor] = []
    right: list[Tensor] = []
    last: list[Tensor] = []

    def inverse(v: Tensor) -> Tensor:
        return -v + sum((u * (w * v).sum(1, keepdim=True) for u, w in zip(left, right, strict=True)))

    def transposed(v: Tensor) -> Tensor:
        return -v + sum((w * (u * v).sum(1, keepdim=True) for u, w in zip(left, right, strict=True)))

    def learn(moved: Tensor, change: Tensor) -> None:
        if len(left) == memory:
            left.clear()
            right.clear()
        turned, row = inverse(change), transposed(moved.conj())
        slope = (moved.conj() * turned).sum(1, keepdim=True)
        safe = torch.where(slope.abs() > torch.finfo(slope.dtype).tiny, slope, 1.0)
        left.append((moved - turned) / safe)
        right.append(row)

    def advance(states: States) -> States:
        x = flat(states)
        g = flat(within(step(*states), clip)) - x
        if last:
            learn(x - last[0], g - last[1])
        last[:] = [x, g]
        return within(unflat(x - inverse(g), states), clip)

    return iterate(advance, lambda _before, _after: largest(last[1]), states, steps, tolerance, every, of)


def implicit(
    step: Step,
    states: States,
    forward: Solver,
    backward: Solver,
    flow: bool = False,
    clip: tuple[float, float] | None = None,
) -> tuple[States, Tensor]:
    """Settle without a record of the steps; the gradient is that of the equilibrium s = f(s).

    For a gradient g by the states it is u df/dweights, where u = u df/ds + g is solved by `backward`. Of a flow,
    f(s) = s + ds/dt. States that `clip` holds at a border do not move.
    """
    with torch.no_grad():
        states, residual = forward(step, states, clip=clip)
    if not torch.is_grad_enabled():
        return states, residual
    at = tuple(s.detach().requires_grad_() for s in states)
    with torch.enable_grad():
        values = step(*at)
        values = within(shifted(at, values, 1.0) if flow else values, clip)
    if not any(value.requires_grad for value in values):
        return states, residual

    def adjoint(gradients: States) -> States:
        size = torch.stack([largest(g) for g in gradients]).max().clamp_min(torch.finfo(residual.dtype).tiny)
        gradients = tuple(g / size for g in gradients)  # the tolerance of `backward` is a share of them

        def pulled(*u: Tensor) -> States:
            back = torch.autograd.grad(values, at, u, retain_graph=True, materialize_grads=True)
            found = shifted(back, gradients, 1.0)
            return shifted(found, u, -1.0) if flow else found

        zeros = tuple(torch.zeros_like(g) for g in gradients)  # after k steps, k terms of the Neumann series
        return tuple(size * u for u in backward(pulled, zeros, of="gradients of states")[0])

    return Settled.apply(adjoint, states, *values), residual


class Settled(torch.autograd.Function):
    """Gives the settled states; their gradients go through `adjoint` to the values of one step."""

    @staticmethod
    def forward(ctx: Any, adjoint: Any, states: States, *values: Tensor) -> States:
        ctx.adjoint = adjoint
        return tuple(s.detach() for s in states)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return None, None, *ctx.adjoint(gradients)


def phantom(
    step: Step,
    states: States,
    forward: Solver,
    backward: Solver,
    clip: tuple[float, float] | None = None,
) -> tuple[States, Tensor]:
    """Settle without a record; the gradient is that of the few steps of `backward` from there on.

    With one step this is Jacobian-free backpropagation (Fung et al., 2022), with several a phantom gradient (Geng et
    al., 2021): the Neumann series of the implicit gradient, cut off.
    """
    with torch.no_grad():
        states, residual = forward(step, states, clip=clip)
    states = tuple(s.detach() for s in states)
    moved = backward(step, states, clip=clip)[0]
    return tuple(s + (m - m.detach()) for s, m in zip(states, moved, strict=True)), residual


def iterate(
    advance: Callable[[States], States],
    residual: Callable[[States, States], Tensor],
    states: States,
    steps: int,
    tolerance: float,
    every: int,
    of: str,
) -> tuple[States, Tensor]:
    """Take steps, until the residual of one from some states to others is within the tolerance."""
    tolerance = looked_at(tolerance)
    before = states
    for count in range(1, steps + 1):
        before, states = states, advance(states)
        if tolerance and count % every == 0 and float(residual(before, states)) <= tolerance:
            break
    return states, warned(residual(before, states), steps, tolerance, of)


def moved_by(size: float) -> Callable[[States, States], Tensor]:
    """Return the residual of steps of one size: the largest change, by that size."""
    return lambda before, after: largest_change(before, after) / size


def looked_at(tolerance: float) -> float:
    """Return the tolerance; 0 while a program is made, for then the number of steps must be known."""
    return 0.0 if torch.compiler.is_compiling() else tolerance


def warned(residual: Tensor, steps: int, tolerance: float, of: str) -> Tensor:
    """Return the residual; warn if it is above the tolerance, once a process for each place."""
    if tolerance and not float(residual) <= tolerance:
        text = (
            f"{of} not settled to {tolerance:g} after {steps} steps: "
            "try more steps, another damping or dt, or another solver; `nnspec analyze --pass stability` says which"
        )
        warning: Any = RuntimeWarning(text)
        warning.residual = float(residual)  # for a loop that counts them
        warnings.warn(warning, stacklevel=2)
    return residual


def largest_change(before: States, after: States) -> Tensor:
    """Return the largest change of any unit."""
    return torch.stack([largest(a - b) for a, b in zip(after, before, strict=True)]).max()


def largest(x: Tensor) -> Tensor:
    """Return the largest magnitude, which is not differentiated."""
    return x.detach().abs().max()


def within(states: States, clip: tuple[float, float] | None) -> States:
    """Bring what lies outside to the border."""
    return states if clip is None else tuple(s.clamp(*clip) for s in states)


def shifted(states: States, by: States, size: float) -> States:
    """Return states + size * by."""
    return tuple(torch.add(s, d, alpha=size) for s, d in zip(states, by, strict=True))


def flat(states: States) -> Tensor:
    """Return all states of each sample, laid end to end."""
    return torch.cat([s.flatten(1) for s in states], 1)


def unflat(x: Tensor, like: States) -> States:
    """Return the states of which `flat` made this."""
    parts = x.split([s.shape[1:].numel() for s in like], 1)
    return tuple(part.reshape(s.shape) for part, s in zip(parts, like, strict=True))
