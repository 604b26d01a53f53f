"""The Python interface: ordinary objects out, readable exceptions for what is wrong."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nnspec

ROOT = Path(__file__).parent.parent.parent
TEXT = """
network first {
  input x: real[4]
  output y = x -> dense(2)
}

network second(width: int = 3) {
  input  x: real[4]
  output y: real[2] = x -> dense(width) as fc -> tanh -> dense(2) as head
}
"""


def test_importing_imports_nothing_large() -> None:
    code = "import nnspec, sys; print(sorted({'torch', 'lark', 'pydantic', 'numpy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_public_name_is_there() -> None:
    assert all(getattr(nnspec, name) is not None for name in nnspec.__all__)
    assert set(nnspec.__all__) <= set(dir(nnspec))
    with pytest.raises(AttributeError, match="no attribute `laod`"):
        _ = nnspec.laod


def test_check_takes_text_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "a.nnspec"
    path.write_text(TEXT)
    assert nnspec.check(TEXT).ok and nnspec.check(path).ok and nnspec.check(str(path)).ok
    report = nnspec.check(TEXT.replace("dense(2) as head", "dense(5) as head"))
    assert not report.ok and len(report) == 1
    assert "real[2]" in str(report) and report.json()["diagnostics"][0]["line"] == 9
    missing = nnspec.check(tmp_path / "none.nnspec")
    assert [error.code for error in missing] == ["N0111"]


def test_load_raises_what_check_prints() -> None:
    wrong = TEXT.replace("tanh", "tahn").replace("x: real[4]\n", "x: real[0]\n", 1)
    with pytest.raises(nnspec.SpecError) as caught:
        nnspec.load(wrong)
    assert str(nnspec.check(wrong)) in str(caught.value)
    assert len(caught.value.errors) == 2


def test_networks_by_name_and_parameters() -> None:
    spec = nnspec.load(TEXT)
    assert spec.networks == ("first", "second") and spec.experiments == ()
    assert spec.network().name == "second"
    network = spec.network("second", width=7)
    assert network.cost().parameters == 7 * 4 + 7 + 2 * 7 + 2
    with pytest.raises(nnspec.SpecError, match="did you mean `width`"):
        spec.network("second", widht=7)
    with pytest.raises(nnspec.UsageError, match="no network called `secnod`"):
        spec.network("secnod")
    with pytest.raises(nnspec.UsageError, match="no experiment"):
        spec.experiment()


def test_torch_is_an_ordinary_module() -> None:
    import torch
    from torch import nn

    network = nnspec.load(TEXT).network("second", width=5)
    module = network.torch(seed=3)
    torch.manual_seed(3)
    by_hand = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 2))
    x = torch.randn(6, 4)
    assert torch.equal(module(x), by_hand(x))
    assert list(module.state_dict()) == ["fc.weight", "fc.bias", "head.weight", "head.bias"]
    parameters = dict(module.named_parameters())
    assert torch.allclose(network.function()(parameters, x), by_hand(x))
    exec(network.source(), {})
    assert "import nnspec" not in network.source()


@pytest.mark.parametrize(("mode", "same"), [("torch", True), ("streams", False)])
def test_a_seed_of_an_experiment_begins_as_torch_does_where_it_draws_as_torch(mode: str, same: bool) -> None:
    import torch

    from nnspec.compiler.runtime.learner import Learner
    from nnspec.compiler.runtime.plan import prepare

    text = """
experiment e {
  network   = second
  data      = iris
  loss      = mean(y ^ 2)
  learn     = backprop
  optimizer = sgd(lr = 0.1)
  epochs    = 1
  seeds     = 3
  seed_mode = "MODE"
}
"""
    spec = nnspec.load(TEXT + text.replace("MODE", mode))
    plan = prepare(spec.experiment("e").fitted, Path("."), "cpu")
    begun = Learner(plan, plan.trials[0]).network.state_dict()
    drawn = spec.network("second").torch(seed=3).state_dict()
    assert torch.equal(begun["fc.weight"], drawn["fc.weight"]) == same


def test_pictures() -> None:
    network = nnspec.load(TEXT).network("first")
    assert network.dot().startswith("digraph")
    svg = network.render()
    assert isinstance(svg, str) and "<svg" in svg
    png = network.render("png")
    assert isinstance(png, bytes) and png.startswith(b"\x89PNG")


def test_analyses() -> None:
    network = nnspec.load(TEXT).network("second")
    assert network.analyze("cost").data["parameters"] == 23
    with pytest.raises(TypeError, match="cost"):
        network.analyze("cost", al=True)


def test_words_of_analyses_are_given_as_a_spec_writes_them() -> None:
    network = nnspec.load(TEXT).network("second")
    quick = {"students": 3, "grid": 3, "walk": 0, "samples": 50}
    found = network.analyze(
        "genni", search="adam(lr = 0.05, steps = 3, batch = none)", unit="absolute", **quick
    )
    assert found.data["unit"] == "absolute" and len(found.data["students"]) == 3
    with pytest.raises(TypeError, match="lm, adam, sgd"):
        network.analyze("genni", search="lbfgs", **quick)
    with pytest.raises(TypeError, match="search: `lr` must be a number above 0"):
        network.analyze("genni", search="sgd(lr = -1)", **quick)
    with pytest.raises(TypeError, match="probe must be one of gaussian"):
        network.analyze("dimension", probe=500)
    with pytest.raises(TypeError, match="search must be one of"):
        network.analyze("genni", search="__import__('os')")


def test_symmetry_is_a_networkx_graph() -> None:
    import networkx

    assert isinstance(nnspec.load(TEXT).network("second").symmetry(), networkx.Graph)


def test_the_readme_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from nnspec.__main__ import main

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    spec = text.split("```nnspec\n")[1].split("```")[0]
    assert (ROOT / "nnspec" / "starter.nnspec").read_text(encoding="utf-8") == spec
    monkeypatch.chdir(tmp_path)
    assert main(["new"]) == 0
    names: dict[str, Any] = {}
    exec(text.split("```python\n")[1].split("```")[0], names)
    assert names["result"].mean["accuracy"] > 0.93
    assert names["found"].summary and "<svg" in names["svg"]


def test_an_unknown_pass_is_said_with_the_nearest() -> None:
    network = nnspec.load(TEXT).network("second")
    with pytest.raises(nnspec.UsageError, match="nothing here is called `symetry`"):
        network.analyze("symetry")
