"""Convolutions: `conv1d` on sequences, `conv2d` on images."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.ir import Axis, Tensor, Type
from nnspec.compiler.operations.axes import elements, product, python, whole
from nnspec.compiler.operations.operation import Around, Cost, ShapeProblem, Site
from nnspec.compiler.operations.sliding import ALONG, Sliding, several, windowed
from nnspec.compiler.relations import Contract, Middle, Move, Relation, Term
from nnspec.dsl.catalog import Argument


def _arguments(listed: str, sides: str) -> tuple[Argument, ...]:
    return (
        Argument(name="channels", kind="size", doc="how many output channels", at_least=1),
        Argument(name="kernel", kind="int", doc="size of the window", listed=listed, at_least=1),
        Argument(name="stride", kind="int", doc="step of the window", default=1, listed=listed, at_least=1),
        Argument(
            name="padding",
            kind="int",
            doc=f"zeros around the {sides}",
            default="valid",
            choices=("valid", "same"),
            at_least=0,
        ),
        Argument(
            name="dilation", kind="int", doc="spacing in the window", default=1, listed=listed, at_least=1
        ),
        Argument(name="groups", kind="int", doc="independent groups of channels", default=1, at_least=1),
        Argument(name="bias", kind="bool", doc="whether there is a b", default=True),
        ALONG,
    )


class Convolution(Sliding):
    """A linear map of small windows; `count` directions."""

    owns = ("weight", "bias")
    linear = True

    def __init__(self, count: int, doc: str, example: str) -> None:
        self.count = count
        self.directions = (count,)
        self.name = f"conv{count}d"
        self.doc = doc
        self.example = example
        self.arguments = _arguments("either" if count > 1 else "no", "image" if count > 1 else "sequence")

    def numbers(self, value: Any) -> tuple[int, ...]:
        """Return a number for each direction."""
        return several(value, self.count)

    def padding(self, site: Site) -> tuple[int, ...]:
        """Return the zeros on each side, none for "same", which `slid` treats apart."""
        given = site["padding"]
        return self.numbers(given if isinstance(given, int) else 0)

    def slid(self, site: Site) -> Type:
        channels, *directions = site.inputs[0].axes
        self.check_groups(site, whole(channels.size, "the number of channels", ((0, 0),)))
        kernel, out = self.numbers(site["kernel"]), Axis(size=site["channels"])
        if site["padding"] == "same":
            if set(self.numbers(site["stride"])) != {1}:
                raise ShapeProblem(
                    '"same" padding keeps the size, which a stride does not',
                    expected="stride = 1",
                    found=f"stride = {site['stride']}",
                    help=f"`padding = {kernel[0] // 2}` halves the size with a stride of 2",
                )
            return site.inputs[0].replace(axes=(out, *directions))
        return site.inputs[0].replace(axes=(out, *windowed(site, kernel, self.padding(site))))

    def check_groups(self, site: Site, channels: int) -> None:
        groups, out = site["groups"], whole(site["channels"], "the number of channels")
        for what, count in (("input", channels), ("output", out)):
            if count % groups:
                raise ShapeProblem(
                    f"{groups} groups do not divide the {count} {what} channels",
                    expected=f"a multiple of {groups}",
                    found=str(count),
                    axes=((0, 0),) if what == "input" else (),
                )

    def inside(self, site: Site) -> Any:
        """Return the number of channels that one output channel sees."""
        return self.turned(site).inputs[0].shape[0] // site["groups"]

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        shape = (site["channels"], self.inside(site), *self.numbers(site["kernel"]))
        weight = Tensor(name="weight", shape=shape)
        return (weight, Tensor(name="bias", shape=(site["channels"],))) if site["bias"] else (weight,)

    def cost(self, site: Site) -> Cost:
        window = product(self.numbers(site["kernel"]))
        return Cost(flops=2 * elements(site.outputs[0]) * self.inside(site) * window)

    def options(self, site: Site) -> list[tuple[str, Any]]:
        """Return the options that differ from torch's defaults, under torch's names."""
        padding = 0 if site["padding"] == "valid" else site["padding"]
        given = (
            ("stride", site["stride"], 1),
            ("padding", padding, 0),
            ("dilation", site["dilation"], 1),
            ("groups", site["groups"], 1),
        )
        return [(name, value) for name, value, default in given if value != default]

    def module(self, site: Site) -> str:
        parts = [str(self.turned(site).inputs[0].shape[0]), str(site["channels"]), repr(site["kernel"])]
        parts += [f"{name}={python(value)}" for name, value in self.options(site)]
        return f"nn.Conv{self.count}d({', '.join(parts + ([] if site['bias'] else ['bias=False']))})"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        parts = [
            self.arranged(site, inputs[0]),
            weights["weight"],
            *([weights["bias"]] if site["bias"] else []),
        ]
        parts += [f"{name}={python(value)}" for name, value in self.options(site)]
        return self.restored(site, f"F.conv{self.count}d({', '.join(parts)})")

    def pullback(self, site: Site, around: Around, weights: dict[str, str]) -> str | None:
        """The transposed convolution; rows that no window reached are made up for by `output_padding`."""
        turned = self.turned(site)
        kernel, stride, dilation = (self.numbers(site[name]) for name in ("kernel", "stride", "dilation"))
        extents = [spacing * (size - 1) + 1 for spacing, size in zip(dilation, kernel, strict=True)]
        same = site["padding"] == "same"
        padding = tuple((extent - 1) // 2 for extent in extents) if same else self.padding(site)
        sizes = [(a.size, b.size) for a, b in zip(turned.inputs[0].axes, turned.outputs[0].axes, strict=True)]
        left: list[int] = []
        for (before, after), step, border, extent in zip(sizes[1:], stride, padding, extents, strict=True):
            if not isinstance(before, int) or not isinstance(after, int) or (same and extent % 2 == 0):
                return None
            left.append(before - ((after - 1) * step - 2 * border + extent))
        options = (
            ("stride", stride, 1),
            ("padding", padding, 0),
            ("output_padding", tuple(left), 0),
            ("groups", (site["groups"],), 1),
            ("dilation", dilation, 1),
        )
        parts = [self.arranged(site, around.cotangent), weights["weight"]]
        for name, numbers, default in options:
            if set(numbers) != {default}:
                parts.append(f"{name}={numbers[0] if len(set(numbers)) == 1 else numbers!r}")
        return self.restored(site, f"F.conv_transpose{self.count}d({', '.join(parts)})")

    def related(self, site: Site) -> tuple[Relation, ...]:
        inside, window, outside = (
            tuple(f"#{stem}{direction}" for direction in range(self.count)) for stem in ("in", "p", "out")
        )
        made = Contract(
            terms=(
                Term(tensor="in0", labels=("i", *inside)),
                Term(tensor="weight", labels=("o", "i", *window)),
            ),
            output=Term(tensor="out0", labels=("o", *outside)),
            bias=Term(tensor="bias", labels=("o",)) if site["bias"] else None,
            uniform=self.unpadded(site),
        )
        return (made,) if site["groups"] == 1 else self.grouped(site, made)

    def unpadded(self, site: Site) -> bool:
        """Return whether no window reaches over the border."""
        alone = site["padding"] == "same" and set(self.numbers(site["kernel"])) == {1}
        return alone or site["padding"] in ("valid", 0)

    def grouped(self, site: Site, plain: Contract) -> tuple[Relation, ...]:
        """Return the relations where channels are groups of channels."""
        groups, given, out = site["groups"], site.inputs[0].shape, site.outputs[0].shape
        inside, outside = given[0] // groups, out[0] // groups
        split = ((0,), (0, 1))
        rest = tuple(((place,), (place + 1,)) for place in range(1, self.count + 1))
        kernels = tuple(((place,), (place + 1,)) for place in range(1, self.count + 2))
        made: list[Relation] = [
            Middle(tensor="grouped", shape=(groups, inside, *given[1:])),
            Move(input="in0", output="grouped", groups=(split, *rest)),
            Middle(tensor="kernels", shape=(groups, outside, inside, *self.numbers(site["kernel"]))),
            Move(input="weight", output="kernels", groups=(split, *kernels)),
            Middle(tensor="result", shape=(groups, outside, *out[1:])),
        ]
        if site["bias"]:
            made += [
                Middle(tensor="shifts", shape=(groups, outside)),
                Move(input="bias", output="shifts", groups=(split,)),
            ]
        taken, weight = plain.terms
        contract = plain.replace(
            terms=(
                Term(tensor="grouped", labels=("g", *taken.labels)),
                Term(tensor="kernels", labels=("g", *weight.labels)),
            ),
            output=Term(tensor="result", labels=("g", *plain.output.labels)),
            bias=Term(tensor="shifts", labels=("g", "o")) if site["bias"] else None,
        )
        joined = Move(input="result", output="out0", groups=(((0, 1), (0,)), *((b, a) for a, b in rest)))
        return (*made, contract, joined)


OPERATIONS = (
    Convolution(
        1,
        """A linear map of small windows of a sequence: y[o, t] = b[o] + sum over c, p of
    W[o, c, p] * x[c, stride * t + dilation * p].

    On [channels, length], or along the axis that `along` names. Padding as in `conv2d`. The cost counts products
    with W, not the addition of b.""",
        "features = tokens -> conv1d(16, kernel = 3, along = T)",
    ),
    Convolution(
        2,
        """A linear map of small windows: y[o, i, j] = b[o] + sum over c, p, q of
    W[o, c, p, q] * x[c, stride * i + dilation * p, stride * j + dilation * q].

    On [channels, height, width], or along the two axes that `along` names. Padding adds zeros around the image: "valid"
    none, "same" as many as keep the size (stride 1), or a number for each side. The cost counts products with
    W, not the addition of b.""",
        "features = image -> conv2d(16, kernel = 3) -> relu",
    ),
)
