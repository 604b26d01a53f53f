"""The example of every operation is in the language."""

from __future__ import annotations

import pytest

from nnspec.compiler.operations.registry import operations
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source


@pytest.mark.parametrize("name", sorted(operations()))
def test_example_parses(name: str) -> None:
    bag = Bag()
    parse(Source(name, f"network example {{\n  {operations()[name].example}\n}}\n"), bag)
    assert not bag.failed, [repr(error) for error in bag]
