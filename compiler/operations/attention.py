"""`attention` on values: queries, keys and values in, no weights inside. Heads are factors of the last axes."""

from __future__ import annotations

from nnspec.compiler.ir import Axis, Code, Type
from nnspec.compiler.operations.axes import product, python, real, whole
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import (
    Contract,
    Elementwise,
    Fixed,
    Labels,
    Middle,
    Move,
    Relation,
    Softmax,
    Term,
    axes_of,
)
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size
from nnspec.dsl.errors.shapes import HeadsMisfit

_NAMES = ("queries", "keys", "values")


class HeadsProblem(ShapeProblem):
    """Heads or groups that do not divide an axis, or do not fit each other."""

    error = HeadsMisfit


class Attention(Operation):
    name = "attention"
    doc = """Attention of queries to keys, whose values are mixed: softmax(scale * q k') v in each head.

    Queries are [T, heads * d], keys [S, groups * d], values [S, groups * e]; what comes out is [T, heads * e]. Axes
    before these are the same in all three, and kept. Head h reads group h // (heads / groups) of keys and values:
    with fewer groups than heads this is grouped-query attention, with one group multi-query attention. `causal` lets
    the query at position t read the keys up to t. A mask, `mask = allowed`, is bool[T, S], or bool[1, S] for all queries
    alike; true where a query may read. The scale is 1 / sqrt(d) unless given. It has no weights: `dense` layers make
    queries, keys and values, and `rotary` turns the first two by their positions."""
    inputs = (3, 4)
    tensor_names = ("mask",)
    arguments = (
        Argument(name="heads", kind="size", doc="how many heads share the last axis", default=1, at_least=1),
        Argument(
            name="groups",
            kind="size",
            doc="how many heads of keys and values there are; none for as many as heads",
            default=None,
            nullable=True,
            at_least=1,
        ),
        Argument(name="causal", kind="bool", doc="whether a position reads no later position", default=False),
        Argument(
            name="scale",
            kind="real",
            doc="the factor on the scores; none for 1 / sqrt(d)",
            default=None,
            nullable=True,
        ),
    )
    example = "mixed = attention(q, k, v, heads = 8, groups = 2, causal = true)"

    def heads(self, site: Site) -> int:
        """Return how many heads of queries there are."""
        return whole(site["heads"], "the number of heads")

    def groups(self, site: Site) -> int:
        """Return how many heads of keys and values there are."""
        return self.heads(site) if site["groups"] is None else whole(site["groups"], "the number of groups")

    def widths(self, site: Site) -> tuple[int, int]:
        """Return the widths of a head: of queries and keys, and of values."""
        q, _, v = (site.inputs[index].shape[-1] for index in range(3))
        return whole(q, "the last axis") // self.heads(site), whole(v, "the last axis") // self.groups(site)

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site, 0, 1, 2)
        heads, groups = self.heads(site), self.groups(site)
        if heads % groups:
            raise HeadsProblem(
                f"{heads} heads cannot share {groups} groups of keys and values evenly",
                expected=f"a number of groups that divides {heads}",
                found=f"groups = {groups}",
            )
        for index, parts in enumerate((heads, groups, groups)):
            _divided(site, index, parts)
        q, k, v = site.inputs[:3]
        self.agree(site)
        if site["causal"] and q.shape[-2] != k.shape[-2]:
            raise ShapeProblem(
                f"causal attention is of a sequence to itself; {q.shape[-2]} queries and {k.shape[-2]} keys",
                expected=f"{q.shape[-2]} keys",
                found=f"{k.shape[-2]}",
                axes=((0, -2), (1, -2)),
                help="`causal = false`, or `mask = ..`, true where a query may read",
            )
        if len(site.inputs) == 4:
            self.check_mask(site)
        _, width = self.widths(site)
        last = v.axes[-1] if heads == groups else Axis(size=heads * width)
        last = last.replace(factors=(heads, width) if heads > 1 else last.factors)
        return (q.replace(axes=(*q.axes[:-1], last)),)

    def agree(self, site: Site) -> None:
        """Refuse keys that are not as wide as queries, or not as many as values."""
        q, k, v = site.inputs[:3]
        ours, theirs = q.shape[-1] // self.heads(site), k.shape[-1] // self.groups(site)
        if ours != theirs:
            raise HeadsProblem(
                f"a head of queries is {ours} wide, one of keys {theirs}",
                expected=f"keys of {self.groups(site)} * {ours} = {self.groups(site) * ours}",
                found=f"{k}, {self.groups(site)} heads of {theirs}",
                axes=((0, -1), (1, -1)),
                help=_groups_help(site, k.shape[-1], ours),
            )
        if k.shape[-2] != v.shape[-2]:
            raise ShapeProblem(
                f"{k.shape[-2]} keys and {v.shape[-2]} values",
                expected=f"as many values as keys, {k.shape[-2]}",
                found=str(v),
                axes=((1, -2), (2, -2)),
            )
        for index, given in ((1, k), (2, v)):
            if given.shape[:-2] != q.shape[:-2]:
                raise ShapeProblem(
                    f"the axes before the sequence differ in queries and {_NAMES[index]}",
                    expected=f"{q}, as the queries but for the last two axes",
                    found=str(given),
                )

    def check_mask(self, site: Site) -> None:
        """Refuse a mask that is not one truth value for each pair of a query and a key."""
        (q, k, _, mask), wanted = site.inputs, site.inputs[0].shape[:-2]
        sizes = (*wanted, q.shape[-2], site.inputs[1].shape[-2])
        if mask.dtype == "bool" and mask.shape in (sizes, (*wanted, 1, k.shape[-2])):
            return
        raise ShapeProblem(
            "a mask has a truth value for each pair of a query and a key",
            expected=f"bool[{', '.join(map(str, sizes))}]",
            found=str(mask),
            help="`unsqueeze(allowed)` makes bool[S] bool[1, S], the same keys for every query"
            if mask.dtype == "bool" and mask.shape == sizes[-1:]
            else None,
        )

    def cost(self, site: Site) -> Cost:
        q, k = site.inputs[:2]
        width, other = self.widths(site)
        scores = product((*q.shape[:-1], k.shape[-2], self.heads(site)))
        return Cost(flops=scores * (2 * (width + other) + 6))

    def code(self, site: Site) -> Code | None:
        plain = self.heads(site) == 1 and len(site.inputs) == 3
        return None if plain else Code(file="attention", name="attention")

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        options: list[str] = []
        if self.code(site) is None:
            function, causal = "F.scaled_dot_product_attention", "is_causal"
        else:
            function, causal = weights["function"], "causal"
            options += [f"heads={site['heads']}", f"groups={self.groups(site)}"]
        options += [f"mask={inputs[3]}"] if len(inputs) == 4 else []
        options += [f"{causal}=True"] if site["causal"] else []
        options += [f"scale={python(site['scale'])}"] if site["scale"] is not None else []
        return f"{function}({', '.join((*inputs[:3], *options))})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        """The scale on the scores is left out: a number commutes with all that acts."""
        heads, groups = self.heads(site), self.groups(site)
        outer = axes_of(len(site.inputs[0].axes) - 2)
        head: Labels = ("g",) if groups > 1 else ()
        each: Labels = ("r",) if heads > groups else ()
        width, other = self.widths(site)
        (*before, queries, _), keys = site.inputs[0].shape, site.inputs[1].shape[-2]
        sizes: dict[str, Size] = {
            **dict(zip(outer, before, strict=True)),
            **{"g": groups, "r": heads // groups, "t": queries, "s": keys, "d": width, "e": other},
        }
        terms = {
            "q": Term(tensor="q", labels=(*outer, "t", *head, *each, "d")),
            "k": Term(tensor="k", labels=(*outer, "s", *head, "d")),
            "v": Term(tensor="v", labels=(*outer, "s", *head, "e")),
            "scores": Term(tensor="scores", labels=(*outer, *head, *each, "t", "s")),
            "shares": Term(tensor="shares", labels=(*outer, *head, *each, "t", "s")),
            "mixed": Term(tensor="mixed", labels=(*outer, "t", *head, *each, "e")),
        }
        middles = tuple(
            Middle(tensor=name, shape=tuple(sizes[label] for label in term.labels))
            for name, term in terms.items()
        )
        axis = len(terms["scores"].labels) - 1
        return (
            *middles,
            *(_split(f"in{index}", name, terms[name]) for index, name in enumerate("qkv")),
            Contract(terms=(terms["q"], terms["k"]), output=terms["scores"]),
            *self.told_apart(site, terms["scores"]),
            Softmax(input="scores", output="shares", axis=axis, total=1.0),
            Contract(terms=(terms["shares"], terms["v"]), output=terms["mixed"]),
            _merged("mixed", terms["mixed"]),
        )

    def told_apart(self, site: Site, scores: Term) -> tuple[Relation, ...]:
        """Return that a causal order, or a mask, tells queries and keys apart by their places."""
        made: list[Relation] = []
        places = (len(scores.labels) - 2, len(scores.labels) - 1)
        if len(site.inputs) == 4:
            # Nothing may act on the mask itself.
            shape = site.inputs[3].shape
            labels, axes = axes_of(len(shape), "m"), tuple(range(len(shape)))
            made += [
                Middle(tensor="mask", shape=shape),
                Elementwise(
                    terms=(Term(tensor="in3", labels=labels),), output=Term(tensor="mask", labels=labels)
                ),
                Fixed(tensor="in3", axes=axes, why="a mask says which pairs there are"),
            ]
            places = tuple(range(len(scores.labels)))
        if site["causal"] or len(site.inputs) == 4:
            why = "positions are told apart by which of them may be read"
            made.append(Fixed(tensor="scores", axes=places, why=why))
        return tuple(made)


def _divided(site: Site, index: int, parts: int) -> None:
    """Refuse an input whose last axis so many heads do not share evenly."""
    given = site.inputs[index]
    if len(given.axes) < 2:
        raise ShapeProblem(
            f"its {_NAMES[index]} need an axis of positions and one of entries",
            expected=f"{_NAMES[index]} [positions, entries]",
            found=str(given),
        )
    size = whole(given.shape[-1], f"the last axis of its {_NAMES[index]}", ((index, -1),))
    if size % parts:
        word = "heads" if index == 0 else "groups" if site["groups"] else "heads"
        raise HeadsProblem(
            f"{parts} {word} cannot share the {size} entries of its {_NAMES[index]} evenly: "
            f"{size} = {parts} * {size // parts} + {size % parts}",
            expected=f"a multiple of {parts} as the last axis of its {_NAMES[index]}",
            found=str(given),
            axes=((index, -1),),
            help=None if index == 0 else _groups_help(site, size, site.inputs[0].shape[-1] // site["heads"]),
        )


def _groups_help(site: Site, size: Size, width: Size) -> str | None:
    """Say how many groups keys or values of this size would be, if that can be."""
    if not isinstance(size, int) or not isinstance(width, int) or not width or size % width:
        return None
    groups = size // width
    return f"`groups = {groups}`" if groups and site["heads"] % groups == 0 else None


def _split(given: str, name: str, term: Term) -> Move:
    """Return that an input's last axis falls into what follows the positions in a term."""
    place = next(i for i, label in enumerate(term.labels) if label in ("t", "s"))
    inner = tuple(range(place + 1, len(term.labels)))
    kept = tuple(((axis,), (axis,)) for axis in range(place + 1))
    return Move(input=given, output=name, groups=(*kept, ((place + 1,), inner)))


def _merged(name: str, term: Term) -> Move:
    """Return that the output's last axis is what follows the positions in a term."""
    back = _split("out0", name, term)
    return Move(input=name, output="out0", groups=tuple((outs, ins) for ins, outs in back.groups))


OPERATIONS = (Attention(),)
