"""`einsum`: sums of products of entries, by a pattern of names."""

from __future__ import annotations

from string import ascii_letters

from nnspec.compiler.ir import Axis, Type
from nnspec.compiler.operations import patterns
from nnspec.compiler.operations.axes import elements, product
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.operations.patterns import REST, Axes, PatternProblem, Side
from nnspec.compiler.relations import Contract, Relation, Term
from nnspec.dsl.catalog import Argument


class Einsum(Operation):
    name = "einsum"
    doc = """The sum of products over the names that only stand before the arrow: `einsum("i j, j k -> i k", a, b)` is
    the matrix product, sum over j of a[i, j] * b[j, k].

    One list of names for each input; names that stand in several are one index. `..` is any number of leading axes
    that all inputs with a `..` have in common. The pattern never names the batch. The cost is that of the sum
    as it stands."""
    inputs = (1, None)
    aligns = True
    arguments = (
        Argument(name="pattern", kind="text", doc="the axes of each input, and those that come out"),
    )
    example = 'scores = einsum("i d, j d -> i j", q, k)'

    def laid(self, site: Site) -> tuple[tuple[Axes, ...], Side, dict[str, Axis]]:
        """Return the axes of each input by name, the names that come out, and the axis of each name."""
        pattern: str = site["pattern"]
        sides, right = patterns.read(pattern, len(site.inputs))
        for side in (*sides, right):
            if any(len(group) != 1 for group in side):
                raise PatternProblem(
                    "`einsum` takes whole axes",
                    expected="names and `..`",
                    found=f'"{pattern}"',
                    help="`rearrange` first",
                )
        axes = tuple(
            patterns.lay(side, given, {}, i)
            for i, (side, given) in enumerate(zip(sides, site.inputs, strict=True))
        )
        named: dict[str, Axis] = {}
        for index, (own, given) in enumerate(zip(axes, site.inputs, strict=True)):
            for place, name in enumerate(own.names):
                first = named.setdefault(name, own.named[name])
                if first.size != own.named[name].size:
                    raise ShapeProblem(
                        f"`{REST if name.startswith(REST) else name}` is {first.size} and {own.named[name].size}",
                        expected=f"{first.size} in every input",
                        found=f"{given}, as its input {index + 1}",
                        axes=((index, place),),
                    )
        widest = max(axes, key=lambda own: sum(name.startswith(REST) for name in own.names))
        counts = {
            sum(n.startswith(REST) for n in own.names)
            for own, side in zip(axes, sides, strict=True)
            if (REST,) in side
        }
        if len(counts) > 1:
            raise ShapeProblem(
                "`..` stands for different numbers of axes", expected="as many in each input", found=pattern
            )
        every = Axes(groups=tuple((name,) for name in dict.fromkeys((*widest.names, *named))), named=named)
        return axes, patterns.agree(every, right, pattern, all_kept=False), named

    def shape(self, site: Site) -> tuple[Type, ...]:
        kinds = {given.dtype for given in site.inputs}
        if len(kinds) > 1 or kinds == {"bool"}:
            raise ShapeProblem(
                "its inputs must be numbers of one kind",
                expected=str(site.inputs[0].replace(dtype="real")),
                found=", ".join(str(given) for given in site.inputs),
            )
        _, groups, named = self.laid(site)
        _letters(tuple(named), batched=True)  # more names than letters are refused here
        return (site.inputs[0].replace(axes=patterns.grouped(groups, named)),)

    def cost(self, site: Site) -> Cost:
        axes, groups, named = self.laid(site)
        summed = [axis.size for name, axis in named.items() if (name,) not in groups]
        terms = elements(site.outputs[0]) * product(tuple(summed))
        return Cost(flops=(len(axes) - 1 + bool(summed)) * terms)

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        axes, groups, named = self.laid(site)
        letters = _letters(tuple(named), site.batched)
        batch = letters[""] if site.batched else ""
        before = ",".join(
            (batch if given.batched else "") + "".join(letters[name] for name in own.names)
            for own, given in zip(axes, site.inputs, strict=True)
        )
        after = batch + "".join(letters[name] for group in groups for name in group)
        return f'torch.einsum("{before}->{after}", {", ".join(inputs)})'

    def relate(self, site: Site) -> tuple[Relation, ...]:
        axes, groups, named = self.laid(site)
        out = tuple(name for group in groups for name in group)
        gone = [axis.size for name, axis in named.items() if name not in out]
        count = product(tuple(gone))
        terms = tuple(Term(tensor=f"in{index}", labels=own.names) for index, own in enumerate(axes))
        ones = float(count) if len(terms) == 1 and isinstance(count, int) else None
        return (Contract(terms=terms, output=Term(tensor="out0", labels=out), ones=ones),)


def _letters(names: tuple[str, ...], batched: bool) -> dict[str, str]:
    """Return a letter for each name, its first one if that is free."""
    found = {"": "b"} if batched else {}
    for name in sorted(names, key=lambda name: len(name) > 1):
        free = [letter for letter in ascii_letters if letter not in found.values()]
        if not free:
            raise PatternProblem(
                "too many names", expected=f"at most {len(found) - batched}", found=str(len(names))
            )
        found[name] = name[0] if name[0] in free else free[0]
    return found


OPERATIONS = (Einsum(),)
