"""The claims of an experiment: read when it is fitted, judged when it is trained.

In: its definition and fields, then the scores of its seeds. Out: claims, then a verdict for each. A claim is about the
experiment in which it stands, not about those that derive from it. Imports neither torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnspec.compiler.claims.claim import Claim, Verdict
from nnspec.compiler.claims.judge import judge
from nnspec.compiler.claims.measures import Measures
from nnspec.compiler.claims.networks import check_costs
from nnspec.compiler.claims.written import Reader
from nnspec.compiler.derivation import claims_in
from nnspec.compiler.elaborate import Elaborator
from nnspec.compiler.experiment import Choice, Experiment, Judged, Objective
from nnspec.compiler.experiment_record import listed
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.ways import title
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Bag


def fit_claims(
    definition: Definition,
    graph: Graph,
    values: Mapping[str, Any],
    elaborator: Elaborator,
    bag: Bag,
    others: bool = False,
) -> tuple[Claim, ...]:
    """Return the claims of an experiment whose fields have these values; report those that are wrong already.

    With `others` its network is given other values, of which no claim is asked.
    """
    claims = Reader(definition, elaborator, {}, _scores(values), bag).claims(claims_in(definition))
    if not others:  # sizes that data give may still be open
        open_sizes = any(not isinstance(size, int) for _, kind in graph.root.types for size in kind.shape)
        check_costs(claims, graph, bag, may_wait=open_sizes)
    return claims


def judged(experiment: Experiment, scores: Mapping[str, float], seeds: int) -> tuple[Verdict, ...]:
    """Return whether each claim holds of a trained experiment; `scores` are means over so many seeds."""
    measures = Measures(experiment.graph, scores, seeds)
    return tuple(judge(claim, measures) for claim in experiment.claims)


def _scores(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of all scores: `test.loss`, `hard.test.accuracy`."""
    data: Choice | None = values.get("data")
    options = {} if data is None else data.options
    parts = ("train", *(part for part in ("validation", "test") if options.get(part)))
    names = ("loss", *(metric.name for metric in listed(values.get("metrics", ())) if _is_number(metric)))
    plain = [f"{part}.{name}" for part in (*parts[1:], *parts[:1]) for name in names]
    ways = [title(way) for way in listed(values.get("evaluate", ()))]
    return (*plain, *(f"{way}.{name}" for way in ways for name in plain))


def _is_number(metric: Judged) -> bool:
    word = metric.metric if isinstance(metric, Objective) else metric
    return word is None or word.name != "confusion"
