"""DOT -> picture, by the first renderer that is at hand.

The chain: `dot` of a Graphviz on the PATH, then the `graphviz-pure` program (a wheel, `nnspec[render]`), else
the DOT text is written and one sentence says how to get a picture. PDF needs Graphviz itself.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from contextlib import suppress
from html import escape
from pathlib import Path

from nnspec.compiler.diagrams.themes import THEMES, dark_rules
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.render import NoPdf, NoRenderer, RenderFailed, UnknownFormat

FORMATS = ("svg", "png", "pdf", "html", "dot")
_SECONDS = 60
_RESOLUTION = "-Gdpi=144"


def find_renderer() -> Path | None:
    """Return the program that draws: Graphviz' `dot`, else `graphviz-pure`, else None."""
    dot = shutil.which("dot")
    if dot is not None:
        return Path(dot)
    beside = os.pathsep.join((sysconfig.get_path("scripts"), str(Path(sys.executable).parent)))
    pure = shutil.which("graphviz-pure", path=beside) or shutil.which("graphviz-pure")
    return None if pure is None else Path(pure)


def rendered(dot: str, format: str, *, title: str = "") -> bytes:
    """Return the picture of a DOT text; RunError says what is missing."""
    if format not in FORMATS:
        known = ", ".join(f".{name}" for name in FORMATS)
        raise RunError(UnknownFormat(None, format=format, known=known))
    if format == "dot":
        return dot.encode("utf-8")
    if format == "html":
        return page(rendered(dot, "svg").decode("utf-8"), title).encode("utf-8")
    program = find_renderer()
    if program is None:
        raise RunError(NoRenderer(None))
    if format == "pdf" and program.stem == "graphviz-pure":
        raise RunError(NoPdf(None))
    return _run(program, dot, format)


def render(dot: str, format: str, path: Path) -> None:
    """Write a picture, whole or not at all. Without a renderer the DOT text is written beside it."""
    try:
        content = rendered(dot, format, title=path.stem)
    except RunError as error:
        if isinstance(error.error, NoRenderer):
            beside = path.with_suffix(".dot")
            write_whole(beside, dot.encode("utf-8"))
            raise RunError(NoRenderer(None, beside=str(beside))) from None
        raise
    write_whole(path, content)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=path.suffix)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        why = f"{path} cannot be written: {error.strerror}"
        raise RunError(RenderFailed(None, program="nnspec", why=why)) from None


def inline(svg: str) -> str:
    """Return a picture to stand inside a page: without its prologue, its identifiers and its own titles.

    Several pictures on a page would otherwise claim the same identifiers; nothing in them refers to one.
    """
    start = svg.index("<svg")
    plain = re.sub(r' id="[^"]*"|<title>[^<]*</title>\n?|<!--.*?-->\n?', "", svg[start:], flags=re.DOTALL)
    return plain.replace("<svg", '<svg class="network" role="img"', 1).rstrip()


def page(svg: str, title: str) -> str:
    """Return a page that holds a picture and loads nothing; a light picture is dark on a dark page."""
    light = THEMES["light"].background in svg
    paper = THEMES["light" if light else "dark"].background
    dark = f"@media (prefers-color-scheme: dark) {{ body {{ background: {THEMES['dark'].background}; }} }}"
    rules = f"{dark_rules('.network')}\n{dark}\n" if light else ""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        f"<style>\nbody {{ margin: 2rem; text-align: center; background: {paper}; }}\n"
        f".network {{ max-width: 100%; height: auto; }}\n{rules}</style>\n"
        f"</head>\n<body>\n{inline(svg)}\n</body>\n</html>\n"
    )


def _run(program: Path, dot: str, format: str) -> bytes:
    arguments = [str(program), f"-T{format}"] + ([_RESOLUTION] if format == "png" else [])
    try:
        done = subprocess.run(arguments, input=dot.encode("utf-8"), capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired:
        why = f"took longer than {_SECONDS} s; `--depth 1` draws less"
        raise RunError(RenderFailed(None, program=program.name, why=why)) from None
    except OSError as error:
        why = error.strerror or "could not be started"
        raise RunError(RenderFailed(None, program=program.name, why=why)) from None
    if done.returncode != 0 or not done.stdout:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        why = lines[-1][:200] if lines else f"ended with code {done.returncode}"
        raise RunError(RenderFailed(None, program=program.name, why=why))
    return done.stdout
