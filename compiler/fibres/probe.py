"""Probes: the inputs on which networks are compared.

Gaussian inputs hardly ever reach the far parts of piecewise linear functions, so a probe may have tails:
some of its rows uniform in a box. Whole numbers name any row of the smallest table that they reach; symbolic sizes become
`SYMBOLIC`. torch is imported by the functions that draw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnspec.compiler.experiment import Choice
from nnspec.compiler.flat import Use, flatten
from nnspec.compiler.ir import Graph, Type
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.relations import Sum
from nnspec.compiler.symmetry.relate import site_of
from nnspec.dsl.catalog import Argument, Entry

if TYPE_CHECKING:
    from torch import Generator, Tensor

SYMBOLIC = 3  # in place of a size that is not known
_SAMPLES = Argument(name="samples", kind="int", default=500, at_least=2, doc="how many inputs")
_SCALE = Argument(name="scale", kind="real", default=1.0, above=0, doc="their standard deviation")
_SIDE = Argument(name="side", kind="real", default=3.0, above=0, doc="the box reaches from -side to side")

_PROBES = {
    "gaussian": Entry(
        name="gaussian",
        family="probe",
        doc="Inputs from a normal distribution around zero.",
        arguments=(_SAMPLES, _SCALE),
        example="probe = gaussian(samples = 500)",
    ),
    "box": Entry(
        name="box",
        family="probe",
        doc="Inputs uniform between `-side` and `side`.",
        arguments=(_SAMPLES, _SIDE),
        example="probe = box(samples = 500, side = 2.0)",
    ),
    "tails": Entry(
        name="tails",
        family="probe",
        doc="Three of four inputs from a normal distribution, every fourth uniform in a box that reaches further.",
        arguments=(_SAMPLES, _SCALE, _SIDE),
        example="probe = tails(samples = 500, side = 4.0)",
    ),
}
DEFAULT = Choice(family="probe", name="tails", arguments=(("samples", 500), ("scale", 1.0), ("side", 3.0)))


def entries() -> tuple[Entry, ...]:
    """Return the catalog entries of the probes."""
    return tuple(_PROBES.values())


def draw_probe(
    graph: Graph, probe: Choice, seed: int, count: int | None = None, dtype: Any = None
) -> tuple[Tensor, ...]:
    """Return one tensor [samples, ..] for each input of a network, drawn from `seed`.

    `count` stands in place of the probe's own number of samples. The number type of real inputs is that
    given, double precision without.
    """
    import torch

    random = torch.Generator().manual_seed(seed)
    types = dict(graph.root.types)
    rows = table_rows(graph)
    samples = probe["samples"] if count is None else count
    made: list[Tensor] = []
    for port, own in zip(graph.root.inputs, rows, strict=True):
        drawn = _draw(types[port.value], probe, samples, own, random)
        real = drawn.is_floating_point() and dtype is not None
        made.append(drawn.to(dtype) if real else drawn)
    return tuple(made)


def is_real(graph: Graph) -> bool:
    """Return whether every input is of real or complex numbers."""
    types = dict(graph.root.types)
    return all(types[port.value].dtype in ("real", "complex") for port in graph.root.inputs)


def table_rows(graph: Graph) -> tuple[int, ...]:
    """Return for each input the rows of the smallest table in which its whole numbers are looked up; 2 without any."""
    flat = flatten(graph)
    least: dict[int, int] = {}
    for use in reversed(flat.uses):
        found = [*_rows(use), *(least[number] for number in use.outputs if number in least)]
        for number in use.inputs if found else ():
            if flat.values[number].type.dtype == "int":
                least[number] = min(least.get(number, found[0]), *found)
    return tuple(least.get(number, 2) for number in flat.inputs)


def _rows(use: Use) -> list[int]:
    """Return along which sizes of its weights an operation looks entries up."""
    shapes = {name: held.weight.shape for name, held in use.weights}
    found: list[int] = []
    for relation in operation(use.primitive.operation).relate(site_of(use.primitive)) or ():
        for term in relation.terms if isinstance(relation, Sum) else ():
            pairs = zip(term.labels, shapes.get(term.tensor, ()), strict=False)
            found += [size for label, size in pairs if label[:1] == "#" and isinstance(size, int)]
    return found


def _draw(kind: Type, probe: Choice, samples: int, rows: int, random: Generator) -> Tensor:
    import torch

    shape = tuple(size if isinstance(size, int) else SYMBOLIC for size in kind.shape)
    if kind.dtype in ("int", "bool"):
        drawn = torch.randint(0, 2 if kind.dtype == "bool" else rows, (samples, *shape), generator=random)
        return drawn.bool() if kind.dtype == "bool" else drawn
    if kind.dtype == "complex":
        pairs = _real((samples, *shape, 2), probe, random)
        return torch.view_as_complex(pairs)
    return _real((samples, *shape), probe, random)


def _real(shape: tuple[int, ...], probe: Choice, random: Generator) -> Tensor:
    import torch

    options = probe.options
    uniform = torch.rand(shape, generator=random, dtype=torch.float64) * 2 - 1
    if probe.name == "box":
        return uniform * options["side"]
    normal = torch.randn(shape, generator=random, dtype=torch.float64) * options["scale"]
    if probe.name == "tails":
        normal[3::4] = uniform[3::4] * options["side"]
    return normal
