"""Fixtures that take a spec as text to the stage under test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.render import to_text
from nnspec.dsl.source import Source


@pytest.fixture
def build() -> Callable[..., Graph]:
    """`build(text, network, **parameters)`: the typed graph of a network, the last one by default."""

    def made(text: str, network: str | None = None, **parameters: Any) -> Graph:
        bag = Bag()
        checked = check(Source("test.nnspec", text), bag, parameters=parameters, network=network)
        assert not bag.failed, [repr(error) for error in bag]
        definition = checked.networks()[-1] if network is None else checked.network(network)
        assert definition is not None
        graph = checked.graph(definition, parameters)
        assert graph is not None, [repr(error) for error in bag]
        return graph

    return made


@pytest.fixture
def refuse() -> Callable[[str], list[Any]]:
    """`refuse(text)`: the errors of a spec, which must have some."""

    def errors(text: str) -> list[Any]:
        bag = Bag()
        check(Source("test.nnspec", text), bag)
        assert bag.failed
        return list(bag)

    return errors


@pytest.fixture
def experiment() -> Callable[[str], Experiment]:
    """`experiment(text)`: the last experiment of a spec."""

    def made(text: str) -> Experiment:
        bag = Bag()
        checked = check(Source("test.nnspec", text), bag)
        assert not bag.failed, "\n".join(to_text(error) for error in bag)
        return checked.experiments[-1]

    return made
