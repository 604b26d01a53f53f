"""How stored tensors begin, as lines of a constructor: `nn.init.normal_(self.mix, std=0.02)`.

In: typed instances, whose tensors say how they begin. What begins as torch's own module does needs no line.
"""

from __future__ import annotations

from nnspec.compiler.emit.stored import reached
from nnspec.compiler.emit.text import Line, lines
from nnspec.compiler.initializers.registry import filled, made
from nnspec.compiler.ir import Instance, Primitive, Tensor


def owned(name: str, instance: Instance) -> str | None:
    """Return the statement that makes a tensor that a layer owns itself; None for any other instance."""
    tensor = _own(instance)
    if tensor is None:
        return None
    new = made(tensor)
    if new is None:
        sizes = ", ".join(str(size) for size in tensor.shape) or "()"
        new = f"torch.empty({sizes})"
    if tensor.kind == "buffer":
        return f'self.register_buffer("{name}", {new})'
    return f"self.{name} = nn.Parameter({new})"


def filling(name: str, instance: Instance) -> list[Line]:
    """Return the statements that fill the tensors of an instance reached by `name`."""
    if not isinstance(instance, Primitive):
        return []
    own = _own(instance)
    if own is not None and made(own) is not None:
        return []
    tensors = [Tensor(name=w.name, shape=w.shape, init=w.init) for w in instance.weights]
    found = [filled(tensor, reached(name, tensor.name)) for tensor in tensors]
    return lines(*(line for line in found if line is not None))


def _own(instance: Instance) -> Tensor | None:
    """Return the tensor of a parameter or buffer, which has no name of its own."""
    weights = instance.weights if isinstance(instance, Primitive) else ()
    own = next((weight for weight in weights if not weight.name), None)
    if own is None or own.tie is not None:
        return None
    # Where other tensors take its place, it is there to begin them.
    stored = next((tensor for tensor in own.stored if not tensor.name), None)
    return stored or Tensor(name="", shape=own.shape, init=own.init)
