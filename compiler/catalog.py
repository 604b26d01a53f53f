"""Fills the catalog with every word the compiler defines. Imports neither torch nor numpy."""

from __future__ import annotations

from functools import lru_cache

from nnspec.dsl.catalog import Catalog


@lru_cache(maxsize=1)
def catalog() -> Catalog:
    """Return the catalog of operations, constraints, rules, passes and the words of experiments."""
    from nnspec.compiler import solvers
    from nnspec.compiler.constraints import registry as constraints
    from nnspec.compiler.distributions import registry as distributions
    from nnspec.compiler.fibres import probe
    from nnspec.compiler.fibres import words as genni
    from nnspec.compiler.following import FOLLOW
    from nnspec.compiler.initializers import registry as initializers
    from nnspec.compiler.operations import registry as operations
    from nnspec.compiler.passes import registry as passes
    from nnspec.compiler.rules import registry as rules
    from nnspec.compiler.rules.settled import nudging
    from nnspec.compiler.runtime import (
        data,
        loads,
        losses,
        metrics,
        optimizers,
        schedules,
        selection,
        stages,
        stops,
        thinning,
        ways,
    )
    from nnspec.compiler.runtime.data import corruption
    from nnspec.compiler.systems import graphs

    found = Catalog()
    for rule in operations.operations().values():
        if rule.written:
            found.add(rule.entry())
    found.add(FOLLOW)
    for module in (
        constraints,
        distributions,
        initializers,
        nudging,
        passes,
        probe,
        rules,
        solvers,
        graphs,
        data,
        corruption,
        loads,
        losses,
        metrics,
        optimizers,
        schedules,
        selection,
        stages,
        stops,
        thinning,
        ways,
        genni,
    ):
        for entry in module.entries():
            found.add(entry)
    return found
