"""What a gradient check found, as a sentence, tables and plots. matplotlib's Axes come from outside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from nnspec.compiler.passes.analysis import Cell, Plot, Table
from nnspec.compiler.runtime.figures import GREY, OTHERS
from nnspec.compiler.runtime.settling import NUDGED

_COLOURS = ("#3b78b8", "#d08a2e", "#5f8a4f", "#8b6bb1", "#c8553d", "#4aa3a3", "#a0a0a0")
_MOST_LINES = 7
_BESIDE = 3  # lines whose legend still fits inside
_SETTLED = 1e-4
_SMALLEST = 1e-17  # of an error on a logarithmic axis

Varied = Mapping[str, tuple[Any, ...]]


def summary(data: Mapping[str, Any], varied: Varied) -> str:
    """Say what was found in one or two sentences."""
    exact, rule, rows = data["exact"], data["rule"], data.get("sweep", [data])
    said = f"`{rule}` against {exact} on {data['network']}"
    cosines = [row["cosine"] for row in rows if row["cosine"] is not None]
    if not cosines:
        return f"{said}: the exact gradient is zero here, so there is no angle to it."
    errors = [row["relative_error"] for row in rows if row["relative_error"] is not None]
    if len(rows) == 1:
        text = f"{said}: cosine {_number(cosines[0])}, relative error {errors[0]:.2g}"
    else:
        text = f"{said}, over {', '.join(varied)}: cosine {_number(min(cosines))} to {_number(max(cosines))}"
        text += f", relative error {min(errors):.2g} to {max(errors):.2g}"
    text += f" ({data['weights']} weights, {data['forward']})."
    left = [row["residual"] for row in rows if "residual" in row]
    wild = [value for value in left if value is None or value > _SETTLED]
    if wild:
        where = "The" if len(wild) == len(rows) else f"At {len(wild)} of these {len(rows)} the"
        far = "without bound" if None in wild else f"{max(value for value in wild if value is not None):.2g}"
        text += (
            f" {where} states did not settle (residual {far}), and have no exact gradient: see `stability`."
        )
    shares = [row.get("nudged_residual", 0.0) for row in rows]
    moving = [share for share in shares if share is None or share > NUDGED]
    if moving:
        where = "The" if len(moving) == len(rows) else f"At {len(moving)} of these {len(rows)} the"
        text += f" {where} nudged states did not settle: the last step moved them by more than {NUDGED:.0%} of their way."
    course = [point for point in data.get("course", ()) if point["angle"] is not None]
    if course:
        first, last = course[0], course[-1]
        text += f" Over {last['step']} steps of training the angle goes from {first['angle']:.1f} to {last['angle']:.1f} degrees."
    return text


def tables(data: Mapping[str, Any], varied: Varied) -> tuple[Table, ...]:
    """Return a table of the layers, and one of the sweep."""
    rows = tuple((own["path"], own["cosine"], own["relative_error"]) for own in data["layers"])
    whole = ("all", data["cosine"], data["relative_error"])
    title = f"{data['rule']} against {data['exact']}"
    settling = any("residual" in row for row in data.get("sweep", ()))
    found = [Table(title=title, columns=("parameter", "cosine", "relative error"), rows=(*rows, whole))]
    if len(data.get("sweep", ())) > 1:
        more = ("residual", "nudged") if settling else ()
        columns = (*varied, "cosine", "relative error", "worst layer", *more)
        swept = tuple(
            (*(_cell(row[name]) for name in varied), *_swept_cells(row, settling)) for row in data["sweep"]
        )
        found[:0] = [Table(title=title, columns=columns, rows=swept)]
        found[1] = found[1].replace(title="By parameter, at the first of these")
    return tuple(found)


def plots(data: Mapping[str, Any], varied: Varied) -> tuple[Plot, ...]:
    """Return plots of the sweep and of the course; of the layers where there is neither."""
    found: list[Plot] = []
    along = next(
        (name for name, values in varied.items() if len(set(values)) > 1 and _are_numbers(values)), None
    )
    if along is not None:
        lines = list(_lines(data["sweep"], along, varied))
        others = [name for name, values in varied.items() if name != along and len(values) > 1]
        for what in ("cosine", "relative_error"):
            found.append(_swept(what, along, lines, ", ".join(others)))
    if data.get("course"):
        found.append(
            Plot(name="angle to the gradient over training", draw=lambda axes: _angles(axes, data["course"]))
        )
    if not found:
        size = (4.6, 1.1 + 0.22 * len(data["layers"]))
        found.append(
            Plot(name="cosine by parameter", draw=lambda axes: _layers(axes, data["layers"]), size=size)
        )
    return tuple(found)


def _swept_cells(row: Mapping[str, Any], settling: bool) -> tuple[Cell, ...]:
    cells = (row["cosine"], row["relative_error"], _worst(row))
    return (*cells, row.get("residual"), row.get("nudged_residual")) if settling else cells


def _number(cosine: float) -> str:
    return f"{cosine:.6f}" if abs(cosine) > 0.999 else f"{cosine:.3f}"


def _cell(value: Any) -> Cell:
    return value if isinstance(value, str | int | float) or value is None else str(value)


def _worst(row: Mapping[str, Any]) -> Cell:
    known = [own for own in row["layers"] if own["cosine"] is not None]
    return min(known, key=lambda own: own["cosine"])["path"] if known else None


def _are_numbers(values: Sequence[Any]) -> bool:
    return all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def _lines(
    rows: Sequence[Mapping[str, Any]], along: str, varied: Varied
) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """Yield a line for each value of what else is varied: its name, and its rows by the first variable."""
    others = [name for name, values in varied.items() if name != along and len(values) > 1]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(", ".join(f"{row[name]}".lower() for name in others), []).append(row)
    for name, own in groups.items():
        yield name, sorted(own, key=lambda row: row[along])


def _swept(what: str, along: str, lines: list[tuple[str, list[Mapping[str, Any]]]], others: str) -> Plot:
    title = what.replace("_", " ")

    def draw(axes: Any) -> None:
        for number, (name, rows) in enumerate(lines[:_MOST_LINES]):
            points = [(row[along], row[what]) for row in rows if row[what] is not None]
            values = [max(y, _SMALLEST) if what == "relative_error" else y for _, y in points]
            colour = _COLOURS[number % len(_COLOURS)]
            axes.plot(
                [x for x, _ in points], values, "o-", markersize=3.5, linewidth=1.4, color=colour, label=name
            )
        places = [row[along] for _, rows in lines for row in rows]
        if min(places) > 0 and max(places) >= 20 * min(places):
            axes.set_xscale("log")
        if what == "relative_error":
            axes.set_yscale("log")
        else:
            axes.axhline(1, color=GREY, linewidth=0.7, linestyle=(0, (3, 2)))
        axes.set_xlabel(along.replace("_", " "))
        axes.set_ylabel(f"{title} to the gradient" if what == "cosine" else title)
        axes.grid(axis="y", color=GREY, alpha=0.18, linewidth=0.6)
        if len(lines) > _BESIDE:
            place: dict[str, Any] = {"loc": "center left", "bbox_to_anchor": (1.01, 0.5)}
            axes.legend(fontsize=7, title=others, title_fontsize=7, frameon=False, **place)
        elif len(lines) > 1:
            axes.legend(fontsize=7, title=others, title_fontsize=7, frameon=False)

    size = (6.2, 2.8) if len(lines) > _BESIDE else (4.2, 2.8)
    return Plot(name=f"{title} against {along}", draw=draw, size=size)


def _angles(axes: Any, course: Sequence[Mapping[str, Any]]) -> None:
    steps = [point["step"] for point in course]
    paths = [own["path"] for own in course[0]["layers"]]
    shown = [path for path in paths if not path.endswith("bias")][: len(OTHERS)]
    for number, path in enumerate(shown):
        angles = [next(o["angle"] for o in point["layers"] if o["path"] == path) for point in course]
        axes.plot(steps, angles, linewidth=1.1, color=OTHERS[number], label=path)
    axes.plot(steps, [point["angle"] for point in course], linewidth=1.8, color="#444a52", label="all")
    axes.axhline(90, color=GREY, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.text(
        0.99, 90, "90°", color=GREY, fontsize=7, va="bottom", ha="right", transform=axes.get_yaxis_transform()
    )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("step")
    axes.set_ylabel("angle to the gradient, degrees")
    axes.legend(fontsize=7, frameon=False)


def _layers(axes: Any, layers: Sequence[Mapping[str, Any]]) -> None:
    known = [own for own in layers if own["cosine"] is not None][::-1]
    values = [own["cosine"] for own in known]
    colours = ["#3b78b8" if value > 0 else "#c8553d" for value in values]
    axes.hlines(range(len(known)), 0, values, color=colours, linewidth=1.2)
    axes.scatter(values, range(len(known)), color=colours, s=22, zorder=3, clip_on=False)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=(0, (3, 2)))
    axes.set_xlim(min(0.0, *values) - 0.05 if values else -0.05, 1.05)
    axes.set_yticks(range(len(known)), [own["path"] for own in known])
    axes.set_ylim(-0.6, len(known) - 0.4)
    axes.set_xlabel("cosine to the gradient")
