"""The documentation says what the compiler does: fences are checked, generated pages are current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```nnspec( later)?\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCES = [
    pytest.param(
        match.group(2), bool(match.group(1)), id=f"{page.name}:{text[: match.start()].count(chr(10)) + 1}"
    )
    for page in PAGES
    for text in [page.read_text(encoding="utf-8")]
    for match in FENCE.finditer(text)
]


@pytest.mark.parametrize(("text", "later"), FENCES)
def test_every_fence_is_right_or_refused_as_not_built_yet(text: str, later: bool) -> None:
    bag = Bag()
    check(Source("fence.nnspec", text), bag)
    codes = {error.code for error in bag}
    assert codes == ({"N1000"} if later else set()), list(bag)


def test_generated_pages_are_current() -> None:
    from nnspec.reference import errors, reference

    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference(), "run `make docs`"
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == errors(), "run `make docs`"
