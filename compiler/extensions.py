"""Words that come from other installed packages, through the entry point group `nnspec.extensions`.

An entry point loads a module (or any object) whose attributes hold what it offers: `OPERATIONS` a tuple
of operations, and likewise for the other kinds. A package that cannot be loaded, or that claims a word
that is taken, is an error: nothing is left out or chosen silently.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.extensions import BrokenExtension, WordClaimedTwice

GROUP = "nnspec.extensions"


@lru_cache(maxsize=1)
def _loaded() -> tuple[tuple[str, Any], ...]:
    from importlib.metadata import entry_points

    found: list[tuple[str, Any]] = []
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist else point.value
        try:
            found.append((package, point.load()))
        except Exception as failure:
            error = BrokenExtension(None, name=point.name, package=package, why=str(failure))
            raise RunError(error) from failure
    return tuple(found)


def offered(attribute: str) -> tuple[tuple[str, Any], ...]:
    """Return (package, thing) for everything that extensions list under an attribute name."""
    return tuple((package, thing) for package, place in _loaded() for thing in getattr(place, attribute, ()))


def by_name(kind: str, offers: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """Return things by their `name`; two claims to one name are an error that names both claimants."""
    found: dict[str, Any] = {}
    owners: dict[str, str] = {}
    for owner, thing in offers:
        if thing.name in found:
            raise RunError(
                WordClaimedTwice(None, kind=kind, word=thing.name, first=owners[thing.name], second=owner)
            )
        found[thing.name] = thing
        owners[thing.name] = owner
    return found
