"""Fixtures for every test: golden files."""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

TESTS = Path(__file__).parent

# No test depends on how busy the machine is, or on what an earlier run found; a failure prints how to see it again.
settings.register_profile("nnspec", deadline=None, database=None, print_blob=True)
settings.load_profile("nnspec")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write golden files instead of comparing")


def pytest_collection_finish() -> None:
    """Keep what is there before the first test (torch, all tests) from the collector, which would walk it again and again."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`golden(path, text)`: the text must be that of a file, given relative to `tests`."""

    def compare(path: str, text: str) -> None:
        file = TESTS / path
        if request.config.getoption("--update-golden"):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        assert file.exists(), f"{path} is missing; run pytest --update-golden"
        assert text == file.read_text(encoding="utf-8"), f"{path} differs; run pytest --update-golden"

    return compare
