"""The documentation says what the compiler does: fences are checked, generated pages are current."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from nnspec.compiler.catalog import catalog
from nnspec.compiler.pipeline import check
from nnspec.dsl.catalog import Entry
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


def test_the_language_page_lists_every_word_of_the_library() -> None:
    """Each word as it may be called: the required arguments of a call are the table's, in order."""
    page = (ROOT / "docs" / "language.md").read_text(encoding="utf-8")
    section = page.split("## Words of the library")[1].split("\n## ")[0]
    calls = re.findall(r"`(\w+)(?:\(([^`]*)\))?`", section.split("|---|---|")[1])
    words = catalog()
    known = {name for family in words.families() for name in words.names(family)}
    assert {name for name, _ in calls} == known
    # Words of different families may share a name: each is one of the calls, and each call is one of them.
    for name in known:
        for entry in words.anywhere(name):
            assert any(_is_call_of(entry, inside) for word, inside in calls if word == name), name
    for name, inside in calls:
        assert any(_is_call_of(entry, inside) for entry in words.anywhere(name)), name


def _is_call_of(entry: Entry, inside: str) -> bool:
    required = {argument.name for argument in entry.arguments if argument.required}
    optional = {argument.name for argument in entry.arguments if not argument.required}
    given, _, rest = inside.partition("[")
    return required <= set(re.findall(r"\w+", given)) and set(re.findall(r"\w+", rest)) <= optional


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md"], ids=lambda p: p.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        path = page.parent / file if file else page
        assert path.exists(), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", head).lower().replace(" ", "-") for head in heads}, (
                target
            )


def test_every_command_of_the_pages_is_one() -> None:
    from nnspec.commands import VERBS

    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        used = {
            *re.findall(r"(?<!`)`nnspec ([a-z]+)", text),
            *re.findall(r"^nnspec ([a-z]+)", shell, re.MULTILINE),
        }
        assert used <= set(VERBS), page.name


def test_generated_pages_are_current() -> None:
    from nnspec.reference import errors, reference

    assert (ROOT / "docs" / "reference.md").read_text(encoding="utf-8") == reference(), "run `make docs`"
    assert (ROOT / "docs" / "errors.md").read_text(encoding="utf-8") == errors(), "run `make docs`"
