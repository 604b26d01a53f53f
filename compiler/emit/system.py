"""What runs a loop for those who look inside it: learning rules that settle phases, and analyses.

In: a typed graph whose root body holds one loop. Out: a `System`, made once: pure functions of effective weights, all
written by the emitters of the functional form. States are tuples of tensors [batch, ..] in the order of `states`.
torch is imported inside the functions that need it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from nnspec.compiler.emit.captured import Captured, signature
from nnspec.compiler.emit.load import execute, function, weight_function
from nnspec.compiler.emit.loops import started
from nnspec.compiler.emit.settling import Settled, Way, followed, leapt
from nnspec.compiler.emit.static import Clip, static_source
from nnspec.compiler.ir import Block, Carried, Graph, Loop, Port, Statement, instances, state_key
from nnspec.compiler.rewrites.acting import acting
from nnspec.compiler.rewrites.hard import effective
from nnspec.compiler.rewrites.hoist import copies, hoisted
from nnspec.compiler.rewrites.push import pushed
from nnspec.compiler.solvers import LEAPS

if TYPE_CHECKING:
    from torch import Tensor

    from nnspec.compiler.emit.captured import Record

    States = tuple[Tensor, ...]
    Weights = dict[str, Tensor]
    Push = Callable[[States], Sequence[Tensor | None]]
    Sums = Callable[[States, States], tuple[Tensor, ...]]
    Stepper = tuple[Callable[[float, Sequence[Tensor | None]], None], Callable[[], None]]

_OWN: Any = object()


class Given(NamedTuple):
    """What no step changes: the effective weights, and the values that the loop reads."""

    weights: Weights
    values: States


def system(graph: Graph) -> System:
    """Return what runs the one loop of a typed graph; TypeError if there is none."""
    return System(graph)


class System:
    """One loop, taken apart: what is before it, one step, and what follows."""

    def __init__(self, graph: Graph) -> None:
        self.source = graph
        self.graph = effective(graph)
        self.root = hoisted(self.graph.root)
        place, self.loop = _loop(self.root)
        at = acting(self.root, self.loop).at
        carried = tuple(c.replace(driven=at.get(c.name, c.driven)) for c in self.loop.carried)
        self.loop = self.loop.replace(carried=carried)
        self.copies = copies(_loop(self.graph.root)[1])
        self.before, self.after = self.root.body[:place], self.root.body[place + 1 :]
        self.states = tuple(state.name for state in self.loop.carried)
        self._functions: dict[Any, Any] = {}
        self.record: Record | None = None  # how a step is recorded; None: as a CUDA graph, on a GPU
        made = {value for s in self.before for value in s.outputs} | {p.value for p in self.root.inputs}
        read = [value for s in self.after for value in s.inputs] + [p.value for p in self.root.outputs]
        self.outer = tuple(v for v in dict.fromkeys((*self.loop.inputs, *read)) if v in made)
        self.weight_makers = {
            state_key(located.path, weight.name): weight_function(weight, located.path)
            for located in instances(graph.root)
            for weight in located.primitive.weights
            if weight.tie is None
        }

    @property
    def draws(self) -> bool:
        """Whether states begin at random."""
        return any(state.start is not None and state.start.name != "constant" for state in self.loop.carried)

    # ------------------------------------------------------------------------------------------- the parts

    def weights(self, state: Mapping[str, Tensor]) -> Weights:
        """Return the effective weights by path, differentiable in a state dict."""
        return {path: make(state) for path, make in self.weight_makers.items()}

    def begin(self, weights: Weights, *inputs: Tensor) -> Given:
        """Compute what no step changes, once: the drives of inputs among it."""
        if not self.outer:
            return Given(weights, ())
        run = self.cached("begin", self.before, self.root.inputs, self.outer)
        return Given(weights, _tuple(run(weights, *inputs)))

    def start(self, given: Given, batch: int | None = None) -> States:
        """Return the states as they begin: zeros, a number, or drawn by torch's generator."""
        like = next(v for name, v in zip(self.outer, given.values, strict=True) if self._batched(name))
        count = like.shape[0] if batch is None else batch
        dtype = next(
            (w.dtype for w in given.weights.values() if w.is_complex() or w.is_floating_point()), None
        )
        sizes = [(count, *map(int, map(str, state.declared.shape))) for state in self.loop.carried]
        made = [like.new_zeros(size, dtype=dtype) for size in sizes]
        return tuple(_begun(state, tensor) for state, tensor in zip(self.loop.carried, made, strict=True))

    def step(self, given: Given, states: States, push: Sequence[Tensor | None] | None = None) -> States:
        """Return f(s) of a map, ds/dt of a flow; `push` is added to what drives the states."""
        pushes = push if push is not None else (None,) * len(states)
        kinds = frozenset(n for n, p in zip(self.states, pushes, strict=True) if p is not None)
        run = self._step(kinds)
        return _tuple(run(given.weights, *given.values, *states, *(p for p in pushes if p is not None)))

    def values(self, given: Given, states: States) -> dict[str, Tensor]:
        """Return every value of the body at these states, and those that no step changes, by name."""
        names = tuple(value for s in self.loop.body for value in s.outputs)
        run = self.cached("values", self.loop.body, (*self._ports(), *self._befores()), names)
        found = dict(zip(self.outer, given.values, strict=True))
        found |= dict(zip((c.before for c in self.loop.carried), states, strict=True))
        found |= dict(zip(names, _tuple(run(given.weights, *given.values, *states)), strict=True))
        return found | {name: found[value] for name, value in self.copies.items() if value in found}

    def drives(self, given: Given, states: States) -> States:
        """Return the values to which pushes are added, at these states."""
        values = tuple(state.driven or state.after for state in self.loop.carried)
        run = self.cached("drives", self.loop.body, (*self._ports(), *self._befores()), values)
        return _tuple(run(given.weights, *given.values, *states))

    def readout(self, given: Given, states: States) -> States:
        """Return the outputs of the network at these states, differentiable in them."""
        results = tuple(Port(name=c.result, value=c.result) for c in self.loop.carried)
        outputs = tuple(port.value for port in self.root.outputs)
        run = self.cached("readout", self.after, (*self._ports(), *results), outputs)
        return _tuple(run(given.weights, *given.values, *states))

    # --------------------------------------------------------------------------------------- linear parts

    def jvp(self, given: Given, states: States, tangents: States) -> States:
        """Return the Jacobian of a step in the states times some tangents."""
        import torch

        return torch.func.jvp(lambda *s: self.step(given, s), states, tangents)[1]

    def vjp(self, given: Given, states: States, cotangents: States) -> States:
        """Return some cotangents times the Jacobian of a step in the states."""
        import torch

        return torch.func.vjp(lambda *s: self.step(given, s), *states)[1](cotangents)

    def weight_vjp(
        self, weights: Weights, inputs: States, states: States, cotangents: States
    ) -> dict[str, Tensor]:
        """Return some cotangents times the Jacobian of a step in the effective weights, by path."""
        import torch

        def stepped(moved: Weights) -> States:
            return self.step(self.begin(moved, *inputs), states)

        return torch.func.vjp(stepped, weights)[1](cotangents)[0]

    def incoming(self, given: Given, e: States, at: States | None = None) -> States:
        """Return sum_i W_ij e_i at each state, over the connections; what comes from outside counts 0."""
        return self.connections.incoming(given, e, at)

    def outgoing(self, given: Given, e: States, at: States | None = None) -> States:
        """Return sum_j W_ij e_j at each state, over the connections."""
        return self.connections.outgoing(given, e, at)

    # ------------------------------------------------------------------------------------------- settling

    def settle(
        self,
        given: Given,
        states: States,
        steps: int | None = None,
        dt: float | None = None,
        damping: float | None = None,
        clip: Clip | None = _OWN,
        tolerance: float | None = None,
        push: Push | None = None,
        sums: Sums | None = None,
        every: int = 10,
    ) -> Settled:
        """Settle from some states, which stay as they are; what is left out is the loop's own.

        Without a tolerance, or with 0, nothing waits for the device. The residual is the largest |f(s) - s| of a map,
        the largest rate of a flow, pushes included, as of the last step. `sums` are told of each step, which a solver
        that leaps towards rest has none of.
        """
        way = Way(
            steps=int(self.loop.solver.options["steps"] if steps is None else steps),
            size=self.size(dt, damping),
            clip=self.loop.clip if clip is _OWN else clip,
            tolerance=tolerance or 0.0,
            every=every,
        )
        if self.loop.solver.name in LEAPS:
            return leapt(self, given, states, way, push)
        return followed(self, given, states, way, push, sums)

    def moved(
        self,
        given: Given,
        states: States,
        push: Sequence[Tensor | None] | None = None,
        dt: float | None = None,
        damping: float | None = None,
    ) -> States:
        """Return the states after one step of settling, as new tensors."""
        import torch

        size, clip = self.size(dt, damping), self.loop.clip
        pairs = zip(states, self.step(given, states, push), strict=True)
        if self.loop.form == "flow":
            found = tuple(torch.add(s, f, alpha=size) for s, f in pairs)
        else:
            found = tuple(f if size == 1.0 else torch.lerp(s, f, size) for s, f in pairs)
        return found if clip is None else tuple(s.clamp(*clip) for s in found)

    def begun(self, states: States) -> States:
        """Return states with which settling may begin: within the clip."""
        clip = self.loop.clip
        return states if clip is None else tuple(s.clamp(*clip) for s in states)

    def size(self, dt: float | None, damping: float | None) -> float:
        """Return the length of a step, the loop's own where it is None."""
        own = self.loop.solver.options
        given = dt if "dt" in own else damping
        return float(own.get("dt", own.get("damping", 1.0)) if given is None else given)

    def stepper(
        self, given: Given, states: States, pushed: frozenset[str], size: float, clip: Clip | None
    ) -> Stepper | None:
        """Return what changes these states by one step, and what is to be called when weights or values changed in place.

        None where a step has no form in place.
        """
        full = self.loop.form == "map" and size == 1.0
        key = ("static", pushed, clip, full)
        if key not in self._functions:
            text = static_source(self.root, self.loop, self.outer, pushed, clip, full)
            self._functions[key] = text and execute(text, f"{self.graph.name}_step")["stepper"]
        make = self._functions[key]
        return make(given.weights, *given.values, *states) if make else None

    def captured(self, given: Given, states: States, size: float, clip: Clip | None) -> Captured | None:
        """Return a step that replays what was recorded of it once; None where there is no GPU, or no form in place."""
        if not self.captures(states):
            return None
        key = signature(states, size, clip)
        if key not in self._functions:
            possible = self.stepper(given, states, frozenset(), size, clip) is not None
            self._functions[key] = (
                Captured(self, given, states, size, clip, self.record) if possible else None
            )
        found = self._functions[key]
        if found is not None:
            found.begin(given, states)
        return found

    def captures(self, states: States) -> bool:
        """Return whether steps of these states are recorded."""
        return self.record is not None or states[0].is_cuda

    # ---------------------------------------------------------------------------------------------- making

    @cached_property
    def connections(self) -> Any:
        """Its connections one by one: what they carry both ways, and which are linear."""
        from nnspec.compiler.emit.connections import Connections

        return Connections(self)

    def _step(self, names: frozenset[str]) -> Callable[..., Any]:
        key = ("step", names)
        if key not in self._functions:
            moved = pushed(self.root, self.loop, names)
            outputs = tuple(state.after for state in moved.carried)
            inputs = (*self._ports(), *self._befores(), *moved.ports)
            self._functions[key] = self.made("step", moved.body, inputs, outputs, moved.types)
        return self._functions[key]

    def _ports(self) -> tuple[Port, ...]:
        return tuple(Port(name=value, value=value) for value in self.outer)

    def _befores(self) -> tuple[Port, ...]:
        return tuple(Port(name=c.before, value=c.before) for c in self.loop.carried)

    def _batched(self, value: str) -> bool:
        return dict(self.root.types)[value].batched

    def cached(
        self,
        name: str,
        body: tuple[Statement, ...],
        inputs: tuple[Port, ...],
        outputs: tuple[str, ...],
        types: Mapping[str, Any] | None = None,
    ) -> Callable[..., Any]:
        """Return what `made` makes, once for each name."""
        if name not in self._functions:
            self._functions[name] = self.made(name, body, inputs, outputs, types)
        return self._functions[name]

    def made(
        self,
        name: str,
        body: tuple[Statement, ...],
        inputs: tuple[Port, ...],
        outputs: tuple[str, ...],
        types: Mapping[str, Any] | None = None,
    ) -> Callable[..., Any]:
        """Return some statements as a pure function of the effective weights and the values at these ports."""
        block = self.root.replace(
            body=body,
            inputs=inputs,
            outputs=tuple(Port(name=value, value=value) for value in outputs),
            types=tuple({**dict(self.root.types), **(types or {})}.items()),
            updates=(),
            penalties=(),
        )
        return function(self.graph.replace(name=f"{self.graph.name}_{name}", root=block))


def _loop(block: Block) -> tuple[int, Loop]:
    found = [(place, s) for place, s in enumerate(block.body) if isinstance(s, Loop)]
    if len(found) != 1:
        raise TypeError(f"{block.name} has {len(found)} loops")
    return found[0]


def _tuple(found: Any) -> States:
    return cast("States", found) if isinstance(found, tuple) else (found,)


def _begun(state: Carried, zeros: Tensor) -> Tensor:
    """Return a state as it begins."""
    if state.start is None:
        return zeros
    text = started(state.start, "zeros")
    return execute(f"import torch\n\n\ndef start(zeros):\n    return {text}\n", "start")["start"](zeros)
