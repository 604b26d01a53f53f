"""Words of the library given from Python as a spec writes them: `net.analyze("genni", search="adam(lr = 0.05)")`."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from nnspec.compiler.catalog import catalog
from nnspec.compiler.experiment import Choice
from nnspec.dsl.catalog import Entry, is_word, validate

_NAMES = {"none": None, "true": True, "false": False}


def read_words(entry: Entry, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return options in which texts that stand for words are choices; TypeError says what a text is not."""
    wanted = {a.name: a.kind for a in entry.arguments if is_word(a) and a.kind in catalog().families()}
    return {
        name: _choice(name, wanted[name], value) if name in wanted and value is not None else value
        for name, value in given.items()
    }


def _choice(argument: str, family: str, value: Any) -> Choice:
    if isinstance(value, Choice):
        return value
    name, options = _call(value) if isinstance(value, str) else ("", {})
    entry = catalog().find(family, name)
    if entry is None:
        known = ", ".join(catalog().names(family))
        raise TypeError(f"{argument} must be one of {known}, such as {catalog().names(family)[0]!r}")
    complete, problems = validate(entry, options)
    if problems:
        raise TypeError(f"{argument}: {problems[0].why}")
    return Choice(family=family, name=name, arguments=tuple(complete.items()))


def _call(text: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the arguments of `name(argument = value, ..)`; no name for what is no such thing."""
    try:
        found = ast.parse(text, mode="eval").body
        if isinstance(found, ast.Name):
            return found.id, {}
        if isinstance(found, ast.Call) and isinstance(found.func, ast.Name) and not found.args:
            return found.func.id, {str(item.arg): _value(item.value) for item in found.keywords}
    except (SyntaxError, ValueError):
        pass
    return "", {}


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name) and node.id in _NAMES:
        return _NAMES[node.id]
    return ast.literal_eval(node)
