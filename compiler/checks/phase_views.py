"""States by phase as pictures: what each unit does over the steps, and how far all are from rest. Axes come from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnspec.compiler.passes.analysis import Plot
from nnspec.compiler.runtime.figures import GREY

if TYPE_CHECKING:
    from nnspec.compiler.checks.phase_paths import Course

_HIDDEN, _OUTPUT = "#8fa3b8", "#c25a12"
_COURSES = ("#2b3138", "#2f6fb5", "#d9731a", "#3f8f4f", "#b8457f", "#7458b5", "#17969b", "#a8830f")
_STYLES: tuple[Any, ...] = ("-", (0, (4, 1.5)), (0, (2, 1)), (0, (5, 1, 1, 1)))
_NO_REST: Any = (0, (1, 1))
_POINTS = 200  # of a line
_SMALLEST = 1e-16
_MOST_OUTPUTS = 12  # that have a colour of their own


def plot(name: str, courses: Sequence[Course], outputs: Sequence[int]) -> Plot:
    """Return the picture: a column for each sample; `outputs` are the units that the loss reads."""
    samples = courses[0].states.shape[1]
    return Plot(
        name=name,
        draw=lambda axes: _draw(axes, courses, outputs),
        size=(1.4 + 2.5 * samples, 4.4),
        panels=(2, samples),
        heights=(1.2, 1.0),
    )


def begins(courses: Sequence[Course]) -> list[int]:
    """Return at which step each course begins: where the phase ends that it goes on from."""
    found: list[int] = []
    ends: dict[str, int] = {}
    for own in courses:
        found.append(ends.get(own.begins or "", 0))
        ends[own.phase] = found[-1] + own.steps
    return found


def label(own: Course) -> str:
    """Return what a course is called: its phase, and the strength of its nudge."""
    if not own.nudge:
        return own.phase
    value, least = complex(own.nudge), 1e-9 * abs(own.nudge)
    parts = [f"{value.real:+.3g}"] if abs(value.real) > least else []
    parts += [f"{value.imag:+.3g}i"] if abs(value.imag) > least else []
    return f"{own.phase}, {''.join(parts)}"


def _draw(panels: Any, courses: Sequence[Course], outputs: Sequence[int]) -> None:
    starts = begins(courses)
    last = max(start + own.steps for start, own in zip(starts, courses, strict=True))
    lowest = min(float(own.states.real.min()) for own in courses)
    highest = max(float(own.states.real.max()) for own in courses)
    margin = 0.05 * (highest - lowest or 1.0)
    for sample in range(panels.shape[1]):
        above, below = panels[:, sample]
        for number, (start, own) in enumerate(zip(starts, courses, strict=True)):
            _states(above, own, start, sample, outputs, _STYLES[_turn(courses, number) % len(_STYLES)])
            _distance(below, own, start, sample, _look(courses, number))
        above.set_ylim(lowest - margin, highest + margin)
        _mark(above, below, starts, courses, last)
        above.set_title(f"sample {sample}", loc="left", fontsize=9, pad=14)
        below.set_yscale("log")
        below.set_xlabel("step")
        if sample:
            above.tick_params(labelleft=False)
    _scale(panels[1])
    is_complex = any(own.states.is_complex() for own in courses)
    panels[0, 0].set_ylabel("state of each unit" + (" (real part)" if is_complex else ""))
    panels[1, 0].set_ylabel("distance to rest")
    _keys(panels[0, -1], panels[1, -1], courses, bool(_told_apart(courses[0], outputs)))


def _turn(courses: Sequence[Course], number: int) -> int:
    """Return how many courses of the same phase come before one."""
    return sum(own.phase == courses[number].phase for own in courses[:number])


def _shown(count: int) -> list[int]:
    """Return the steps at which a line has a point: all of the first, where most happens."""
    every = max(1, count // _POINTS)
    return sorted({*range(0, min(count, 20)), *range(0, count, every), count - 1})


def _states(axes: Any, own: Course, start: int, sample: int, outputs: Sequence[int], style: Any) -> None:
    at = _shown(len(own.states))
    values: Any = own.states.real[at, sample]
    chosen = _told_apart(own, outputs)
    for unit in sorted(range(values.shape[1]), key=lambda unit: unit in chosen):
        read = unit in chosen
        look: dict[str, Any] = {"color": _OUTPUT if read else _HIDDEN, "linestyle": style}
        look |= {"linewidth": 1.1 if read else 0.6, "alpha": 0.95 if read else 0.55}
        axes.plot([start + step for step in at], values[:, unit].tolist(), **look)


def _told_apart(own: Course, outputs: Sequence[int]) -> set[int]:
    """Return the units that the loss reads, if they are few among others."""
    return set(outputs) if len(outputs) <= min(_MOST_OUTPUTS, own.states.shape[2] - 1) else set()


def _look(courses: Sequence[Course], number: int) -> dict[str, Any]:
    """Return how a course is drawn: in a colour of its own, in the dashes of its states, dotted where it comes to no rest."""
    style = _STYLES[_turn(courses, number) % len(_STYLES)] if courses[number].rest is not None else _NO_REST
    return {"color": _COURSES[number % len(_COURSES)], "linestyle": style, "linewidth": 1.3}


def _distance(axes: Any, own: Course, start: int, sample: int, look: Mapping[str, Any]) -> None:
    """Draw how far the states are from rest; where they come to none, how far each step moves them."""
    distances = own.distances
    values: Any = own.changes if distances is None else distances
    at = _shown(len(values))
    shown: list[float] = values[at, sample].clamp(min=_SMALLEST).tolist()
    axes.plot([start + step for step in at], shown, **look)


def _mark(above: Any, below: Any, starts: Sequence[int], courses: Sequence[Course], last: int) -> None:
    """Shade every other phase, and name it at the top."""
    spans: dict[tuple[int, int], list[str]] = {}
    for start, own in zip(starts, courses, strict=True):
        names = spans.setdefault((start, start + own.steps), [])
        names += [own.phase] if own.phase not in names else []
    for number, ((begin, end), names) in enumerate(spans.items()):
        for axes in (above, below):
            if number % 2:
                axes.axvspan(begin, end, color=GREY, alpha=0.1, linewidth=0)
        middle = (begin + end) / 2 / max(1, last)
        above.text(
            middle,
            1.02,
            ", ".join(names),
            transform=above.transAxes,
            ha="center",
            va="bottom",
            fontsize=7.5,
        )
    for axes in (above, below):
        axes.set_xlim(0, last)


def _scale(panels: Any) -> None:
    """Give all samples one scale."""
    ends = [axes.get_ylim() for axes in panels]
    low, high = min(a for a, _ in ends), max(b for _, b in ends)
    for number, axes in enumerate(panels):
        axes.set_ylim(low, high)
        if number:
            axes.tick_params(labelleft=False)


def _keys(above: Any, below: Any, courses: Sequence[Course], told_apart: bool) -> None:
    from matplotlib.lines import Line2D

    units = [
        Line2D([], [], color=_OUTPUT, linewidth=1.1, label="read by the loss"),
        Line2D([], [], color=_HIDDEN, linewidth=0.8, label="other units"),
    ]
    place: Mapping[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "fontsize": 7}
    if told_apart:
        above.legend(handles=units, **place)
    lines: list[Any] = []
    for number, own in enumerate(courses):
        text = label(own) if own.rest is not None else f"{label(own)}: no rest,\nlength of a step"
        lines.append(Line2D([], [], label=text, **_look(courses, number)))
    below.legend(handles=lines, **place)
