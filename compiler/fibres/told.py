"""What a GENNI run found, as JSON, as a sentence and as tables.

In: `Equivalents` and the options of the pass. Distances J are mean squared differences of outputs; in tables they are
in units of the variance of the teacher's outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.fibres.words import EXACT
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Table

if TYPE_CHECKING:
    from nnspec.compiler.fibres.genni import Cut, Equivalents, Student
    from nnspec.compiler.fibres.walk import Walk

_LISTED = 10_000  # grid points that stand in the data
_SHOWN = 40  # students in a table


def limit_of(found: Equivalents, options: Mapping[str, Any]) -> float:
    """Return epsilon as a mean squared difference."""
    relative = options["unit"].name == "relative"
    return options["epsilon"] * (found.distance.variance if relative else 1.0)


def data(
    graph: Graph, found: Equivalents, options: Mapping[str, Any], removed: tuple[str, ...], teacher: str
) -> dict[str, Any]:
    """Return what was found, JSON-able."""
    distance = found.distance
    as_found = options["seed_mode"] == "torch"
    return {
        "network": graph.name,
        "teacher": teacher,
        "parameters": found.chart.count,
        "before": list(removed),
        "variance": distance.variance,
        "mean_square": distance.square,
        "epsilon": options["epsilon"],
        "unit": options["unit"].name,
        "epsilon_absolute": limit_of(found, options),
        "most_common_output": found.common,
        "students": [_student(student, found) for student in found.students],
        "equivalent": len(found.equivalent),
        "classes": _classes(found),
        "new_classes": sum(number > 0 for number in _class_sizes(found)),
        "strata": {str(found.chart.count - rank): count for rank, count in sorted(_ranks(found).items())},
        "slice": {
            "through": list(found.through),
            "coordinates": [found.coordinates(number, as_found) for number in found.through],
            "J": [_slice_loss(found.students[number], options) for number in found.through],
        },
        "grids": [_grid(cut, limit_of(found, options)) for cut in found.cuts],
        "walks": [_walk(walk, found.chart.count) for walk in found.walks],
    }


def _grid(cut: Cut, limit: float) -> dict[str, Any]:
    return {
        "bounds": [list(pair) for pair in cut.bounds],
        "points": cut.count,
        "within_epsilon": cut.share(limit),
        "least": float(cut.values.min()),
        "values": cut.listed() if len(cut.values) <= _LISTED else None,
    }


def _walk(walk: Walk, parameters: int) -> dict[str, Any]:
    return {
        "steps": len(walk.ranks) - 1,
        "strata": [parameters - rank for rank in walk.ranks],
        "largest_distance": walk.worst,
        "moved": walk.moved,
    }


def _student(student: Student, found: Equivalents) -> dict[str, Any]:
    return {
        "number": student.number,
        "J": _finite(student.loss),
        "relative": _finite(student.loss / found.distance.variance),
        "polished_J": None if student.polished_loss is None else _finite(student.polished_loss),
        "equivalent": student.equivalent,
        "rank": student.rank,
        "stratum": None if student.rank is None else found.chart.count - student.rank,
        "class": student.own_class,
    }


def _finite(number: float) -> float | None:
    return number if isfinite(number) else None


def _class_sizes(found: Equivalents) -> Counter[int]:
    return Counter(student.own_class for student in found.students if student.own_class is not None)


def _classes(found: Equivalents) -> list[dict[str, Any]]:
    return [
        {"class": number, "students": count, "teacher": number == 0}
        for number, count in sorted(_class_sizes(found).items())
    ]


def _ranks(found: Equivalents) -> Counter[int]:
    return Counter(student.rank for student in found.students if student.rank is not None)


def _slice_loss(student: Student, options: Mapping[str, Any]) -> float:
    as_found = options["seed_mode"] == "torch" or student.polished_loss is None
    return student.loss if as_found or student.polished_loss is None else student.polished_loss


def summary(graph: Graph, found: Equivalents, options: Mapping[str, Any], removed: tuple[str, ...]) -> str:
    """Return what was found in a few sentences."""
    equal, new = len(found.equivalent), sum(number > 0 for number in _class_sizes(found))
    count = len(found.students)
    text = f"{equal} of {count} students compute the teacher's function (J / variance up to {EXACT:.0e})"
    if equal:
        classes = len(_class_sizes(found))
        text += f", in {classes} {'class' if classes == 1 else 'classes'} modulo the derived group, {new} of them new"
    strata = sorted((found.chart.count - rank for rank in _ranks(found)), reverse=True)
    near = sum(_is_near(student, limit_of(found, options)) for student in found.students)
    if near:
        text += f"; {near} more {'is' if near == 1 else 'are'} within epsilon"
    if strata:
        text += f"; the fibre has {_listed(strata)} dimensions there"
    share = found.cuts[-1].share(limit_of(found, options))
    text += f". {100 * share:.3g} % of the slice lies within epsilon."
    if removed:
        text += f" Analysed before {_words(removed)} at the output, which would hide differences."
    if found.common > 0.5:
        text += f" The teacher gives one and the same output on {100 * found.common:.0f} % of the probe."
    if options["unit"].name == "absolute" and options["epsilon"] >= found.distance.variance:
        text += (
            " Epsilon is above the variance of the teacher's outputs: the best constant lies within it, too."
        )
    return text


def _is_near(student: Student, limit: float) -> bool:
    """Whether a student's J is within epsilon, but it does not compute the teacher's function."""
    loss = student.loss if student.polished_loss is None else student.polished_loss
    return not student.equivalent and loss <= limit


def _listed(numbers: list[int]) -> str:
    return " or ".join(str(number) for number in numbers)


def _words(words: tuple[str, ...]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def tables(found: Equivalents, options: Mapping[str, Any]) -> tuple[Table, ...]:
    """Return the students, and the walks along the fibre."""
    variance, limit = found.distance.variance, limit_of(found, options)
    rows = tuple(
        (
            student.number,
            student.loss / variance,
            None if student.polished_loss is None else student.polished_loss / variance,
            "yes" if student.equivalent else "within epsilon" if _is_near(student, limit) else "no",
            None if student.rank is None else found.chart.count - student.rank,
            "teacher's"
            if student.own_class == 0
            else None
            if student.own_class is None
            else f"{student.own_class}",
            found.through.index(student.number) if student.number in found.through else None,
        )
        for student in found.students[:_SHOWN]
    )
    columns = ("student", "J / variance", "polished", "equivalent", "fibre dimension", "class", "in slice")
    tables = [Table(title="Students", columns=columns, rows=rows)]
    if found.walks:
        walks = tuple(
            (
                index,
                len(walk.ranks) - 1,
                " ".join(str(found.chart.count - rank) for rank in dict.fromkeys(walk.ranks)),
                walk.moved,
                walk.worst,
            )
            for index, walk in enumerate(found.walks)
        )
        columns = ("walk", "steps", "fibre dimension", "distance in weights", "J / variance, at most")
        tables.append(Table(title="Walks along the fibre", columns=columns, rows=walks))
    return tuple(tables)
