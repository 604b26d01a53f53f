"""Samples of a random Boltzmann machine, drawn exactly: the probability of every state is worked out.

E(x, h) = -sum_{i<j} J_ij x_i x_j - b'x - x'Wh - c'h over bits x and h, p(x) = sum_h exp(-E(x, h)) / Z. Without hidden
units W and c are empty, with them J is zero: a restricted machine. Couplings are normal; biases are normal about the
value at which every state is as likely as its opposite, so that no pair of units is so rarely 1 that samples do not tell
of its coupling.
"""

from __future__ import annotations

from typing import Any

from nnspec.compiler.runtime.data.field import Field
from nnspec.compiler.runtime.data.generated import Generated, samples_argument, width_argument
from nnspec.dsl.catalog import Argument


class BoltzmannTeacher(Generated):
    name = "boltzmann_teacher"
    doc = """States of a random Boltzmann machine and their logarithmic probabilities: couplings between all visible
units, or with `hidden` units from each visible to each hidden one. Samples are drawn exactly, by enumeration. Fields:
bits, log_probability."""
    own = (
        samples_argument(5000),
        width_argument("units", 8, "visible units, at most 16"),
        width_argument("hidden", 0, "hidden units, at most 16", at_least=0),
        Argument(name="strength", kind="real", default=1.0, above=0, doc="deviation of couplings"),
        Argument(name="bias", kind="real", default=0.5, at_least=0, doc="deviation of biases from balance"),
    )
    example = "data = boltzmann_teacher(units = 8, samples = 5000)"

    def fields(self, options: dict[str, Any]) -> tuple[Field, Field]:
        return Field(name="bits", shape=(options["units"],)), Field(name="log_probability", target=True)

    def misfit(self, options: dict[str, Any]) -> tuple[str, str] | None:
        for name in ("units", "hidden"):
            if options[name] > 16:
                return name, f"`{name}` must be at most 16: every state is visited"
        return super().misfit(options)

    def draw(self, options: dict[str, Any], generator: Any) -> tuple[Any, Any]:
        import numpy

        states = all_states(options["units"])
        scores = log_weights(teacher(options, generator), states)
        log_probability = scores - numpy.logaddexp.reduce(scores)
        chosen = generator.choice(len(states), options["samples"], p=numpy.exp(log_probability))
        return states[chosen].astype(float), log_probability[chosen]


def all_states(units: int) -> Any:
    """Return every state of so many bits, (2^units, units)."""
    import numpy

    return numpy.arange(2**units)[:, None] >> numpy.arange(units) & 1


def teacher(options: dict[str, Any], generator: Any) -> dict[str, Any]:
    """Return the couplings and biases of a machine: `visible` (upper triangle), `bias`, `hidden`, `hidden_bias`."""
    import numpy

    units, hidden = options["units"], options["hidden"]
    between = generator.standard_normal((units, units)) * options["strength"]
    visible = numpy.triu(between, 1) * (hidden == 0)
    across = generator.standard_normal((units, hidden)) * options["strength"]
    halves = ((visible + visible.T).sum(1) + across.sum(1)) / 2
    return {
        "visible": visible,
        "bias": generator.standard_normal(units) * options["bias"] - halves,
        "hidden": across,
        "hidden_bias": generator.standard_normal(hidden) * options["bias"] - across.sum(0) / 2,
    }


def log_weights(machine: dict[str, Any], states: Any) -> Any:
    """Return log sum_h exp(-E(x, h)) of states (row, units), (row,)."""
    import numpy

    own = ((states @ machine["visible"]) * states).sum(1) + states @ machine["bias"]
    return own + numpy.logaddexp(0, states @ machine["hidden"] + machine["hidden_bias"]).sum(1)


SETS = (BoltzmannTeacher(),)
