"""`use`: what is read, under which names, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from nnspec.compiler.ir import instances
from nnspec.compiler.pipeline import Checked, check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.load import load_source

PARTS = """let width = 3
layer doubled {
  input  x: real[n]
  output y = x -> dense(2 * n)
}
constraint signs { w => sign(w) }
"""
NETWORK = "network n {\n  input  x: real[4]\n  output y = x -> "


def checked(path: Path, *folders: Path) -> tuple[Checked, list[tuple[str, str]]]:
    """The check of a file, and its errors as (code, file)."""
    bag = Bag()
    source = load_source(path, bag)
    assert source is not None
    found = check(source, bag, folders=folders)
    return found, [(e.code, Path(e.span.source.name).name if e.span else "") for e in bag]


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.nnspec").write_text(text, encoding="utf-8")
    return folder / "main.nnspec"


def shapes(found: Checked) -> list[tuple[int, ...]]:
    graph = found.graph(found.networks()[-1])
    assert graph is not None
    return [tuple(w.shape) for i in instances(graph.root) for w in i.primitive.weights if w.name == "weight"]


@pytest.mark.parametrize(
    ("use", "steps"),
    [
        ('use "parts.nnspec"', "doubled -> dense(width)\n  constrain dense.weight: signs"),
        ('use "parts.nnspec" as p', "p.doubled -> dense(p.width)\n  constrain dense.weight: p.signs"),
        ('use "parts.nnspec" as dense', "dense.doubled -> dense(dense.width)"),
    ],
)
def test_names_of_a_used_file(tmp_path: Path, use: str, steps: str) -> None:
    main = write(tmp_path, parts=PARTS, main=f"{use}\n{NETWORK}{steps}\n}}\n")
    found, errors = checked(main)
    assert errors == []
    assert shapes(found) == [(8, 4), (3, 8)]


def test_paths_are_relative_to_the_file_that_uses_them(tmp_path: Path) -> None:
    write(tmp_path / "inner", outer='use "parts.nnspec"\n', parts=PARTS)
    main = write(tmp_path, main=f'use "inner/outer.nnspec"\n{NETWORK}doubled\n}}\n')
    found, errors = checked(main)
    assert errors == []
    assert shapes(found) == [(8, 4)]


def test_a_file_used_on_two_ways_is_one_file(tmp_path: Path) -> None:
    used = 'use "parts.nnspec"\n'
    main = write(tmp_path, parts=PARTS, a=used, b=used, main='use "a.nnspec"\nuse "b.nnspec"\n')
    assert checked(main)[1] == []


@pytest.mark.parametrize(
    ("second", "way_out"),
    [
        (
            'use "inner/other.nnspec"',
            '`use "inner/other.nnspec" as other` keeps both: its `width` is then `other.width`',
        ),
        ("let width = 4", '`use "parts.nnspec" as parts` keeps both: its `width` is then `parts.width`'),
    ],
)
def test_one_name_from_two_files_is_a_duplicate(tmp_path: Path, second: str, way_out: str) -> None:
    write(tmp_path / "inner", other="let width = 4\n")
    main = write(tmp_path, parts=PARTS, main=f'use "parts.nnspec"\n{second}\n')
    bag = Bag()
    source = load_source(main, bag)
    assert source is not None
    check(source, bag)
    (error,) = bag
    assert (error.code, error.help) == ("N0202", way_out)
    line = way_out.split("`")[1]
    other = second if "parts" in line else 'use "parts.nnspec"'
    main = write(tmp_path, main=f"{line}\n{other}\n")
    assert checked(main)[1] == []


@pytest.mark.parametrize("length", [1, 2, 3])
def test_cycles_are_found_and_told_once(tmp_path: Path, length: int) -> None:
    names = ["main", "b", "c"][:length]
    following = [*names[1:], "main"]
    files = {name: f'use "{after}.nnspec"\n' for name, after in zip(names, following, strict=True)}
    files["main"] += f"{NETWORK}from_elsewhere\n}}\n"
    main = write(tmp_path, **files)
    assert checked(main)[1] == [("N0206", f"{names[-1]}.nnspec")]


@pytest.mark.parametrize("target", ["../secret.nnspec", "link.nnspec", "linked/secret.nnspec"])
def test_nothing_outside_is_read_unless_allowed(tmp_path: Path, target: str) -> None:
    outside = write(tmp_path, secret=PARTS).parent
    main = write(tmp_path / "spec", main=f'use "{target}"\n{NETWORK}doubled\n}}\n')
    (main.parent / "link.nnspec").symlink_to(outside / "secret.nnspec")
    (main.parent / "linked").symlink_to(outside)
    assert checked(main)[1] == [("N0207", "main.nnspec")]
    assert checked(main, outside)[1] == []


def test_an_absolute_path_is_outside(tmp_path: Path) -> None:
    secret = write(tmp_path / "elsewhere", main=PARTS)
    main = write(tmp_path / "spec", main=f'use "{secret.as_posix()}"\n')
    assert checked(main)[1] == [("N0207", "main.nnspec")]


@pytest.mark.parametrize(
    ("use", "code", "hint"),
    [
        ('use "part.nnspec"', "N0205", "did you mean `parts.nnspec`?"),
        ('use "sub/part.nnspec"', "N0205", "did you mean `sub/parts.nnspec`?"),
        ('use "elsewhere.nnspec"', "N0205", None),
        ('use "sub"', "N0205", None),
        ("use parts", "N0208", 'a file is named in quotes: `use "parts.nnspec"`'),
    ],
)
def test_a_missing_file_is_the_only_mistake(tmp_path: Path, use: str, code: str, hint: str | None) -> None:
    write(tmp_path / "sub", parts=PARTS)
    text = f"{use}\n{NETWORK}doubled\n  constrain every dense.weight: signs\n}}\n"
    main = write(tmp_path, parts=PARTS, main=text)
    bag = Bag()
    source = load_source(main, bag)
    assert source is not None
    check(source, bag)
    assert [(e.code, e.help) for e in bag] == [(code, hint)]


@pytest.mark.parametrize("text", ["layer l {\n", "layer l {\n  input x real[n]\n  output y = x\n}\n"])
def test_a_used_file_that_does_not_parse_is_told_once(tmp_path: Path, text: str) -> None:
    main = write(tmp_path, broken=text, main=f'use "broken.nnspec" as b\n{NETWORK}b.l\n}}\n')
    errors = checked(main)[1]
    assert [file for _, file in errors] == ["broken.nnspec"]


def test_an_undefined_name_in_a_used_file_is_told_there(tmp_path: Path) -> None:
    text = "layer l {\n  input x: real[n]\n  output y = x -> dens(3)\n}\n"
    main = write(tmp_path, broken=text, main=f'use "broken.nnspec"\n{NETWORK}l\n}}\n')
    assert checked(main)[1] == [("N0204", "broken.nnspec")]


def test_a_used_file_that_is_no_text(tmp_path: Path) -> None:
    main = write(tmp_path, main='use "bytes.nnspec"\n')
    (tmp_path / "bytes.nnspec").write_bytes(b"\xff\xfe")
    assert [code for code, _ in checked(main)[1]] == ["N0113"]


def test_a_member_that_the_file_does_not_have(tmp_path: Path) -> None:
    main = write(tmp_path, parts=PARTS, main=f'use "parts.nnspec" as p\n{NETWORK}p.doubld\n}}\n')
    assert checked(main)[1] == [("N0209", "main.nnspec")]
