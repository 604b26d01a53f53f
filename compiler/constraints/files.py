"""Files that a spec names: beside it, or in a folder that the caller allows."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnspec.compiler.values import Refused
from nnspec.dsl.diagnostics import Error
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator


def allowed(
    evaluator: Evaluator, name: str, span: Span | None, error: type[Error], texts: dict[str, Any], like: str
) -> Path:
    """Return the path of a file that may be read; Refused with the error, whose text takes `why` and `help`.

    `like` is the pattern of the names that may have been meant.
    """
    source = evaluator.builder.module.source
    base = Path.cwd() if source.path is None else source.path.parent
    folders = (base.resolve(), *evaluator.elaborator.definitions.folders)
    try:
        path = (base / name).resolve()
        inside = any(path.is_relative_to(folder) for folder in folders)
        found = inside and path.is_file()
    except (ValueError, OSError, RuntimeError):  # a zero character, a name too long, links in a circle
        inside, found, path = True, False, base
    if not inside:
        why, help_text = (
            "it lies outside the spec's folder",
            "`--allow FOLDER` lets a spec read another folder",
        )
        raise Refused(error(span, why=why, help=help_text, **texts))
    if not found:
        raise Refused(error(span, why="there is no such file", help=_near(path, name, like), **texts))
    return path


def _near(path: Path, name: str, like: str) -> str | None:
    if not path.parent.is_dir():
        return None
    near = nearest(path.name, [found.name for found in path.parent.glob(like)])
    before, slash, _ = name.rpartition("/")
    return None if near is None else f"did you mean `{before}{slash}{near}`?"
