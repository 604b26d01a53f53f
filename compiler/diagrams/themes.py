"""Colours and type of the pictures, light and dark."""

from __future__ import annotations

from nnspec.dsl.node import Node


class Theme(Node):
    """Colours as `#rrggbb`."""

    background: str
    text: str
    faint: str  # second lines, shapes on edges
    edge: str
    learned: tuple[str, str]  # fill and border of what owns weights
    plain: tuple[str, str]  # of what owns none
    port: tuple[str, str]  # of inputs and outputs
    cluster: tuple[str, str]
    badge: str  # constraints, sharing


THEMES = {
    "light": Theme(
        background="#ffffff",
        text="#1f2328",
        faint="#6b7280",
        edge="#8b929c",
        learned=("#e6eef8", "#5a7fae"),
        plain=("#f6f6f4", "#b9b9b2"),
        port=("#ffffff", "#1f2328"),
        cluster=("#fafafa", "#d6d6d2"),
        badge="#a8441f",
    ),
    "dark": Theme(
        background="#14171c",
        text="#e6e8eb",
        faint="#9aa3af",
        edge="#6b7480",
        learned=("#20314a", "#6f9bd1"),
        plain=("#20242b", "#4a515c"),
        port=("#14171c", "#e6e8eb"),
        cluster=("#191d23", "#343b45"),
        badge="#f0a27c",
    ),
}

WIRES = {  # colours of classes that are told apart
    "light": (
        *("#2f6fb5", "#d9731a", "#3f8f4f", "#b8457f", "#7458b5", "#a8830f"),
        *("#17969b", "#c23b31", "#5d6f83", "#8a5a3c", "#6f8f1f", "#d16bb0"),
    ),
    "dark": (
        *("#6aa9ea", "#f39a4d", "#74c483", "#e687b4", "#ac94ea", "#d6b54a"),
        *("#53c9cd", "#f0857c", "#9fb2c6", "#c99b7c", "#b3d060", "#f0a8da"),
    ),
}

FONT = "Helvetica"  # renderers know its widths; a list of fonts would be measured as Times


def dark_rules(selector: str) -> str:
    """Return CSS by which a light picture (an SVG inside a page) is dark on a dark page.

    The colours of an SVG are attributes, and any rule of CSS outranks an attribute.
    """
    pairs = dict(zip(_colours(THEMES["light"]), _colours(THEMES["dark"]), strict=True))
    pairs |= zip(WIRES["light"], WIRES["dark"], strict=True)
    rules = (
        f'{selector} [{kind}="{light}"] {{ {kind}: {dark}; }}'
        for light, dark in pairs.items()
        for kind in ("fill", "stroke")
    )
    return f"@media (prefers-color-scheme: dark) {{ {' '.join(rules)} }}"


def _colours(theme: Theme) -> tuple[str, ...]:
    plain = (theme.background, theme.text, theme.faint, theme.edge, theme.badge)
    return (*plain, *theme.learned, *theme.plain, *theme.port, *theme.cluster)
