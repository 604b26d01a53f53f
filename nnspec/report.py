"""Fills a report from what `run` and `analyze` made: networks, runs, analyses, and how to do it again."""

from __future__ import annotations

import hashlib
import shlex
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from math import isfinite
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, cast

from nnspec import __version__
from nnspec.commands.options import settings
from nnspec.compiler.claims.judge import table_of
from nnspec.compiler.diagrams.renderer import inline, rendered
from nnspec.compiler.passes.analysis import Cell, Plot, Table
from nnspec.compiler.passes.registry import passes
from nnspec.compiler.runtime import figures
from nnspec.compiler.runtime.report import (
    Code,
    Figure,
    Folded,
    Headline,
    Part,
    Report,
    Section,
    cell_text,
    page,
)
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.dimensions import Size
from nnspec.files import write_text
from nnspec.report_course import course_tables
from nnspec.report_weights import weight_parts
from nnspec.spec import Network, Spec
from nnspec.tables import CONSTRAINED, constrained_row

if TYPE_CHECKING:
    from nnspec.analysing import Found
    from nnspec.compiler.runtime.results import RunResult

_MOST_ROWS = 12  # of a table of seeds or layers that stands open
_MOST_LAYERS = 2000  # rows of a table of layers
_MOST_NODES = 150  # of a picture with all blocks open
_MOST_DRAWN = 1500  # of a picture at all
_WIDEST_BESIDE = 6.5  # inches of a plot that others stand beside
_NO_PLOTS = "matplotlib is not installed, so there are no plots here: pip install 'nnspec[plot]'"


def write_report(
    path: Path, spec: Spec, runs: Sequence[RunResult], found: Sequence[Found], options: Namespace
) -> None:
    """Write the report of `nnspec run`. `options` are those of the command, to say how to run it again."""
    networks = [made for name in spec.networks if (made := _network(spec, name, options)) is not None]
    sections = [
        *(_network_section(network) for network in networks),
        *(_run_section(run) for run in runs),
        *(_analysis_section(one) for one in found),
        _spec_section(spec),
        _again_section(spec, runs, _command("run", spec, options)),
    ]
    report = Report(
        title=Path(spec.name).stem,
        doc=spec.checked.definitions.module.file.doc,
        headlines=(*_headlines(networks, runs), *_claimed(runs, found)),
        sections=tuple(sections),
        footer=f"Written by nnspec {__version__}.",
    )
    write_text(path, page(report))


def write_analyses(path: Path, spec: Spec, found: Sequence[Found]) -> None:
    """Write the report of `nnspec analyze -o`."""
    report = Report(
        title=Path(spec.name).stem,
        doc=spec.checked.definitions.module.file.doc,
        headlines=(),
        sections=(*(_analysis_section(one) for one in found), _spec_section(spec)),
        footer=f"Written by nnspec {__version__}.",
    )
    write_text(path, page(report))


def _headlines(networks: Sequence[Network], runs: Sequence[RunResult]) -> list[Headline]:
    """The last network's size and each run's first metric."""
    found: list[Headline] = []
    for network in networks[-1:]:
        count = network.cost().parameters
        found.append(Headline(value=f"{count:,}", label=f"parameters of {network.name}"))
    for run in runs[:4]:
        shown = run.shown
        chosen = next((name for name in shown if not name.endswith("loss")), next(iter(shown), ""))
        if chosen in run.mean:
            spread = f" ± {run.deviation[chosen]:.2g}" if len(run.seeds) > 1 else ""
            label = f"{shown[chosen].replace('_', ' ')} of {run.experiment}"
            found.append(Headline(value=f"{run.mean[chosen]:.4g}{spread}", label=label))
    return found


def _claimed(runs: Sequence[RunResult], found: Sequence[Found]) -> list[Headline]:
    """How many of the claims hold, if there are any."""
    held = [verdict.holds for run in runs for verdict in run.claims]
    held += [
        claim["holds"] for one in found if one.analysis == "claims" for claim in one.result.data["claims"]
    ]
    return [Headline(value=f"{sum(held)} of {len(held)}", label="claims hold")] if held else []


# ------------------------------------------------------------------------------------------------ networks


def _network(spec: Spec, name: str, options: Namespace) -> Network | None:
    """A network that its defaults are enough for, or that the command or an experiment gave its parameters."""
    if name == (options.network or spec.networks[-1]) and options.parameters:
        return spec.network(name, **settings(options.parameters))
    definition = spec.checked.network(name)
    if definition is None or any(p.default is None for p in definition.item.parameters):
        graphs = [e.graph for e in spec.checked.experiments if e.graph.name == name]
        return Network(graphs[0]) if graphs else None
    return spec.network(name)


def _network_section(network: Network) -> Section:
    cost = network.cost()
    rows: list[tuple[Cell, ...]] = [
        (
            layer.path,
            layer.operation,
            ", ".join(map(str, layer.inputs)),
            ", ".join(map(str, layer.outputs)),
            layer.parameters or None,
            _size(layer.flops),
        )
        for layer in cost.layers
    ]
    columns = ("layer", "operation", "input", "output", "parameters", "operations")
    text = (
        f"{cost.parameters:,} parameters in {cost.bytes:,} bytes; "
        f"{cell_text(_size(cost.flops))} floating-point operations for one sample.",
    )
    doc = (network.graph.doc,) if network.graph.doc else ()
    shown = rows[:_MOST_LAYERS]
    left = f" (the first {_MOST_LAYERS:,} of {len(rows):,})" if len(rows) > _MOST_LAYERS else ""
    table = Table(title=f"layers{left}", columns=columns, rows=tuple(shown))
    constrained: tuple[Part, ...] = ()
    if cost.constraints:
        listed = tuple(constrained_row(own) for own in cost.constraints)
        constrained = (_foldable(Table(title="constrained weights", columns=CONSTRAINED, rows=listed)),)
    parts = (*_picture(lambda depth: network.dot(depth=depth)), _foldable(table), *constrained)
    return Section(title=f"Network {network.name}", text=(*doc, *text), parts=parts)


def _foldable(table: Table) -> Part:
    return Folded(table=table) if len(table.rows) > 4 * _MOST_ROWS else table


def _size(size: Size) -> int | str:
    return size if isinstance(size, int) else str(size)


def _picture(draw: Callable[[int | None], str], caption: str = "") -> tuple[Figure | Code, ...]:
    """A network's picture, drawn to a depth; blocks of a large one are folded until it can be read."""
    dot = draw(None)
    for depth in (1, 0):
        if dot.count("fillcolor=") > _MOST_NODES:
            dot = draw(depth)
    if dot.count("fillcolor=") > _MOST_DRAWN:
        return ()
    try:
        svg = inline(rendered(dot, "svg").decode("utf-8"))
    except RunError as failure:
        return (Code(text=f"{failure.error.message}. {failure.error.help or ''}"),)
    return (Figure(svg=svg, caption=caption, wide=True),)


# ---------------------------------------------------------------------------------------------------- runs


def _run_section(run: RunResult) -> Section:
    parts: list[Part] = _seed_tables(run)
    for table in course_tables(run, _setting):
        parts.append(Folded(table=table) if len(table.rows) > _MOST_ROWS else table)
    if run.claims:
        means = f"; scores are means over {len(run.seeds)} seeds" if len(run.seeds) > 1 else ""
        parts.append(table_of(run.claims, f"claims{means}"))
    text: list[str] = [str(error.message) for error in (*run.problems, *run.doubts)]
    if figures.available():
        parts += _plots(run)
        parts += weight_parts(run)
    else:
        text.append(_NO_PLOTS)
    rows = tuple((name, _field(name, value)) for name, value in run.settings.items())
    parts.append(Table(title="settings", columns=("field", "value"), rows=rows))
    return Section(title=f"Experiment {run.experiment}", text=tuple(text), parts=tuple(parts))


def _seed_tables(run: RunResult) -> list[Part]:
    """Each seed's metrics, then mean and deviation; those of many seeds are folded below a summary."""
    names = list(run.shown)
    rows: list[tuple[Cell, ...]] = [
        (str(own.seed), own.status, own.epochs, *(own.metrics.get(name) for name in names))
        for own in run.seeds
    ]
    columns = ("seed", "ended", "epochs", *run.shown.values())
    title = f"metrics on the {run.held_out} part"
    if len(rows) <= _MOST_ROWS:
        if len(rows) > 1:
            rows.append((f"mean of {len(rows)}", "", None, *(run.mean[name] for name in names)))
            rows.append(("deviation", "", None, *(run.deviation[name] for name in names)))
        return [Table(title=title, columns=columns, rows=tuple(rows))]
    summary = Table(
        title=f"{title}, over {len(rows)} seeds",
        columns=("metric", "mean", "deviation", "least", "median", "greatest"),
        rows=tuple(_spread(run, name) for name in names),
    )
    each = Table(title=f"{title}, each of {len(rows)} seeds", columns=columns, rows=tuple(rows))
    return [summary, Folded(table=each)]


def _spread(run: RunResult, name: str) -> tuple[Cell, ...]:
    values = sorted(
        own.metrics[name] for own in run.seeds if name in own.metrics and own.status != "diverged"
    )
    return name, run.mean[name], run.deviation[name], values[0], median(values), values[-1]


def _plots(run: RunResult) -> list[Figure]:
    spread = f"mean of {len(run.seeds)} seeds, band: one standard deviation" if len(run.seeds) > 1 else ""
    found = [
        Figure(svg=figures.curves(name, parts, run.boundaries), caption=spread)
        for name, parts in _curves(run).items()
    ]
    for own in run.seeds[:1]:
        if own.confusion is not None:
            caption = f"confusion on the {run.held_out} part, seed {own.seed}"
            found.append(Figure(svg=figures.confusion(own.confusion, run.class_names), caption=caption))
        if own.predictions:
            caption = f"targets and outputs on the {run.held_out} part, seed {own.seed}"
            found.append(Figure(svg=figures.scatter(own.predictions), caption=caption))
    return found


def _curves(run: RunResult) -> dict[str, dict[str, dict[int, list[tuple[float, float]]]]]:
    """Metric -> part -> seed -> points, from the rows of the history; penalties of layers are of training."""
    found: dict[str, dict[str, dict[int, list[tuple[float, float]]]]] = {}
    for row in run.kept_history:
        for part in ("train", "validation", "test"):
            scores: dict[str, Any] = dict(row.get(part) or {})
            if part == "train":
                penalties: dict[str, float] = row.get("penalties") or {}
                scores |= {f"penalty {path}": value for path, value in penalties.items()}
            for name, value in scores.items():
                if isinstance(value, int | float) and isfinite(value):
                    of = found.setdefault(run.title(name), {})
                    points = of.setdefault(part, {}).setdefault(row["seed"], [])
                    points.append((float(row["epoch"]), float(value)))
    return found


def _field(name: str, value: Any) -> str:
    """Write a field of an experiment; seeds in a row as the range that they are."""
    if name == "seeds" and len(value) > 3 and list(value) == list(range(value[0], value[-1] + 1)):
        return f"{value[0]}..{value[-1]}"
    return _setting(value)


def _setting(value: Any) -> str:
    """Write a setting as a spec writes it: a word with its arguments."""
    if isinstance(value, Mapping):
        record = cast("Mapping[str, Any]", value)
        if "expression" in record:
            return str(record["expression"])
        inside = ", ".join(f"{k} = {_setting(v)}" for k, v in record.items() if k != "word" and v is not None)
        return f"{record.get('word', '')}({inside})" if inside else str(record.get("word", ""))
    if isinstance(value, list | tuple):
        items = cast("Sequence[Any]", value)
        return f"[{', '.join(map(_setting, items))}]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value)


# ------------------------------------------------------------------------------------------------- the rest


def _analysis_section(found: Found) -> Section:
    result = found.result
    parts: list[Part] = [part for own in result.pictures for part in _picture(own.draw, own.name)]
    parts += map(_foldable, result.tables)
    text = [result.summary]
    if result.plots and figures.available():
        parts += [_drawn(plot) for plot in result.plots]
    elif result.plots:
        text.append(_NO_PLOTS)
    parts += result.scenes
    known = passes().get(found.analysis)  # claims are no pass
    heading = (known and known.heading) or found.analysis.replace("_", " ").capitalize()
    title = f"{heading}: {found.target}"
    return Section(title=title, text=tuple(text), parts=tuple(parts))


def _drawn(plot: Plot) -> Figure:
    """A plot; one of several panels side by side stands alone."""
    svg = figures.figure(plot.draw, plot.size, plot.panels, plot.heights)
    return Figure(svg=svg, caption=plot.name, wide=plot.size[0] > _WIDEST_BESIDE)


def _spec_section(spec: Spec) -> Section:
    return Section(title="Spec", parts=(Code(text=spec.checked.source.text, spec=True),))


def _again_section(spec: Spec, runs: Sequence[RunResult], command: str) -> Section:
    """Everything that decides the numbers: hashes, versions, and the command."""
    digest = hashlib.sha256(spec.checked.source.text.encode("utf-8")).hexdigest()
    rows: list[tuple[Cell, ...]] = [("spec", digest)]
    for run in runs:
        rows += [(f"data of {run.experiment}", run.data), (f"run {run.experiment}", run.identity)]
    environment = runs[0].environment if runs else {}
    parts = (
        Code(text=command),
        Table(title="SHA-256", columns=("of", "hash"), rows=tuple(rows)),
        Table(
            title="environment",
            columns=("what", "found"),
            rows=tuple((str(name), _setting(value)) for name, value in environment.items()),
        ),
    )
    text = ("The command below, with the same spec, data and versions, gives these numbers again.",)
    return Section(title="How to run it again", text=text, parts=parts if environment else parts[:2])


def _command(verb: str, spec: Spec, options: Namespace) -> str:
    """The command line that made a report, as a shell reads it."""
    words = ["nnspec", verb, "-" if spec.checked.source.path is None else spec.name]
    given: list[str] = getattr(options, "parameters", None) or []
    for setting in given:
        words += ["-p", setting]
    for option in ("network", "device", "data_root"):
        value = getattr(options, option, None)
        if value is not None:
            words += [f"--{option.replace('_', '-')}", str(value)]
    allowed: list[Path] = getattr(options, "allow", None) or []
    for folder in allowed:
        words += ["--allow", str(folder)]
    return shlex.join(words)
