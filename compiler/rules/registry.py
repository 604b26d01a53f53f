"""Every learning rule by its name: the files of this folder, then installed extensions.

A file lists its rules in `RULES`. Importing this module imports none of them; the first question does,
without torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import lru_cache
from importlib import import_module
from pkgutil import iter_modules

from nnspec.compiler import rules as folder
from nnspec.compiler.experiment import Choice
from nnspec.compiler.extensions import by_name, offered
from nnspec.compiler.rules.rule import Rule
from nnspec.dsl.catalog import Entry


@lru_cache(maxsize=1)
def rules() -> Mapping[str, Rule]:
    """Return every rule by name; two claims to one name raise RunError naming both."""
    return by_name("rule", (*_own(), *offered("RULES")))


def rule(name: str) -> Rule:
    """Return the rule of this name; KeyError if there is none."""
    return rules()[name]


def rule_of(choice: Choice) -> Rule:
    """Return the rule that a choice means: of the language, or by its name."""
    if choice.definition is None:
        return rule(choice.name)
    from nnspec.compiler.rules.written.rule import written

    return written(choice.definition)


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the rules."""
    return tuple(rule.entry() for rule in rules().values())


def _own() -> Iterator[tuple[str, Rule]]:
    for module in sorted(iter_modules(folder.__path__), key=lambda module: module.name):
        found = import_module(f"{folder.__name__}.{module.name}")
        for item in getattr(found, "RULES", ()):
            yield f"nnspec ({module.name}.py)", item
