"""What a rule is to learn under, as far as it is known before anything runs: what a rule judges in `refusals`."""

from __future__ import annotations

from nnspec.compiler.experiment import Choice, Judged
from nnspec.compiler.ir import Graph
from nnspec.dsl.node import Node


class Setting(Node):
    """One rule in one experiment: of all parameters, of a `train` block, or of a stage.

    `graph` is the typed network; `keys` are the state-dict keys of what the rule teaches.
    """

    graph: Graph
    choice: Choice  # the rule, with its options and its place
    loss: Judged
    optimizer: Choice | None  # None: the default
    schedule: Choice | None
    keys: tuple[str, ...]
    precision: str = "float32"
