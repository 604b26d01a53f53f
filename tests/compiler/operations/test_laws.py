"""Laws over every registered operation: what the rules say is what torch does, on random sizes."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from nnspec.compiler.emit.load import function, module
from nnspec.compiler.ir import Apply, Axis, Block, Call, Child, Graph, Port, Primitive, Type, Word, state_key
from nnspec.compiler.operations.operation import Site
from nnspec.compiler.operations.registry import operation, operations
from nnspec.compiler.typing import type_graph
from nnspec.dsl.catalog import validate
from nnspec.dsl.diagnostics import Bag

Case = tuple[dict[str, Any], list[Any]]  # arguments, inputs: shapes, or (shape, dtype)
Draw = random.Random


def _vector(draw: Draw) -> tuple[int, ...]:
    return tuple(draw.randint(1, 6) for _ in range(draw.randint(1, 3)))


def _image(draw: Draw) -> tuple[int, int, int]:
    return (draw.choice([2, 4]), draw.randint(5, 9), draw.randint(5, 9))


def _pairwise(draw: Draw) -> Case:
    shape = _vector(draw)
    how = draw.randrange(5)
    if how == 0:
        return {"constant": draw.choice([2, 0.5, -3])}, [shape]
    if how == 1:
        return {"constant": draw.choice([2, 0.5, -3]), "reversed": True}, [shape]
    if how == 2:
        return {}, [shape, tuple(draw.choice([1, size]) for size in shape)]
    if how == 3:
        return {}, [shape[-1:], shape]
    return {}, [shape, shape]


def _where(draw: Draw) -> Case:
    shape = _vector(draw)
    how = draw.randrange(3)
    if how == 0:
        return {"then": 1, "otherwise": -1}, [(shape, "bool")]
    if how == 1:
        return {"otherwise": 0.5}, [(shape, "bool"), shape]
    return {}, [(shape[-1:], "bool"), shape, shape]


def _sequence(draw: Draw) -> tuple[int, int]:
    return (draw.choice([2, 4]), draw.randint(5, 9))


def _turned(draw: Draw, arguments: dict[str, Any], shape: tuple[int, ...]) -> Case:
    """Let the window run along axes in another order, now and then."""
    if draw.random() < 0.5:
        return arguments, [shape]
    order = draw.sample(range(len(shape)), len(shape))  # place k holds axis order[k] of [channels, ..]
    along = tuple(order.index(direction) for direction in range(1, len(shape)))
    chosen = along[0] if len(along) == 1 else along
    return {**arguments, "along": chosen}, [tuple(shape[axis] for axis in order)]


def _conv(draw: Draw, directions: int = 2) -> Case:
    groups = draw.choice([1, 2])
    arguments: dict[str, Any] = {
        "channels": 2 * draw.randint(1, 3),
        "kernel": draw.choice([1, 2, 3, (2, 3)] if directions == 2 else [1, 2, 3]),
        "groups": groups,
        "bias": draw.random() < 0.5,
        "dilation": draw.choice([1, 2]),
    }
    if draw.random() < 0.4:
        arguments["padding"] = "same"
    else:
        strides = [1, 2, (1, 2)] if directions == 2 else [1, 2]
        arguments |= {"padding": draw.choice(["valid", 0, 1, 2]), "stride": draw.choice(strides)}
    return _turned(draw, arguments, _image(draw) if directions == 2 else _sequence(draw))


def _pool(draw: Draw) -> Case:
    if draw.random() < 0.3:
        arguments: dict[str, Any] = {"kernel": draw.choice([2, 3]), "along": draw.choice([1, -1])}
        return arguments, [_sequence(draw)]
    arguments = {"kernel": draw.choice([2, 3, (2, 3)]), "stride": draw.choice([None, 1, 2])}
    return _turned(draw, {**arguments, "padding": draw.choice([0, 1])}, _image(draw))


def _reshape(draw: Draw) -> Case:
    sizes = _vector(draw)
    total = 1
    for size in sizes:
        total *= size
    target = draw.choice([(total,), (1, total), (-1,), (*sizes, 1), (-1, *sizes), tuple(reversed(sizes))])
    return {"shape": target}, [sizes]


def _permute(draw: Draw) -> Case:
    sizes = _vector(draw)
    order = list(range(len(sizes)))
    draw.shuffle(order)
    return {"axes": tuple(order)}, [sizes]


def _slice(draw: Draw) -> Case:
    shape = _vector(draw)
    axis = draw.randrange(len(shape))
    start = draw.randrange(shape[axis])
    stop = draw.choice([None, -1, draw.randrange(start, shape[axis])])
    return {"axis": axis, "start": start, "stop": stop}, [shape]


def _select(draw: Draw) -> Case:
    shape = _vector(draw)
    axis = draw.randrange(-len(shape), len(shape))
    return {"axis": axis, "index": draw.randrange(-shape[axis], shape[axis])}, [shape]


def _concat(draw: Draw) -> Case:
    shape = _vector(draw)
    axis = draw.randrange(-len(shape), len(shape))
    place = axis % len(shape)
    shapes = [(*shape[:place], draw.randint(1, 4), *shape[place + 1 :]) for _ in range(draw.randint(1, 3))]
    return {"axis": axis}, shapes


def _stack(draw: Draw) -> Case:
    shape = draw.choice([(), _vector(draw)])
    return {"axis": draw.randrange(-len(shape) - 1, len(shape) + 1)}, [shape] * draw.randint(1, 3)


def _split(draw: Draw) -> Case:
    shape = list(_vector(draw))
    axis = draw.randrange(-len(shape), len(shape))
    if draw.random() < 0.5:
        parts = draw.randint(1, 3)
        shape[axis] = parts * draw.randint(1, 3)
        return {"parts": parts, "axis": axis}, [tuple(shape)]
    sizes = tuple(draw.randint(1, 3) for _ in range(draw.randint(1, 3)))
    shape[axis] = sum(sizes)
    return {"parts": sizes, "axis": axis}, [tuple(shape)]


def _reduce(draw: Draw) -> Case:
    shape = _vector(draw)
    axes = tuple(draw.sample(range(len(shape)), draw.randint(1, len(shape))))
    axis = draw.choice([None, axes, axes[0], -1])
    return {"axis": axis}, [(shape, draw.choice(["real", "bool", "int"]))]


def _matmul(draw: Draw) -> Case:
    n, k, m = (draw.randint(1, 5) for _ in range(3))
    lead = draw.randint(1, 3)
    return {}, draw.choice(
        [[(n, k), (k, m)], [(lead, n, k), (lead, k, m)], [(n, k), (lead, k, m)], [(lead, n, k), (1, k, m)]]
    )


def _norm(draw: Draw) -> Case:
    # One number along the axis has variance 0, where torch's functions differ in rounding only.
    return {"affine": draw.random() < 0.7}, [(*_vector(draw), draw.randint(2, 6))]


def _batchnorm(draw: Draw) -> Case:
    shape = draw.choice([(3,), (3, 4), (3, 4, 5)])
    return {"affine": draw.random() < 0.7, "momentum": draw.choice([0.1, 0.3])}, [shape]


def _extreme(draw: Draw) -> Case:
    shape = _vector(draw)
    kind = draw.choice(["real", "int"])
    how = draw.randrange(3)
    if how == 0:
        return {"bound": draw.choice([0, 2, 0.5])}, [(shape, kind)]
    return {}, [(shape[-1:] if how == 1 else shape, kind), *[(shape, kind)] * draw.randint(1, 2)]


def _clamp(draw: Draw) -> Case:
    arguments = draw.choice([{"low": 0}, {"high": 0.5}, {"low": -1, "high": 1}, {"low": 0.2, "high": 0.4}])
    return arguments, [(_vector(draw), draw.choice(["real", "int"]))]


def _largest(draw: Draw) -> Case:
    case = _reduce(draw)
    return case[0], [(case[1][0][0], draw.choice(["real", "int"]))]


def _squeeze(draw: Draw) -> Case:
    shape = list(_vector(draw))
    shape.insert(draw.randrange(len(shape) + 1), 1)
    place = shape.index(1)
    return {"axis": draw.choice([None, place, (place,), place - len(shape)])}, [tuple(shape)]


def _top(draw: Draw) -> Case:
    shape = _vector(draw)
    axis = draw.randrange(-len(shape), len(shape))
    return {"k": draw.randint(1, shape[axis]), "axis": axis}, [(shape, draw.choice(["real", "int"]))]


def _along(draw: Draw) -> Case:
    shape = _vector(draw)
    return {"axis": draw.randrange(-len(shape), len(shape))}, [(shape, draw.choice(["real", "int"]))]


def _several(draw: Draw) -> Case:
    case = _pairwise(draw)
    return case if draw.random() < 0.6 else ({}, [_vector(draw)] * draw.randint(3, 5))


def _classes(draw: Draw) -> Case:
    lead = _vector(draw)[: draw.randint(0, 2)]
    return {}, [(*lead, draw.randint(7, 9)), (lead, "int")]  # labels are drawn below 7


def _numbers(draw: Draw) -> Case:
    shape = _vector(draw)
    how = draw.randrange(4)
    if how == 0:
        return {}, [shape, (shape, "int")]
    if how == 1:
        return {}, [(*shape, 1), shape]
    return {}, [shape, shape]


def _numbers_or_classes(draw: Draw) -> Case:
    return _classes(draw) if draw.random() < 0.3 else _numbers(draw)


def _rearrange(draw: Draw) -> Case:
    pattern = draw.choice(["a (b c) -> b (c a)", "a (b c) -> (a c) 1 b", ".. (b c) -> b .. c"])
    return {"pattern": pattern, "sizes": (("c", draw.choice([1, 2, 3])),)}, [(draw.randint(1, 4), 6)]


def _attention(draw: Draw) -> Case:
    groups, each, width, other = (draw.choice([1, 2, 3]) for _ in range(4))
    lead = tuple(draw.randint(1, 3) for _ in range(draw.randint(0, 2)))
    queries, keys = draw.randint(1, 6), draw.randint(1, 6)
    causal, heads = draw.random() < 0.4, groups * each
    keys = queries if causal else keys
    arguments = {
        "heads": heads,
        "groups": groups if each > 1 else draw.choice([None, heads]),
        "causal": causal,
        "scale": draw.choice([None, 0.3]),
    }
    given: list[Any] = [
        (*lead, queries, heads * width),
        (*lead, keys, groups * width),
        (*lead, keys, groups * other),
    ]
    if draw.random() < 0.4:
        given.append(((*lead, draw.choice([1, queries]), keys), "bool"))
    return arguments, given


def _rotary(draw: Draw) -> Case:
    heads, width = draw.randint(1, 3), draw.choice([2, 4, 6])
    lead = tuple(draw.randint(1, 3) for _ in range(draw.randint(0, 2)))
    arguments = {
        "heads": heads,
        "base": draw.choice([10000.0, 50]),
        "pairs": draw.choice(["halves", "interleaved"]),
    }
    return arguments, [(*lead, draw.randint(1, 6), heads * width)]


COMPARISONS = ("greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
FUNCTIONS = (
    *("identity", "relu", "tanh", "sigmoid", "hard_sigmoid", "silu", "softplus", "sin", "cos"),
    *("exp", "log", "abs", "sign", "erf", "square", "sqrt"),
    *("round", "floor", "ceil"),
)
CASES: dict[str, Callable[[Draw], Case]] = {
    "dense": lambda d: ({"units": d.randint(1, 7), "bias": d.random() < 0.5}, [_vector(d)]),
    "conv1d": lambda d: _conv(d, 1),
    "conv2d": _conv,
    "maxpool": _pool,
    "avgpool": _pool,
    "global_avgpool": lambda d: ({}, [_image(d)]),
    "flatten": lambda d: (lambda s: ({"start": d.randrange(-len(s), len(s))}, [s]))(_vector(d)),
    "reshape": _reshape,
    "permute": _permute,
    "transpose": lambda d: ({}, [(*_vector(d), d.randint(1, 4))]),
    "slice": _slice,
    "select": _select,
    "concat": _concat,
    "stack": _stack,
    "split": _split,
    "sum": _reduce,
    "mean": _reduce,
    "sample": lambda d: (
        {"distribution": Word(name="bernoulli", arguments=(("p", 0.3),)), "when": "training"},
        [_vector(d)],
    ),
    "dropout": lambda d: ({"rate": 0.3}, [_vector(d)]),
    "batchnorm": _batchnorm,
    "layernorm": _norm,
    "rmsnorm": _norm,
    "embedding": lambda d: ({"count": 7, "width": d.randint(1, 5)}, [(_vector(d), "int")]),
    "matmul": _matmul,
    "attention": _attention,
    "rotary": _rotary,
    "where": _where,
    "maximum": _extreme,
    "minimum": _extreme,
    "clamp": _clamp,
    "max": _largest,
    "min": _largest,
    "variance": lambda d: (_reduce(d)[0] | {"axis": -1}, [_vector(d)]),
    "norm": lambda d: ({"axis": d.choice([None, -1, 0])}, [(_vector(d), d.choice(["real", "complex"]))]),
    "argmax": _along,
    "argmin": _along,
    "cumsum": _along,
    "top_k": _top,
    "squeeze": _squeeze,
    "unsqueeze": lambda d: (lambda s: ({"axis": d.randrange(-len(s) - 1, len(s) + 1)}, [s]))(_vector(d)),
    "rearrange": _rearrange,
    "product": lambda d: (lambda s: ({}, [((*s, 2 * d.randint(1, 3)), d.choice(sorted(KINDS)))]))(_vector(d)),
    "reduce": lambda d: (
        _rearrange(d)[0] | {"pattern": "a (b c) -> b", "by": d.choice(["sum", "mean", "max"])},
        [(2, 6)],
    ),
    "einsum": lambda d: ({"pattern": "a b, b -> a"}, [(d.randint(1, 3), 4), (4,)]),
    "logical_and": lambda d: (lambda s: ({}, [(s, "bool"), (s[-1:], "bool")]))(_vector(d)),
    "logical_or": lambda d: (lambda s: ({}, [(s, "bool"), (s, "bool")]))(_vector(d)),
    "logical_not": lambda d: ({}, [(_vector(d), "bool")]),
    "stop_gradient": lambda d: ({}, [(_vector(d), d.choice(sorted(KINDS)))]),
    "straight_through": lambda d: (lambda s: ({}, [s, s]))(_vector(d)),
    "complex": lambda d: (lambda s: ({}, [s, s[-1:]]))(_vector(d)),
    **{name: lambda d: ({}, [(_vector(d), "complex")]) for name in ("real", "imag", "conj", "angle")},
    "negate": lambda d: ({}, [(_vector(d), d.choice(["real", "bool", "int"]))]),
    "leaky_relu": lambda d: ({"slope": d.choice([0.01, 0.3])}, [_vector(d)]),
    "elu": lambda d: ({"alpha": d.choice([1.0, 0.5])}, [_vector(d)]),
    "softmax": lambda d: ({"axis": -1}, [_vector(d)]),
    "log_softmax": lambda d: ({"axis": 0}, [_vector(d)]),
    **{name: _several for name in ("add", "multiply")},
    **{name: _pairwise for name in ("subtract", "divide", "power", *COMPARISONS)},
    "cross_entropy": lambda d: ({"smoothing": d.choice([0.0, 0.1])}, _classes(d)[1]),
    "negative_log_likelihood": _classes,
    "hinge": lambda d: ({"margin": d.choice([1.0, 0.5])}, _classes(d)[1]),
    "binary_cross_entropy": _numbers,
    "mean_squared_error": _numbers_or_classes,
    "mean_absolute_error": _numbers_or_classes,
    "huber": lambda d: ({"delta": d.choice([1.0, 0.5])}, _numbers_or_classes(d)[1]),
    "kl": lambda d: (lambda s: ({}, [s, s]))(_vector(d)),
    **{name: _pairwise for name in ("add", "subtract", "multiply", "divide", "power", *COMPARISONS)},
    **{name: lambda d: ({}, [_vector(d)]) for name in FUNCTIONS},
    "gelu": lambda d: ({"approximate": d.choice(["none", "tanh"])}, [_vector(d)]),
}
KINDS = {"real": torch.float32, "int": torch.int64, "bool": torch.bool, "complex": torch.complex64}


def _typed(name: str, case: Case) -> tuple[Graph, Primitive]:
    """Return a graph of one operation, and that operation, typed."""
    rule = operation(name)
    arguments, problems = validate(rule.entry(), case[0])
    assert not problems, problems
    given = [item if item and isinstance(item[-1], str) else (item, "real") for item in case[1]]
    ports = tuple(
        Port(
            name=f"in{i}",
            value=f"in{i}",
            declared=Type(axes=tuple(Axis(size=s) for s in shape), dtype=dtype),
        )
        for i, (shape, dtype) in enumerate(given)
    )
    inputs = tuple(port.name for port in ports)
    outputs = tuple(f"out{i}" for i in range(rule.outputs(arguments)))
    primitive = Primitive(operation=name, arguments=tuple(sorted(arguments.items())))
    stored = bool(rule.owns) or rule.keeps
    statement: Any = (
        Call(child="it", inputs=inputs, outputs=outputs)
        if stored
        else Apply(name="it", operation=primitive, inputs=inputs, outputs=outputs)
    )
    block = Block(
        name="one",
        inputs=ports,
        outputs=tuple(Port(name=value, value=value) for value in outputs),
        children=(Child(name="it", instances=(primitive,)),) if stored else (),
        body=(statement,),
    )
    bag = Bag()
    graph = type_graph(Graph(name="one", root=block), bag)
    assert graph is not None, (name, case, [(e.message, e.facts) for e in bag])
    found: Any = graph.root.children[0].instances[0] if stored else graph.root.body[0]
    return graph, found if stored else found.operation


def _tensors(primitive: Primitive, batch: int = 4) -> list[torch.Tensor]:
    made: list[torch.Tensor] = []
    for given in primitive.inputs:
        shape: Any = (batch, *given.shape)
        positive = torch.rand(shape) + 0.1  # log and powers need positive numbers
        kinds = {"real": positive, "int": torch.randint(0, 7, shape), "bool": positive > 0.6}
        made.append({**kinds, "complex": torch.complex(positive, torch.randn(shape))}[given.dtype])
    return made


def _shape(tensor: torch.Tensor) -> tuple[int, ...]:
    return tuple(tensor.shape)[1:]


def test_every_operation_has_a_case() -> None:
    known = operations().items()  # what tracks the training is no function: see test_progress
    assert set(CASES) == {n for n, rule in known if rule.written and not rule.expands and not rule.tracks}


@pytest.mark.parametrize("name", sorted(CASES))
def test_torch_agrees_with_the_rules(name: str) -> None:
    draw = random.Random(name)
    torch.manual_seed(0)
    for _ in range(12):
        case = CASES[name](draw)
        graph, primitive = _typed(name, case)
        net = module(graph).eval()
        inputs = _tensors(primitive)
        found = net(*inputs)
        results: list[torch.Tensor] = list(found) if isinstance(found, tuple) else [found]
        assert [_shape(r) for r in results] == [t.shape for t in primitive.outputs], case
        assert [r.dtype for r in results] == [KINDS[t.dtype] for t in primitive.outputs], case

        state = dict(net.state_dict())
        expected = {state_key("it", t.name): t.shape for w in primitive.weights for t in w.stored}
        assert {key: tuple(t.shape) for key, t in state.items()} == expected
        assert list(state) == list(expected)

        again = function(graph)(state, *inputs)
        pure: list[torch.Tensor] = list(again) if isinstance(again, tuple) else [again]
        assert all(torch.equal(a, b) for a, b in zip(results, pure, strict=True)), case


@pytest.mark.parametrize("name", sorted(CASES))
def test_what_the_rules_let_through_torch_computes(name: str) -> None:
    """Inputs of every kind of number: either a diagnostic, or torch gives the kind that was promised."""
    draw = random.Random(name + "kinds")
    torch.manual_seed(0)
    for kind in KINDS:
        for _ in range(4):
            arguments, given = CASES[name](draw)
            shapes = [item[0] if item and isinstance(item[-1], str) else item for item in given]
            if name == "where":
                continue  # its condition is of one kind
            try:
                graph, primitive = _typed(name, (arguments, [(shape, kind) for shape in shapes]))
            except AssertionError:
                continue
            found = module(graph).eval()(*_tensors(primitive))
            results: list[torch.Tensor] = list(found) if isinstance(found, tuple) else [found]
            assert [r.dtype for r in results] == [KINDS[t.dtype] for t in primitive.outputs], (
                arguments,
                kind,
            )
            assert [_shape(r) for r in results] == [t.shape for t in primitive.outputs], (arguments, kind)


@pytest.mark.parametrize("name", ["dense", "conv1d", "conv2d", "matmul"])
def test_cost_is_what_torch_counts(name: str) -> None:
    draw = random.Random(name)
    for _ in range(12):
        case = CASES[name](draw)
        graph, primitive = _typed(name, case)
        site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
        with FlopCounterMode(display=False) as counter:
            module(graph)(*_tensors(primitive, batch=3))
        assert counter.get_total_flops() == 3 * operation(name).cost(site).flops, case


@pytest.mark.parametrize("name", sorted(CASES))
def test_gradients_of_module_and_function_agree(name: str) -> None:
    draw = random.Random(name + "gradient")
    torch.manual_seed(1)
    graph, primitive = _typed(name, CASES[name](draw))
    net = module(graph).eval()
    learned = [w.name for w in primitive.weights if w.stored[0].kind == "learned"]
    assert [key.removeprefix("it.") for key, _ in net.named_parameters()] == learned
    if not learned:
        return
    inputs = _tensors(primitive)
    net(*inputs).square().sum().backward()
    parameters = {key: value.detach().clone() for key, value in net.state_dict().items()}
    for key, _ in net.named_parameters():
        parameters[key].requires_grad_()
    function(graph)(parameters, *inputs).square().sum().backward()
    for key, value in net.named_parameters():
        assert torch.equal(value.grad, parameters[key].grad), key


@pytest.mark.parametrize("name", sorted(CASES))
def test_documented(name: str) -> None:
    rule = operation(name)
    assert rule.doc.strip().endswith((".", ")")) and rule.example and name in rule.entry().name
    assert all(argument.doc for argument in rule.arguments)
    assert rule.inputs[0] >= 1
    assert bool(rule.owns) <= isinstance(rule.owns, tuple)


def test_stateless_modules_are_declared() -> None:
    """An operation with a module of its own stores something or says that it is kept."""
    draw = random.Random(0)
    for name in CASES:
        rule = operation(name)
        _, primitive = _typed(name, CASES[name](draw))
        site = Site(arguments=primitive.options, inputs=primitive.inputs, outputs=primitive.outputs)
        if rule.module(site) is not None:
            assert rule.owns or rule.keeps, name
        assert (rule.module(site) is not None) == bool(rule.owns or rule.keeps), name


def test_training_draws_and_batch_statistics() -> None:
    torch.manual_seed(0)
    graph, _ = _typed("batchnorm", ({}, [(3, 4, 5)]))
    net = module(graph).train()
    x = torch.randn(6, 3, 4, 5)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    assert torch.allclose(net(x), function(graph)(state, x, training=True), atol=1e-6)
    assert isinstance(net.it, nn.BatchNorm2d) and int(net.it.num_batches_tracked) == 1
    assert int(state["it.num_batches_tracked"]) == 0
    graph, _ = _typed("dropout", ({"rate": 0.5}, [(100,)]))
    assert (function(graph)({}, torch.ones(2, 100), training=True) == 0).any()
    assert (function(graph)({}, torch.ones(2, 100)) == 1).all()
