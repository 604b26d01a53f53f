"""The functions of a rule in a network: what its equations come to at each junction, as text that is shown and run.

In: the equations of a rule with its options, and the scheme of a network. Out: for each junction functions of torch code;
and those made to run, on what a step of the rule reads. Imports no torch before that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from nnspec.compiler.rules.written.equations import Equations
from nnspec.compiler.rules.written.expressions import Feed, identifier, map_name
from nnspec.compiler.rules.written.routes import route
from nnspec.compiler.rules.written.scheme import Junction, Scheme
from nnspec.compiler.rules.written.source import JunctionFunction
from nnspec.compiler.rules.written.terms import Sum, atoms, scale

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.rules.written.maps import LinearMap
    from nnspec.compiler.rules.written.phase import Moment, Record


def junction_functions(
    equations: Equations, scheme: Scheme, junction: Junction, keys: Collection[str]
) -> Iterator[JunctionFunction]:
    """Yield what computes the directions at a junction: of the steps of a phase first, where some are summed.

    `keys` are the parameters that the rule teaches, by their state-dict keys.
    """
    changes = _changes(equations, scheme, junction, keys)
    feeds, ranks = feeds_of(equations, scheme, junction), ranks_of(scheme, junction)
    name = identifier(junction.path)
    for phase in equations.phases:
        own = _of(changes, phase.name) if phase.name else []
        if own:
            in_phase = f"{name}_in_{phase.name}"
            yield JunctionFunction(in_phase, junction, own, feeds, ranks, steps=phase.name)
    own = _of(changes, "")
    if own:
        yield JunctionFunction(name, junction, own, feeds, ranks, first=equations.phases[0].name)


def _of(changes: list[tuple[str, Sum]], phase: str) -> list[tuple[str, Sum]]:
    """Return the terms that are summed over the steps of a phase; over none for ""."""
    found = [(target, tuple(term for term in value if term.steps == phase)) for target, value in changes]
    return [(target, value) for target, value in found if value]


def _changes(
    equations: Equations, scheme: Scheme, junction: Junction, keys: Collection[str]
) -> list[tuple[str, Sum]]:
    """Return minus the wished changes at a junction."""
    lines = {line.name: line for line in equations.feedback}
    found: list[tuple[str, Sum]] = []
    for line in equations.updates:
        own = {"weight": junction.keys, "bias": junction.bias_keys}.get(line.target, ())
        taught = bool(set(own) & set(keys))
        if line.target in lines:
            taught = route(lines[line.target], junction, scheme, equations.reader).shape is not None
        if taught:
            found.append((line.target, scale(line.value, -1.0)))
    return found


def feeds_of(equations: Equations, scheme: Scheme, junction: Junction) -> dict[str, Feed]:
    """Return how feedback reaches a junction, by its name."""
    used = {atom.name for line in equations.updates for atom in atoms(line.value) if atom.word == "sent"}
    lines = [line for line in equations.feedback if line.name in used]
    return {line.name: Feed(line.source, route(line, junction, scheme, equations.reader)) for line in lines}


def ranks_of(scheme: Scheme, junction: Junction) -> dict[str, int]:
    """Return how many axes, with the batch, what is sent through feedback has."""
    root = scheme.graph.root
    outputs = [dict(root.types)[port.value] for port in root.outputs]
    own = junction.drive if junction.output is not None else outputs[0]
    found = {"output": len(own.axes) + 1 if junction.output is not None or len(outputs) == 1 else 2}
    if scheme.wiring is not None and junction.end is not None:
        found["module"] = len(scheme.wiring.flat.values[junction.end].type.axes) + 1
    return found


class Running:
    """A function of a junction, made to run. It is given what its text names; its helpers are those of the map.

    The text that is shown has helpers of its own, which do the same for real numbers without what a pass has recorded.
    """

    def __init__(self, written: JunctionFunction, place: int, own: LinearMap) -> None:
        import math

        import torch
        from torch import nn
        from torch.nn import functional

        self.place, self.steps, self.map = place, written.steps, own
        self.results = written.results
        self.given = tuple((name, *word) for word, name in written.given.items())
        self.pres = tuple(name for name, _, word in self.given if word == "pre")
        self.recorded: dict[
            int, Any
        ] = {}  # outer products that a pass has prepared, by the identity of its pre
        known: dict[str, Any] = {"torch": torch, "F": functional, "nn": nn, "math": math}
        known[map_name(written.junction)] = partial(own.forward, bias=None)
        known |= {"by_weight": self._by_weight, "by_bias": self._by_bias, "back": self._back}
        exec(written.text, known)
        self.function = known[written.name]

    def __call__(self, moment: Moment, step: Record | None = None) -> dict[str, Tensor]:
        """Return minus the wished changes, averaged over the batch; `step` is the record of a step that is summed."""
        given: dict[str, Any] = {}
        self.recorded = {}
        for name, phase, word in self.given:
            if phase == "feedback":
                given[name] = moment.feedback.of(word, self.place, moment.weights[self.place])
            elif word == "weight":
                given[name] = moment.weights[self.place]
            elif word == "bias":
                given[name] = moment.biases[self.place]
            else:
                record = step if step is not None and not phase else moment.records[phase]
                given[name] = record.read(word, self.place)
                if word == "pre":
                    self.recorded[id(given[name])] = getattr(record, "outer", None)
        found = self.function(**_of_one_type(given))
        self.recorded = {}
        made = found if len(self.results) > 1 else (found,)
        steps = getattr(
            step, "times", 1
        )  # several may have been laid end to end: the mean is over all of them
        return {t: own if steps == 1 else own * steps for t, own in zip(self.results, made, strict=True)}

    def _by_weight(self, _map: Any, post: Tensor, pre: Tensor, weight: Tensor) -> Tensor:
        """Return an outer product of the map: with a pass's own pre from what the pass recorded."""
        outer = self.recorded.get(id(pre))
        found = None if outer is None else outer(self.place, post)
        return self.map.outer(post, pre, weight.real) if found is None else found

    def _by_bias(self, _map: Any, post: Tensor, pre: Tensor, weight: Tensor, _bias: Tensor) -> Tensor:
        return self.map.over_uses(post, pre, weight)

    def _back(self, _map: Any, post: Tensor, pre: Tensor, weight: Tensor) -> Tensor:
        return self.map.back(post, weight, pre)


def _of_one_type(given: dict[str, Any]) -> dict[str, Any]:
    """Return tensors, all complex where states are: torch multiplies no matrices of two types."""
    wide = next((value.dtype for value in given.values() if value.is_complex()), None)
    return given if wide is None else {name: value.to(wide) for name, value in given.items()}


def running(
    equations: Equations, scheme: Scheme, maps: tuple[LinearMap, ...], keys: Collection[str]
) -> Mapping[str, Mapping[int, Running]]:
    """Return the functions of all junctions, by the phase over whose steps they sum ("" for none) and by place."""
    found: dict[str, dict[int, Running]] = {}
    for place, junction in enumerate(scheme.junctions):
        for written in junction_functions(equations, scheme, junction, keys):
            found.setdefault(written.steps, {})[place] = Running(written, place, maps[place])
    return found
