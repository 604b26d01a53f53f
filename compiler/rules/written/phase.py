"""What a phase of a rule is given, and what it gives: the protocol between equations and ways to run a network.

An equation reads words (`pre`, `post`, `drive.error`, ..; the table is `dsl/rule_words.py`) at junctions of a
`Scheme`. A phase runs the network once, forward or until it settles, and returns a `Record` that answers for these words.
The rest of a rule (sums of products, constraints, feedback, the optimizer) knows nothing of how a phase runs.

A way to run is a class with `words`, what its records can answer, and `run`. The feed-forward one is `forward.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.written.equations import Equations, PhaseLine
    from nnspec.compiler.rules.written.feedback import FeedbackState
    from nnspec.compiler.rules.written.maps import LinearMap
    from nnspec.compiler.rules.written.scheme import Scheme
    from nnspec.compiler.runtime.group import LearningGroup
    from nnspec.compiler.runtime.plan import Batch
    from nnspec.compiler.runtime.streams import Streams


class Record(Protocol):
    """What a network did in a phase, or in one step of it."""

    def read(self, word: str, junction: int) -> Tensor:
        """Return the value of a word at a junction (by its place in the scheme), the batch first.

        "pre" has the shape of what enters the map, "post", "drive", "drive.error" and the like that of what it gives;
        "output", "output.error" and "output.target" that of the output; "loss" is (batch,). An error is the
        derivative of the sample's own loss: no mean over the batch is in it.
        """
        ...

    def mean_loss(self) -> Tensor:
        """Return the mean loss of the batch, one number, detached."""
        ...

    def rest_errors(self) -> Mapping[str, Tensor]:
        """Return the derivative of the mean loss by each parameter of `moment.rest`."""
        ...


class Moment:
    """One step of a rule: what every phase of it is given.

    `weights[k]` and `biases[k]` are those in force at junction k, as its map takes them, detached; `maps[k]` is the map
    with its transposes; `rest` holds the keys of the parameters that the rule teaches and that are at no junction;
    `records` fills with the phases that have run. `memory` outlives the step: a way keeps there what it makes once.
    `state` holds all tensors of the network; `moves` says whether its running statistics follow the first phase.
    `settled` are phases whose states have settled elsewhere already, by name.
    """

    def __init__(
        self,
        run: LearningGroup,
        batch: Batch,
        streams: Streams,
        equations: Equations,
        scheme: Scheme,
        maps: tuple[LinearMap, ...],
        weights: tuple[Tensor, ...],
        biases: tuple[Tensor | None, ...],
        feedback: FeedbackState,
        rest: frozenset[str],
        memory: dict[str, Any],
        state: Mapping[str, Tensor],
        moves: bool,
        settled: Mapping[str, Any] | None = None,
    ) -> None:
        self.run = run
        self.batch = batch
        self.streams = streams
        self.equations = equations
        self.scheme = scheme
        self.maps = maps
        self.weights = weights
        self.biases = biases
        self.feedback = feedback
        self.rest = rest
        self.memory = memory
        self.state = state
        self.moves = moves
        self.settled = settled or {}
        self.records: dict[str, Record] = {}


class Way(Protocol):
    """A way to run a network in a phase: `forward`, `settle`."""

    @property
    def words(self) -> frozenset[str]:
        """What its records answer."""
        ...

    @property
    def options(self) -> tuple[str, ...]:
        """The arguments that it takes."""
        ...

    def run(self, moment: Moment, line: PhaseLine, each: Callable[[Record, complex], None] | None) -> Record:
        """Run a phase and return its record; those of earlier phases are in `moment.records`.

        `each`, if there is one, is called with the record of every step and the coefficient with which it counts: sums
        over steps (`plus.sum(pre * post.change)`) and slopes are gathered there.
        """
        ...
