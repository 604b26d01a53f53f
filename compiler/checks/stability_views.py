"""What was found of the stability of a loop, as sentences, tables and plots. matplotlib's Axes come from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Cell, Plot, Table
from nnspec.compiler.runtime.figures import GREY

if TYPE_CHECKING:
    from nnspec.compiler.checks.stability import Stability

_BLUE, _RED, _GREEN, _ORANGE = "#3b78b8", "#c8553d", "#5f8a4f", "#d08a2e"
_SMALLEST = 1e-17
_EVEN = 1e-8
_MOST_SHOWN = 150  # steps of a path in the plane


def summary(data: Mapping[str, Any]) -> str:
    """Say whether a loop settles, whether it stays there, and what to try if not."""
    return " ".join(_sentences(data))


def _sentences(data: Mapping[str, Any]) -> Iterator[str]:
    steps = data["steps_to_settle"]
    after = "" if steps is None else f" within {steps} steps"
    yield (
        f"{_title(data)}: {data['settled']} of {data['samples']} inputs settle{after} "
        f"(residual {_said(data['residual'])})."
    )
    if not data["equilibrium"]:
        yield "No equilibrium was found, by Newton's method either: these states go round, or drift."
        return
    yield _at_rest(data)
    if data["jacobian_asymmetry"] is not None and data["jacobian_asymmetry"] < _EVEN:
        yield "Its Jacobian is symmetric: it follows the slope of an energy."
    counts = [own["count"] for own in data["equilibria"]]
    if counts and max(counts) > 1:
        yield f"Random starts end at up to {max(counts)} different equilibria of one input."
    if data["settled"] < data["samples"]:
        yield _advice(data)


def _at_rest(data: Mapping[str, Any]) -> str:
    if data["radius"] is None:
        return "At the equilibrium every unit is held at a bound of `clip`, and none may move."
    what = "spectral radius" if data["form"] == "map" else "largest real part of an eigenvalue"
    bound = 1 if data["form"] == "map" else 0
    proof = " and ".join(name for name in ("rows", "columns") if data["gershgorin"][name]["proves"])
    proves = (
        f"; Gershgorin's discs of the {proof} prove it"
        if proof
        else "; Gershgorin's discs prove nothing here"
    )
    stays = f"below {bound}" if data["radius"] < bound else f"not below {bound}"
    held = (
        f" of the units that clips leave free (up to {max(data['held'])} are held)"
        if any(data["held"])
        else ""
    )
    return f"At the equilibrium the {what}{held} is {data['radius']:.4g}, {stays}{proves}."


def _advice(data: Mapping[str, Any]) -> str:
    word = "damping" if data["form"] == "map" else "dt"
    most = data["largest_stride"]
    if data["step_radius"] is None or data["step_radius"] < 1:
        return "Its steps come closer to it: let it take more of them."
    if most is not None:
        return f"Steps overshoot: `{word}` below {most:.3g} would come closer to this equilibrium."
    return "This equilibrium repels whatever the length of the steps: make the weights of the loop smaller."


def _title(data: Mapping[str, Any]) -> str:
    return f"{data['loop']}, {data['weights']}"


def _said(value: float | None) -> str:
    return "without bound" if value is None else f"{value:.2g}"


def tables(found: Sequence[Mapping[str, Any]]) -> tuple[Table, ...]:
    """Return one row a loop and state of the weights, one of each kind of discs, and one of the equilibria of each input."""
    return _settling_table(found), _discs_table(found), _ends_table(found)


def _settling_table(found: Sequence[Mapping[str, Any]]) -> Table:
    numbers = ("residual", "radius", "step_radius", "contraction", "lyapunov")
    rows: list[tuple[Cell, ...]] = [
        (
            data["loop"],
            data["weights"],
            f"{data['settled']} of {data['samples']}",
            data["steps_to_settle"],
            *(data[name] for name in numbers),
        )
        for data in found
    ]
    columns = ("loop", "weights", "settled", "steps", *(name.replace("_", " ") for name in numbers))
    return Table(title="Stability", columns=columns, rows=tuple(rows))


def _discs_table(found: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (_title(data), name, own["failing"], "yes" if own["proves"] else "no")
        for data in found
        for name, own in data["gershgorin"].items()
    ]
    columns = ("loop", "of", "that reach out", "stability proved")
    return Table(title="Gershgorin's discs", columns=columns, rows=tuple(rows))


def _ends_table(found: Sequence[Mapping[str, Any]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            _title(data),
            own["sample"],
            own["count"],
            ", ".join(map(str, own["visits"])),
            own["unsettled"],
            own["gone"],
        )
        for data in found
        for own in data["equilibria"]
    ]
    columns = ("loop", "input", "equilibria", "visits", "still moving", "blown up")
    return Table(title="Where random starts end", columns=columns, rows=tuple(rows))


def plots(found: Stability, title: str) -> tuple[Plot, ...]:
    """Return the discs with the eigenvalues, the residuals, the paths from random starts, and the energy along them."""
    made = [
        Plot(
            name=f"eigenvalues and discs of {title}", draw=lambda axes: _discs(axes, found), size=(3.9, 3.4)
        ),
        Plot(name=f"residuals of {title}", draw=lambda axes: _residuals(axes, found)),
        Plot(name=f"paths of {title} from random starts", draw=lambda axes: _paths(axes, found)),
    ]
    if found.energies is not None:
        made.append(Plot(name=f"energy of {title} along paths", draw=lambda axes: _energies(axes, found)))
    return tuple(made)


def _list(values: Any) -> list[Any]:
    return values.tolist()


def _discs(axes: Any, found: Stability) -> None:
    from matplotlib.patches import Circle

    worst = found.worst
    own = worst.rows
    shade = max(0.02, min(0.12, 2 / max(1, len(own.centres))))
    for centre, radius, safe in zip(_list(own.centres), _list(own.radii), _list(own.safe), strict=True):
        colour = _BLUE if safe else _RED
        axes.add_patch(Circle((centre, 0), radius, facecolor=colour, alpha=shade, edgecolor="none"))
        axes.add_patch(Circle((centre, 0), radius, fill=False, edgecolor=colour, alpha=0.35, linewidth=0.6))
    _frame(axes, found)
    if found.motion.form == "map":
        axes.add_patch(Circle((0, 0), 1, fill=False, edgecolor="#444a52", linewidth=1, linestyle=(0, (4, 2))))
    else:
        axes.axvline(0, color="#444a52", linewidth=1, linestyle=(0, (4, 2)))
    axes.axhline(0, color=GREY, linewidth=0.5, alpha=0.5)
    axes.scatter(
        _list(worst.values.real), _list(worst.values.imag), s=11, color="#22262b", zorder=3, linewidths=0
    )
    axes.set_xlabel("real")
    axes.set_ylabel("imaginary")


def _frame(axes: Any, found: Stability) -> None:
    """Show all discs, and the unit disc of a map or the imaginary axis of a flow."""
    own, map_ = found.worst.rows, found.motion.form == "map"
    centres, radii = _list(own.centres), _list(own.radii)
    one = 1.0 if map_ else 0.0
    right = max(one, *(c + r for c, r in zip(centres, radii, strict=True))) if centres else one
    left = min(-one, *(c - r for c, r in zip(centres, radii, strict=True))) if centres else -one
    height = max(one, *radii, 1e-9) if radii else one
    margin = 0.06 * max(right - left, 2 * height)
    axes.set_xlim(left - margin, right + margin)
    axes.set_ylim(-height - margin, height + margin)
    axes.set_aspect("equal", adjustable="box")


def _residuals(axes: Any, found: Stability) -> None:
    values = found.path.residuals.clamp(min=_SMALLEST)
    last = _last(values, found.tolerance)
    for sample in range(values.shape[1]):
        axes.plot(_list(values[: last + 1, sample]), color=_BLUE, linewidth=1.1, alpha=0.75)
    axes.axhline(found.tolerance, color=GREY, linewidth=0.8, linestyle=(0, (3, 2)))
    across = axes.get_yaxis_transform()
    axes.text(
        0.99, found.tolerance, "tolerance", color=GREY, fontsize=7, va="bottom", ha="right", transform=across
    )
    axes.set_yscale("log")
    axes.set_xlim(0, max(1, last))
    axes.set_xlabel("step")
    axes.set_ylabel("residual of each input")


def _last(values: Any, tolerance: float) -> int:
    """Return the step up to which something is to be seen: a little beyond where all have settled."""
    moving = (values >= tolerance).any(1).nonzero()
    settled = int(moving[-1]) if len(moving) else 0
    return min(len(values) - 1, int(1.3 * settled) + 5)


def _paths(axes: Any, found: Stability) -> None:
    """Draw paths on the two principal directions of all their states, or one unit over the steps."""
    states = found.paths.states
    last = min(_last(found.paths.residuals, found.tolerance), _MOST_SHOWN)
    states = states[: last + 1]
    if states.shape[2] == 1:
        for start in range(states.shape[1]):
            axes.plot(_list(states[:, start, 0]), color=_BLUE, linewidth=1, alpha=0.7)
        axes.set_xlabel("step")
        axes.set_ylabel("state")
        return
    shown = _plane(states)
    for start in range(shown.shape[1]):
        x, y = _list(shown[:, start, 0]), _list(shown[:, start, 1])
        axes.plot(x, y, color=_BLUE, linewidth=0.9, alpha=0.6)
        axes.scatter(x[:1], y[:1], s=12, facecolors="none", edgecolors=_BLUE, linewidths=0.8)
        still = float(found.paths.residuals[-1, start]) < found.tolerance
        axes.scatter(x[-1:], y[-1:], s=22, color=_GREEN if still else _RED, zorder=3, linewidths=0)
    axes.set_xlabel("first principal direction")
    axes.set_ylabel("second")
    axes.set_aspect("equal", adjustable="datalim")


def _plane(states: Any) -> Any:
    import torch

    linear: Any = torch.linalg
    flat = states.reshape(-1, states.shape[2])
    centred = flat - flat.mean(0)
    _, _, directions = linear.svd(centred, full_matrices=False)
    return (centred @ directions[:2].mT).reshape(*states.shape[:2], 2)


def _energies(axes: Any, found: Stability) -> None:
    assert found.energies is not None
    last = _last(found.paths.residuals, found.tolerance)
    for start in range(found.energies.shape[1]):
        axes.plot(_list(found.energies[: last + 1, start]), color=_ORANGE, linewidth=1, alpha=0.7)
    axes.set_xlabel("step")
    axes.set_ylabel("energy")
