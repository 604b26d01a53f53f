"""The tree is as it is said to be: layers one-way, packages listed, every file in ARCHITECTURE.md."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LAYERS = {"dsl": {"dsl"}, "compiler": {"dsl", "compiler"}, "nnspec": {"dsl", "compiler", "nnspec"}}
FILES = sorted(
    path for layer in LAYERS for path in (ROOT / layer).rglob("*.py") if "__pycache__" not in path.parts
)
CHEAP = ("torch", "numpy", "networkx", "rich", "matplotlib", "sklearn", "scipy", "safetensors", "graphviz")
SPEC = "specs/digits/mlp.nnspec"


def own_files() -> list[Path]:
    """The Python files, each once: `nnspec/dsl` and `nnspec/compiler` are links to the folders beside."""
    linked = (ROOT / "nnspec" / "dsl", ROOT / "nnspec" / "compiler")
    return [path for path in FILES if not any(link in path.parents for link in linked)]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            yield ("." * node.level) + (node.module or ""), node.lineno
        elif isinstance(node, ast.Import):
            for name in node.names:
                yield name.name, node.lineno


def layer_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "nnspec"


@pytest.mark.parametrize("path", own_files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_knowledge_flows_one_way(path: Path) -> None:
    allowed = LAYERS[path.relative_to(ROOT).parts[0]]
    for module, line in imports(path):
        assert not module.startswith("."), f"relative import in line {line}"
        if module.split(".")[0] == "nnspec":
            assert layer_of(module) in allowed, f"line {line} imports {module}"


def test_the_front_end_imports_lark_pydantic_and_the_standard_library() -> None:
    allowed = {*sys.stdlib_module_names, "lark", "pydantic", "nnspec"}
    found = {
        (str(path), module)
        for path in own_files()
        if path.relative_to(ROOT).parts[0] == "dsl"
        for module, _ in imports(path)
        if module.split(".")[0] not in allowed
    }
    assert not found


def test_every_package_is_listed() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    listed = project["tool"]["setuptools"]["packages"]
    folders = {path.parent.relative_to(ROOT) for path in own_files()}
    names = {folder.as_posix().replace("/", ".") for folder in folders}
    expected = {name if name.split(".")[0] == "nnspec" else f"nnspec.{name}" for name in names}
    assert sorted(listed) == sorted(expected)
    assert all((ROOT / folder / "__init__.py").exists() for folder in folders)


def purpose(path: Path) -> str:
    """The first sentence of a file's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return " ".join(text.split("\n\n")[0].split()).rstrip(".")


def test_architecture_lists_every_file() -> None:
    """The page has one row a file; a failure prints the rows that are missing."""
    text = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([^`]+\.py)` \|", text, re.MULTILINE))
    files = [path for path in own_files() if path.name != "__init__.py" or path.stat().st_size > 400]
    files += (ROOT / "benchmarks").glob("*.py")
    there = {path.relative_to(ROOT).as_posix(): path for path in files}
    missing = [f"| `{name}` | {purpose(there[name])} |" for name in sorted(set(there) - listed)]
    assert not missing, "\n" + "\n".join(missing)
    assert listed <= set(there)


def loaded(*arguments: str) -> set[str]:
    """Return the top-level modules that a command has imported, in a process of its own."""
    code = (
        "import sys\nfrom nnspec.__main__ import main\n"
        f"code = main({list(arguments)!r})\n"
        "print('LOADED', code, *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    last = done.stdout.strip().splitlines()[-1].split()
    assert last[:2] == ["LOADED", "0"], done.stdout + done.stderr
    return set(last[2:])


def test_check_imports_nothing_large() -> None:
    assert not loaded("check", SPEC) & set(CHEAP)


@pytest.mark.parametrize(
    "arguments",
    [
        ("fmt", "--check", SPEC),
        ("show", SPEC),
        ("show", "--json", SPEC),
        ("explain", "dense"),
        ("compile", SPEC, "--emit", "torch"),
        ("compile", SPEC, "--emit", "graph"),
        ("render", SPEC, "-o", "-"),
    ],
    ids=lambda arguments: "-".join(a for a in arguments if a != SPEC),
)
def test_the_front_end_never_imports_torch(arguments: tuple[str, ...]) -> None:
    assert "torch" not in loaded(*arguments)


def test_folders_are_not_imported_under_their_own_names() -> None:
    for name in ("dsl", "compiler"):
        done = subprocess.run(
            [sys.executable, "-c", f"import {name}"], capture_output=True, text=True, cwd=ROOT, check=False
        )
        assert done.returncode == 1
        assert f"import this package as `nnspec.{name}`" in done.stderr
