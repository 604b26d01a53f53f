"""GENNI: weights that compute the same function, searched for, polished, sorted into classes, and sliced.

Lengyel, Petangoda, Falk et al., "GENNI: Visualising the Geometry of Equivalences for Neural Network
Identifiability", 2020 (arXiv 2011.07407): students are trained to be a teacher, and the functional distance J is
drawn on a slice of weight space through them. Beyond the paper: J is measured against the variance of the
teacher's outputs, candidates are polished by Levenberg-Marquardt, sorted modulo the derived group, and the fibre
is walked along the null space of the Jacobian.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.fibres.chart import Chart
from nnspec.compiler.fibres.classes import classes
from nnspec.compiler.fibres.distance import Distance, most_common_share
from nnspec.compiler.fibres.draws import Drawn, as_the_paper, from_streams
from nnspec.compiler.fibres.orbit import curves, images
from nnspec.compiler.fibres.polish import polish
from nnspec.compiler.fibres.rank import NotFinite
from nnspec.compiler.fibres.search import descend
from nnspec.compiler.fibres.slices import Slice, box, grid, through
from nnspec.compiler.fibres.walk import Walk, null_directions, stratum, walk
from nnspec.compiler.fibres.words import EXACT, POLISHING
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.seeds import stream_seed
from nnspec.compiler.symmetry.record import SymmetryGroup
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

TINY = 1e-8  # variance of a teacher's outputs, beside 1 + their mean square, that is none
_POLISHED_ON = (500, 2000)  # samples for Levenberg-Marquardt, at least and at most; between them ..
_ROWS = 10  # .. so many outputs for each weight
PLANE = 81  # points along each axis of the plane that is drawn beside a space, at least
_WALKS = 3
_IMAGES = 100  # random elements of the group whose images of the origin are drawn
_STRIDE = 0.04  # of the length of the weights


class Student(Node):
    """One network that was searched for. Distances are J on the probe, as it was found and as it was polished."""

    number: int
    found: Tensor
    polished: Tensor | None
    loss: float
    polished_loss: float | None
    equivalent: bool
    rank: int | None = None
    own_class: int | None = None  # 0 is the teacher's

    @property
    def best(self) -> Tensor:
        return self.found.double() if self.polished is None else self.polished


class Cut(Node):
    """A grid of J on a slice: bounds of each axis, coordinates [n, d] and values [n]."""

    bounds: tuple[tuple[float, float], ...]
    count: int
    coordinates: Tensor
    values: Tensor

    def share(self, limit: float) -> float:
        """Return which share of the grid is at a distance of at most a limit."""
        return float((self.values <= limit).double().mean())

    def listed(self) -> list[float]:
        return self.values.tolist()


class Equivalents(Node):
    """All that a GENNI run found."""

    chart: Chart
    distance: Distance
    teacher: Tensor
    students: tuple[Student, ...]
    slice: Slice | None
    through: tuple[int, ...]  # students that the slice goes through, the origin first
    cuts: tuple[Cut, ...]  # a plane, then a space
    walks: tuple[Walk, ...]
    curves: tuple[Tensor, ...]  # of the exact orbit of the origin
    images: Tensor
    common: float  # share of the probe on which the teacher gives its most common output

    def coordinates(self, number: int, as_found: bool) -> list[float]:
        """Return where a student lies in the slice, as it was found or as it was polished."""
        assert self.slice is not None
        student = self.students[number]
        vector = student.found.double() if as_found else student.best
        return self.slice.coordinates(vector.unsqueeze(0))[0].tolist()

    @property
    def equivalent(self) -> list[Student]:
        return [student for student in self.students if student.equivalent]


class DeadTeacherFound(Exception):
    """The teacher's outputs have no variance to speak of."""

    def __init__(self, variance: float, square: float) -> None:
        self.variance, self.square = variance, square
        super().__init__("the teacher computes a constant")


def find_equivalents(
    graph: Graph,
    group: SymmetryGroup | None,
    given: Mapping[str, Tensor] | None,
    options: Mapping[str, Any],
) -> Equivalents:
    """Run GENNI. `graph` is the network `before_output`; options are those of the pass, complete.

    Raises DeadTeacherFound where the teacher computes nearly a constant, NotFinite where its outputs or
    derivatives are not finite.
    """
    drawn = _drawn(graph, given, options)
    chart = Chart(graph, drawn.teacher, options["seed"])
    distance = _distance(chart, drawn, options)
    students = _students(chart, drawn, distance, options)
    students = _sorted(chart, group, students, distance)
    cut, chosen = _slice(students, options)
    origin = students[chosen[0]].best if chosen else chart.point
    return Equivalents(
        chart=chart,
        distance=distance,
        teacher=chart.point,
        students=students,
        slice=cut,
        through=chosen,
        cuts=_cuts(cut, students, chosen, distance, options),
        walks=_walks(chart, students, chosen, distance, options),
        curves=() if group is None else tuple(curves(group, chart, origin)),
        images=origin.unsqueeze(0)
        if group is None
        else images(group, chart, origin, _IMAGES, options["seed"]),
        common=most_common_share(distance.targets),
    )


def _drawn(graph: Graph, given: Mapping[str, Tensor] | None, options: Mapping[str, Any]) -> Drawn:
    teacher, students, samples = options["teacher"], options["students"], options["samples"]
    if options["seed_mode"] == "torch":
        return as_the_paper(graph, teacher, students, samples, options["probe"]["samples"])
    return from_streams(graph, given, teacher, options["seed"], students, samples, options["probe"])


def _distance(chart: Chart, drawn: Drawn, options: Mapping[str, Any]) -> Distance:
    import torch

    inputs = tuple(item.double() if item.is_floating_point() else item for item in drawn.probe)
    with torch.no_grad():
        targets = chart.outputs(chart.point, inputs)
    batch = options["search"].options.get("batch") if options["seed_mode"] == "torch" else None
    distance = Distance(chart, inputs, targets, batch)
    if not isfinite(distance.variance):
        raise NotFinite("outputs")
    if distance.variance <= TINY * (1 + distance.square):
        raise DeadTeacherFound(distance.variance, distance.square)
    return distance


def _students(
    chart: Chart, drawn: Drawn, distance: Distance, options: Mapping[str, Any]
) -> tuple[Student, ...]:
    """Search for students, polish them, and measure both."""
    import torch

    search: Choice = options["search"]
    count = options["students"]
    first = torch.stack([chart.vector({n: v[k] for n, v in drawn.students.items()}) for k in range(count)])
    doubled = tuple(item.double() if item.is_floating_point() else item for item in drawn.samples)
    with torch.no_grad():
        targets = chart.outputs(chart.point, doubled)
    found = first
    if search.name != "lm":
        found = _descended(chart, first, drawn, doubled, targets, options)
    polished: list[Tensor | None] = [None] * count
    if options["polish"] or search.name == "lm":
        rows = shown_samples(chart.count, targets.shape[1])
        shown = tuple(item[:rows] for item in doubled)
        steps = search["steps"] if search.name == "lm" else POLISHING
        polished = list(polish(chart, found.double(), shown, targets[:rows], steps).vectors)
    losses: list[float] = distance.of(found.double()).tolist()
    better = [None if p is None else float(distance.of(p.unsqueeze(0))[0]) for p in polished]
    last = [loss if b is None else b for loss, b in zip(losses, better, strict=True)]
    return tuple(
        Student(
            number=k,
            found=found[k],
            polished=polished[k],
            loss=losses[k],
            polished_loss=better[k],
            equivalent=last[k] <= EXACT * distance.variance,
        )
        for k in range(count)
    )


def shown_samples(parameters: int, outputs: int) -> int:
    """Return how many samples Levenberg-Marquardt is shown, if there are so many."""
    least, most = _POLISHED_ON
    return min(most, max(least, _ROWS * parameters // max(1, outputs)))


def _descended(
    chart: Chart,
    first: Tensor,
    drawn: Drawn,
    doubled: tuple[Tensor, ...],
    targets: Tensor,
    options: Mapping[str, Any],
) -> Tensor:
    """Descend in the precision and the order of batches of the paper's code, or in double precision."""
    import torch

    if options["seed_mode"] != "torch":
        seed = stream_seed(options["seed"], "batches")
        return descend(chart, first, doubled, targets, options["search"], seed)
    with torch.no_grad():
        wanted = chart.outputs(chart.point.float(), drawn.samples)
    return descend(chart, first.float(), drawn.samples, wanted, options["search"], None)


def _sorted(
    chart: Chart, group: SymmetryGroup | None, students: tuple[Student, ...], distance: Distance
) -> tuple[Student, ...]:
    """Give each equivalent student its rank and its class modulo the group."""
    import torch

    equal = [student for student in students if student.equivalent]
    if not equal:
        return students
    numbers = classes(group, chart, torch.stack([chart.point, *(student.best for student in equal)]))[1:]
    known = {
        student.number: (stratum(chart, student.best, distance.inputs), number)
        for student, number in zip(equal, numbers, strict=True)
    }
    return tuple(
        student.replace(rank=known[student.number][0], own_class=known[student.number][1])
        if student.number in known
        else student
        for student in students
    )


def _slice(students: tuple[Student, ...], options: Mapping[str, Any]) -> tuple[Slice | None, tuple[int, ...]]:
    """Return the slice, through networks as they were found in the paper's way, else through polished ones."""
    import torch

    if options["seed_mode"] == "torch":
        order = list(students)
        vectors = torch.stack([student.found.double() for student in order])
    else:
        order = sorted(students, key=_precedence)
        vectors = torch.stack([student.best for student in order])
    found = through(vectors[0], vectors[1:], options["dims"])
    if found is None:
        return None, ()
    return found, (order[0].number, *(order[index + 1].number for index in found.chosen))


def _precedence(student: Student) -> tuple[bool, bool, float]:
    """Equivalent networks come first, in the order of their numbers, and diverged ones last."""
    loss = student.loss if student.polished_loss is None else student.polished_loss
    finite = isfinite(loss)
    return not finite, not student.equivalent, loss if finite and not student.equivalent else 0.0


def _cuts(
    cut: Slice | None,
    students: tuple[Student, ...],
    chosen: tuple[int, ...],
    distance: Distance,
    options: Mapping[str, Any],
) -> tuple[Cut, ...]:
    """Evaluate J on a plane, and with three dimensions in a space too."""
    import torch

    if cut is None:
        return ()
    exact = options["seed_mode"] == "torch"
    on = torch.stack([students[k].found.double() if exact else students[k].best for k in chosen])
    sides = box(cut.coordinates(on))
    if options["bounds"] is not None:
        low, high = options["bounds"]
        sides = [(float(low), float(high))] * len(sides)
    found: list[Cut] = []
    for dims in dict.fromkeys((2, options["dims"])):
        count = options["grid"] if dims == options["dims"] else max(options["grid"], PLANE)
        points = grid(sides[:dims], count)
        plane = cut.replace(basis=cut.basis[:, :dims])
        values = distance.on(plane, points)
        found.append(Cut(bounds=tuple(sides[:dims]), count=count, coordinates=points, values=values))
    return tuple(found)


def _walks(
    chart: Chart,
    students: tuple[Student, ...],
    chosen: tuple[int, ...],
    distance: Distance,
    options: Mapping[str, Any],
) -> tuple[Walk, ...]:
    """Walk from the first equivalent network both ways along some null directions."""
    import torch

    start = next((students[k] for k in chosen if students[k].equivalent), None)
    if start is None or not options["walk"]:
        return ()
    null = null_directions(chart, start.best, distance.inputs)
    if not null.shape[1]:
        return ()
    random = torch.Generator().manual_seed(stream_seed(options["seed"], "walks"))
    length = _STRIDE * max(1e-3, float(start.best.norm()))
    found: list[Walk] = []
    for _ in range(min(_WALKS, null.shape[1])):
        drawn = torch.randn(null.shape[1], generator=random, dtype=torch.float64)
        for sign in (1, -1):
            direction = sign * (null @ drawn)
            found.append(
                walk(chart, start.best, distance.inputs, distance.targets, direction, options["walk"], length)
            )
    return tuple(found)
