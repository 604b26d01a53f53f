"""A forward phase: one pass through a feed-forward network that notes what passes at each junction.

The network runs as emitted code in which each linear map is a call (`compiler/emit/flat.py`). Errors and slopes come
from reverse-mode differentiation of that pass alone, where a rule asks for them; a junction with feedback of its own
sends errors back through that instead of its weight. Weights are never differentiated here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from nnspec.compiler.emit.flat import emit_flat, use_key
from nnspec.compiler.rules.written.equations import PhaseLine
from nnspec.compiler.rules.written.maps import LinearMap
from nnspec.compiler.rules.written.outputs import as_given, end_to_end
from nnspec.compiler.rules.written.phase import Moment, Record
from nnspec.compiler.runtime import losses
from nnspec.compiler.synapses import Wiring
from nnspec.dsl.rule_words import READ

if TYPE_CHECKING:
    from torch import Tensor

# What needs the whole pass recorded.
ERRORS = ("drive.error", "post.error", "post.derivative", "rest.error", "module.error")


class Forward:
    """The way `forward(noise, shuffle)`."""

    words = frozenset(READ) - {"post.change"}
    options = ("noise", "shuffle")

    def run(
        self, moment: Moment, line: PhaseLine, each: Callable[[Record, complex], None] | None
    ) -> ForwardRecord:
        """Run the network once; sums over steps have one step."""
        import torch

        options = {name: moment.equations.reader.plain(value) for name, value in line.given}
        record = ForwardRecord(
            moment, float(options.get("noise", 0.0)), first=moment.moves and not moment.records
        )
        inputs = moment.batch.inputs
        if "shuffle" in options:
            inputs = _shuffled(moment, inputs, options["shuffle"])
        with torch.enable_grad() if record.recorded else torch.no_grad(), moment.run.learner.precision():
            record.run(inputs)
        if each is not None:
            each(record, 1.0)
        return record


class ForwardRecord:
    """What a forward pass did."""

    def __init__(self, moment: Moment, noise: float, first: bool) -> None:
        self.moment = moment
        wiring = moment.scheme.wiring
        assert wiring is not None
        self.wiring: Wiring = wiring
        self.width = noise
        self.first = first  # running statistics move once a step
        feedback = moment.feedback
        self.recorded = bool(set(ERRORS) & set(moment.equations.reads)) or feedback.backward is not None
        self.pre: list[Any] = [None] * len(wiring.synapses)
        self.drive: list[Any] = [None] * len(wiring.synapses)
        self.noise: list[Any] = [None] * len(wiring.synapses)
        self.given: list[Any] = [None] * len(wiring.synapses)  # by the map alone, and its weight as a leaf
        self.rest: dict[str, Tensor] = {}
        junctions = moment.scheme.junctions
        ends = [
            own.end for own in junctions if own.end is not None and "module.error" in moment.equations.reads
        ]
        self._posts = tuple(dict.fromkeys([*(synapse.post for synapse in wiring.synapses), *ends]))
        self._known: dict[str, Any] = {}

    def run(self, inputs: tuple[Tensor, ...]) -> None:
        """Run the network."""
        returned = (*self.moment.scheme.read, *self._posts)
        held = self.held()
        name = f"function with {len(held)} held"
        function = self._once(name, lambda: _function(self.wiring, returned, tuple(held)))
        self.predicted: dict[int, Tensor] = {}
        self.arrived: dict[int, Tensor] = {}  # posts as what follows reads them, where errors arrive
        calls = [_Junction(self, place) for place in range(len(self.wiring.synapses))]
        training = self.moment.run.network.training
        found = function(self._parameters(), calls, list(held.values()), *inputs, training=training)
        count = len(self.moment.scheme.read)
        self.given_out: list[Any] = list(found[:count])  # what the loss reads, the outputs first
        self.posts = dict(zip(self._posts, found[count:], strict=True)) | self.predicted

    def held(self) -> dict[int, Callable[[Tensor], Tensor]]:
        """Return what certain values go through as soon as they are made: with feedback across synapses, posts."""
        if self.moment.feedback.across is None:
            return {}
        return {synapse.post: _Across(self, place) for place, synapse in enumerate(self.wiring.synapses)}

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        memory = self.moment.memory
        if f"forward {name}" not in memory:
            memory[f"forward {name}"] = make()
        return memory[f"forward {name}"]

    def _parameters(self) -> dict[str, Tensor]:
        """Return all tensors but those at junctions, as they are in force."""
        state = self.moment.state
        wanted = "rest.error" in self.moment.equations.reads
        made = {
            key: value if self.first else value.clone()
            for key, value in state.items()
            if not value.requires_grad
        }
        self.rest = {key: state[key] for key in self.moment.rest} if wanted else {}
        for key, function in self._once("others", lambda: _others(self.wiring)).items():
            made[key] = function(state) if wanted else function(state).detach()
        return made

    # ------------------------------------------------------------------------------------------------ reading

    def read(self, word: str, junction: int) -> Tensor:
        """Return a word at a junction, in the number type of the weights: mixed precision ends with the pass."""
        found, wanted = self.value(word, junction), self.moment.weights[junction].dtype
        return found if found.dtype == wanted else found.to(wanted)

    def value(self, word: str, junction: int) -> Tensor:
        """Return a word as the pass has it."""
        match word:
            case "pre":
                return self.pre[junction].detach()
            case "drive":
                return self.drive[junction].detach()
            case "post":
                return self.posts[self.wiring.synapses[junction].post].detach()
            case "noise":
                return self.noise[junction]
            case "drive.error":
                return self._errors()[junction]
            case "post.error":
                return self._post_error(junction)
            case "post.derivative":
                return self._derivative(junction)
            case "module.error":
                return self._module_error(junction)
            case "output":
                return self._at_output([value.detach() for value in self.outputs], junction)
            case "output.error":
                return self._at_output(self._output_errors(), junction)
            case "output.target":
                return losses.like(self.moment.batch.target, self.outputs[0].detach())
            case "loss":
                return self._losses()
            case _:
                raise TypeError(f"a forward pass has no {word}")

    def outer(self, junction: int, post: Tensor) -> Tensor | None:
        """Return post times this pass's own pre, as `LinearMap.outer`, from what the pass recorded; None if nothing."""
        if self.given[junction] is None:
            return None
        import torch

        drive, leaf = self.given[junction]
        return torch.autograd.grad(drive, leaf, post.to(drive.dtype), retain_graph=True)[0]

    def mean_loss(self) -> Tensor:
        """Return the mean loss of the batch, detached; where the errors of the outputs needed it, that one."""
        return self._known["loss"] if "loss" in self._known else self._loss().detach()

    @property
    def outputs(self) -> list[Any]:
        """The network's outputs."""
        return self.given_out[: len(self.wiring.flat.outputs)]

    def _at_output(self, values: list[Tensor], junction: int) -> Tensor:
        """Return that of one value an output which a junction gives; at any other, all of them."""
        place = self.moment.scheme.junctions[junction].output
        return end_to_end(values) if place is None else values[place]

    def _loss(self) -> Any:
        if "mean" not in self._known:
            import torch

            run = self.moment.run
            with torch.enable_grad() if self.recorded else torch.no_grad():
                self._known["mean"] = run.loss(as_given(self.given_out), self.moment.batch, self.moment.state)
        return self._known["mean"]

    def _losses(self) -> Tensor:
        run = self.moment.run
        values = [value.detach() for value in self.given_out]
        return run.each_loss(as_given(values), self.moment.batch, self.moment.state).detach()

    def _errors(self) -> list[Tensor]:
        """Return dL/d drive at every junction: one backward pass, through whatever feedback there is."""
        if "errors" not in self._known:
            self._backward()
        return self._known["errors"]

    def rest_errors(self) -> dict[str, Tensor]:
        """Return the derivative of the mean loss by the parameters that are at no junction."""
        if "errors" not in self._known:
            self._backward()
        return self._known["rest"]

    def _backward(self) -> None:
        import torch

        rest = list(self.rest.values())
        found = torch.autograd.grad(
            self._loss(), [*self.drive, *rest], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        rows = self.moment.batch.rows
        self._known["errors"] = [error * rows for error in found[: len(self.drive)]]
        self._known["rest"] = dict(zip(self.rest, found[len(self.drive) :], strict=True))

    def _derivative(self, junction: int) -> Tensor:
        import torch

        key = f"slope {junction}"
        if key not in self._known:
            post = self.posts[self.wiring.synapses[junction].post]
            if post is self.drive[junction]:
                self._known[key] = torch.ones_like(post)
            else:
                ones = torch.ones_like(post)
                (self._known[key],) = torch.autograd.grad(post, self.drive[junction], ones, retain_graph=True)
        return self._known[key]

    def _module_error(self, junction: int) -> Tensor:
        """Return dL/d what the junction's module gives, by the backward pass."""
        import torch

        end = self.moment.scheme.junctions[junction].end
        key = f"end {end}"
        if key not in self._known:
            assert end is not None
            (found,) = torch.autograd.grad(self._loss(), self.posts[end], retain_graph=True)
            self._known[key] = found * self.moment.batch.rows
        return self._known[key]

    def _post_error(self, junction: int) -> Tensor:
        """Return dL/d post, by the backward pass."""
        import torch

        post = self.wiring.synapses[junction].post
        key = f"post {post}"
        if key not in self._known:
            at = self.arrived.get(post, self.posts[post])
            options: Any = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
            (found,) = torch.autograd.grad(self._loss(), at, **options)
            self._known[key] = found * self.moment.batch.rows
        return self._known[key]

    def _output_errors(self) -> list[Tensor]:
        """Return dL/d each output, as the loss alone depends on it."""
        if "outputs" not in self._known:
            import torch

            run, rows = self.moment.run, self.moment.batch.rows
            leaves = [value.detach().requires_grad_() for value in self.given_out]
            with torch.enable_grad():
                loss: Any = run.loss(as_given(leaves), self.moment.batch, self.moment.state)
            self._known["loss"] = loss.detach()
            own = leaves[: len(self.outputs)]
            found = torch.autograd.grad(loss, own, allow_unused=True, materialize_grads=True)
            self._known["outputs"] = [error * rows for error in found]
        return self._known["outputs"]


class _Junction:
    """The map of one junction, as the emitted network calls it."""

    def __init__(self, record: ForwardRecord, place: int) -> None:
        self.record = record
        self.place = place

    def __call__(self, pre: Tensor) -> Tensor:
        record, place = self.record, self.place
        moment = record.moment
        weight, bias, own = moment.weights[place], moment.biases[place], moment.maps[place]
        record.pre[place] = pre
        name = moment.feedback.backward
        if record.recorded and not own.matrix:  # its derivative by the weight then needs no second pass
            weight = weight.detach().requires_grad_()
        drive = own.forward(pre if name is None else pre.detach(), weight, bias)
        if record.recorded and not own.matrix:
            record.given[place] = drive, weight
        if name is not None and pre.requires_grad:
            drive = _rewiring().apply(pre, drive, own, moment.feedback.of(name, place, weight))
        if record.width:
            noise = moment.streams.normal("noise", drive) * record.width
            record.noise[place] = noise
            drive = drive + noise
        if record.recorded and not drive.requires_grad:
            drive = drive.detach().requires_grad_()
        record.drive[place] = drive
        return drive


class _Across:
    """Cuts the way back at a post: errors go on to the sources of the synapse through feedback."""

    def __init__(self, record: ForwardRecord, place: int) -> None:
        self.record = record
        self.place = place

    def __call__(self, post: Tensor) -> Tensor:
        record, place = self.record, self.place
        value = record.wiring.synapses[place].post
        record.predicted[value] = post
        if not record.recorded:
            return post
        moment, pre = record.moment, record.pre[place]
        if pre.requires_grad:
            weight = moment.feedback.of(moment.feedback.across or "", place, moment.weights[place])
            found = _rewiring().apply(pre, post.detach(), moment.maps[place], weight)
        else:
            found = post.detach().requires_grad_()
        record.arrived[value] = found
        return found


@lru_cache(maxsize=1)
def _rewiring() -> Any:
    import torch

    class Rewired(torch.autograd.Function):
        """Forward the drive as it is; backward through `feedback` in place of the weight."""

        @staticmethod
        def forward(ctx: Any, pre: Tensor, drive: Tensor, own: LinearMap, feedback: Tensor) -> Tensor:
            ctx.own = own
            ctx.save_for_backward(pre, feedback)
            return drive.view_as(drive)

        @staticmethod
        def backward(ctx: Any, *errors: Any) -> Any:
            pre, feedback = ctx.saved_tensors
            found = ctx.own.back(errors[0].to(feedback.dtype), feedback, pre.to(feedback.dtype))
            return found.to(pre.dtype), None, None, None

    return Rewired


def _shuffled(moment: Moment, inputs: tuple[Tensor, ...], name: str) -> tuple[Tensor, ...]:
    """Give one input the rows of other samples of the batch: each the next one's of a random cycle."""
    ports = [port.name for port in moment.scheme.graph.root.inputs]
    order = moment.streams.permutation("shuffle of inputs", moment.batch.rows).to(inputs[0].device)
    turned = inputs[ports.index(name)][order.roll(1)[order.argsort()]]
    return tuple(turned if place == ports.index(name) else value for place, value in enumerate(inputs))


def _others(wiring: Wiring) -> dict[str, Callable[..., Tensor]]:
    """Return how to compute each weight that is at no junction, by the key under which the emitted code has it."""
    from nnspec.compiler.emit.load import weight_function

    junctions = {synapse.use for synapse in wiring.synapses}
    return {
        use_key(use, name): turned(weight_function(held.weight, held.path), held.transposed)
        for number, use in enumerate(wiring.flat.uses)
        if number not in junctions
        for name, held in use.weights
        if any(tensor.kind == "learned" for tensor in held.weight.stored) or held.weight.maps
    }


def _function(wiring: Wiring, returned: tuple[int, ...], held: tuple[int, ...]) -> Callable[..., Any]:
    from nnspec.compiler.emit.load import execute

    text = emit_flat(wiring.flat, returned, tuple(synapse.use for synapse in wiring.synapses), held)
    return execute(text, "rule")["forward"]


def turned(function: Callable[..., Tensor], transposed: bool) -> Callable[..., Tensor]:
    """Return a function whose result is read transposed."""

    def turn(state: Mapping[str, Tensor]) -> Tensor:
        return function(state).transpose(0, 1)

    return turn if transposed else function
