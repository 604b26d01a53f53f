"""The weights of a network that stand under constraints: which, what is stored, how many numbers are free.

In: a typed graph. Out: a record for each weight, from which `show`, training and reports work. Imports neither
torch nor numpy.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, cast

from nnspec.compiler.constraints.constraint import Constraint, WeightSite
from nnspec.compiler.constraints.written import Written
from nnspec.compiler.following import follow_text, followers
from nnspec.compiler.ir import Graph, Primitive, Tensor, Weight, WeightMap, instances, weight_path
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span

MAPS = ("structure", "manifold", "values", "topology")  # the kinds that come to a map


class LaidRule(Node):
    """A constraint on one weight: the rule, and the weight with the arguments of the constraint."""

    rule: Constraint
    site: WeightSite
    span: Span | None = None

    @property
    def text(self) -> str:
        """The constraint with those arguments that are not left out: `max_norm(bound = 3)`."""
        if isinstance(self.rule, Written) and self.span is not None:
            return self.span.text
        defaults = {argument.name: argument.default for argument in self.rule.arguments}
        given = {n: v for n, v in self.site.options.items() if n not in defaults or v != defaults[n]}
        order = [name for name in defaults if name in given] + [
            name for name in given if name not in defaults
        ]
        inside = ", ".join(f"{name} = {_written(given[name])}" for name in order)
        return f"{self.rule.name}({inside})" if inside else self.rule.name


class ConstrainedWeight(Node):
    """A weight under constraints. `owner` is the path of the instance it belongs to."""

    owner: str
    weight: Weight
    rules: tuple[LaidRule, ...]  # in canonical order
    follows: str = ""  # whom its instance follows, in words; it is frozen for that

    @property
    def path(self) -> str:
        return weight_path(self.owner, self.weight.name)

    @property
    def text(self) -> str:
        """What is laid on it, `a & b`; a constraint of the language stands once, however many clauses it has."""
        rules = [laid for laid in self.rules if laid.rule.kind != "frozen" or not self.follows]
        whole = {id(laid.span): laid.span for laid in rules if isinstance(laid.rule, Written)}
        texts = [laid.span.text if laid.span and id(laid.span) in whole else laid.text for laid in rules]
        return " & ".join(dict.fromkeys([*texts, self.follows] if self.follows else texts))

    @property
    def kinds(self) -> tuple[str, ...]:
        return tuple(laid.rule.kind for laid in self.rules)

    @property
    def maps(self) -> tuple[tuple[LaidRule, WeightMap], ...]:
        """The maps in the order in which they are applied, each with its rule."""
        laid = [one for one in self.rules if one.rule.kind in MAPS]
        return tuple(zip(laid, self.weight.maps, strict=True))

    @property
    def main(self) -> Tensor | None:
        """The tensor that is stored under the weight's own name, None where other numbers are."""
        return next((tensor for tensor in self.weight.stored if tensor.name == self.weight.name), None)

    @property
    def is_latent(self) -> bool:
        """Whether what is stored under the weight's name estimates it, rather than being a coordinate of it."""
        coordinates = (
            r.rule.kind == "structure" or (r.rule.kind == "manifold" and m.stored) for r, m in self.maps
        )
        return self.main is not None and not any(coordinates)

    def stored_name(self, tensor: Tensor) -> str:
        """Return what a stored tensor is called: that of a parameter itself is called like the parameter."""
        last = self.owner.rpartition(".")[2]
        return weight_path(last, tensor.name) if tensor.name[:1] in ("", "_") else tensor.name

    @property
    def kernel(self) -> str:
        """How a training step multiplies by it: by the matrix, or by what is stored, with this function."""
        product = self.weight.maps[0].product if len(self.weight.maps) == 1 else None
        return "the matrix" if product is None else product.name

    @property
    def entries(self) -> int:
        """How many entries the weight has."""
        return prod(_whole(size) for size in self.weight.shape)

    @property
    def stored(self) -> int:
        """How many numbers are stored and learned."""
        return sum(_count(tensor) for tensor in self.weight.stored if tensor.kind == "learned")

    @property
    def free(self) -> int:
        """How many numbers say which member of the set the weight is; at most, where several sets meet."""
        if self.weight.tie:
            return 0
        alike = max(laid.rule.alike(laid.site) for laid in self.rules)
        return min(
            laid.rule.free(laid.site) // (1 if laid.rule.alike(laid.site) > 1 else alike)
            for laid in self.rules
        )

    def json(self) -> dict[str, Any]:
        """Return what `show --json` prints of the weight."""
        return {
            "weight": self.path,
            "constraint": self.text,
            "kinds": list(self.kinds),
            "kernel": self.kernel,
            "entries": self.entries,
            "stored": [
                {
                    "name": self.stored_name(t),
                    "shape": [_whole(size) for size in t.shape],
                    "kind": t.kind,
                    "dtype": t.dtype,
                }
                for t in self.weight.stored
            ],
            "free": self.free,
        }


def constrained_weights(graph: Graph) -> tuple[ConstrainedWeight, ...]:
    """Return the constrained weights of a typed graph in construction order, those of shared instances once."""
    following = tuple((path, follow_text(follow)) for path, follow in followers(graph.root))
    return tuple(
        found.replace(follows=follows) if follows else found
        for located in instances(graph.root)
        for follows in [_followed(located.path, following)]
        for found in _of_instance(located.path, located.primitive)
    )


def _followed(path: str, following: tuple[tuple[str, str], ...]) -> str:
    return next((text for own, text in following if f"{path}.".startswith((f"{own}.", f"{own}["))), "")


def _of_instance(path: str, primitive: Primitive) -> Iterable[ConstrainedWeight]:
    for weight in primitive.weights:
        laid = [one for one in primitive.constraints if one.weight == weight.name]
        rules = tuple(
            LaidRule(
                rule=one.rule,
                site=WeightSite(name=weight.name, shape=weight.shape, options=dict(one.options)),
                span=one.span,
            )
            for one in laid
        )
        buffer = any(tensor.name == weight.name and tensor.kind == "buffer" for tensor in weight.stored)
        if rules and not buffer:
            yield ConstrainedWeight(owner=path, weight=weight, rules=rules)


def _count(tensor: Tensor) -> int:
    return prod(_whole(size) for size in tensor.shape)


def _whole(size: Any) -> int:
    assert isinstance(size, int), "stored tensors have sizes that are numbers"
    return size


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return f"[{', '.join(map(_written, cast('tuple[Any, ...]', value)))}]"
    return "none" if value is None else str(value)
