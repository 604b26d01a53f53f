"""Every spec text there is: the fences of the documentation, the gallery and the diagnostics' samples."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


def spec_texts() -> list[str]:
    texts = [
        match.group(2)
        for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
        for match in re.finditer(r"```nnspec( later)?\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    ]
    samples = sorted((ROOT / "tests" / "diagnostics").glob("*.nnspec"))
    broken = ("syntax", "file")  # those that do not parse
    files = [
        *sorted((ROOT / "specs").rglob("*.nnspec")),
        *(path for path in samples if not path.stem.startswith(broken)),
    ]
    return texts + [path.read_text(encoding="utf-8") for path in files]


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return spec_texts()
