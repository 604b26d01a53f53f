"""The registry: files of the folder, installed extensions, and two claims to one word."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from nnspec.compiler import extensions
from nnspec.compiler.operations import registry
from nnspec.compiler.operations.operation import Operation
from nnspec.dsl.diagnostics import RunError


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    yield
    extensions._loaded.cache_clear()
    registry.operations.cache_clear()


class Point:
    """An entry point as `importlib.metadata` gives it."""

    def __init__(self, package: str, loaded: Any) -> None:
        self.name, self.dist, self.value = "words", SimpleNamespace(name=package), "m:words"
        self.loaded = loaded

    def load(self) -> Any:
        if isinstance(self.loaded, Exception):
            raise self.loaded
        return self.loaded


def install(monkeypatch: pytest.MonkeyPatch, *points: Point) -> None:
    def found(group: str) -> list[Point]:
        assert group == "nnspec.extensions"
        return list(points)

    monkeypatch.setattr("importlib.metadata.entry_points", found)
    extensions._loaded.cache_clear()
    registry.operations.cache_clear()


def word(own: str) -> Operation:
    class Word(Operation):
        name = own
        doc = "A word."

    return Word()


def test_extensions_add_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = word("wavelet")
    install(monkeypatch, Point("nnspec-wavelets", SimpleNamespace(OPERATIONS=(mine,))))
    assert registry.operation("wavelet") is mine and "dense" in registry.operations()


def test_two_claims_to_one_word_name_both(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Point("nnspec-dense", SimpleNamespace(OPERATIONS=(word("dense"),))))
    with pytest.raises(
        RunError, match=r"`dense` is defined twice: by nnspec \(dense.py\) and by nnspec-dense"
    ):
        registry.operations()


def test_a_package_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Point("broken-words", ImportError("no module named `gone`")))
    with pytest.raises(RunError, match="`words` of broken-words cannot be loaded: no module named `gone`"):
        registry.operations()
