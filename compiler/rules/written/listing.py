"""What a rule came to in a network: one text of torch code, with a function for each synapse that it teaches.

In: the equations of a rule with its options, and the scheme of a network. Out: Python text that needs torch alone. How the
network runs, and what each value is, stand in its head. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from nnspec.compiler.emit.text import docstring, imports
from nnspec.compiler.experiment import Choice, Experiment
from nnspec.compiler.fit_rules import settings
from nnspec.compiler.naming import Names
from nnspec.compiler.rules.registry import rule_of
from nnspec.compiler.rules.written.equations import Equations
from nnspec.compiler.rules.written.expressions import Feed, identifier, map_lines
from nnspec.compiler.rules.written.routes import route
from nnspec.compiler.rules.written.rule import WrittenRule
from nnspec.compiler.rules.written.scheme import Junction, Scheme, scheme
from nnspec.compiler.rules.written.source import HELPERS, JunctionFunction
from nnspec.compiler.rules.written.terms import Sum, atoms, scale, sum_text
from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.rules import NoEquations
from nnspec.dsl.rule_words import READ


def listings(experiment: Experiment) -> dict[str, str]:
    """Return the texts of the written rules of an experiment, by their names. Raises RunError if it has none."""
    values = {
        "learn": experiment.rule,
        "loss": experiment.loss,
        "groups": experiment.groups,
        "stages": experiment.stages,
    }
    taught: dict[Choice, set[str]] = {}
    for setting in settings(values, experiment.graph):
        if isinstance(rule_of(setting.choice), WrittenRule):
            taught.setdefault(setting.choice, set()).update(setting.keys)
    if not taught:
        name = experiment.rule.name
        help_text = f"`nnspec explain {name}` says what it computes; `backprop_written` is backpropagation as equations"
        error = NoEquations(experiment.rule.span, rule=name, experiment=experiment.name, help=help_text)
        raise RunError(error)
    names = Names()
    seen = scheme(experiment.graph)
    return {
        names.claim(choice.name): listing(_equations(choice, experiment), seen, keys)
        for choice, keys in taught.items()
    }


def _equations(choice: Choice, experiment: Experiment) -> Equations:
    rule = rule_of(choice)
    assert isinstance(rule, WrittenRule)
    return rule.equations(choice.options).of(experiment.graph)


def listing(equations: Equations, scheme: Scheme, keys: Collection[str]) -> str:
    """Return the text of a rule in a network, for the parameters of these state-dict keys."""
    functions = [
        found
        for junction in scheme.junctions
        for found in junction_functions(equations, scheme, junction, keys)
    ]
    helpers = frozenset[str]().union(*(own.helpers for own, _ in functions))
    parts = [text for name, text in HELPERS.items() if name in helpers]
    parts += ["\n".join(map_lines(own)) + "\n" for own in _mapped(functions)]
    code = "\n\n".join([*parts, *(own.text for own, _ in functions)])
    about = "\n".join(line.text for line in docstring(_about(equations, scheme)))
    return f"{about}\n\n" + "\n".join(imports(code)) + f"\n\n\n{code}"


def junction_functions(
    equations: Equations, scheme: Scheme, junction: Junction, keys: Collection[str]
) -> Iterator[tuple[JunctionFunction, Junction]]:
    """Yield what computes the directions at a junction: of the steps of a phase first, where some are summed."""
    changes = _changes(equations, junction, keys)
    feeds, ranks = feeds_of(equations, scheme, junction), ranks_of(scheme, junction)
    name = identifier(junction.path)
    for phase in equations.phases:
        own = [(t, _of(value, phase.name)) for t, value in changes]
        own = [(target, value) for target, value in own if value]
        if own and phase.name:
            in_phase = f"{name}_in_{phase.name}"
            yield JunctionFunction(in_phase, junction, own, feeds, ranks, steps=phase.name), junction
    own = [(target, tuple(term for term in value if not term.steps)) for target, value in changes]
    own = [(target, value) for target, value in own if value]
    if own:
        first = equations.phases[0].name
        yield JunctionFunction(name, junction, own, feeds, ranks, first), junction


def _of(value: Sum, phase: str) -> Sum:
    return tuple(term for term in value if term.steps == phase)


def _changes(equations: Equations, junction: Junction, keys: Collection[str]) -> list[tuple[str, Sum]]:
    """Return minus the wished changes at a junction."""
    found: list[tuple[str, Sum]] = []
    for line in equations.updates:
        taught = {"weight": junction.keys, "bias": junction.bias_keys}.get(line.target, junction.keys)
        if line.target != "rest" and set(taught) & set(keys):
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


def _mapped(functions: list[tuple[JunctionFunction, Junction]]) -> list[Junction]:
    return list({own.path: own for function, own in functions if "map" in function.helpers}.values())


def _about(equations: Equations, scheme: Scheme) -> str:
    """Return the head: the update in its normal form, how the network runs, and what the functions are given."""
    normal = [f"    update {line.target} += {sum_text(line.value)}" for line in equations.updates]
    phases = [f"    {line.span.text}" for line in equations.phases if line.span is not None]
    feedback = [f"    {line.span.text}" for line in equations.feedback if line.span is not None]
    words = [f"    {name.replace('.', '_')}: {READ[name].doc}" for name in equations.reads]
    runs = ["", "The network runs as", "", *phases] if phases else []
    lines = ["", "Errors come back by", "", *feedback] if feedback else []
    return "\n".join(
        [
            f"The rule `{equations.name}` in the network `{scheme.graph.name}`: minus the wished change of each weight and bias.",
            "",
            "In its normal form, for one synapse and one sample,",
            "",
            *normal,
            *runs,
            *lines,
            "",
            "Functions are given values with the batch first, and return means over the batch, which the optimizer descends:",
            "",
            *words,
        ]
    )
