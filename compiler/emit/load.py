"""Typed graph -> things that run: the module, the pure function, initial states.

The emitted text is executed as it stands; tracebacks and debuggers show its lines. torch is imported
inside the functions that need it.
"""

from __future__ import annotations

import linecache
import sys
import warnings
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import blake2b
from types import ModuleType
from typing import TYPE_CHECKING, Any

from nnspec.compiler.emit.functional import emit_functional
from nnspec.compiler.emit.maps import Maps
from nnspec.compiler.emit.text import imports
from nnspec.compiler.emit.torch import emit
from nnspec.compiler.ir import Code, Graph, Penalty, Projection, Weight, WeightMap, state_key
from nnspec.compiler.naming import EMITTED_WORDS, Names

if TYPE_CHECKING:
    from torch import Tensor, nn

State = dict[str, "Tensor"]


def module(graph: Graph, target: str = "train") -> nn.Module:
    """Return the network as a new `nn.Module`, initialised from torch's generator in construction order."""
    return module_class(graph, target)()


def module_class(graph: Graph, target: str = "train") -> Callable[[], nn.Module]:
    """Return the class of the network, to make several modules of one graph."""
    from torch import nn

    names = execute(emit(graph, target), graph.name)
    # The network comes last: blocks stand above what is made of them.
    return [v for v in names.values() if isinstance(v, type) and issubclass(v, nn.Module)][-1]


def function(graph: Graph) -> Callable[..., Any]:
    """Return `forward(parameters, *inputs, training=False)`, a pure function of a flat dict of tensors."""
    return execute(emit_functional(graph), graph.name)["forward"]


@contextmanager
def plain_attention() -> Generator[None]:
    """Let attention inside be products and a softmax: torch's fused kernels have no derivative in forward mode, and
    on a CPU no rule for `vmap`."""
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with sdpa_kernel(SDPBackend.MATH):
        yield


@contextmanager
def plain_norms() -> Generator[None]:
    """Let norms by kept statistics be arithmetic inside: torch's own has no derivative by the statistics."""
    import torch.nn.functional as functional

    own = functional.batch_norm

    def plain(
        x: Tensor, mean: Tensor, variance: Tensor, *rest: Any, eps: float = 1e-5, **options: Any
    ) -> Any:
        if options.get("training"):
            return own(x, mean, variance, *rest, eps=eps, **options)
        along = (-1, *[1] * (x.dim() - 2))
        y = (x - mean.view(along)) * (variance.view(along) + eps).rsqrt()
        gain, shift = (part.view(along) for part in rest) if rest else (1.0, 0.0)
        return y * gain + shift

    functional.batch_norm = plain
    try:
        yield
    finally:
        functional.batch_norm = own


def map_function(item: WeightMap) -> Callable[..., Tensor]:
    """Return a constraint as a function of the weight before it (if it takes one) and what it stores."""
    maps = Maps(Names(EMITTED_WORDS))
    name = maps.function(item)
    return _from_maps(maps, item.name)[name] if item.code is None else _with_options(maps, item.code, name)


def code_function(code: Code) -> Callable[..., Any]:
    """Return a function of the library, with its options."""
    maps = Maps(Names(EMITTED_WORDS))
    return _with_options(maps, code, maps.code(code))


def projection_function(item: Projection) -> Callable[[Tensor], Tensor]:
    """Return a projection as a function of the stored weight."""
    if item.code is not None:
        return code_function(item.code)
    maps = Maps(Names(EMITTED_WORDS))
    name = maps.projection(item)
    return _from_maps(maps, item.name)[name]


def penalty_function(item: Penalty) -> Callable[[Tensor], Tensor]:
    """Return a penalty as a function of the weight in use."""
    if item.value is not None:
        return code_function(item.value)
    maps = Maps(Names(EMITTED_WORDS))
    name = maps.penalty(item)
    return _from_maps(maps, item.name)[name]


def effective_weight(weight: Weight, path: str, state: Mapping[str, Tensor]) -> Tensor:
    """Return a weight as the operation at `path` sees it, from a state dict."""
    return weight_function(weight, path)(state)


def weight_function(weight: Weight, path: str) -> Callable[[Mapping[str, Tensor]], Tensor]:
    """Return how to compute a weight, as the operation at `path` sees it, from a state dict."""
    own = state_key(path, weight.name)
    maps = [
        (map_function(item), item.replaces, [state_key(path, tensor.name) for tensor in item.stored])
        for item in weight.maps
    ]

    def compute(state: Mapping[str, Tensor]) -> Tensor:
        found = state.get(own)
        for function, replaces, keys in maps:
            stored = [state[key] for key in keys]
            found = function(*([] if replaces or found is None else [found]), *stored)
        if found is None:
            raise KeyError(own)
        return found

    return compute


def _with_options(maps: Maps, code: Code, name: str) -> Callable[..., Any]:
    return partial(_from_maps(maps, name)[name], **dict(code.options))


def _from_maps(maps: Maps, title: str) -> dict[str, Any]:
    code = "\n".join(line.text for line in maps.lines)
    return execute("\n".join([*imports(code), code, ""]), title)


def initial_state(graph: Graph, seed: int, count: int | None = None) -> State:
    """Return the state of a network initialised from `seed`.

    With `count`, return the states of seeds `seed`, `seed + 1`, .. stacked along a new first axis; each
    is what it would be alone. torch's global generator is left as it was.
    """
    import torch

    make = module_class(graph)
    states: list[State] = []
    generator = torch.default_generator
    before = generator.get_state()
    try:
        for own in range(seed, seed + (1 if count is None else count)):
            generator.manual_seed(own)
            states.append(make().state_dict())
    finally:
        generator.set_state(before)
    if count is None:
        return {name: tensor.detach() for name, tensor in states[0].items()}
    return {name: torch.stack([state[name] for state in states]) for name in states[0]}


def execute(text: str, name: str) -> dict[str, Any]:
    """Return the names of emitted text, executed once a process; the text is kept for tracebacks."""
    digest = blake2b(text.encode(), digest_size=8).hexdigest()
    title = f"nnspec_{''.join(c for c in name if c.isalnum() or c == '_')}_{digest}"
    if title not in sys.modules:
        path = f"<{title}>"
        made = ModuleType(title)
        linecache.cache[path] = (len(text), None, text.splitlines(keepends=True), path)
        exec(compile(text, path, "exec"), made.__dict__)
        if "sparse_csr_tensor" in text:  # torch says once a process that these are in beta
            warnings.filterwarnings("ignore", message="Sparse CSR tensor support", category=UserWarning)
        # `torch.export` and pickling look a class up by the name of its module.
        sys.modules[title] = made
    return sys.modules[title].__dict__
