"""What the front end knows of the compiler's words: a catalog of entries, handed to it.

The compiler fills a `Catalog` with one `Entry` for each operation, constraint, rule, pass, optimizer,
loss, data set, metric and schedule. The same entries feed argument checking, did-you-mean, hover,
reference docs and JSON schema. pydantic models are built from an entry on first use: building them all
at start-up would double it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from typing import Annotated, Any, Literal

from nnspec.dsl.node import Node


class Required:
    """The default of a parameter that has none."""

    def __repr__(self) -> str:
        return "required"


REQUIRED = Required()


class Argument(Node):
    """A parameter of an entry.

    `kind` is one of: `int` (with `choices`: or one of these words), `real`, `bool`, `text`, `choice` (one of
    `choices`), `size` (a whole number or a symbolic dimension), `axis` (a number or a dimension's name),
    `layer` (a layer or operation given its configuration), `selector`, `value` (anything), or the name of a
    family of entries (`optimizer`, `schedule`, ...), for a nested call such as `optimizer = adam(lr = 0.01)`.
    """

    name: str
    kind: str
    doc: str = ""
    default: Any = REQUIRED
    listed: str = "no"  # "no", "yes" (a list), "either" (one value or a list)
    choices: tuple[str, ...] = ()
    at_least: float | None = None
    above: float | None = None
    at_most: float | None = None
    below: float | None = None
    nullable: bool = False

    @property
    def required(self) -> bool:
        return self.default is REQUIRED


class Entry(Node):
    """A word of the language that the compiler defines."""

    name: str
    family: str  # "operation", "constraint", "rule", "pass", "optimizer", "loss", "data", ...
    doc: str
    arguments: tuple[Argument, ...] = ()
    inputs: tuple[int, int | None] = (0, 0)  # how many tensors it takes: least, most (None: any)
    others: str = ""  # the argument that collects named values beside those listed, as (name, value) pairs
    tensor_names: tuple[str, ...] = ()  # names under which tensors may be given: `like = x`
    weights: tuple[str, ...] = ()  # names of the tensors it owns, for selectors
    example: str = ""

    def argument(self, name: str) -> Argument | None:
        return next((argument for argument in self.arguments if argument.name == name), None)


class Problem(Node):
    """Why a value does not fit an argument."""

    argument: str
    why: str


@cache
def model(entry: Entry) -> Any:
    """Return the pydantic model of an entry's arguments, built on first use."""
    from pydantic import ConfigDict, create_model

    fields: dict[str, Any] = {}
    for argument in entry.arguments:
        default = ... if argument.required else argument.default
        fields[argument.name] = (_annotation(argument), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True, protected_namespaces=())
    return create_model(entry.name, __config__=config, __doc__=entry.doc, **fields)


def validate(entry: Entry, given: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Problem, ...]]:
    """Check values against an entry; return all arguments with defaults filled in, and what is wrong."""
    from pydantic import ValidationError

    try:
        checked = model(entry)(**given)
    except ValidationError as error:
        return {}, tuple(dict.fromkeys(_problem(entry, item) for item in error.errors()))
    return {argument.name: getattr(checked, argument.name) for argument in entry.arguments}, ()


def _problem(entry: Entry, item: Any) -> Problem:
    where = item["loc"]
    name = str(where[0]) if where else ""
    argument = entry.argument(name)
    if argument is None:
        return Problem(argument=name, why=f"`{entry.name}` takes no argument called `{name}`")
    return Problem(argument=name, why=f"`{name}` must be {describe(argument)}")


_NOUNS = {
    "int": "a whole number",
    "size": "a whole number or a dimension",
    "real": "a number",
    "bool": "true or false",
    "text": "a text in quotes",
    "axis": "the number or the name of an axis",
    "layer": "a layer or operation",
    "selector": "a selector",
    "value": "a value",
    "choice": "a choice",
}


def is_word(argument: Argument) -> bool:
    """Return whether an argument takes a word of a family of the catalog, such as a distribution."""
    return argument.kind not in _NOUNS


def describe(argument: Argument) -> str:
    """Say in words what values an argument takes: "a whole number of at least 1"."""
    text = _NOUNS.get(argument.kind, f"a {argument.kind}")
    if argument.kind == "choice":
        text = "one of " + ", ".join(f'"{choice}"' for choice in argument.choices)
    bounds = [
        (argument.at_least, "of at least"),
        (argument.above, "above"),
        (argument.at_most, "of at most"),
        (argument.below, "below"),
    ]
    text += " and".join(f" {word} {_limit_text(limit)}" for limit, word in bounds if limit is not None)
    if argument.kind == "int" and argument.choices:
        text += ", or " + " or ".join(f'"{choice}"' for choice in argument.choices)
    if argument.listed == "yes":
        text = f"a list, each {text}"
    elif argument.listed == "either":
        text = f"{text}, or a list of these"
    return text + (", or none" if argument.nullable else "")


def _limit_text(limit: float) -> str:
    return f"{int(limit):,}" if float(limit).is_integer() else f"{limit:g}"


def _annotation(argument: Argument) -> Any:
    from pydantic import Field, StrictBool, StrictFloat, StrictInt, StrictStr

    from nnspec.dsl.dimensions import Dim

    kinds: dict[str, Any] = {
        "int": StrictInt,
        "size": StrictInt | Dim,
        "real": StrictInt | StrictFloat,
        "bool": StrictBool,
        "text": StrictStr,
        "axis": StrictInt | StrictStr,
        "choice": Literal[argument.choices] if argument.choices else StrictStr,
    }
    kind: Any = kinds.get(argument.kind, Any)
    limits = {"ge": argument.at_least, "gt": argument.above, "le": argument.at_most, "lt": argument.below}
    given: dict[str, Any] = {name: limit for name, limit in limits.items() if limit is not None}
    if given and argument.kind == "size":
        kind = Annotated[StrictInt, Field(**given)] | Dim
    elif given:
        kind = Annotated[kind, Field(allow_inf_nan=False, **given)]
    if argument.kind == "int" and argument.choices:
        kind = kind | Literal[argument.choices]
    if argument.listed == "yes":
        kind = tuple[kind, ...]
    elif argument.listed == "either":
        kind = kind | tuple[kind, ...]
    return kind | None if argument.nullable else kind


class Catalog:
    """Entries by family and name."""

    def __init__(self, entries: Iterable[Entry] = ()) -> None:
        self._families: dict[str, dict[str, Entry]] = {}
        for entry in entries:
            self.add(entry)

    def add(self, entry: Entry) -> None:
        """Add an entry; two claims to one word of one family are an error that names both."""
        family = self._families.setdefault(entry.family, {})
        if entry.name in family:
            raise ValueError(f"two {entry.family} entries are called {entry.name}")
        family[entry.name] = entry

    def find(self, family: str, name: str) -> Entry | None:
        return self._families.get(family, {}).get(name)

    def names(self, family: str) -> tuple[str, ...]:
        return tuple(self._families.get(family, ()))

    def families(self) -> tuple[str, ...]:
        return tuple(self._families)

    def anywhere(self, name: str) -> tuple[Entry, ...]:
        """Return the entries of any family with this name."""
        return tuple(family[name] for family in self._families.values() if name in family)
