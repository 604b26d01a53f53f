"""The words of `genni`: how it searches, in what unit it measures, and how it projects. Imports no torch."""

from __future__ import annotations

from nnspec.compiler.experiment import Choice
from nnspec.dsl.catalog import Argument, Entry

EXACT = 1e-12  # J, of the variance, up to which a student computes the same function
POLISHING = 100  # steps of Levenberg-Marquardt at most, where nothing else is said
_STEPS = Argument(name="steps", kind="int", default=1000, at_least=1, doc="how many")
_BATCH = Argument(
    name="batch", kind="int", default=None, at_least=1, nullable=True, doc="samples of a step; none: all"
)
_SEARCHES = (
    Entry(
        name="lm",
        family="search",
        doc="Levenberg-Marquardt from each student's first weights, in double precision.",
        arguments=(Argument(name="steps", kind="int", default=POLISHING, at_least=1, doc="at most so many"),),
        example="search = lm(steps = 50)",
    ),
    Entry(
        name="adam",
        family="search",
        doc="Adam on the mean squared difference to the teacher, all students at once.",
        arguments=(
            Argument(name="lr", kind="real", default=0.01, above=0, doc="learning rate"),
            _STEPS,
            _BATCH,
        ),
        example="search = adam(steps = 2000)",
    ),
    Entry(
        name="sgd",
        family="search",
        doc="Gradient descent on the mean squared difference to the teacher, as in the GENNI paper.",
        arguments=(Argument(name="lr", kind="real", above=0, doc="learning rate"), _STEPS, _BATCH),
        example="search = sgd(lr = 0.015, steps = 1000, batch = 256)",
    ),
)
_PROJECTIONS = (
    Entry(
        name="pca",
        family="projection",
        doc="The two principal axes of the equivalent weights.",
        example="project = pca",
    ),
    Entry(
        name="umap",
        family="projection",
        doc="Uniform manifold approximation and projection, with a fixed seed; needs the package `umap-learn`.",
        arguments=(
            Argument(name="neighbours", kind="int", default=20, at_least=2, doc="of each point"),
            Argument(name="distance", kind="real", default=0.5, at_least=0, doc="the least, between points"),
        ),
        example="project = umap(neighbours = 20)",
    ),
)
_UNITS = (
    Entry(
        name="relative",
        family="unit",
        doc="In units of the variance of the teacher's outputs on the probe: the best constant has distance 1.",
        example="unit = relative",
    ),
    Entry(
        name="absolute",
        family="unit",
        doc="As the mean squared difference itself, as in the GENNI paper.",
        example="unit = absolute",
    ),
)
LM = Choice(family="search", name="lm", arguments=(("steps", 100),))
RELATIVE = Choice(family="unit", name="relative")


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of searches, projections and units."""
    return (*_SEARCHES, *_PROJECTIONS, *_UNITS)
