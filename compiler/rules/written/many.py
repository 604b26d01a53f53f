"""Whether a written rule can teach many networks at once: a step must decide nothing by the numbers that it meets.

In: equations and the network as the rule reads it. Imports no torch.
"""

from __future__ import annotations

from nnspec.compiler.ir import Graph, Loop
from nnspec.compiler.rewrites.system import is_system
from nnspec.compiler.rules.settled.nudging import nudging
from nnspec.compiler.rules.settled.way import read_phase
from nnspec.compiler.rules.written.equations import Equations, PhaseLine
from nnspec.compiler.rules.written.feedback import draws_anew

STEPPED = ("fixed_point", "euler")  # solvers whose steps are all alike


def fits_many(equations: Equations, graph: Graph) -> bool:
    """Return whether many networks like this one can be taught at once."""
    settles = is_system(graph)
    loops = [s for s in graph.root.body if isinstance(s, Loop)]
    if any(loop.solver.name not in STEPPED for loop in loops):
        return False
    if settles and any(draws_anew(line.value) for line in equations.feedback):
        return False
    return all(_fits(line, equations) for line in equations.phases if line.way == "settle")


def _fits(line: PhaseLine, equations: Equations) -> bool:
    """Whether a phase takes a known number of steps, under a nudge that is the same for all networks."""
    phase = read_phase(line, equations.reader)
    return not phase.tolerance and (phase.nudging is None or not nudging(phase.nudging).draws)
