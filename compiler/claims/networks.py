"""The claims of the networks of a file, checked as far as they go without numpy, and those of its experiments.

In: a checked spec. Out: for each network with claims its graph and the claims; what `check` can tell of them, and
every wrong one, goes to the bag. Claims about symmetry wait for `run` and `analyze`, those about scores for training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nnspec.compiler.claims.claim import Claim, Verdict, joined_by_and
from nnspec.compiler.claims.judge import judge
from nnspec.compiler.claims.measures import COSTS, Measures
from nnspec.compiler.claims.written import Reader
from nnspec.compiler.elaborate import Elaborator
from nnspec.compiler.ir import Graph
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.errors.claims import ClaimElsewhere, UndecidedClaim
from nnspec.dsl.node import Node
from nnspec.dsl.syntax import Expect, NetworkDefinition

if TYPE_CHECKING:
    from nnspec.compiler.pipeline import Checked


class Claimed(Node):
    """A network, as its defaults make it, and the claims about it."""

    name: str
    graph: Graph
    claims: tuple[Claim, ...]

    def verdicts(self) -> tuple[Verdict, ...]:
        """Return whether each claim holds, those about symmetry too."""
        measures = Measures(self.graph)
        return tuple(judge(claim, measures) for claim in self.claims)


def check_claims(checked: Checked, given: Mapping[str, Any], chosen: str | None) -> tuple[Claimed, ...]:
    """Return the claims about the networks of a file, but of one that is given parameters.

    `chosen` is the network to which `given` is given.
    """
    found: list[Claimed] = []
    for definition in checked.networks():
        item = definition.item
        body = item.body if isinstance(item, NetworkDefinition) else ()
        written = [statement for statement in body if isinstance(statement, Expect)]
        if written and given and definition.name == chosen:
            checked.unasked.append(definition.name)
        if not written or (given and definition.name == chosen):
            continue
        open_ended = next((p.name for p in item.parameters if p.default is None), None)
        if open_ended is not None:
            _refuse(checked.bag, definition, written, open_ended)
            continue
        graph = checked.graph(definition)
        if graph is not None:
            elaborator = Elaborator(checked.definitions, checked.bag, checked.lets)
            own = {name: value for name, value in graph.parameters if isinstance(value, int | float)}
            claims = Reader(definition, elaborator, own, (), checked.bag).claims(body)
            check_costs(claims, graph, checked.bag)
            found.append(Claimed(name=definition.name, graph=graph, claims=claims))
    return tuple(found)


def check_costs(claims: tuple[Claim, ...], graph: Graph, bag: Bag, may_wait: bool = False) -> None:
    """Report the claims that do not hold, of those that need neither numpy nor training, and of parts joined by `and`.

    One that cannot be decided may wait where more will be known of the graph.
    """
    measures = Measures(graph)
    for claim in claims:
        is_whole = all(name in COSTS for name in claim.measured)
        for part in (claim,) if is_whole else joined_by_and(claim):
            if is_whole or (part.measured and all(name in COSTS for name in part.measured)):
                error = judge(part, measures).error
                if error is not None and not (may_wait and isinstance(error, UndecidedClaim)):
                    bag.add(error)


def _refuse(bag: Bag, definition: Definition, written: list[Expect], parameter: str) -> None:
    why = f"`{definition.name}` is one network for each `{parameter}`, which has no default"
    help_text = f"give `{parameter}` a default, or claim it in an experiment"
    for statement in written:
        bag.add(ClaimElsewhere(statement.span, why=why, help=help_text))
