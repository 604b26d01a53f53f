"""Judges a trained network in the ways that its experiment asks for.

In: a plan and the state of one network. Out: scores by way and part. The hard version is a network of its own; for
samples only what draws is put into training, so that statistics of batches stay those that were learned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.flat import flatten
from nnspec.compiler.ir import Graph, state_key
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.rewrites.hard import hard, hard_state
from nnspec.compiler.runtime.evaluation import Scorer
from nnspec.compiler.runtime.plan import Plan
from nnspec.compiler.runtime.results import Scores
from nnspec.compiler.runtime.streams import Streams
from nnspec.compiler.runtime.trials import Trial
from nnspec.compiler.runtime.ways import title

if TYPE_CHECKING:
    from torch import Tensor, nn

    State = Mapping[str, Tensor]


def judge(plan: Plan, trial: Trial, state: State, trained: Scores) -> dict[str, Scores]:
    """Return the scores by way; `trained` are those of the network as it was trained."""
    import torch

    found: dict[str, Scores] = {}
    for way in plan.experiment.evaluate:
        with torch.no_grad(), plan.precision():
            found[title(way)] = (
                trained if way.name == "surrogate" else _WAYS[way.name](plan, trial, state, way)
            )
    return found


def _hard(plan: Plan, trial: Trial, state: State, way: Choice) -> Scores:
    from nnspec.compiler.emit.load import module_class

    soft = plan.sources.graph
    graph = hard(soft)
    own = hard_state(soft, {name: tensor.detach() for name, tensor in state.items()})
    network = _loaded(plan, module_class(graph), own)
    hardened = plan.replace(sources=plan.sources.replace(graph=graph))
    return _scores(hardened, Scorer(hardened), network)


def _samples(plan: Plan, trial: Trial, state: State, way: Choice) -> Scores:
    network = _loaded(plan, plan.make, state)
    _let_draw(network, plan.graph)
    Streams(trial, plan.experiment.seed_mode, plan.device).begin("evaluate")
    scorer, count = Scorer(plan), int(way["count"])
    drawn = [_scores(plan, scorer, network) for _ in range(count)]
    return {
        part: {name: sum(scores[part][name] for scores in drawn) / count for name in own}
        for part, own in drawn[0].items()
    }


_WAYS: dict[str, Callable[[Plan, Trial, Any, Choice], Scores]] = {"hard": _hard, "samples": _samples}


def _loaded(plan: Plan, make: Callable[[], nn.Module], state: State) -> nn.Module:
    network = make().to(device=plan.device, dtype=plan.dtype)
    network.load_state_dict(dict(state))
    return network.eval()


def _scores(plan: Plan, scorer: Scorer, network: nn.Module) -> Scores:
    weights = network.state_dict()
    return {name: scorer.scores(network, part, weights) for name, part in plan.parts.items()}


def _let_draw(network: nn.Module, graph: Graph) -> None:
    """Put what draws into training: a module of its own, or the block in whose body it is written out."""
    for use in flatten(graph).uses:
        if operation(use.primitive.operation).draws:
            path = state_key(use.path, "").rstrip(".")
            try:
                network.get_submodule(path).training = True
            except AttributeError:
                network.get_submodule(path.rpartition(".")[0]).training = True
