"""`shared target = follow(online, every = 500)`: an instance whose weights follow another's and do not learn.

In: the call as written, and the instance that is followed. Out: a child of the same shape. Once all
constraints are laid, a follower gets those of its leader, and its weights are frozen; training moves them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nnspec.compiler.constraints.frozen import Frozen
from nnspec.compiler.ir import (
    Block,
    Child,
    Constraint,
    Follow,
    Graph,
    Instance,
    Primitive,
    instances,
    state_key,
)
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.values import Layer, Refused, SharedInstance, describe
from nnspec.dsl.catalog import Argument, Entry, validate
from nnspec.dsl.definitions import Module
from nnspec.dsl.errors.training import WrongFollow
from nnspec.dsl.syntax import CallOf, Expression, Name

if TYPE_CHECKING:
    from nnspec.compiler.evaluate import Evaluator

FOLLOW = Entry(
    name="follow",
    family="shared",
    doc="""An instance of the same shape as a shared one, whose weights begin as its weights do and follow them:
copied after every `every` steps, or moved after each, target = decay * target + (1 - decay) * online.""",
    arguments=(
        Argument(name="online", kind="layer", doc="the shared instance that it follows"),
        Argument(name="every", kind="int", default=None, at_least=1, doc="steps from one copy to the next"),
        Argument(name="decay", kind="real", default=None, at_least=0, below=1, doc="what is kept each step"),
    ),
    example="shared target = follow(online, every = 500)",
)
_LEFT_OUT = ("frozen", "penalty", "projection")  # what only says how a weight learns


def is_follow(expression: Expression, module: Module) -> bool:
    """Return whether what stands behind `shared NAME =` is a `follow(...)`, and not a layer of that name."""
    function = expression.function if isinstance(expression, CallOf) else None
    return isinstance(function, Name) and function.name == FOLLOW.name and FOLLOW.name not in module.names


def follower(evaluator: Evaluator, name: str, expression: Expression) -> Layer:
    """Add a child that follows another, and return it as a layer to call."""
    from nnspec.compiler.callables import match_arguments

    written = expression.arguments if isinstance(expression, CallOf) else ()
    given = tuple(evaluator.given(argument) for argument in written)
    matched = match_arguments(FOLLOW.name, tuple(a.name for a in FOLLOW.arguments), given, expression.span)
    values = {key: item.value for key, item in matched.items()}
    options, problems = validate(FOLLOW, values)
    if problems:
        found = describe(values[problems[0].argument]) if problems[0].argument in values else "nothing"
        raise Refused(WrongFollow(expression.span, why=problems[0].why, label=f"found {found}", help=None))
    if (options["every"] is None) == (options["decay"] is None):
        why = "`follow` takes either `every` or `decay`"
        help_text = "write `every = 500` for copies, or `decay = 0.995` for a moving mean"
        raise Refused(WrongFollow(expression.span, why=why, label="needs one of them", help=help_text))
    leader = options["online"]
    target = leader.target if isinstance(leader, Layer) else None
    builder = evaluator.builder
    if not isinstance(target, SharedInstance) or target.owner is not builder:
        why = "`follow` follows a shared instance of the same body"
        help_text = "declare it above: `shared online = dense(64)`"
        raise Refused(
            WrongFollow(expression.span, why=why, label=f"found {describe(leader)}", help=help_text)
        )
    followed = next(child for child in builder.children if child.name == target.child)
    if followed.follows is not None:
        why = f"`{followed.name}` follows another itself"
        raise Refused(WrongFollow(expression.span, why=why, label="does not learn", help=None))
    own = builder.add_child(name, followed.instances, expression.span, shared=True)
    index = next(i for i, child in enumerate(builder.children) if child.name == own)
    follow = Follow(leader=followed.name, every=options["every"], decay=options["decay"])
    builder.children[index] = builder.children[index].replace(follows=follow)
    shared = SharedInstance(child=own, owner=builder, inputs=target.inputs)
    return Layer(target=shared, name=name, span=expression.span)


# --------------------------------------------------------------------------------------------- on the graph


def with_followers(graph: Graph) -> Graph:
    """Return the graph in which each follower is its leader, frozen."""
    return graph.replace(root=_block(graph.root, {}))


def _block(block: Block, known: dict[int, Block]) -> Block:
    if id(block) in known:
        return known[id(block)]
    children: list[Child] = []
    for child in block.children:
        made = tuple(_block(i, known) if isinstance(i, Block) else i for i in child.instances)
        same = all(one is other for one, other in zip(made, child.instances, strict=True))
        children.append(child if same else child.replace(instances=made))
    leaders = {child.name: child for child in children}
    for index, child in enumerate(children):
        if child.follows is not None:
            leader = leaders[child.follows.leader]
            children[index] = child.replace(instances=tuple(map(_frozen, leader.instances)))
    same = all(one is other for one, other in zip(children, block.children, strict=True))
    known[id(block)] = block if same else block.replace(children=tuple(children))
    return known[id(block)]


def _frozen(instance: Instance) -> Instance:
    if isinstance(instance, Primitive):
        weights = operation(instance.operation).owns
        if not weights:
            return instance
        kept = [c for c in instance.constraints if c.rule.kind not in _LEFT_OUT]
        marks = [Constraint(weight=weight, rule=Frozen()) for weight in weights]
        return instance.replace(constraints=(*kept, *marks))
    children = tuple(c.replace(instances=tuple(map(_frozen, c.instances))) for c in instance.children)
    return instance.replace(children=children)


def followed_keys(block: Block, prefix: str = "") -> Iterator[tuple[str, str, Follow]]:
    """Yield follower and leader of every tensor, by state-dict keys, and how it follows."""
    for child in block.children:
        if child.follows is not None:
            own, leader = f"{prefix}{child.name}", f"{prefix}{child.follows.leader}"
            for key in _keys(child, own):
                yield key, state_key(leader, "") + key.removeprefix(state_key(own, "")), child.follows
            continue
        for number, instance in enumerate(child.instances):
            if isinstance(instance, Block):
                index = f"[{number}]" if child.repeated else ""
                yield from followed_keys(instance, f"{prefix}{child.name}{index}.")


def _keys(child: Child, path: str) -> Iterator[str]:
    alone = Block(
        name="", inputs=(), outputs=(), children=(child.replace(name=path.rpartition(".")[2]),), body=()
    )
    before = path.rpartition(".")[0]
    for located in instances(alone, before + "." if before else ""):
        for weight in located.primitive.weights:
            for tensor in weight.stored:
                yield state_key(located.path, tensor.name)


def followers(block: Block, prefix: str = "") -> Iterator[tuple[str, Follow]]:
    """Yield the path of each instance that follows another, and how it does."""
    for child in block.children:
        if child.follows is not None:
            yield f"{prefix}{child.name}", child.follows
        for number, instance in enumerate(child.instances):
            if isinstance(instance, Block):
                index = f"[{number}]" if child.repeated else ""
                yield from followers(instance, f"{prefix}{child.name}{index}.")


def follow_text(follow: Follow) -> str:
    """Return a follow in words: `follows online every 500`, `follows online with decay 0.99`."""
    how = f"every {follow.every}" if follow.decay is None else f"with decay {follow.decay:g}"
    return f"follows {follow.leader} {how}"


def text_of(follow: Follow) -> dict[str, Any]:
    """Return a follow as plain data."""
    return {"leader": follow.leader, "every": follow.every, "decay": follow.decay}
