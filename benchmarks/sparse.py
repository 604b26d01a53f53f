"""Training a sparse layer without its zeros, beside the same layer dense with a mask.

In: nothing. Out: tables in Markdown: steps of a square layer at batch 128, one thread, as we emit it and by hand as
`F.linear(x, weight * mask)`, ratios of medians of interleaved rounds in one run; and what each stores. The second
table tries every form at several sizes and densities: the rule by which `sparse` chooses comes from it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import torch
from rounds import seconds, table
from torch import Tensor, nn
from torch.nn import functional

from nnspec.compiler.constraints.code import sparse
from nnspec.compiler.emit.load import module
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

BATCH, ROUNDS = 128, 15
SPEC = """
network net {{
  input  x: real[{n}]
  output y: real[{n}] = x -> dense({n}) as fc
  constrain fc.weight: {constraint}
}}
"""


class Masked(nn.Module):
    """A layer by hand: all entries are stored, and multiplied by the mask in each forward."""

    def __init__(self, mask: Tensor) -> None:
        super().__init__()
        self.fc = nn.Linear(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.fc.weight * self.mask, self.fc.bias)


def ours(n: int, constraint: str) -> nn.Module:
    bag = Bag()
    checked = check(Source("net.nnspec", SPEC.format(n=n, constraint=constraint)), bag)
    graph = checked.graph(checked.networks()[0])
    assert graph is not None and not bag.failed
    return module(graph)


def training(net: nn.Module, n: int, optimize: bool) -> Callable[[], None]:
    """Return one step: forward, backward (to the input too, as in the middle of a network), perhaps Adam."""
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-4, fused=True)
    x, target = torch.randn(BATCH, n, requires_grad=True), torch.randn(BATCH, n)

    def step() -> None:
        optimizer.zero_grad()
        x.grad = None
        (net(x) * target).sum().backward()
        if optimize:
            optimizer.step()

    return step


def stored(net: nn.Module) -> float:
    """Return the megabytes of what is stored: the state, the gradients, and what Adam keeps."""
    state = sum(t.numel() * t.element_size() for t in net.state_dict().values())
    return (state + 3 * sum(p.numel() * p.element_size() for p in net.parameters())) / 1e6


def layer(n: int, constraint: str, density: float) -> list[str]:
    kept, dense = ours(n, constraint), Masked(torch.rand(n, n) < density)
    times = seconds(
        {
            "ours": training(kept, n, optimize=False),
            "masked": training(dense, n, optimize=False),
            "our step": training(kept, n, optimize=True),
            "masked step": training(dense, n, optimize=True),
        },
        ROUNDS,
    )
    passes, steps = times["masked"] / times["ours"], times["masked step"] / times["our step"]
    sizes = (f"{stored(kept):.1f} MB", f"{stored(dense):.1f} MB")
    cells = (f"{times['ours'] * 1e3:.1f} ms", f"{times['masked'] * 1e3:.1f} ms", f"**{passes:.1f}**")
    return [f"{n} x {n}, `{constraint}`", *cells, f"**{steps:.1f}**", *sizes]


def forms(n: int, density: float, block: int) -> list[str]:
    """Return how many times faster than the mask each form is."""
    weight = torch.randn(n, n) / n**0.5
    mask = sparse.random_mask(weight, density)
    values, ends, columns = sparse.compressed_rows(weight, mask)
    blocks, which = sparse.random_blocks(weight, max(1, round(density * n / block)), block)
    x, target = torch.randn(BATCH, n, requires_grad=True), torch.randn(BATCH, n)

    def passes(forward: Callable[[Tensor], Tensor], learned: Tensor) -> Callable[[], None]:
        def run() -> None:
            learned.grad = x.grad = None
            forward(learned).backward(target)

        learned.requires_grad_()
        return run

    times = seconds(
        {
            "masked": passes(lambda w: functional.linear(x, w * mask), weight),
            "rows": passes(lambda v: sparse.sparse_linear(x, v, ends, columns), values),
            "blocks": passes(lambda b: sparse.block_linear(x, b, which), blocks),
        },
        5,
    )
    rows, in_blocks = (f"{times['masked'] / times[name]:.2f}" for name in ("rows", "blocks"))
    return [f"{n} x {n}", f"{density:g}", rows, f"{in_blocks} ({block})"]


def main() -> None:
    warnings.filterwarnings("ignore", message="Sparse CSR tensor support")
    torch.set_num_threads(1)
    layers = [
        layer(2048, "sparse(0.01)", 0.01),
        layer(2048, 'sparse(0.01, pattern = "fan_in")', 0.01),
        layer(2048, 'sparse(0.01, pattern = "blocks", block = 32)', 0.01),
        layer(1024, "sparse(0.02)", 0.02),
    ]
    columns = ("a layer", "ours", "dense with a mask", "times faster", "with Adam", "stored", "with a mask")
    print(table(columns, layers), "\n")
    tried = [
        forms(n, density, block)
        for n in (256, 512, 1024, 2048)
        for density, block in ((0.2, 32), (0.1, 16), (0.05, 16), (0.02, 16), (0.01, 16))
    ]
    print(table(("size", "density", "rows: times faster", "blocks (of this side)"), tried))


if __name__ == "__main__":
    main()
