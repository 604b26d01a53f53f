"""The text of the torch functions that constraints and operations bring along (their folders `code`).

A function comes with what it uses of its own file, in the order of that file. The files are read as text:
nothing here imports torch.
"""

from __future__ import annotations

import ast
from functools import cache
from importlib.resources import files

from nnspec.dsl.node import Node

_FOLDERS = ("nnspec.compiler.constraints.code", "nnspec.compiler.operations.code")


class Definition(Node):
    """A function, class or constant at the top of a file, and the others that it names."""

    name: str
    text: str
    uses: tuple[str, ...]


def definitions(file: str, name: str) -> tuple[Definition, ...]:
    """Return a function of a file and all that it needs of that file, in the order of the file."""
    known = _all(file)
    wanted, open_names = set[str](), [name]
    while open_names:
        current = open_names.pop()
        if current not in wanted:
            wanted.add(current)
            open_names.extend(known[current].uses)
    return tuple(found for found in known.values() if found.name in wanted)


@cache
def _all(file: str) -> dict[str, Definition]:
    places = [files(folder).joinpath(f"{file}.py") for folder in _FOLDERS]
    text = next(place for place in places if place.is_file()).read_text("utf-8")
    tree = ast.parse(text)
    bodies = {name: node for node in tree.body if (name := _name(node)) is not None}
    return {
        name: Definition(
            name=name,
            text=_source(text, node),
            uses=tuple(
                dict.fromkeys(
                    inner.id
                    for inner in ast.walk(node)
                    if isinstance(inner, ast.Name) and inner.id in bodies and inner.id != name
                )
            ),
        )
        for name, node in bodies.items()
    }


def _name(node: ast.stmt) -> str | None:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return node.name
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
        return node.target.id
    return None


def _source(text: str, node: ast.stmt) -> str:
    decorators = getattr(node, "decorator_list", [])
    first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    return "\n".join(text.splitlines()[first - 1 : node.end_lineno])
