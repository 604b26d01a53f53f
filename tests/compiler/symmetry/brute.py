"""What the symmetry group of a small network is, found by brute force: no relation, wire or rule is asked.

Only the emitted function is evaluated. `fibre` gives the dimension of the fibre at generic weights: parameters
less the rank of the Jacobian over many inputs, in double precision. `signed_permutations` counts the
rearrangements and sign flips of single numbers of the state (parameters and buffers) under which no output
changes, at any weights:

- permutations keep every derivative at the point where all numbers are equal, so that gradients and second
  derivatives there colour the numbers and their pairs; what respects the colours is found by refinement and
  backtracking, and counted along a chain of stabilisers; each element is tried on random weights;
- flips alone are a subspace of GF(2)^n, narrowed until a basis of it passes: where a flip changes an output,
  numbers are set to zero as long as it still does, and all flips of the few that are left are tried;
- flips that need a permutation beside them are looked for among all patterns, if there are few enough.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from itertools import product
from typing import Any
from unittest.mock import patch

from nnspec.compiler.emit.load import function, initial_state
from nnspec.compiler.ir import Apply, Block, Graph, instances, state_key
from nnspec.compiler.rewrites.hard import hard

TOLERANCE = 1e-9  # of the largest singular value
TINY = 1e-60  # an epsilon that is lost beside any variance
BASE = 0.7  # what every number is where derivatives are compared
MOST_PATTERNS = 12  # numbers, of which all sign patterns are tried one by one
MOST_MIXED = 17  # numbers, of which all sign patterns are tried at once


def leaky(text: str) -> str:
    """Give rectifiers a slope below zero: the same group, and no dead regions."""
    return re.sub(r"\brelu\b", "leaky_relu(0.3)", text)


@dataclass
class Net:
    """A network as a function of one vector of numbers, at fixed inputs."""

    names: list[str]
    shapes: list[Any]
    fixed: dict[str, Any]  # what the state holds beside
    learned: list[bool]  # of each number
    positive: list[bool]
    graph: Graph

    def __post_init__(self) -> None:
        self.forward = function(self.graph)
        self.sizes = [shape.numel() for shape in self.shapes]

    def state(self, flat: Any) -> dict[str, Any]:
        import torch

        parts = torch.split(flat, self.sizes)
        return self.fixed | {
            name: part.view(shape) for name, part, shape in zip(self.names, parts, self.shapes, strict=True)
        }

    def __call__(self, flat: Any, inputs: tuple[Any, ...]) -> Any:
        """Return all outputs, a row for each sample."""
        return self.of_state(self.state(flat), inputs)

    def of_state(self, state: dict[str, Any], inputs: tuple[Any, ...]) -> Any:
        import torch

        torch.default_generator.manual_seed(7)
        with differentiable():
            found = self.forward(state, *inputs)
        listed = found if isinstance(found, tuple) else (found,)
        parts = [torch.view_as_real(item) if item.is_complex() else item for item in listed]
        return torch.cat([item.reshape(item.shape[0], -1).to(torch.float64) for item in parts], dim=1)

    def point(self, seed: int) -> Any:
        import torch

        drawn = torch.randn(
            len(self.learned), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
        )
        drawn = torch.where(torch.tensor(self.positive), drawn.abs() + 0.5, drawn)
        start = 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            if name.endswith("_base"):  # what an orthogonal weight is turned from is orthogonal itself
                left, _, right = torch.linalg.svd(
                    drawn[start : start + shape.numel()].view(shape).flatten(1), full_matrices=False
                )
                drawn[start : start + shape.numel()] = (left @ right).flatten()
            start += shape.numel()
        return drawn

    def inputs(self, count: int, seed: int) -> tuple[Any, ...]:
        import torch

        random = torch.Generator().manual_seed(seed)
        types = dict(self.graph.root.types)
        made: list[Any] = []
        for port in self.graph.root.inputs:
            kind = types[port.value]
            shape = (count, *(size if isinstance(size, int) else 3 for size in kind.shape))
            if kind.dtype == "real":
                made.append(1.5 * torch.randn(shape, generator=random, dtype=torch.float64))
            elif kind.dtype == "complex":
                made.append(torch.randn(shape, generator=random, dtype=torch.complex128))
            else:
                rows = 2 if kind.dtype == "bool" else _rows(self.graph)
                drawn = torch.randint(0, rows, shape, generator=random)
                made.append(drawn.bool() if kind.dtype == "bool" else drawn)
        return tuple(made)


_inside = ContextVar("inside", default=False)


@contextmanager
def differentiable() -> Iterator[None]:
    """Let torch compute what has all derivatives; entered once around many calls, which costs more than a small network."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    if _inside.get():
        yield
        return
    entered = _inside.set(True)
    plain = sdpa_kernel(SDPBackend.MATH)  # the kernel that has forward derivatives
    try:
        with patch("torch.nn.functional.batch_norm", _batch_norm), plain:
            yield
    finally:
        _inside.reset(entered)


def _batch_norm(
    x: Any, mean: Any, variance: Any, gain: Any = None, bias: Any = None, *_: Any, **__: Any
) -> Any:
    """Evaluation with the stored statistics, differentiable by these too, which torch's own is not."""
    shape = (-1, *([1] * (x.dim() - 2)))
    y = (x - mean.view(shape)) / variance.view(shape).sqrt()
    y = y if gain is None else y * gain.view(shape)
    return y if bias is None else y + bias.view(shape)


def _rows(graph: Graph) -> int:
    """Return how many words the smallest table has."""
    tables = [
        weight.shape[0]
        for located in instances(graph.root)
        if located.primitive.operation == "embedding"
        for weight in located.primitive.weights
    ]
    return min((size for size in tables if isinstance(size, int)), default=2)


def net(graph: Graph, epsilon: float, *, harden: bool = True) -> Net:
    """Return a network with its straight-through weights replaced by those in force, and one epsilon in all norms."""
    graph = _with_epsilon(graph, epsilon)
    still = {  # weights of few values do not move by small steps
        state_key(located.path, weight.name)
        for located in instances(graph.root)
        for weight in located.primitive.weights
        if any(item.has_own_gradient for item in weight.maps)
    }
    graph = hard(graph) if harden else graph
    state = {name: value for name, value in initial_state(graph, 0).items()}
    kinds = {
        state_key(located.path, tensor.name): tensor.kind
        for located in instances(graph.root)
        for weight in located.primitive.weights
        for tensor in weight.stored
    }
    moving = [
        name
        for name, value in state.items()
        if value.is_floating_point() and kinds.get(name, "buffer") in ("learned", "buffer")
    ]
    held = {
        name: v.double() if v.is_floating_point() else v for name, v in state.items() if name not in moving
    }
    sizes = [state[name].numel() for name in moving]
    learned = [
        kinds.get(name) == "learned" and name not in still
        for name, n in zip(moving, sizes, strict=True)
        for _ in range(n)
    ]
    positive = [name.endswith("running_var") for name, n in zip(moving, sizes, strict=True) for _ in range(n)]
    return Net(moving, [state[name].shape for name in moving], held, learned, positive, graph)


def ideal(graph: Graph) -> Net:
    """Return a network as it is stored, whose norms have no epsilon."""
    return net(graph, TINY, harden=False)


def largest_change(of: Net, move: Callable[[dict[str, Any]], dict[str, Any]], seed: int) -> float:
    """Return by how much a move of the state changes outputs, relative to the largest of them."""
    point, inputs = of.point(seed), of.inputs(8, seed)
    before, after = of(point, inputs), of.of_state(move(of.state(point)), inputs)
    return float((after - before).abs().max()) / max(float(before.abs().max()), 1e-12)


def _with_epsilon(graph: Graph, epsilon: float) -> Graph:
    def changed(node: Any) -> Any:
        if id(node) not in known:
            if isinstance(node, Block):
                children = tuple(c.replace(instances=tuple(map(changed, c.instances))) for c in node.children)
                body = tuple(
                    s.replace(operation=changed(s.operation)) if isinstance(s, Apply) else s
                    for s in node.body
                )
                known[id(node)] = node.replace(children=children, body=body)
            else:
                given = tuple((n, epsilon if n == "epsilon" else v) for n, v in node.arguments)
                known[id(node)] = node.replace(arguments=given)
        return known[id(node)]

    known: dict[int, Any] = {}
    return graph.replace(root=changed(graph.root))


# ------------------------------------------------------------------------------------------------ dimension


@dataclass
class Fibre:
    """How many directions of the learned numbers change no output.

    `all` counts every number; `live` leaves out those that change nothing by themselves, such as those behind a mask.
    """

    all: int
    live: int


def fibre(graph: Graph, seed: int = 0, most_inputs: int = 4096, *, stable: bool = True) -> Fibre:
    """Return the dimension of the fibre at random weights; with `stable`, more inputs are taken until it stays."""
    import torch

    of = net(graph, TINY)
    point, columns = of.point(seed), torch.tensor(of.learned)
    found: list[Fibre] = []
    count = max(12, 1 + 2 * len(of.learned) // max(1, of(point, of.inputs(2, 0)).shape[1]))
    while True:
        inputs = of.inputs(count, seed + 1)
        jacobian = torch.func.jacfwd(lambda flat, given=inputs: of(flat, given), randomness="same")(point)
        matrix = jacobian.reshape(-1, len(of.learned))[:, columns]
        rank, dead = _rank(matrix), int((matrix.abs().amax(dim=0) < 1e-13).sum()) if matrix.numel() else 0
        found.append(Fibre(matrix.shape[1] - rank, matrix.shape[1] - rank - dead))
        if not stable or (len(found) > 1 and found[-1] == found[-2]) or 2 * count > most_inputs:
            return found[-1]
        count *= 2


def _rank(matrix: Any) -> int:
    import torch

    if not matrix.numel():
        return 0
    if len(matrix) > 4 * matrix.shape[1]:
        matrix = torch.linalg.qr(matrix, mode="r")[1]
    spectrum = torch.linalg.svdvals(matrix)
    return int((spectrum > TOLERANCE * spectrum[0]).sum())


# -------------------------------------------------------------------------------------------------- the order


@dataclass
class Finite:
    """The signed permutations of a network; `split` is False where mixed ones could not be looked for."""

    permutations: int
    flips: int
    mixed: int
    searched: bool

    @property
    def order(self) -> int:
        return self.permutations * self.flips * self.mixed


def signed_permutations(graph: Graph) -> Finite:
    """Count the signed permutations of a network's numbers that change no output."""
    with differentiable():
        search = _Search(net(graph, 1.0))  # norms of equal numbers have derivatives then
        permutations = search.permutations()
        flips = search.flips()
        mixed, searched = search.mixed(flips)
    return Finite(permutations, 2 ** len(flips), mixed, searched)


class _Search:
    def __init__(self, of: Net) -> None:
        import torch

        self.of = of
        self.given = of.inputs(16, 11)
        size = len(of.learned)
        spread = torch.func.jacfwd(lambda flat: of(flat, self.given), randomness="same")
        one, other = (spread(of.point(seed)).abs().reshape(-1, size).amax(dim=0) for seed in (3, 4))
        self.live: list[int] = [i for i in range(size) if float(one[i] + other[i]) > 1e-12]
        # Numbers that no output depends on stand at the base, where they change nothing.
        self.size = len(self.live)
        self.patterns: list[Any] = [torch.ones(self.size, dtype=torch.float64)]
        self.structure = _Structure(self.size, self.coloured)
        self.points: dict[tuple[int, tuple[int, ...] | None], tuple[Any, Any]] = {}

    def full(self, values: Any) -> Any:
        import torch

        whole = torch.full((len(self.of.learned),), BASE, dtype=torch.float64)
        return whole.scatter(0, torch.tensor(self.live, dtype=torch.int64), values)

    def value(self, values: Any) -> Any:
        return self.of(self.full(values), self.given)

    def random(self, seed: int) -> Any:
        return self.of.point(seed)[self.live]

    def agree(self, one: Any, other: Any) -> bool:
        return self.agrees(self.value(one), other)

    def agrees(self, a: Any, other: Any) -> bool:
        import torch

        b = self.value(other)
        good = torch.isfinite(a) & torch.isfinite(b)
        scale = float(a[good].abs().max()) if bool(good.any()) else 1.0
        return bool(((a - b).abs()[good] <= 1e-8 * max(scale, 1e-3)).all())

    # -------------------------------------------------------------------------------------------- permutations

    def coloured(self, told: tuple[int, ...], to: int) -> tuple[Any, Any]:
        """Return values for single numbers and for pairs: first and second derivatives, weighed at random.

        Numbers told apart stand at values of their own, the others at the base; all have the signs of a pattern,
        and so have the derivatives by them.
        """
        import torch

        signs = self.patterns[to]
        at = signs * BASE
        for place, i in enumerate(told, start=1):
            at[i] = signs[i] * (BASE + 0.41 * place)

        weigh = torch.randn(
            self.value(at).shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64
        )

        def summed(values: Any) -> Any:
            return (self.value(values) * weigh).sum()

        gradient = torch.func.grad(summed)(at)
        hessian = torch.func.jacfwd(torch.func.grad(summed), randomness="same")(at)
        turned = signs.numpy()
        return gradient.detach().numpy() * turned, hessian.detach().numpy() * turned[:, None] * turned[
            None, :
        ]

    def permutations(self) -> int:
        order, prefix = 1, list[int]()
        for p in range(self.size):
            orbit, found = {p}, list[list[int]]()
            alike = self.structure.alike(prefix, p)
            for q in alike:
                if q not in orbit and (image := self.find([*prefix, p], [*prefix, q], 0, 0)) is not None:
                    found.append(image)
                    orbit = _orbit(p, found)
            order *= len(orbit)
            if len(alike) > 1:
                prefix.append(p)
        return order

    def find(self, one: list[int], other: list[int], at: int, to: int) -> list[int] | None:
        """Return a permutation that maps one sequence to the other and changes no output."""
        for tried, found in enumerate(self.structure.isomorphisms(one, other, at, to)):
            if self.holds(found, to):
                return found
            if tried > 50:
                break
        return None

    def holds(self, found: list[int], to: int) -> bool:
        """Number i of a point becomes number found[i] of its image, with the sign of the pattern there."""
        import torch

        signs = self.patterns[to]
        for seed in (21, 22):
            point = self.random(seed)
            image = torch.empty_like(point)
            image[found] = point
            if not self.agree(point, image * signs):
                return False
        return True

    # --------------------------------------------------------------------------------------------------- flips

    def flips(self) -> list[list[int]]:
        """Return a basis of the flips that change no output, each as the numbers that it flips."""
        basis = [1 << i for i in range(self.size) if not self.of.positive[self.live[i]]]
        while True:
            wrong = next((flip for flip in basis if not self.passes(flip)), None)
            if wrong is None:
                return [[i for i in range(self.size) if flip >> i & 1] for flip in basis]
            kept = self.shrunk(wrong)
            basis = _narrowed(basis, kept, self.good_patterns(kept))

    def signs(self, flip: int) -> Any:
        import torch

        return torch.tensor([-1.0 if flip >> i & 1 else 1.0 for i in range(self.size)], dtype=torch.float64)

    def passes(self, flip: int, kept: list[int] | None = None) -> bool:
        signs = self.signs(flip)
        for seed in (31, 32, 33):
            point, outputs = self.known(seed, None if kept is None else tuple(kept))
            if not self.agrees(outputs, point * signs):
                return False
        return True

    def known(self, seed: int, kept: tuple[int, ...] | None) -> tuple[Any, Any]:
        """Return a random point, all but the kept numbers zero, and the outputs there; many flips are tried at one."""
        if (seed, kept) not in self.points:
            point = self.random(seed)
            point = point if kept is None else self.only(list(kept), point)
            self.points[seed, kept] = point, self.value(point)
        return self.points[seed, kept]

    def shrunk(self, flip: int) -> list[int]:
        """Return few numbers such that a flip changes an output though all others are zero."""
        kept, step = list(range(self.size)), self.size // 2
        while step:
            for start in reversed(range(0, len(kept), step)):
                away = {i for i in kept[start : start + step] if not self.of.positive[self.live[i]]}
                fewer = [i for i in kept if i not in away]
                if away and not self.passes(flip, fewer):
                    kept = fewer
            step //= 2
        if len(kept) > MOST_PATTERNS:
            raise RuntimeError(f"{len(kept)} numbers decide about one flip")
        return kept

    def good_patterns(self, kept: list[int]) -> list[int]:
        """Return all flips of a few numbers that change no output while the others are zero."""
        import torch

        free = [i for i in kept if not self.of.positive[self.live[i]]]
        bits = list(product((0, 1), repeat=len(free)))
        patterns = torch.ones(len(bits), self.size, dtype=torch.float64)
        patterns[:, free] = 1.0 - 2.0 * torch.tensor(bits, dtype=torch.float64)
        good = torch.ones(len(bits), dtype=torch.bool)
        for seed in (31, 32, 33):
            good &= self.unchanged(self.only(kept, self.random(seed)), patterns)
        return [
            sum(1 << i for i, bit in zip(free, row, strict=True) if bit)
            for row, holds in zip(bits, good.tolist(), strict=True)
            if holds
        ]

    def only(self, kept: list[int], point: Any) -> Any:
        import torch

        mask = torch.zeros(self.size, dtype=torch.float64)
        mask[kept] = 1.0
        return point * mask

    def unchanged(self, point: Any, patterns: Any) -> Any:
        """Return for each row of signs whether the outputs at a point stay as they are under them."""
        import torch

        want = self.value(point)
        found = torch.vmap(lambda signs: self.value(point * signs), randomness="same", chunk_size=8192)(
            patterns
        )
        good = torch.isfinite(want)
        scale = max(float(want[good].abs().max()) if bool(good.any()) else 1.0, 1e-3)
        return ((found - want).abs()[:, good] <= 1e-8 * scale).all(dim=1)

    # --------------------------------------------------------------------------------------------------- mixed

    def mixed(self, flips: list[list[int]]) -> tuple[int, bool]:
        """Return how many sign patterns, modulo flips, are reached with some permutation."""
        import torch

        free = [i for i in range(self.size) if not self.of.positive[self.live[i]]]
        pivots = {max(flip) for flip in _echelon(flips)}
        free = [i for i in free if i not in pivots]  # one of each coset
        if len(free) > MOST_MIXED:
            return 1, False
        base = torch.full((self.size,), BASE, dtype=torch.float64)
        count = 1
        patterns = torch.ones(2 ** len(free), self.size, dtype=torch.float64)
        patterns[:, free] = 1.0 - 2.0 * torch.tensor(
            list(product((0, 1), repeat=len(free))), dtype=torch.float64
        )
        same = self.unchanged(base, patterns)
        for signs in patterns[1:][same[1:]]:
            self.patterns.append(signs)
            count += self.find([], [], 0, len(self.patterns) - 1) is not None
        return count, True


def _orbit(start: int, permutations: list[list[int]]) -> set[int]:
    """Return where a number goes under products of permutations."""
    orbit, new = {start}, [start]
    while new:
        new = [q for p in new for image in permutations if (q := image[p]) not in orbit]
        orbit.update(new)
    return orbit


def _echelon(flips: list[list[int]]) -> list[list[int]]:
    rows = [sum(1 << i for i in flip) for flip in flips]
    done: list[int] = []
    for row in rows:
        for other in done:
            row = min(row, row ^ other)
        if row:
            done = [min(other, other ^ row) for other in done] + [row]
    return [[i for i in range(row.bit_length()) if row >> i & 1] for row in done]


def _narrowed(basis: list[int], kept: list[int], good: list[int]) -> list[int]:
    """Return a basis of the flips in the span of `basis` whose bits at `kept` are a good pattern."""
    mask = sum(1 << i for i in kept)
    span = set(good)
    # Equations of the good patterns: vectors on `kept` orthogonal to all of them.
    equations = [
        sum(1 << i for i, bit in zip(kept, bits, strict=True) if bit)
        for bits in product((0, 1), repeat=len(kept))
    ]
    equations = [e for e in equations if e and all((e & g).bit_count() % 2 == 0 for g in span)]
    for equation in equations:
        odd = [b for b in basis if (b & mask & equation).bit_count() % 2]
        if odd:
            basis = [b for b in basis if b not in odd] + [b ^ odd[0] for b in odd[1:]]
    return basis


class _Structure:
    """Numbers with colours, and pairs of numbers with colours, in several versions that may be isomorphic."""

    def __init__(self, size: int, coloured: Callable[[tuple[int, ...], int], tuple[Any, Any]]) -> None:
        self.size, self.coloured = size, coloured
        self.known: dict[tuple[tuple[int, ...], int], tuple[Any, Any]] = {}

    def labels(self, told: list[int], version: int) -> tuple[Any, Any]:
        """Return colours as whole numbers: derivatives up to rounding."""
        import numpy as np

        key = tuple(told), version
        if key not in self.known:
            self.known[key] = tuple(
                np.round(np.nan_to_num(a) * 1e7).astype(np.int64) for a in self.coloured(*key)
            )
        return self.known[key]

    def alike(self, prefix: list[int], p: int) -> list[int]:
        """Return the numbers that look like `p` where those of a prefix are told apart."""
        import numpy as np

        refined = self._refined(prefix, prefix, (0, 0))
        assert refined is not None
        return np.flatnonzero(refined[0] == refined[0][p]).tolist()

    def isomorphisms(self, one: list[int], other: list[int], at: int, to: int) -> Iterator[list[int]]:
        """Yield maps of a version onto another that map one sequence onto another and keep the colours."""
        import numpy as np

        refined = self._refined(one, other, (at, to))
        if refined is None:
            return
        left, right = refined
        values, counts = np.unique(left, return_counts=True)
        if (counts == 1).all():
            where = {int(c): i for i, c in enumerate(right)}
            yield [where[int(c)] for c in left]
            return
        cell = values[counts > 1][0]
        p = int(np.flatnonzero(left == cell)[0])
        for q in np.flatnonzero(right == cell).tolist():
            yield from self.isomorphisms([*one, p], [*other, q], at, to)

    def _refined(self, one: list[int], other: list[int], which: tuple[int, int]) -> tuple[Any, Any] | None:
        """Colour numbers by the colours of their pairs until nothing new is told apart; None if two sides differ."""
        import numpy as np

        labels = self.labels(one, which[0]), self.labels(other, which[1])
        current, classes = [np.zeros(self.size, dtype=np.int64) for _ in labels], -1
        for side, told in enumerate((one, other)):
            current[side][told] = 1 + np.arange(len(told))
        while True:
            keys: list[Any] = []
            for side, (gradient, hessian) in enumerate(labels):
                own = _mixed(_mixed(current[side], gradient), np.diagonal(hessian))
                keys.append(_mixed(own, _mixed(hessian, current[side][None, :]).sum(axis=1)))
            values, new = np.unique(np.concatenate(keys), return_inverse=True)
            current = [new[: len(keys[0])], new[len(keys[0]) :]]
            if not np.array_equal(np.sort(current[0]), np.sort(current[1])):
                return None
            if len(values) == classes:
                return current[0], current[1]
            classes = len(values)


def _mixed(one: Any, other: Any) -> Any:
    """Return hashes of pairs of whole numbers."""
    import numpy as np

    a, b = np.asarray(one).astype(np.uint64), np.asarray(other).astype(np.uint64)
    with np.errstate(over="ignore"):
        h = a * np.uint64(0x9E3779B97F4A7C15) + b * np.uint64(0xC2B2AE3D27D4EB4F) + np.uint64(0x165667B1)
        h = (h ^ (h >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        h = (h ^ (h >> np.uint64(32))) * np.uint64(0x94D049BB133111EB)
    return h ^ (h >> np.uint64(31))
