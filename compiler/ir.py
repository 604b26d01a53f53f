"""The graph: the one thing that every interpretation works on.

Instances stand apart from data flow. A `Child` owns tensors; the body of a `Block` calls children and
applies operations that own nothing. `shared` is a child called twice, `repeat` a child with several
instances called one after another, and a path is the chain of child names. Instances that are alike are
one object, so that a pass remembers results by `id(block)`; each pass walks instances, never "analyse
once and multiply".

Two phases of the same classes: `elaborate` leaves `Block.types` and `Primitive.weights` empty and the
`type` stage returns a graph in which they are filled. Values are strings, unique within a block.
The batch axis is not in any type.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, TypeAlias, TypeVar

from nnspec.compiler.naming import attribute
from nnspec.compiler.relations import Relation
from nnspec.dsl.dimensions import Size
from nnspec.dsl.node import Node
from nnspec.dsl.source import Span


class Reason(Node):
    """Why a size is what it is: where it was decided, and in words."""

    span: Span | None
    text: str


class Axis(Node):
    """One axis of a tensor. `factors` multiply to `size`: (heads, width of head), (channels, h, w)."""

    size: Size
    name: str | None = None
    factors: tuple[Size, ...] = ()  # () means one factor, the size itself
    rest: bool = False  # only in declared types: `..`, any number of axes
    reason: Reason | None = None  # not compared


class Type(Node):
    """Shape (batch apart) and number kind: "real", "int", "bool", "complex".

    `batched` is False for what is the same for every sample: parameters, and what is made of them alone.
    """

    axes: tuple[Axis, ...]
    dtype: str = "real"
    batched: bool = True

    @property
    def shape(self) -> tuple[Size, ...]:
        return tuple(axis.size for axis in self.axes)

    def __str__(self) -> str:
        named = [a.name is not None and a.name != str(a.size) for a in self.axes]
        sizes = zip(self.axes, named, strict=True)
        inside = ", ".join(f"{a.name}: {a.size}" if shown else str(a.size) for a, shown in sizes)
        return f"{self.dtype}[{inside}]" if self.axes else self.dtype


class Word(Node):
    """A word of the library with complete, sorted arguments, such as the distribution of a draw."""

    name: str
    arguments: tuple[tuple[str, Any], ...] = ()
    span: Span | None = None

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.arguments)


class Init(Word):
    """How a stored tensor begins: a word of `compiler/initializers`."""


class Tensor(Node):
    """A stored tensor of an instance; `kind` is "learned", "buffer" or "frozen".

    `init` is None where it begins as torch's own module does.
    """

    name: str
    shape: tuple[Size, ...]
    kind: str = "learned"
    dtype: str = "real"
    init: Init | None = None


class Code(Node):
    """A call of a torch function that the library brings along; emission writes the function out.

    `file` is a file of `compiler/constraints/code` or `compiler/operations/code`, `options` are keyword arguments.
    """

    file: str
    name: str
    options: tuple[tuple[str, Any], ...] = ()


class WeightMap(Node):
    """A constraint as a map that gives a weight, run once a forward: `code` of the library, or a `block`.

    The map takes the weight as the maps before it leave it, then the tensors that it stores itself; one
    that `replaces` the weight stores all it needs and takes nothing else. `start` turns the weight as
    initialised into the tensors of the map. With `straight_through` the gradient of the effective weight
    goes to the stored one where |w| <= `clip` (None: everywhere); `gradient` is a block of (w, g) instead.
    """

    name: str  # "binary", for display and emitted names
    block: Block | None = None
    code: Code | None = None
    stored: tuple[Tensor, ...] = ()
    replaces: bool = False
    start: Code | None = None
    product: Code | None = None  # of (input, what is stored, bias): what needs no effective weight
    straight_through: bool = False
    clip: float | None = None
    gradient: Block | None = None
    keeps: tuple[str, ...] = ()  # see `Constraint.keeps`; of a block it is derived
    relations: tuple[Relation, ...] = ()  # how the stored tensors, by name, make "weight"
    span: Span | None = None

    @property
    def has_own_gradient(self) -> bool:
        """Whether its gradient is not its derivative."""
        return self.straight_through or self.gradient is not None


class Projection(Node):
    """A constraint that brings the stored weight back after each step: weight -> weight.

    Where a topology stands on the weight, removed entries are 0 for it; a function that `takes_kept` is given
    `kept`, which entries there are, instead.
    """

    name: str
    block: Block | None = None
    code: Code | None = None
    takes_kept: bool = False
    keeps: tuple[str, ...] = ()  # see `Constraint.keeps`; of a block it is derived
    span: Span | None = None


class Penalty(Node):
    """A constraint that costs: `value` of a weight is added to the loss.

    With `proximal`, a function of (weight, step), the step of the optimizer is followed by the proximal
    map of step * value instead, which gives exact zeros where the value has a kink.
    """

    name: str
    block: Block | None = None
    value: Code | None = None
    proximal: Code | None = None
    span: Span | None = None


class Tie(Node):
    """The weight is another instance's, perhaps transposed; it stores nothing of its own."""

    child: str  # a child of the same block
    weight: str
    transpose: bool = False
    span: Span | None = None


class Frozen(Node):
    """The weight stays as it begins."""

    span: Span | None = None


Part: TypeAlias = "WeightMap | Projection | Penalty | Tie | Frozen"


class Weight(Node):
    """Stored tensors, maps, and the effective weight that the operation sees."""

    name: str  # "weight", "bias", "running_mean"
    stored: tuple[Tensor, ...]  # none when tied
    shape: tuple[Size, ...]  # of the effective weight
    maps: tuple[WeightMap, ...] = ()  # in the order in which they are applied
    tie: Tie | None = None
    projections: tuple[Projection, ...] = ()
    penalties: tuple[Penalty, ...] = ()
    init: Init | None = None  # of the effective weight, before the constraints


class Constraint(Node):
    """A constraint laid on one weight of a primitive; what it comes to is known with the shape."""

    weight: str
    rule: Any  # a `constraints.constraint.Constraint`
    options: tuple[tuple[str, Any], ...] = ()
    own: bool = False  # what the line that made the weight says of it: others are laid beside it
    span: Span | None = None


class Primitive(Node):
    """An operation with its configuration: `dense(units = 128, bias = true)`.

    `arguments` are sorted by name and complete (defaults filled in). `weights` is filled by typing.
    """

    operation: str
    arguments: tuple[tuple[str, Any], ...] = ()
    constraints: tuple[Constraint, ...] = ()
    inits: tuple[tuple[str, Init], ...] = ()  # laid by `initialize`: how its tensors begin, by name
    weights: tuple[Weight, ...] = ()
    inputs: tuple[Type, ...] = ()  # filled by typing for instances (children)
    outputs: tuple[Type, ...] = ()
    word: str | None = None  # the word of the spec in whose place it stands, if that is another
    span: Span | None = None

    @property
    def options(self) -> dict[str, Any]:
        return dict(self.arguments)


class Apply(Node):
    """`outputs = operation(inputs)` for an operation that owns nothing."""

    name: str  # unique in the block; shown in tables and pictures
    operation: Primitive
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    span: Span | None = None


class Call(Node):
    """`outputs = child(inputs)`; how a repeated child runs its instances is its `flow`."""

    child: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    span: Span | None = None


class Pullback(Node):
    """`outputs` are the vector-Jacobian products of `through`, statements from `at` to `end`, with `cotangent`, at `at`.

    Of one linear map it is the transpose: how a connection is used backwards with the same weight. Of an energy it
    is the slope in all states at once.
    """

    name: str
    through: tuple[Statement, ...]
    at: tuple[str, ...]
    end: str
    cotangent: str
    outputs: tuple[str, ...]
    span: Span | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        made = {value for statement in self.through for value in statement.outputs}
        read = (*self.at, self.cotangent, *(value for own in self.through for value in own.inputs))
        return tuple(dict.fromkeys(value for value in read if value not in made))


class Carried(Node):
    """A value that a loop carries from step to step: the state of a group of neurons.

    The body reads `before`. `after` is its next value in a map, its rate of change in a flow. What follows the
    loop reads `result`. What pushes the units from outside (the nudge of a learning rule) is added to `driven`.
    """

    name: str
    before: str
    after: str
    result: str
    declared: Type
    driven: str | None = None  # a value of the body; None: `after`
    start: Word | None = None  # a distribution, or `constant(value)`; None: zeros
    span: Span | None = None


class Connection(Node):
    """A child that is the connection from some values, laid end to end, to some states, laid end to end.

    `sources` are carried values' `before` or values from outside the loop, `targets` names of carried values. With
    `both` the transposed weight leads back; from states to themselves the weight is its own transpose. `taken` is
    the value of the body that enters it, what the dynamics sends along it, and `given` the value that comes out,
    before it is cut up for the targets.
    """

    child: str
    sources: tuple[str, ...]
    targets: tuple[str, ...]
    both: bool = False
    taken: str = ""
    given: str = ""
    span: Span | None = None


class Loop(Node):
    """A body repeated until what it carries settles: neuron states, or the fixed point of a layer.

    The body calls children of the block that the loop stands in; `form` is "map", s = f(s), or "flow", ds/dt = f(s).
    `solver` is a word such as `fixed_point(steps = 50)` or `euler(dt = 0.05)`; `gradient` says how the settled values
    are differentiated: `ift`, `phantom(k)` or `unrolled`. States are kept between the two numbers of `clip`.
    """

    name: str
    form: str
    carried: tuple[Carried, ...]
    body: tuple[Statement, ...]
    solver: Word
    gradient: Word
    connections: tuple[Connection, ...] = ()
    clip: tuple[float, float] | None = None
    energy: str | None = (
        None  # a value of the pullback, a number a sample, whose negative slope a flow follows
    )
    span: Span | None = None

    @property
    def inputs(self) -> tuple[str, ...]:
        """The values from outside that the body reads."""
        own = {value for statement in self.body for value in statement.outputs}
        own |= {state.before for state in self.carried}
        read = (value for statement in self.body for value in statement.inputs)
        return tuple(dict.fromkeys(value for value in read if value not in own))

    @property
    def outputs(self) -> tuple[str, ...]:
        """The settled values."""
        return tuple(state.result for state in self.carried)


Instance: TypeAlias = "Block | Primitive"
Plain: TypeAlias = "Apply | Call"
Statement: TypeAlias = "Plain | Pullback | Loop"


class Follow(Node):
    """An instance's weights are not learned: they follow those of `leader`, a child of the same block.

    Copied after every `every` steps, or a mean that keeps `decay` of itself each step.
    """

    leader: str
    every: int | None = None
    decay: float | None = None


class Begin(Node):
    """In training an instance begins with the weights of a part of another experiment's trained network."""

    experiment: str
    path: str  # of the part; "" for the whole network
    definition: Any  # of the experiment
    span: Span | None = None


class Child(Node):
    """A named instance, or (`repeated`) several.

    `flow` says how values pass through several: "chain", one after another, and the last result flows on;
    "keep", one after another, and all results flow on; "fork", each on the same inputs, and all flow on.
    """

    name: str
    instances: tuple[Instance, ...]
    repeated: bool = False
    flow: str = "chain"
    shared: bool = False
    follows: Follow | None = None
    begins: Begin | None = None
    span: Span | None = None


class Port(Node):
    """An input or output of a block. `declared` holds what the spec wrote, None if nothing."""

    name: str
    value: str  # the value in the block
    declared: Type | None = None
    span: Span | None = None


class Ascription(Node):
    """`h: real[10] = ...`: a value whose type is written and checked."""

    value: str
    declared: Type
    span: Span | None = None


class Law(Node):
    """A `require` whose condition needs sizes: `left relation right` must hold once they are known."""

    left: Size
    relation: str
    right: Size
    text: str
    message: str | None
    span: Span | None = None


class Update(Node):
    """`update NAME = value`: in training a buffer becomes the mean of a value over the batch, after the forward."""

    child: str  # the buffer, a child of the block
    value: str
    span: Span | None = None


class Charge(Node):
    """`penalty NAME = value`: in training the mean of a single number over the batch is added to the loss."""

    name: str
    value: str
    span: Span | None = None


class Claim(Node):
    """What an activation says of itself: "odd", "even", or "homogeneous" of a degree."""

    word: str
    degree: float | None = None
    span: Span | None = None

    def __str__(self) -> str:
        return self.word if self.degree is None else f"homogeneous of degree {self.degree:g}"


class Block(Node):
    """A layer or network given its configuration."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    children: tuple[Child, ...]
    body: tuple[Statement, ...]
    named: tuple[str, ...] = ()  # values that the spec names
    ascriptions: tuple[Ascription, ...] = ()
    laws: tuple[Law, ...] = ()
    updates: tuple[Update, ...] = ()
    penalties: tuple[Charge, ...] = ()
    arguments: tuple[tuple[str, Any], ...] = ()  # the parameter values it was made with, for display
    inline: bool = False  # the body of a repeat: it may speak of the enclosing block's dimensions
    claims: tuple[Claim, ...] = ()  # of a function
    function: bool = False  # an activation: of one tensor, and its children hold nothing but what it learns
    doc: str | None = None
    types: tuple[tuple[str, Type], ...] = ()  # filled by typing: every value of the block
    span: Span | None = None

    @property
    def is_pure(self) -> bool:
        """Whether it is a function that stores nothing, which is emitted as a plain function."""
        return self.function and all(
            isinstance(i, Block) and i.is_pure for child in self.children for i in child.instances
        )

    @property
    def plain(self) -> tuple[Plain, ...]:
        """The body of a block in which nothing is repeated: every function and every objective is one."""
        return tuple(only_plain(statement) for statement in self.body)

    def child(self, name: str) -> Child:
        return next(child for child in self.children if child.name == name)


class Graph(Node):
    """A network, elaborated (and, after the type stage, typed)."""

    name: str
    root: Block
    parameters: tuple[tuple[str, Any], ...] = ()
    doc: str | None = None
    source: Any = None


class Located(Node):
    """A primitive instance and its path, such as `repeat[3].f`; `stored` is False on a repeated visit."""

    path: str
    primitive: Primitive


def only_plain(statement: Statement) -> Plain:
    """Return a statement that is known not to be a loop or a pullback; TypeError for one that is."""
    if isinstance(statement, Apply | Call):
        return statement
    raise TypeError(f"{statement.name} repeats a body")


Some = TypeVar("Some")


def walked(body: Iterable[Statement]) -> Iterator[Statement]:
    """Yield the statements of a body and of all bodies inside them: of loops, and of what is pulled back."""
    for statement in body:
        yield statement
        if isinstance(statement, Loop):
            yield from walked(statement.body)
        elif isinstance(statement, Pullback):
            yield from walked(statement.through)


def connections(block: Block) -> frozenset[str]:
    """Return the children of a block that are connections between states."""
    loops = (statement for statement in block.body if isinstance(statement, Loop))
    return frozenset(item.child for loop in loops for item in loop.connections)


def gathered(flow: str, results: Sequence[tuple[Some, ...]]) -> tuple[Some, ...]:
    """Return what flows on from instances that gave these results: the last one's, or all.

    Of all, first come the first results of each instance, then the second ones.
    """
    return results[-1] if flow == "chain" else tuple(chain.from_iterable(zip(*results, strict=True)))


def blocks(block: Block, seen: dict[int, Block] | None = None) -> Iterator[Block]:
    """Yield a block and all blocks inside it, each once."""
    seen = {} if seen is None else seen
    if id(block) in seen:
        return
    seen[id(block)] = block
    yield block
    for child in block.children:
        for instance in {id(i): i for i in child.instances}.values():
            if isinstance(instance, Block):
                yield from blocks(instance, seen)


def instances(block: Block, prefix: str = "") -> Iterator[Located]:
    """Yield every primitive instance under a block in construction order, shared ones once."""
    for child in block.children:
        for index, instance in enumerate(child.instances):
            own = f"{prefix}{child.name}[{index}]" if child.repeated else f"{prefix}{child.name}"
            if isinstance(instance, Primitive):
                yield Located(path=own, primitive=instance)
            else:
                yield from instances(instance, own + ".")


def weight_path(path: str, weight: str) -> str:
    """Return the path of a weight: `fc1.weight`; that of a parameter, whose weight has no name, is its own.

    What the constraints of a parameter store stands beside it: `mix_scale`.
    """
    return path + weight if weight[:1] in ("", "_") else f"{path}.{weight}"


def state_key(path: str, tensor: str) -> str:
    """Return the state-dict key of a tensor: `repeat[3].f` and `weight` give `repeat.3.f.weight`.

    A parameter's tensor has no name of its own, and its path is its key. Names that a module keeps for itself
    stand there with an underscore: `forward_.weight`.
    """
    parts = path.replace("[", ".").replace("]", "").split(".")
    return weight_path(".".join(part if part.isdigit() else attribute(part) for part in parts), tensor)
