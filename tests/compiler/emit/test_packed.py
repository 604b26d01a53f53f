"""Packed networks give exactly the outputs of the network they were packed from, in as few bits as they need."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch

from nnspec.__main__ import main
from nnspec.compiler.constraints.code.packed import packed_bits, unpacked_bits, unpacked_tensor
from nnspec.compiler.emit.load import module
from nnspec.compiler.emit.packed import packed, smallest
from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

EVERYTHING = """
network load {
  input  x: real[512]
  output y = x
    -> dense(512) as signs
    -> batchnorm
    -> tanh
    -> dense(512) as three
    -> tanh
    -> dense(512) as rows
    -> tanh
    -> dense(512) as blocks
    -> tanh
    -> dense(64) as few
    -> tanh
    -> dense(64) as ring
    -> dense(64) as thin
    -> dense(64) as turned
    -> dense(64) as plain
    -> dense(64) as tied
  constrain signs.weight: binary(scale = "channel", learned = true)
  constrain three.weight: ternary(threshold = 0.01)
  constrain rows.weight: sparse(0.02)
  constrain blocks.weight: sparse(0.1, pattern = "blocks", block = 32)
  constrain few.weight: sparse(0.1)
  constrain ring.*: equivariant(cyclic(16))
  constrain thin.weight: low_rank(4)
  constrain turned.weight: orthogonal
  constrain tied.weight: tied(plain.weight, transpose = true)
}
"""


def graph(text: str) -> Graph:
    bag = Bag()
    checked = check(Source("net.nnspec", text), bag)
    found = checked.graph(checked.networks()[0])
    assert found is not None and not bag.failed, list(bag)
    return found


def imported(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(f"packed_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_it_computes_exactly_the_same(tmp_path: Path) -> None:
    typed = graph(EVERYTHING)
    torch.manual_seed(0)
    net = module(typed)
    net(torch.randn(64, 512)).square().mean().backward()
    torch.optim.SGD(net.parameters(), lr=0.1).step()
    net.eval()
    made = packed(typed, net.state_dict(), "load.safetensors")
    (tmp_path / "load.py").write_text(made.text)
    (tmp_path / "load.safetensors").write_bytes(made.data)
    again = imported(tmp_path / "load.py").load(str(tmp_path / "load.safetensors"))
    x = torch.randn(9, 512)
    assert torch.equal(again(x), net(x))
    sizes = {name: (form, before, now) for name, form, before, now in made.rows}
    n = 512 * 512
    assert sizes["signs.weight"][2] == n // 8 + 2 * 512 * 4  # a bit an entry, two values a row
    assert sizes["three.weight"][2] == n // 4 + 3 * 4
    assert sizes["rows.weight_values"][2] == 4 * round(0.02 * n)
    assert sizes["rows.weight_columns"][2] == -(-9 * round(0.02 * n) // 8)
    assert sizes["few.weight"][0] == "only what is not zero"
    assert {"ring.weight_values", "thin.weight_left", "turned.weight"} <= set(sizes)
    assert len(made.data) < 0.2 * sum(t.numel() * t.element_size() for t in net.state_dict().values())


@pytest.mark.parametrize("bits", [1, 2, 3, 7, 8, 11, 31])
@pytest.mark.parametrize("count", [1, 7, 8, 100])
def test_numbers_in_any_number_of_bits(bits: int, count: int) -> None:
    numbers = torch.randint(0, 2**bits, (count,))
    data = packed_bits(numbers, bits)
    assert data.dtype == torch.uint8 and len(data) == -(-bits * count // 8)
    assert torch.equal(unpacked_bits(data, bits, count), numbers)


@pytest.mark.parametrize(
    ("tensor", "form"),
    [
        (torch.randn(16, 16), "as it is"),
        (torch.randn(16, 16).sign(), "1 bit"),
        (torch.randn(64, 2).sign() * torch.rand(64, 1), "as it is"),  # two values a row are all there is
        (torch.randn(16, 640).sign() * torch.rand(16, 1), "1 bit"),
        (torch.randint(-1, 2, (16, 16)).float(), "2 bits"),
        (torch.randint(0, 16, (32, 3, 3)).double() / 7, "4 bits"),
        (torch.randint(0, 17, (64, 64)).float() / 7, "as it is"),
        (torch.randn(64, 64) * (torch.rand(64, 64) < 0.1), "only what is not zero"),
        (torch.rand(32, 32) < 0.5, "1 bit"),
        (torch.arange(1000, dtype=torch.int32), "10 bits"),
        (torch.tensor([-1, 5, 2, 3, 4, 5, 6, 7, 8]), "as it is"),
        (torch.tensor([float("nan")] * 10), "as it is"),
        (torch.tensor(3), "as it is"),
        (torch.zeros(3, 0), "as it is"),
        (torch.full((4, 8), -0.0), "1 bit"),
    ],
    ids=lambda value: value if isinstance(value, str) else str(tuple(value.shape)),
)
def test_the_smallest_form_gives_the_tensor_back(tensor: torch.Tensor, form: str) -> None:
    found = smallest(tensor)
    assert found.name == form
    again = found.parts["tensor"] if found.about is None else unpacked_tensor(found.about, found.parts)
    assert again.dtype == tensor.dtype and again.shape == tensor.shape
    assert torch.equal(again.nan_to_num(7.0), tensor.nan_to_num(7.0))


SPEC = """
network small(width: int = 4) {
  input  x: real[2]
  output y: real[2] = x -> dense(width) as fc -> tanh -> dense(2) as head
  constrain fc.weight: binary
}

experiment e {
  network = small
  data    = moons(samples = 60)
  loss    = cross_entropy
  learn   = backprop
  epochs  = 1
  seeds   = [3, 4]
}
"""


def test_the_command_packs_the_weights_of_a_run(tmp_path: Path, capsys: Any) -> None:
    from nnspec.compiler.runtime.runs import load_state

    file, out = tmp_path / "s.nnspec", tmp_path / "out"
    file.write_text(SPEC)
    assert main(["train", str(file), "--out", str(tmp_path / "runs")]) == 0
    (run,) = (tmp_path / "runs").iterdir()
    command = ["compile", str(file), "--packed", "-o", str(out), "--weights", str(run)]
    capsys.readouterr()
    assert main([*command, "--seed", "4"]) == 0
    assert "packed into" in capsys.readouterr().out
    net = module(graph(SPEC)).eval()
    net.load_state_dict(load_state(run, 4))
    again = imported(out / "small.py").load(str(out / "small.safetensors"))
    x = torch.randn(5, 2)
    assert torch.equal(again(x), net(x))
    assert main(command[:-2]) == 0  # those at initialisation
    for wrong in (["-p", "width=5"], ["--emit", "graph"], ["--seed", "9"]):
        assert main([*command, *wrong]) != 0
    assert main(["compile", str(file), "--packed"]) == 2
    assert main(["compile", str(file), "--weights", str(run), "-o", str(out)]) == 2
