"""What a rule came to in a network: one text of torch code, with a function for each synapse that it teaches.

In: the equations of a rule with its options, and the scheme of a network. Out: Python text that needs torch alone. How the
network runs, and what each value is, stand in its head. Imports no torch.
"""

from __future__ import annotations

from collections.abc import Collection

from nnspec.compiler.emit.text import docstring, imports
from nnspec.compiler.experiment import Choice, Experiment
from nnspec.compiler.fit_rules import settings
from nnspec.compiler.naming import Names
from nnspec.compiler.rules.registry import rule_of
from nnspec.compiler.rules.written.equations import Equations
from nnspec.compiler.rules.written.expressions import map_lines
from nnspec.compiler.rules.written.functions import junction_functions
from nnspec.compiler.rules.written.rule import WrittenRule
from nnspec.compiler.rules.written.scheme import Scheme, scheme
from nnspec.compiler.rules.written.source import HELPERS
from nnspec.compiler.rules.written.terms import sum_text
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
    helpers = frozenset[str]().union(*(own.helpers for own in functions))
    parts = [text for name, text in HELPERS.items() if name in helpers]
    mapped = {own.junction.path: own.junction for own in functions if "map" in own.helpers}
    parts += ["\n".join(map_lines(junction)) + "\n" for junction in mapped.values()]
    code = "\n\n".join([*parts, *(own.text for own in functions)])
    about = "\n".join(line.text for line in docstring(_about(equations, scheme)))
    return f"{about}\n\n" + "\n".join(imports(code)) + f"\n\n\n{code}"


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
