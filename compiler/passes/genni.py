"""`genni`: weights that compute the same function, searched for, polished, sorted into classes, and drawn.

In: a typed graph, a trained state or none. Out: for each student its functional distance to the teacher, its
class modulo the derived group and its stratum; a grid of distances on a slice through some of them; walks along
the fibre. See `compiler/fibres/genni.py`.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from math import isfinite, prod
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.fibres import told, words
from nnspec.compiler.fibres.before import before_output
from nnspec.compiler.fibres.probe import DEFAULT, is_real
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Pass, Result, Subject
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.passes.dimension import (
    complete,
    fixed,
    group_of,
    label_of,
    not_finite,
    work_of_derivative,
)
from nnspec.dsl.catalog import Argument
from nnspec.dsl.diagnostics import Error, SpecError
from nnspec.dsl.errors.command_line import NeedsPackage
from nnspec.dsl.errors.fibres import (
    DeadTeacher,
    GridTooLarge,
    TooFewStudents,
    TooManyParameters,
    TooMuchWork,
    UnfitAnalysis,
)
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    from nnspec.compiler.fibres.genni import Equivalents

_POINT_LIMIT = 200_000  # of a grid
_MOST_WORK = 2e12  # operations of a search: a minute or two
_WORTH_THREADS = 200  # parameters


@contextmanager
def _threads(graph: Graph) -> Generator[None]:
    """Let a small network be searched in one thread: several would wait for each other most of the time."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1 if cost_table(graph).parameters < _WORTH_THREADS else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Genni(Pass):
    name = "genni"
    heading = "GENNI"
    doc = """Other weights that compute the same function, and the distance between functions on a slice through them.

    Students are trained to be a teacher (random weights of a seed, or the trained ones), polished by
    Levenberg-Marquardt in double precision, and sorted modulo the derived group: a class that is not the
    teacher's is new. J is the mean squared difference of outputs, in units of their variance. After
    GENNI (Lengyel et al. 2020); `seed_mode = "torch"` repeats the draws and batches of the paper's code."""
    arguments = (
        Argument(name="students", kind="int", default=10, at_least=2, doc="networks that are searched"),
        Argument(name="dims", kind="int", default=2, at_least=2, at_most=3, doc="of the slice"),
        Argument(name="grid", kind="int", default=61, at_least=2, doc="points along each axis of the slice"),
        Argument(
            name="bounds",
            kind="real",
            default=None,
            listed="yes",
            nullable=True,
            doc="of every axis, two numbers; none: a box around the networks",
        ),
        Argument(name="probe", kind="probe", default=DEFAULT, doc="inputs on which J is measured"),
        Argument(name="samples", kind="int", default=1000, at_least=2, doc="inputs to learn from"),
        Argument(name="search", kind="search", default=words.LM, doc="how students become the teacher"),
        Argument(name="polish", kind="bool", default=True, doc="what `adam` or `sgd` found, by `lm`"),
        Argument(
            name="epsilon",
            kind="real",
            default=0.01,
            above=0,
            doc="J up to it is near: drawn, and counted on the slice",
        ),
        Argument(name="unit", kind="unit", default=words.RELATIVE, doc="of epsilon"),
        Argument(
            name="project",
            kind="projection",
            default=None,
            nullable=True,
            doc="what the slice keeps, drawn in two dimensions",
        ),
        Argument(name="walk", kind="int", default=30, at_least=0, doc="steps along the fibre, each way"),
        Argument(name="teacher", kind="int", default=0, at_least=0, doc="seed of a random teacher"),
        Argument(name="seed", kind="int", default=0, at_least=0, doc="of students and samples"),
        Argument(
            name="seed_mode",
            kind="choice",
            choices=("streams", "torch"),
            default="streams",
            doc="named streams, or the paper's order of draws from the teacher's seed",
        ),
    )

    def run(self, subject: Subject, options: Mapping[str, Any]) -> Result:
        from nnspec.compiler.fibres.genni import DeadTeacherFound, find_equivalents
        from nnspec.compiler.fibres.pictures import plots, scenes
        from nnspec.compiler.fibres.rank import NotFinite

        given = complete(self, subject, options)
        graph, removed = before_output(subject.graph)
        state = subject.states[0] if subject.states else None
        try:
            with _threads(graph):
                found = find_equivalents(graph, group_of(graph), state, given)
        except DeadTeacherFound as dead:
            error = DeadTeacher(
                graph.root.span, network=graph.name, variance=dead.variance, square=dead.square
            )
            raise SpecError((error,)) from None
        except NotFinite as failure:
            where = "the teacher, on the probe"
            raise SpecError((not_finite(graph, self.name, str(failure), where),)) from None
        if found.slice is None:
            raise SpecError((self.no_slice(graph, given, found),))
        return Result(
            data=told.data(graph, found, given, removed, _teacher(subject, given)),
            summary=told.summary(graph, found, given, removed),
            tables=told.tables(found, given),
            plots=plots(found, given),
            scenes=scenes(found, given),
        )

    # ------------------------------------------------------------------------------------------- refusals

    def refusals(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        dims, grid, students = options["dims"], options["grid"], options["students"]
        if students < dims + 1:
            advice = f"`students = {dims + 1}` or more"
            yield TooFewStudents(span, dims=dims, needed=dims + 1, found=students, advice=advice)
        if grid**dims > _POINT_LIMIT:
            most = int(_POINT_LIMIT ** (1 / dims) + 1e-9)
            yield GridTooLarge(span, grid=grid, dims=dims, points=grid**dims, limit=_POINT_LIMIT, most=most)
        bounds = options["bounds"]
        if bounds is not None and (len(bounds) != 2 or bounds[0] >= bounds[1]):
            yield self.unfit(graph, span, "`bounds` are two numbers that rise", "`bounds = [-2, 2]`")
        project = options["project"]
        if project is not None and project.name == "umap" and find_spec("umap") is None:
            yield NeedsPackage(span, what="`project = umap`", package="umap-learn", extra="umap")
        yield from fixed(graph, self.name, span)
        yield from self.too_large(graph, options, span)
        if options["seed_mode"] == "torch":
            yield from self.not_as_the_paper(graph, options, experiment, span)

    def too_large(self, graph: Graph, options: Mapping[str, Any], span: Span | None) -> Iterator[Error]:
        from nnspec.compiler.fibres.polish import PARAMETER_LIMIT

        count = cost_table(graph).parameters
        if count > PARAMETER_LIMIT and (options["polish"] or options["search"].name == "lm"):
            yield TooManyParameters(
                span,
                pass_name=self.name,
                does="uses Levenberg-Marquardt on",
                limit=PARAMETER_LIMIT,
                network=graph.name,
                parameters=count,
                advice="write `search = adam` and `polish = false`, or use smaller widths",
            )
        elif (work := _work(graph, options, count)) > _MOST_WORK:
            advice = "search fewer `students`, or for fewer steps: `search = lm(20)`; where states settle, `solve` in fewer"
            yield TooMuchWork(
                span, pass_name=self.name, network=graph.name, work=work, limit=_MOST_WORK, advice=advice
            )

    def not_as_the_paper(
        self, graph: Graph, options: Mapping[str, Any], experiment: Experiment | None, span: Span | None
    ) -> Iterator[Error]:
        """The paper's code draws one tensor of normal inputs, and knows no trained teacher."""
        types = [dict(graph.root.types)[port.value] for port in graph.root.inputs]
        why = None
        if len(types) != 1 or not is_real(graph) or any(not isinstance(n, int) for n in types[0].shape):
            why = '`seed_mode = "torch"` draws one input of real numbers of known size'
        elif experiment is not None:
            why = '`seed_mode = "torch"` draws its teacher, and this one is trained'
        elif options["search"].name == "lm":
            why = '`seed_mode = "torch"` repeats a search by `sgd` or `adam`'
        if why is not None:
            yield self.unfit(graph, span, why, "leave `seed_mode` out")

    def unfit(self, graph: Graph, span: Span | None, why: str, advice: str) -> UnfitAnalysis:
        return UnfitAnalysis(span, pass_name=self.name, network=graph.name, why=why, advice=advice)

    def no_slice(self, graph: Graph, options: Mapping[str, Any], found: Equivalents) -> TooFewStudents:
        """Some students diverged, or they lie on a line."""
        dims = options["dims"]
        finite = sum(isfinite(student.loss) for student in found.students)
        return TooFewStudents(
            graph.root.span,
            dims=dims,
            needed=dims + 1,
            found=finite,
            advice="more `students`"
            if finite == len(found.students)
            else f"{len(found.students) - finite} diverged: search with a smaller `lr`",
        )


# ------------------------------------------------------------------------------------------------- what was found


def _work(graph: Graph, options: Mapping[str, Any], parameters: int) -> float:
    """Return how many operations a search by Levenberg-Marquardt takes, if it takes all its steps.

    A step of one student is the derivatives of all rows, their products with each other, and 20 p^3 for the axes.
    """
    from nnspec.compiler.fibres.genni import shown_samples

    search = options["search"]
    steps = search["steps"] if search.name == "lm" else words.POLISHING
    outputs = sum(
        prod(size for size in dict(graph.root.types)[port.value].shape if isinstance(size, int))
        for port in graph.root.outputs
    )
    rows = min(options["samples"], shown_samples(parameters, outputs)) * outputs
    solves = search.name == "lm" or options["polish"]
    algebra = 2 * rows * parameters**2 + 20 * parameters**3 if solves else 0
    step = rows * work_of_derivative(graph) + algebra
    return options["students"] * steps * step


def _teacher(subject: Subject, options: Mapping[str, Any]) -> str:
    return label_of(subject, 0) if subject.states else f"random, seed {options['teacher']}"


PASSES = (Genni(),)
