"""`conv2d`, and how the size of an image changes under a sliding window."""

from __future__ import annotations

from typing import Any, cast

from nnspec.compiler.ir import Axis, Tensor, Type
from nnspec.compiler.operations.axes import elements, product, python, real, shape_text, whole
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site
from nnspec.compiler.relations import Contract, Middle, Move, Relation, Term
from nnspec.dsl.catalog import Argument
from nnspec.dsl.dimensions import Size


def image(site: Site) -> tuple[Axis, Axis, Axis]:
    """Return the axes of an input that must be [channels, height, width]."""
    real(site)
    given = site.inputs[0]
    if len(given.axes) != 3:
        missing = len(given.axes) == 2
        raise ShapeProblem(
            "works on images",
            expected="three axes: [channels, height, width]",
            found=str(given),
            help=f"`reshape([1, {given.shape[0]}, {given.shape[1]}])` adds a channel" if missing else None,
        )
    channels, height, width = given.axes
    return channels, height, width


def pair(value: Any) -> tuple[int, int]:
    """Return (height, width) of an argument that is one number or a list of two."""
    if not isinstance(value, tuple):
        return value, value
    listed = cast("tuple[int, ...]", value)
    if len(listed) != 2:
        found = shape_text(listed)
        raise ShapeProblem("one number, or one for each direction", expected="[h, w]", found=found)
    return listed[0], listed[1]


def windowed(site: Site, kernel: tuple[int, int], padding: tuple[int, int]) -> tuple[Axis, Axis]:
    """Return height and width after a window of this extent has slid over the padded image."""
    strides = pair(site["stride"] or kernel)
    dilation = pair(site.arguments.get("dilation", 1))
    axes = image(site)[1:]
    return (
        _slide(axes[0], kernel[0], strides[0], dilation[0], padding[0], 1),
        _slide(axes[1], kernel[1], strides[1], dilation[1], padding[1], 2),
    )


def _slide(axis: Axis, kernel: int, stride: int, dilation: int, padding: int, place: int) -> Axis:
    extent = dilation * (kernel - 1) + 1
    room = axis.size + 2 * padding - extent
    if isinstance(room, int) and room < 0:
        padded = f"{axis.size} + 2 * {padding}" if padding else f"{axis.size}"
        spread = f" (dilated to {extent})" if dilation > 1 else ""
        raise ShapeProblem(
            f"the kernel is larger than the image: {padded} - {extent} = {room}",
            expected=f"a size of at least {extent - 2 * padding}",
            found=f"{axis.size}, under a kernel of {kernel}{spread}",
            axes=((0, place),),
            help='a smaller kernel, or `padding = "same"`',
        )
    size: Size = room // stride + 1
    # The very axis is passed on where nothing changes, with its name and its reason.
    return axis if size == axis.size else Axis(size=size)


class Conv2d(Operation):
    name = "conv2d"
    doc = """A linear map of small windows: y[o, i, j] = b[o] + sum over c, p, q of
    W[o, c, p, q] * x[c, stride * i + dilation * p, stride * j + dilation * q].

    On [channels, height, width]. Padding adds zeros around the image: "valid" none, "same" as many as keep
    the size (stride 1), or a number for each side. The cost counts products with W, not the addition of b."""
    arguments = (
        Argument(name="channels", kind="size", doc="how many output channels", at_least=1),
        Argument(name="kernel", kind="int", doc="size of the window", listed="either", at_least=1),
        Argument(name="stride", kind="int", doc="step of the window", default=1, listed="either", at_least=1),
        Argument(
            name="padding",
            kind="int",
            doc="zeros around the image",
            default="valid",
            choices=("valid", "same"),
            at_least=0,
        ),
        Argument(
            name="dilation", kind="int", doc="spacing in the window", default=1, listed="either", at_least=1
        ),
        Argument(name="groups", kind="int", doc="independent groups of channels", default=1, at_least=1),
        Argument(name="bias", kind="bool", doc="whether there is a b", default=True),
    )
    owns = ("weight", "bias")
    example = "features = image -> conv2d(16, kernel = 3) -> relu"

    def padding(self, site: Site) -> tuple[int, int]:
        """Return the zeros on each side, (0, 0) for "same", which `shape` treats apart."""
        given = site["padding"]
        return (given, given) if isinstance(given, int) else (0, 0)

    def shape(self, site: Site) -> tuple[Type, ...]:
        channels, height, width = image(site)
        self.check_groups(site, whole(channels.size, "the number of channels", ((0, 0),)))
        kernel, out = pair(site["kernel"]), Axis(size=site["channels"])
        if site["padding"] == "same":
            if pair(site["stride"]) != (1, 1):
                raise ShapeProblem(
                    '"same" padding keeps the size, which a stride does not',
                    expected="stride = 1",
                    found=f"stride = {site['stride']}",
                    help=f"`padding = {kernel[0] // 2}` halves the size with a stride of 2",
                )
            return (site.inputs[0].replace(axes=(out, height, width)),)
        return (site.inputs[0].replace(axes=(out, *windowed(site, kernel, self.padding(site)))),)

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

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        inside = site.inputs[0].shape[0] // site["groups"]
        weight = Tensor(name="weight", shape=(site["channels"], inside, *pair(site["kernel"])))
        return (weight, Tensor(name="bias", shape=(site["channels"],))) if site["bias"] else (weight,)

    def cost(self, site: Site) -> Cost:
        inside = site.inputs[0].shape[0] // site["groups"]
        return Cost(flops=2 * elements(site.outputs[0]) * inside * product(pair(site["kernel"])))

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
        parts = [str(site.inputs[0].shape[0]), str(site["channels"]), repr(site["kernel"])]
        parts += [f"{name}={python(value)}" for name, value in self.options(site)]
        return f"nn.Conv2d({', '.join(parts + ([] if site['bias'] else ['bias=False']))})"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        parts = [inputs[0], weights["weight"], weights["bias"] if site["bias"] else "None"]
        options = self.options(site)
        if not site["bias"]:
            parts.pop()
        return f"F.conv2d({', '.join(parts + [f'{name}={python(value)}' for name, value in options])})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        kernel = ("#p", "#q")
        made = Contract(
            terms=(
                Term(tensor="in0", labels=("i", "#h", "#w")),
                Term(tensor="weight", labels=("o", "i", *kernel)),
            ),
            output=Term(tensor="out0", labels=("o", "#rows", "#columns")),
            bias=Term(tensor="bias", labels=("o",)) if site["bias"] else None,
            uniform=self.unpadded(site),
        )
        return (made,) if site["groups"] == 1 else self.grouped(site, made)

    def unpadded(self, site: Site) -> bool:
        """Return whether no window reaches over the border of the image."""
        alone = site["padding"] == "same" and pair(site["kernel"]) == (1, 1)
        return alone or site["padding"] in ("valid", 0)

    def grouped(self, site: Site, plain: Contract) -> tuple[Relation, ...]:
        """Return the relations where channels are groups of channels."""
        groups, given, out = site["groups"], site.inputs[0].shape, site.outputs[0].shape
        inside, outside = given[0] // groups, out[0] // groups
        split = ((0,), (0, 1))
        made: list[Relation] = [
            Middle(tensor="grouped", shape=(groups, inside, *given[1:])),
            Move(input="in0", output="grouped", groups=(split, ((1,), (2,)), ((2,), (3,)))),
            Middle(tensor="kernels", shape=(groups, outside, inside, *pair(site["kernel"]))),
            Move(
                input="weight",
                output="kernels",
                groups=(split, ((1,), (2,)), ((2,), (3,)), ((3,), (4,))),
            ),
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
        joined = Move(input="result", output="out0", groups=(((0, 1), (0,)), ((2,), (1,)), ((3,), (2,))))
        return (*made, contract, joined)


OPERATIONS = (Conv2d(),)
