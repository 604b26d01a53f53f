"""What a GENNI run draws: the teacher, training samples, first weights of students, and the probe.

Two ways: named streams of seeds, so that more students or samples change none of the others; or, with
`seed_mode = "torch"`, the order of draws of the GENNI paper's own code (github.com/Do-Not-Circulate/GENNI): the
generator is seeded with the teacher's seed, then come the teacher, the samples and the students; for the
probe it is seeded again, and after the teacher come its samples. The search seed has no effect there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from nnspec.compiler.emit.load import State, initial_state, module_class
from nnspec.compiler.experiment import Choice
from nnspec.compiler.fibres.probe import draw_probe
from nnspec.compiler.ir import Graph
from nnspec.compiler.runtime.seeds import stream_seed
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

    Inputs = tuple[Tensor, ...]


class Drawn(Node):
    """The teacher, the students' first weights (stacked), the inputs to train on and those to measure on."""

    teacher: State
    students: State
    samples: Inputs
    probe: Inputs


def from_streams(
    graph: Graph,
    given: Mapping[str, Tensor] | None,
    teacher: int,
    seed: int,
    students: int,
    samples: int,
    probe: Choice,
) -> Drawn:
    """Draw each part from a stream of its own; `given` stands in place of a teacher drawn."""
    first = stream_seed(seed, "students") % (1 << 31)
    return Drawn(
        teacher=initial_state(graph, teacher) if given is None else dict(given),
        students=initial_state(graph, first, students),
        samples=draw_probe(graph, probe, stream_seed(seed, "samples"), samples),
        probe=draw_probe(graph, probe, stream_seed(seed, "probe")),
    )


def as_the_paper(graph: Graph, teacher: int, students: int, samples: int, probe: int) -> Drawn:
    """Draw in the order of the GENNI paper's code. One real input; torch's generator is left as it was."""
    import torch

    make = module_class(graph)
    types = dict(graph.root.types)
    shape = [size for size in types[graph.root.inputs[0].value].shape if isinstance(size, int)]
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(teacher)
        state = make().state_dict()
        trained_on = torch.randn(samples, *shape)
        states = [make().state_dict() for _ in range(students)]
        torch.default_generator.manual_seed(teacher)
        make()
        measured_on = torch.randn(probe, *shape)
    return Drawn(
        teacher=state,
        students={name: torch.stack([own[name] for own in states]) for name in state},
        samples=(trained_on,),
        probe=(measured_on,),
    )
