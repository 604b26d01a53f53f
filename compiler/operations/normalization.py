"""`batchnorm`, `layernorm`, `rmsnorm`."""

from __future__ import annotations

from nnspec.compiler.ir import Tensor, Type
from nnspec.compiler.operations.axes import elements, real, whole
from nnspec.compiler.operations.operation import Cost, Operation, ShapeProblem, Site, last_axis
from nnspec.compiler.relations import Contract, Middle, Normalize, Relation, Term, axes_of
from nnspec.dsl.catalog import Argument

_AFFINE = Argument(name="affine", kind="bool", doc="whether a learned gain and shift follow", default=True)


def _epsilon(default: float) -> Argument:
    return Argument(
        name="epsilon",
        kind="real",
        doc="added to the variance, against division by zero",
        default=default,
        above=0.0,
    )


def _along_last(site: Site, group: str, *, shift: bool) -> tuple[Relation, ...]:
    last = len(site.inputs[0].axes) - 1
    norm = Normalize(input="in0", output="out0", axes=(last,), group=group, epsilon=site["epsilon"])
    return _with_affine(site, norm, (*axes_of(last), "c"), shift=shift)


def _with_affine(
    site: Site, norm: Normalize, labels: tuple[str, ...], *, shift: bool
) -> tuple[Relation, ...]:
    """Return the relations of a norm with its gain and shift along `c`, if it has them."""
    if not site["affine"]:
        return (norm,)
    return (
        Middle(tensor="normal", shape=site.outputs[0].shape),
        norm.replace(output="normal"),
        Contract(
            terms=(Term(tensor="normal", labels=labels), Term(tensor="weight", labels=("c",))),
            output=Term(tensor="out0", labels=labels),
            bias=Term(tensor="bias", labels=("c",)) if shift else None,
        ),
    )


class BatchNorm(Operation):
    name = "batchnorm"
    doc = """Each channel minus its mean, over its standard deviation, then gain and shift:
    y = gain * (x - mean) / sqrt(variance + epsilon) + shift.

    Channels are the first axis: [c], [c, T] or [c, h, w]. In training, mean and variance are those of the
    batch; running estimates (moving by `momentum` a step) are kept for evaluation."""
    arguments = (
        Argument(
            name="momentum",
            kind="real",
            doc="step of the running estimates",
            default=0.1,
            above=0.0,
            at_most=1.0,
        ),
        _epsilon(1e-5),
        _AFFINE,
    )
    owns = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    batch_coupled = True
    example = "x = image -> conv2d(16, kernel = 3) -> batchnorm -> relu"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        given = site.inputs[0]
        if not 1 <= len(given.axes) <= 3:
            raise ShapeProblem(
                "works on channels", expected="[c], [c, T] or [c, height, width]", found=str(given)
            )
        whole(given.axes[0].size, "the number of channels", ((0, 0),))
        return (given,)

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        shape = site.inputs[0].shape[:1]
        learned = [Tensor(name=name, shape=shape) for name in ("weight", "bias") if site["affine"]]
        running = [Tensor(name=name, shape=shape, kind="buffer") for name in ("running_mean", "running_var")]
        count = Tensor(name="num_batches_tracked", shape=(), kind="buffer", dtype="int")
        return (*learned, *running, count)

    def cost(self, site: Site) -> Cost:
        return Cost(flops=(4 if site["affine"] else 2) * elements(site.inputs[0]))

    def module(self, site: Site) -> str:
        given = site.inputs[0]
        kind = "BatchNorm2d" if len(given.axes) == 3 else "BatchNorm1d"
        options = [
            f", {name}={value!r}"
            for name, value, default in (
                ("eps", site["epsilon"], 1e-5),
                ("momentum", site["momentum"], 0.1),
                ("affine", site["affine"], True),
            )
            if value != default
        ]
        return f"nn.{kind}({given.shape[0]}{''.join(options)})"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        parts = [inputs[0], weights["running_mean"], weights["running_var"]]
        if site["affine"]:
            parts += [weights["weight"], weights["bias"]]
        parts += [
            f"training={weights['training']}",
            f"momentum={site['momentum']!r}",
            f"eps={site['epsilon']!r}",
        ]
        return f"F.batch_norm({', '.join(parts)})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        norm = Normalize(
            input="in0",
            output="out0",
            axes=(0,),
            group="unit",
            epsilon=site["epsilon"],
            mean="running_mean",
            variance="running_var",
        )
        return _with_affine(site, norm, ("c", *axes_of(len(site.inputs[0].axes) - 1)), shift=True)


class LayerNorm(Operation):
    name = "layernorm"
    doc = """Each vector along the last axis minus its mean, over its standard deviation, then gain and shift:
    y = gain * (x - mean(x)) / sqrt(variance(x) + epsilon) + shift."""
    arguments = (_epsilon(1e-5), _AFFINE)
    owns = ("weight", "bias")
    keeps = True
    example = "y = x + (x -> layernorm -> dense(64))"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        whole(last_axis(site).size, "the size of the last axis", ((0, -1),))
        return site.inputs

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        shape = site.inputs[0].shape[-1:]
        return tuple(Tensor(name=name, shape=shape) for name in ("weight", "bias") if site["affine"])

    def cost(self, site: Site) -> Cost:
        return Cost(flops=(8 if site["affine"] else 6) * elements(site.inputs[0]))

    def module(self, site: Site) -> str:
        epsilon = "" if site["epsilon"] == 1e-5 else f", eps={site['epsilon']!r}"
        affine = "" if site["affine"] else ", elementwise_affine=False"
        return f"nn.LayerNorm({site.inputs[0].shape[-1]}{epsilon}{affine})"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        parts = [inputs[0], f"({site.inputs[0].shape[-1]},)"]
        if site["affine"]:
            parts += [weights["weight"], weights["bias"]]
        return f"F.layer_norm({', '.join(parts)}, eps={site['epsilon']!r})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        return _along_last(site, "centred", shift=True)


class RmsNorm(Operation):
    name = "rmsnorm"
    doc = """Each vector along the last axis over its root mean square, then a gain:
    y = gain * x / sqrt(mean(x^2) + epsilon)."""
    arguments = (_epsilon(1e-6), _AFFINE)
    owns = ("weight",)
    keeps = True
    example = "y = x + (x -> rmsnorm -> dense(64))"

    def shape(self, site: Site) -> tuple[Type, ...]:
        real(site)
        whole(last_axis(site).size, "the size of the last axis", ((0, -1),))
        return site.inputs

    def tensors(self, site: Site) -> tuple[Tensor, ...]:
        weight = Tensor(name="weight", shape=site.inputs[0].shape[-1:])
        return (weight,) if site["affine"] else ()

    def cost(self, site: Site) -> Cost:
        return Cost(flops=(4 if site["affine"] else 3) * elements(site.inputs[0]))

    def module(self, site: Site) -> str:
        affine = "" if site["affine"] else ", elementwise_affine=False"
        return f"nn.RMSNorm({site.inputs[0].shape[-1]}, eps={site['epsilon']!r}{affine})"

    def call(self, site: Site, inputs: tuple[str, ...], weights: dict[str, str]) -> str:
        gain = f", {weights['weight']}" if site["affine"] else ""
        return f"F.rms_norm({inputs[0]}, ({site.inputs[0].shape[-1]},){gain}, eps={site['epsilon']!r})"

    def relate(self, site: Site) -> tuple[Relation, ...]:
        return _along_last(site, "orthogonal", shift=False)


OPERATIONS = (BatchNorm(), LayerNorm(), RmsNorm())
