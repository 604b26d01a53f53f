"""Golden diagnostics: each spec in `diagnostics/` gives exactly the text beside it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.errors import all_errors
from nnspec.dsl.load import load_source
from nnspec.dsl.render import to_text

FOLDER = Path(__file__).parent / "diagnostics"


def diagnostics(path: Path) -> str:
    bag = Bag()
    source = load_source(path, bag)
    if source is not None:
        check(source, bag)
    return "\n\n".join(to_text(error) for error in bag) + "\n"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.nnspec")), ids=lambda path: path.stem)
def test_golden_diagnostics(
    path: Path, golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(FOLDER)  # so that the texts hold no path of this machine
    golden(f"diagnostics/{path.stem}.txt", diagnostics(Path(path.name)))


def test_every_error_has_a_code_of_its_own_and_explains_itself() -> None:
    errors = all_errors()
    codes = [error.code for error in errors]
    assert len(codes) == len(set(codes))
    for error in errors:
        assert error.title and error.message and len(error.explain) > 30, error
