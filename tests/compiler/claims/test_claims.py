"""Claims against what torch and closed forms say: counted, derived, and measured after training."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import nnspec
from nnspec.__main__ import main
from nnspec.compiler.claims.judge import judge
from nnspec.compiler.claims.measures import Measures
from nnspec.compiler.claims.numbers import Large
from nnspec.compiler.pipeline import check
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.format import format
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source

TEXT = """
let classes = 3
network flowers(width: int = 8) {{
  input  x: real[4]
  output y: real[classes] = x -> dense(width) as fc1 -> tanh -> dense(classes) as head
  {network}
}}
experiment learn {{
  network   = flowers(width = 12)
  data      = iris(test = 0.3)
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.01)
  epochs    = 4
  seeds     = 0..2
  metrics   = [accuracy]
  {experiment}
}}
"""


def text(network: str = "", experiment: str = "") -> str:
    return TEXT.format(network=network, experiment=experiment)


def codes(text: str) -> list[str]:
    bag = Bag()
    check(Source("test.nnspec", text), bag)
    return [error.code for error in bag]


def test_costs_are_those_of_the_module() -> None:
    spec = nnspec.load(text())
    net = spec.network()
    parameters = sum(p.numel() for p in net.torch().parameters())
    assert codes(text(f"expect parameters == {parameters}")) == []
    assert codes(text(f"expect bytes == {4 * parameters}")) == []
    assert codes(text(f"expect parameters == {parameters + 1}")) == ["N0671"]
    assert codes(text("expect parameters == width * 5 + classes * (width + 1)")) == []
    flops = net.cost().flops
    assert codes(text(f"expect flops <= {flops} and not flops < {flops}")) == []
    assert codes(text(f"expect flops < {flops} or buffers > 0")) == ["N0671"]


def test_each_of_several_is_judged() -> None:
    lines = "expect parameters == 1\n  expect parameters == 67\n  expect parameters == 2"
    assert codes(text(lines)) == ["N0671", "N0671"]


def test_other_parameters_make_another_network() -> None:
    own = Source("test.nnspec", text("expect parameters == 67"))
    bag = Bag()
    checked = check(own, bag, parameters={"width": 5})
    assert not bag.failed and checked.claimed == () and checked.unasked == ["flowers"]


def test_an_experiment_speaks_of_the_network_that_it_trains() -> None:
    assert codes(text(experiment="expect parameters == 12 * 5 + classes * 13")) == []
    assert codes(text(experiment="expect parameters == 67")) == ["N0671"]
    constrained = "constrain fc1.weight: low_rank(1)\n  expect parameters == 12 + 4 + 12 + classes * 13"
    assert codes(text(experiment=constrained)) == []


def test_symmetry_is_derived_when_it_is_asked_for() -> None:
    order = 2**8 * math.factorial(8)
    lines = (
        f"expect symmetry.order == {order}\n  expect symmetry.dimension == 0\n  expect symmetry.order == 8"
    )
    found = nnspec.load(text(lines)).claims()
    assert [verdict.holds for verdict in found] == [True, True, False]
    assert found[0].values == (("symmetry.order", order),)
    assert found[2].error is not None and found[2].error.code == "N0671"


def test_a_family_of_flat_directions_is_a_measure() -> None:
    own = text("expect symmetry.scale == width and symmetry.dimension == width + symmetry.shift")
    (verdict,) = nnspec.load(own.replace("tanh", "relu")).claims()
    assert verdict.holds and dict(verdict.values)["symmetry.scale"] == 8
    bag = Bag()
    check(Source("test.nnspec", text("expect symmetry.scael == 8")), bag)
    assert [error.help for error in bag] == ["did you mean `symmetry.scale`?"]


def test_check_needs_no_numpy(tmp_path: Path) -> None:
    path = tmp_path / "own.nnspec"
    path.write_text(text("expect symmetry.order == 7 and parameters == 67", "expect parameters == 99"))
    asked = f"import sys, nnspec; assert nnspec.check({str(path)!r}).ok; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, check=True)
    assert not {"numpy", "scipy", "torch", "networkx"} & set(loaded.stdout.split())


def test_an_order_known_by_its_logarithm_is_equal_to_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = ["symmetry.order == factorial(300)", "symmetry.order > factorial(299)"]
    spec = nnspec.load(text("\n  ".join(f"expect {line}" for line in lines)))
    (claimed,) = spec.checked.claimed
    measures = Measures(claimed.graph)
    value = {"symmetry.order": Large(log10=math.lgamma(301) / math.log(10))}
    monkeypatch.setattr(measures, "value", value.__getitem__)
    same, more = (judge(claim, measures) for claim in claimed.claims)
    assert not same.holds and same.error is not None and same.error.code == "N0674"
    assert more.holds


def test_scores_are_means_over_the_seeds(tmp_path: Path) -> None:
    lines = """expect test.accuracy == train.accuracy +- 1
  expect test.accuracy < 0
  expect test.loss > 0 and parameters == 99
  expect symmetry.order == 2 ^ 12 * factorial(12)"""
    run = nnspec.load(text(experiment=lines)).experiment().train(out=tmp_path)
    assert [verdict.holds for verdict in run.claims] == [True, False, True, True]
    values = dict(run.claims[1].values)
    mean = sum(own.metrics["test.accuracy"] for own in run.seeds) / 3
    assert values["test.accuracy"] == pytest.approx(mean)
    (failed,) = run.disappointments
    assert failed.related[0].label == f"{mean:.6g}, the mean of 3 seeds"
    assert run.mean and (run.path / "run.json").exists()  # a claim that fails takes nothing away


def test_scores_go_by_the_names_that_they_are_reported_under(tmp_path: Path) -> None:
    measured = "metrics   = [accuracy(y, label), confusion(y, label), mean(y ^ 2)]\n  evaluate  = surrogate"
    own = text(experiment="EXPECT").replace("metrics   = [accuracy]", measured)
    own = own.replace("loss      = cross_entropy", "loss      = cross_entropy(y, label)")
    names = ["train.accuracy(y,label)", "test.mean(y ^ 2)", "surrogate.test.loss"]
    spec = nnspec.load(own.replace("EXPECT", "\n  ".join(f"expect {name} >= 0" for name in names)))
    run = spec.experiment().train(out=tmp_path)
    assert [verdict.holds for verdict in run.claims] == [True] * 3
    for name in ("test.confusion(y, label)", "test.accuracy", "hard.test.loss"):
        assert codes(own.replace("EXPECT", f"expect {name} > 0")) == ["N0672"]


def test_claims_are_no_part_of_what_a_run_is(tmp_path: Path) -> None:
    plain = nnspec.load(text()).experiment().train(out=tmp_path)
    claimed = nnspec.load(text(experiment="expect test.loss > 0")).experiment().train(out=tmp_path)
    assert claimed.identity == plain.identity and claimed.replaced
    assert len(claimed.claims) == 1 and not plain.claims


def test_those_that_derive_make_claims_of_their_own() -> None:
    derived = """
experiment wide = learn {
  network = flowers(width = 20)
}
network wider = flowers(width = 9) {
  expect parameters == 75
}
"""
    own = text("expect parameters == 67", "expect parameters == 99") + derived
    assert codes(own) == []
    spec = nnspec.load(own)
    assert [len(spec.experiment(name).fitted.claims) for name in ("learn", "wide")] == [1, 0]


def test_a_diverged_run_holds_no_claim(tmp_path: Path) -> None:
    own = (
        text(experiment="expect test.loss > 0")
        .replace("adam(lr = 0.01)", "sgd(lr = 1e38)")
        .replace("0..2", "0")
    )
    run = nnspec.load(own).experiment().train(out=tmp_path)
    assert run.problems
    assert [error.code for error in run.disappointments] == ["N0674"]


def test_dimensions_without_a_size_leave_some_open() -> None:
    long = """
network long {
  input  x: real[T, 4]
  output y: real[T, 2] = x -> dense(2)
  expect parameters == 10
  expect flops > 0
}
"""
    assert codes(long) == ["N0674"]


def test_they_are_formatted() -> None:
    written = (
        "network n {\n  input  x: real[4]\n  output y = x -> dense(2)\n  expect  parameters==10   +-2\n}\n"
    )
    found = format(parse(Source("test.nnspec", written), Bag()))
    assert "  expect parameters == 10 +- 2\n" in found


def test_a_claim_of_many_parts_is_refused_and_not_evaluated() -> None:
    many = ", ".join(["factorial(5000)"] * 1200)
    assert codes(text(f"expect max({many}) > 0")) == ["N0673"]


# ------------------------------------------------------------------------------------------ the command line


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def written(network: str, experiment: str, more: str = "") -> str:
        Path("own.nnspec").write_text(text(network, experiment) + more)
        return "own.nnspec"

    return written


def test_train_ends_with_3_and_tells_both(spec: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec("", "expect test.loss > 0\n  expect test.accuracy > 1")
    assert main(["check", path]) == 0
    capsys.readouterr()
    assert main(["train", path, "--json"]) == 3
    told = capsys.readouterr()
    data = json.loads(told.out)
    assert [claim["holds"] for claim in data["claims"]] == [True, False]
    assert data["claims"][1]["claim"] == "test.accuracy > 1"
    accuracy = data["claims"][1]["values"]["test.accuracy"]
    assert accuracy == pytest.approx(data["mean"]["accuracy"])
    assert "N0671" in data["claims"][1]["problem"] and "N0671" in told.err
    assert f"{accuracy:.6g}, the mean of 3 seeds" in told.err
    assert main(["train", path]) == 3
    out = capsys.readouterr().out
    assert "claims about learn, scores being means over 3 seeds" in out and "mean of 3" in out


def test_other_values_are_not_asked(spec: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec("expect parameters == 67", "expect parameters == 99\n  expect test.accuracy > 1")
    assert main(["train", path, "-p", "width=5", "--json"]) == 0
    told = capsys.readouterr()
    assert "claims" not in json.loads(told.out)
    assert "claims about `learn`, `flowers` are of the values in the spec" in told.err


def test_run_reports_every_claim(spec: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec("expect symmetry.order == 7", "expect test.loss > 0")
    assert main(["check", path]) == 0  # derived by `run`
    assert main(["run", path]) == 3
    told = capsys.readouterr()
    assert "10,321,920" in told.err and "0 of 1 claim holds" in told.out
    page = Path("reports/own.html").read_text()
    assert "1 of 2" in page and "claims hold" in page
    assert "Claims: flowers" in page and "symmetry.order == 7" in page and "test.loss &gt; 0" in page
    path = spec("expect symmetry.order == 10_321_920", "expect test.loss > 0")
    assert main(["run", path]) == 0


def test_analyze_judges_what_the_file_asks_for(spec: Any, capsys: pytest.CaptureFixture[str]) -> None:
    more = "analyze flowers {\n  cost\n}\n"
    path = spec("expect symmetry.order == 7\n  expect parameters == 67", "", more)
    assert main(["analyze", path, "--json"]) == 3
    data = json.loads(capsys.readouterr().out)
    assert [one["pass"] for one in data] == ["cost", "claims"]
    first, second = data[1]["data"]["claims"]
    assert first["values"] == {"symmetry.order": 10_321_920} and not first["holds"]
    assert second == {"claim": "parameters == 67", "holds": True, "values": {"parameters": 67}}
    assert main(["analyze", path, "--pass", "cost"]) == 0


def test_what_check_can_tell_stops_every_command(spec: Any) -> None:
    path = spec("expect parameters == 66", "")
    assert main(["check", path]) == 1
    assert main(["train", path]) == 1


def test_train_judges_the_claims_of_its_network_too(spec: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec("expect symmetry.order == 7", "")
    assert main(["train", path]) == 3
    told = capsys.readouterr()
    assert "10,321,920" in told.err and "0 of 1 claim holds" in told.out
    assert main(["train", spec("expect symmetry.order == 10_321_920", "")]) == 0


def test_analyze_judges_claims_without_an_analysis_too(spec: Any, capsys: pytest.CaptureFixture[str]) -> None:
    path = spec("expect symmetry.order == 7", "")
    assert main(["analyze", path]) == 3
    assert "0 of 1 claim holds" in capsys.readouterr().out
    assert main(["analyze", spec("", "")]) == 2


def test_check_tells_a_part_that_it_knows(spec: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Joined by `and`, one false part is enough, whatever the order of the group is; joined by `or` it is not."""
    path = spec("expect symmetry.order == 7 and parameters == 66", "")
    assert main(["check", path]) == 1
    told = "".join(capsys.readouterr())
    assert "N0671" in told and "67" in told and "10,321,920" not in told
    assert main(["check", spec("expect symmetry.order == 7 or parameters == 66", "")]) == 0
    assert main(["check", spec("expect symmetry.order == 7 and parameters == 67", "")]) == 0
