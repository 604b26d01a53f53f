"""Fully connected networks: maps and functions of entries in turn, as theorems speak of them.

In: the relations of a network. Out: a `Chain`, or in words why the network is none. On weights a chain says which
units break a genericity condition.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from nnspec.compiler.relations import Contract, Elementwise, Move
from nnspec.compiler.symmetry.generators import key_of
from nnspec.compiler.symmetry.relate import Related, Stated
from nnspec.dsl.node import Node

if TYPE_CHECKING:
    from torch import Tensor

_EQUAL = 1e-9  # relative, of rows that count as equal
_INPUTS = 2000  # on which units are watched


class Layer(Node):
    """A map W x + b, and the function behind it (None: it gives the output). `path` is that of the map's use."""

    path: str
    weight: str
    bias: str | None
    inputs: int
    outputs: int
    function: Elementwise | None = None


class Chain(Node):
    """The layers of a fully connected network, in order."""

    layers: tuple[Layer, ...]

    @property
    def hidden(self) -> tuple[Layer, ...]:
        return self.layers[:-1]

    @property
    def widths(self) -> tuple[int, ...]:
        """The width of the input, of the hidden layers and of the output."""
        return (self.layers[0].inputs, *(layer.outputs for layer in self.layers))

    def has(self, curve: str) -> bool:
        """Whether all functions are of one curve."""
        curves = {layer.function.curve for layer in self.hidden if layer.function is not None}
        return curves == {curve}


def chain_of(related: Related) -> Chain | str:
    """Return a network as a chain of fully connected layers, or why it is none."""
    if related.loops:
        return "its states settle in a loop"
    if len(related.inputs) != 1 or len(related.outputs) != 1:
        return "it has several inputs or outputs"
    current, layers = related.inputs[0], list[Layer]()
    for stated in related.stated:
        relation = stated.relation
        if isinstance(relation, Move) and relation.input == current and not layers:
            current = relation.output  # inputs laid out anew
        elif isinstance(relation, Move) and not related.carriers[relation.input].live:
            continue  # a weight read another way, which the layer that reads it will be refused for
        elif isinstance(relation, Contract):
            layer = layer_of(related, stated, relation, current)
            if isinstance(layer, str):
                return layer
            if layers and layers[-1].function is None:
                return f"there is no function between `{layers[-1].path}` and `{layer.path}`"
            layers.append(layer)
            current = relation.output.tensor
        elif isinstance(relation, Elementwise) and layers and layers[-1].function is None:
            if [term.tensor for term in relation.terms] != [current]:
                return f"`{stated.use.path}` reads more than what is behind one layer"
            layers[-1] = layers[-1].replace(function=relation)
            current = relation.output.tensor
        else:
            return f"`{stated.use.path}` is neither a fully connected layer nor a function behind one"
    if current != related.outputs[0] or not layers or layers[-1].function is not None:
        return "a function stands behind the last layer"
    if len({layer.weight for layer in layers}) < len(layers):
        return "a weight is used twice"
    return Chain(layers=tuple(layers))


def layer_of(
    related: Related, stated: Stated, relation: Contract, current: str, masked: Collection[str] = ()
) -> Layer | str:
    """Return what a contraction is as a fully connected layer, or why it is none; weights in `masked` may have masks."""
    path = stated.use.path
    still = [term for term in relation.terms if not related.carriers[term.tensor].live]
    live = [term for term in relation.terms if related.carriers[term.tensor].live]
    plain = len(live) == len(still) == 1 and live[0].tensor == current and len(live[0].labels) == 1
    if not plain or len(still[0].labels) != 2 or any(power != 1 for power in relation.powers):
        return f"`{path}` is no fully connected layer"
    for name in (still[0].tensor, *(() if relation.bias is None else (relation.bias.tensor,))):
        carrier = related.carriers[name]
        if carrier.kind != "weight" or not (carrier.is_free or name in masked):
            names = " & ".join(carrier.action.names) if carrier.action is not None else ""
            return f"`{name}` is not free" + (f" ({names})" if names else "")
    outputs, inputs = related.carriers[still[0].tensor].shape
    if not isinstance(outputs, int) or not isinstance(inputs, int):
        return f"the size of `{path}` is not known"
    bias = None if relation.bias is None else relation.bias.tensor
    return Layer(path=path, weight=still[0].tensor, bias=bias, inputs=inputs, outputs=outputs)


# ----------------------------------------------------------------------------------------- conditions on weights


def rows(layer: Layer, state: Mapping[str, Tensor]) -> Tensor:
    """Return what comes into each unit, [units, inputs + 1]: its weights and its bias, in double precision."""
    import torch

    weight = state[key_of(layer.weight)].detach().cpu().double()
    if layer.bias is None:
        return weight
    return torch.cat([weight, state[key_of(layer.bias)].detach().cpu().double()[:, None]], dim=1)


def cut_off(chain: Chain, state: Mapping[str, Tensor]) -> list[str]:
    """Name units without incoming or without outgoing weights."""
    found: list[str] = []
    for layer, behind in zip(chain.hidden, chain.layers[1:], strict=True):
        into: Any = state[key_of(layer.weight)] != 0
        out: Any = state[key_of(behind.weight)] != 0
        silent: list[int] = (~into.any(1)).nonzero().flatten().tolist()
        unheard: list[int] = (~out.any(0)).nonzero().flatten().tolist()
        found += [f"unit {unit} of `{layer.path}` has no incoming weights" for unit in silent]
        found += [f"unit {unit} of `{layer.path}` has no outgoing weights" for unit in unheard]
    return found


def alike(chain: Chain, state: Mapping[str, Tensor], *, up_to: str) -> list[str]:
    """Name units whose incoming weights and biases are equal up to "sign" or to a positive "scale".

    Rows that are equal have equal projections on a random vector: sorted by these they are neighbours.
    """
    import torch

    found: list[str] = []
    for layer in chain.hidden:
        own: Any = rows(layer, state)
        if up_to == "scale":
            own = own / own.norm(dim=1, keepdim=True).clamp(min=1e-300)
        random = torch.Generator().manual_seed(0)
        shadow = own @ torch.randn(own.shape[1], generator=random, dtype=torch.float64)
        own = own * shadow.sign()[:, None] if up_to == "sign" else own
        order: list[int] = (shadow.abs() if up_to == "sign" else shadow).argsort().tolist()
        for one, other in pairwise(order):
            if bool((own[one] - own[other]).norm() <= _EQUAL * own[one].norm()):
                first, last = sorted((one, other))
                found.append(f"units {first} and {last} of `{layer.path}` are equal up to {up_to}")
    return found


def never_bending(chain: Chain, state: Mapping[str, Tensor]) -> list[str]:
    """Name units that random inputs never take across zero: they are dead, or always on."""
    import torch

    random = torch.Generator().manual_seed(0)
    value: Any = torch.randn(_INPUTS, chain.widths[0], generator=random, dtype=torch.float64)
    found: list[str] = []
    for layer in chain.hidden:
        own = rows(layer, state)
        drive = value @ own[:, : layer.inputs].T + (0 if layer.bias is None else own[:, -1])
        for unit, (low, high) in enumerate(zip(drive.amin(0).tolist(), drive.amax(0).tolist(), strict=True)):
            if high <= 0:
                found.append(f"unit {unit} of `{layer.path}` is dead")
            elif low >= 0:
                found.append(f"unit {unit} of `{layer.path}` is always on")
        value = drive.clamp(min=0)
    return found
