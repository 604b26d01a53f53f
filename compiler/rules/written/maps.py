"""The linear map of a junction, and its two transposes, as functions of tensors.

`forward` is the map; `outer` its derivative by the weight, contracted with a factor of the target: for a
matrix the sum of outer products, in one matrix product; `back` its transpose, from targets to sources. Of maps that are
no matrix (convolutions) both are vector-Jacobian products of the map itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from nnspec.compiler.emit.form import site_of
from nnspec.compiler.ir import Block, Call, Child, Graph, Port, Primitive, Tensor, Weight, state_key
from nnspec.compiler.operations.operation import Around
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.rules.written.scheme import Junction

if TYPE_CHECKING:
    import torch

_CHILD = "used"


class LinearMap:
    """The map of one junction. Tensors have the batch first."""

    def __init__(self, junction: Junction) -> None:
        from nnspec.compiler.emit.load import function

        self.matrix = junction.matrix
        self.bias_axis = junction.bias_axis
        shapes = {weight.name: weight.shape for weight in junction.primitive.weights}
        self._bias_shape: Any = () if junction.names[1] is None else shapes[junction.names[1]]
        own = junction.map or (alone(junction.primitive) if junction.has_weight else None)
        self._call: Callable[..., torch.Tensor] = _nothing if own is None else function(own)
        self._weight, self._bias = junction.names
        self._keys = tuple(name and state_key(_CHILD, name) for name in junction.names)
        self._transposed = None if junction.map is not None or own is None else _back(junction)

    def forward(self, pre: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        """Return the drive; without a bias, the map alone."""
        own, other = self._keys
        given = {own: weight}
        if other is not None:
            given[other] = self._none(weight) if bias is None else bias
        return self._call(given, pre)

    def _none(self, like: torch.Tensor) -> torch.Tensor:
        return like.new_zeros(self._bias_shape)

    def outer(self, post: torch.Tensor, pre: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return sum over the batch (and over uses of each entry) of post times pre, in the shape of the weight."""
        if post.is_complex() or pre.is_complex():
            return self._complex_outer(post + 0j, pre + 0j, weight)
        if self.matrix:
            return post.reshape(-1, post.shape[-1]).t() @ pre.reshape(-1, pre.shape[-1])
        import torch

        with torch.enable_grad():
            leaf = weight.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.forward(pre.detach(), leaf, None), leaf, post)
        return found

    def _complex_outer(self, post: torch.Tensor, pre: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return what `outer`, which is linear in both factors, gives for complex ones."""
        real = self.outer(post.real, pre.real, weight) - self.outer(post.imag, pre.imag, weight)
        imaginary = self.outer(post.real, pre.imag, weight) + self.outer(post.imag, pre.real, weight)
        return real + 1j * imaginary

    def back(self, post: torch.Tensor, weight: torch.Tensor, pre: torch.Tensor) -> torch.Tensor:
        """Return what arrives at the sources of what is at the targets; `pre` gives the shape."""
        if self.matrix:
            return post @ weight
        if self._transposed is not None:
            return self._transposed(post, weight)
        import torch

        with torch.enable_grad():
            leaf = pre.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.forward(leaf, weight.detach(), None), leaf, post)
        return found

    def over_uses(self, post: torch.Tensor, pre: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        """Return the sum over the batch and over uses of each bias, in the shape of the bias."""
        if not self._weight:
            return post.sum_to_size(self._bias_shape)
        if self.bias_axis is not None:
            return post.sum([axis for axis in range(post.dim()) if axis != self.bias_axis + 1])
        import torch

        with torch.enable_grad():
            leaf = self._none(weight).requires_grad_()
            (found,) = torch.autograd.grad(self.forward(pre.detach(), weight.detach(), leaf), leaf, post)
        return found


def through(layer: Primitive, value: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Return a value after it went through a layer whose one weight is given."""
    from nnspec.compiler.emit.load import function

    return function(alone(layer))({state_key(_CHILD, layer.weights[0].name): weight}, value)


def _back(junction: Junction) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor] | None:
    """Return the transposed map where the operation states it; None to leave it to differentiation."""
    import torch
    from torch.nn import functional

    primitive = junction.primitive
    text = operation(primitive.operation).pullback(
        site_of(primitive), Around(cotangent="post"), {junction.names[0]: "weight"}
    )
    known: dict[str, Any] = {"torch": torch, "F": functional}
    return None if text is None else eval(f"lambda post, weight: {text}", known)


def _nothing(*given: Any) -> Any:
    raise TypeError("a bias by itself has no map")


def alone(primitive: Primitive) -> Graph:
    """Return a network that is one use of an operation, its weights as they are in force."""
    inputs = tuple(f"in{index}" for index in range(len(primitive.inputs)))
    outputs = tuple(f"out{index}" for index in range(len(primitive.outputs)))
    block = Block(
        name="use",
        inputs=tuple(Port(name=name, value=name) for name in inputs),
        outputs=tuple(Port(name=name, value=name) for name in outputs),
        children=(Child(name=_CHILD, instances=(unmapped(primitive),)),),
        body=(Call(child=_CHILD, inputs=inputs, outputs=outputs),),
        types=tuple(zip((*inputs, *outputs), (*primitive.inputs, *primitive.outputs), strict=True)),
    )
    return Graph(name="use", root=block)


def unmapped(primitive: Primitive) -> Primitive:
    """Return an operation whose weights are stored as they are used."""
    weights = tuple(
        Weight(
            name=weight.name,
            stored=(Tensor(name=weight.name, shape=weight.shape, kind=_kind(weight)),),
            shape=weight.shape,
        )
        for weight in primitive.weights
    )
    return primitive.replace(weights=weights, constraints=())


def _kind(weight: Weight) -> Any:
    own = next((tensor for tensor in weight.stored if tensor.name == weight.name), None)
    return "learned" if own is None else own.kind
