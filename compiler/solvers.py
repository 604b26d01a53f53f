"""The words for how a loop settles, and for how what it settles to is differentiated.

Names and arguments; the numerics are emitted. Imports neither torch nor numpy.
"""

from __future__ import annotations

from nnspec.compiler.ir import Word
from nnspec.dsl.catalog import Argument, Entry

SOLVER, GRADIENT = "solver", "settled_gradient"  # families of the catalog
FLOWS = ("euler", "rk4")  # solvers that follow a rate of change; the others take a map
LEAPS = (
    "anderson",
    "broyden",
)  # solvers whose steps are no motion of the states, but lead to where they rest


def _steps(count: int, doc: str = "how many steps at most") -> Argument:
    return Argument(name="steps", kind="int", doc=doc, default=count, at_least=1)


def _tolerance(default: float) -> Argument:
    doc = "stop when no state of any sample changes by more than this in a step; 0 takes every step"
    return Argument(name="tolerance", kind="real", doc=doc, default=default, at_least=0.0)


_DAMPING = Argument(
    name="damping",
    kind="real",
    doc="the share of the new value: s becomes (1 - damping) s + damping f(s)",
    default=1.0,
    above=0.0,
    at_most=1.0,
)
_LEAST_BACK = (
    50  # steps of a backward iteration, where nothing is said: it begins at zero and not near its end
)


def _dt(default: float) -> Argument:
    return Argument(name="dt", kind="real", doc="the size of a step", default=default, above=0.0)


def _entry(name: str, family: str, doc: str, *arguments: Argument, example: str) -> Entry:
    return Entry(name=name, family=family, doc=doc, arguments=arguments, example=example)


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries."""
    return (
        _entry(
            "fixed_point",
            SOLVER,
            "The map again and again, all states at once, perhaps damped.",
            _steps(50),
            _DAMPING,
            _tolerance(1e-6),
            example="dynamics rate(tanh, solve = fixed_point(steps = 30, damping = 0.5))",
        ),
        _entry(
            "anderson",
            SOLVER,
            """The mix of the last iterates whose residuals cancel best (Anderson 1965; Walker, Ni 2011). The
least squares behind it is regularised by `ridge` times the size of the residuals.""",
            _steps(50),
            Argument(name="memory", kind="int", doc="how many iterates are mixed", default=5, at_least=1),
            _DAMPING,
            Argument(name="ridge", kind="real", doc="the regularisation", default=1e-4, at_least=0.0),
            _tolerance(1e-6),
            example="dynamics rate(tanh, solve = anderson(memory = 6))",
        ),
        _entry(
            "broyden",
            SOLVER,
            "Newton's method with a Jacobian that is learned from the steps (Broyden 1965), kept as `memory` pairs.",
            _steps(50),
            Argument(name="memory", kind="int", doc="how many pairs are kept", default=10, at_least=1),
            _tolerance(1e-6),
            example="dynamics rate(tanh, solve = broyden)",
        ),
        _entry(
            "euler",
            SOLVER,
            "Explicit Euler steps along the flow: s becomes s + dt s'.",
            _dt(0.2),
            _steps(250),
            _tolerance(1e-6),
            example="dynamics leaky(hard_sigmoid, solve = euler(dt = 0.5, steps = 20), clip = [0, 1])",
        ),
        _entry(
            "rk4",
            SOLVER,
            "Runge-Kutta steps of fourth order along the flow, four slopes a step.",
            _dt(0.5),
            _steps(100),
            _tolerance(1e-6),
            example="dynamics leaky(tanh, solve = rk4(dt = 0.2))",
        ),
        _entry(
            "ift",
            GRADIENT,
            """By the implicit function theorem: the exact gradient of the settled states, found by solving one
linear fixed-point equation; the steps that led there are not kept.""",
            Argument(
                name="steps",
                kind="int",
                doc=f"how many steps of the backward iteration at most; none for the solver's, {_LEAST_BACK} at least",
                default=None,
                nullable=True,
                at_least=1,
            ),
            Argument(
                name="tolerance",
                kind="real",
                doc="stop when the residual is below this share of what comes in; 0 takes every step; none for the solver's",
                default=None,
                nullable=True,
                at_least=0.0,
            ),
            example="dynamics rate(tanh, gradient = ift)",
        ),
        _entry(
            "phantom",
            GRADIENT,
            "Through the last steps only, taken once more at the settled states (Geng et al. 2021): cheap and biased.",
            _steps(5, "how many steps are differentiated"),
            example="dynamics rate(tanh, gradient = phantom(3))",
        ),
        _entry(
            "unrolled",
            GRADIENT,
            "Through every step, by ordinary backpropagation: exact for the steps taken, and keeps them all.",
            example="dynamics rate(tanh, gradient = unrolled)",
        ),
    )


def evaluations(solver: Word) -> int:
    """Return how often a solver evaluates the equation of a sample at most."""
    return solver.options["steps"] * (4 if solver.name == "rk4" else 1)


def following(gradient: Word, solver: Word) -> Word:
    """Return a gradient with what it leaves open taken from the solver.

    The backward iteration is the linear one of the same slopes and steps: it needs about as many of them.
    """
    own = {"steps": max(_LEAST_BACK, solver.options["steps"]), "tolerance": solver.options["tolerance"]}
    arguments = tuple((name, own[name] if value is None else value) for name, value in gradient.arguments)
    return gradient.replace(arguments=arguments)


def default_word(name: str) -> Word:
    """Return a word of these with its default arguments."""
    entry = next(entry for entry in entries() if entry.name == name)
    arguments = tuple(sorted((argument.name, argument.default) for argument in entry.arguments))
    return Word(name=name, arguments=arguments)
