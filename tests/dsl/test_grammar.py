"""The parser's tables are kept between processes, and nothing breaks where they cannot be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.grammar import parser
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    parser.cache_clear()
    yield
    parser.cache_clear()


def parses() -> bool:
    bag = Bag()
    return bool(parse(Source("t.nnspec", "let a = 1 + 2"), bag).items) and not bag.failed


def test_the_tables_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert parses()
    [file] = (tmp_path / "nnspec").iterdir()
    assert file.name.startswith("grammar-")


@pytest.mark.parametrize("kept", [0, 5000])
def test_a_damaged_cache_is_built_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: int) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert parses()
    [file] = (tmp_path / "nnspec").iterdir()
    file.write_bytes(file.read_bytes()[:kept])
    parser.cache_clear()
    assert parses()


def test_without_a_place_for_the_cache_it_still_parses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = tmp_path / "taken"
    taken.write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_CACHE_HOME", str(taken))
    assert parses()
