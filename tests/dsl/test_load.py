"""Reading spec files: every file that is no spec gives its own diagnostic."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.load import LARGEST_FILE, load_source, source_of
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source


def load(path: Path) -> tuple[Source | None, list[str]]:
    bag = Bag()
    source = load_source(path, bag)
    return source, [f"{error.code} {error.message} {error.help or ''}" for error in bag]


def test_line_ends_and_byte_order_mark_make_no_difference(tmp_path: Path) -> None:
    text = 'network n {\n  """One\n  two"""\n  input x: real[3]\n  output y = x\n}\n'
    trees = []
    for name, content in {
        "unix": text,
        "windows": text.replace("\n", "\r\n"),
        "mac": text.replace("\n", "\r"),
        "mark": "\ufeff" + text,
    }.items():
        path = tmp_path / f"{name}.nnspec"
        path.write_bytes(content.encode("utf-8"))
        source, errors = load(path)
        assert source is not None and not errors
        bag = Bag()
        trees.append(parse(source, bag))
        assert not bag.failed
    assert all(tree.items == trees[0].items for tree in trees)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"let a = 1\nlet \x00b = 2\n", "N0113"),
        (b"let a = 1\n# caf\xe9\n", "line 2 holds the byte 0xe9"),
        (b"\xff\xfel\x00e\x00t\x00", "N0113"),
        (b"x" * (LARGEST_FILE + 1), "N0501"),
    ],
)
def test_what_is_no_spec_is_told(tmp_path: Path, content: bytes, expected: str) -> None:
    path = tmp_path / "a.nnspec"
    path.write_bytes(content)
    source, errors = load(path)
    assert source is None
    assert len(errors) == 1 and expected in errors[0]


def test_a_missing_file_suggests_its_neighbour(tmp_path: Path) -> None:
    (tmp_path / "digits.nnspec").write_text("let a = 1\n")
    _, errors = load(tmp_path / "digts.nnspec")
    assert len(errors) == 1 and "N0111" in errors[0] and "`digits.nnspec`" in errors[0]


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (".", "it is a folder"),
        ("no/such/folder/a.nnspec", "there is no file"),
        ("a\x00b", "a\x00b"),
        ("a" * 5000, "cannot be read"),
    ],
)
def test_names_that_are_no_file(tmp_path: Path, name: str, told: str) -> None:
    source, errors = load(tmp_path / name)
    assert source is None and len(errors) == 1
    assert errors[0].startswith(("N0111", "N0112")) and told in errors[0]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.nnspec")
    source, errors = load(tmp_path / "pipe.nnspec")
    assert source is None and "no ordinary file" in errors[0]


@given(st.binary(max_size=300))
def test_any_bytes_give_diagnostics_or_a_tree(content: bytes) -> None:
    bag = Bag()
    source = source_of(content, "t.nnspec", None, bag)
    if source is not None:
        parse(source, bag)
    assert source is not None or bag.failed
