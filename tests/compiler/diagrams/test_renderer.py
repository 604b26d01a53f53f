"""The chain of renderers: which is taken, what happens without one, files whole or not at all, pages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from nnspec.compiler.diagrams import renderer
from nnspec.compiler.diagrams.renderer import find_renderer, inline, page, render, rendered, write_whole
from nnspec.compiler.diagrams.themes import THEMES, Theme, dark_rules
from nnspec.dsl.diagnostics import RunError

posix = pytest.mark.skipif(sys.platform == "win32", reason="writes shell scripts")
Program = Callable[[str, str], Path]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Program:
    """`program(name, script)` puts a program on a PATH that holds nothing else of ours."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.setattr(renderer.sysconfig, "get_path", lambda _: str(folder))
    monkeypatch.setattr(renderer.sys, "executable", str(folder / "python"))

    def made(name: str, script: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    return made


def code_of(call: Callable[[], object]) -> str:
    with pytest.raises(RunError) as caught:
        call()
    return caught.value.error.code


@posix
def test_system_dot_comes_before_the_wheel(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    pure = program("graphviz-pure", 'echo "<svg>pure</svg>"')
    monkeypatch.setenv("PATH", str(pure.parent))
    assert find_renderer() == pure
    dot = program("dot", 'echo "<svg>dot $1</svg>"')
    assert find_renderer() == dot
    assert rendered("digraph {}", "svg") == b"<svg>dot -Tsvg</svg>\n"


@posix
def test_the_wheel_of_this_environment_needs_no_path(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    pure = program("graphviz-pure", "echo x")
    monkeypatch.setenv("PATH", "/nowhere")
    assert find_renderer() == pure


@posix
def test_neither_says_both_ways(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(RunError) as caught:
        render("digraph {}", "png", tmp_path / "n.png")
    error = caught.value.error
    assert error.code == "N0901"
    assert "nnspec[render]" in error.help and "Graphviz" in error.help
    assert str(tmp_path / "n.dot") in error.found
    assert not (tmp_path / "n.png").exists()


@posix
def test_pdf_needs_graphviz(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    pure = program("graphviz-pure", "echo x")
    monkeypatch.setenv("PATH", str(pure.parent))
    assert code_of(lambda: rendered("digraph {}", "pdf")) == "N0902"
    program("dot", 'echo "%PDF $1"')
    assert rendered("digraph {}", "pdf") == b"%PDF -Tpdf\n"


@posix
@pytest.mark.parametrize(
    ("script", "says"),
    [("echo boom >&2; exit 3", "boom"), ("exit 0", "code 0"), ("exec sleep 30", "longer than")],
)
def test_a_renderer_that_fails(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, says: str
) -> None:
    program("dot", script)
    monkeypatch.setattr(renderer, "_SECONDS", 0.3)
    with pytest.raises(RunError) as caught:
        render("digraph {}", "svg", tmp_path / "n.svg")
    assert caught.value.error.code == "N0903"
    assert says in caught.value.error.message
    assert not (tmp_path / "n.svg").exists()


def test_what_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "taken.svg").mkdir()
    (tmp_path / "taken.svg" / "inside").touch()
    assert code_of(lambda: write_whole(tmp_path / "taken.svg", b"x")) == "N0903"
    assert [path.name for path in tmp_path.iterdir()] == ["taken.svg"]


def test_a_page_loads_nothing_and_escapes_its_title() -> None:
    svg = '<?xml version="1.0"?>\n<svg id="a"><title>n</title><rect fill="#ffffff"/></svg>\n'
    html = page(svg, "</title><script>")
    assert "<title>&lt;/title&gt;&lt;script&gt;</title>" in html
    assert "<?xml" not in html and "http" not in html
    assert "prefers-color-scheme: dark" in html


def test_a_dark_picture_has_a_dark_page() -> None:
    html = page(f'<svg><rect fill="{THEMES["dark"].background}"/></svg>', "n")
    assert "prefers-color-scheme" not in html
    assert f"background: {THEMES['dark'].background}" in html


def test_inline_pictures_share_no_identifiers() -> None:
    svg = '<svg><g id="node1"><title>n1</title><text>a &lt; b</text></g><!-- c --></svg>'
    assert inline(svg) == '<svg class="network" role="img"><g><text>a &lt; b</text></g></svg>'


def colours(theme: Theme) -> list[str]:
    values = (getattr(theme, name) for name in Theme.fields_)
    return [one for value in values for one in (value if isinstance(value, tuple) else (value,))]


def test_every_light_colour_has_one_dark_one() -> None:
    light, dark = colours(THEMES["light"]), colours(THEMES["dark"])
    pairs = set(zip(light, dark, strict=True))
    assert len(pairs) == len(set(light))
    for old, new in pairs:
        assert f'.x [fill="{old}"] {{ fill: {new}; }}' in dark_rules(".x")


def contrast(one: str, other: str) -> float:
    """The contrast ratio of two colours, as the accessibility guidelines (WCAG 2) define it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((luminance(one), luminance(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", THEMES)
def test_text_can_be_read(name: str) -> None:
    theme = THEMES[name]
    for fill in (theme.background, theme.learned[0], theme.plain[0], theme.cluster[0]):
        assert contrast(theme.text, fill) >= 7
        assert contrast(theme.faint, fill) >= 4.1
    assert contrast(theme.badge, theme.learned[0]) >= 4.5
