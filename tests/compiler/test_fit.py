"""Experiments against networks and data: what a fitted experiment holds, and what is refused where."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from nnspec.compiler.experiment import Experiment
from nnspec.compiler.feeding import feed
from nnspec.compiler.pipeline import Checked, check
from nnspec.compiler.runtime import data, optimizers
from nnspec.dsl.diagnostics import Bag, RunError
from nnspec.dsl.source import Source

NETWORK = """
let rate = 0.01

network m(width: int = 8) {
  input x: real[8, 8]
  output y: real[10] = x -> flatten -> dense(width) -> relu -> dense(10)
}
"""
FIELDS = {"network": "m", "data": "digits", "loss": "cross_entropy", "learn": "backprop", "epochs": "2"}


def spec(text: str = NETWORK, **fields: str | None) -> str:
    lines = [f"  {name} = {value}" for name, value in {**FIELDS, **fields}.items() if value is not None]
    return text + "\nexperiment e {\n" + "\n".join(lines) + "\n}\n"


def checked(text: str, **options: Any) -> Checked:
    bag = Bag()
    found = check(Source("test.nnspec", text), bag, **options)
    assert not bag.failed, list(bag)
    return found


def fitted(text: str = NETWORK, **fields: str | None) -> Experiment:
    return checked(spec(text, **fields)).experiments[0]


# -------------------------------------------------------------------------------------- what comes out


def test_defaults() -> None:
    experiment = fitted()
    assert (experiment.epochs, experiment.steps, experiment.batch, experiment.seeds) == (2, None, 64, (0,))
    assert experiment.optimizer == optimizers.DEFAULT
    assert (experiment.schedule, experiment.metrics, experiment.stop) == (None, (), None)
    assert (experiment.shuffle, experiment.device, experiment.precision) == (True, "auto", "float32")
    assert (experiment.seed_mode, experiment.save) == ("streams", "last")
    assert experiment.data.options["test"] == 0.2


def test_every_field() -> None:
    experiment = fitted(
        network="m(width = 2 * 16)",
        data="digits(test = 0.1, validation = 0.1, seed = 3)",
        optimizer="momentum(rate / 2, beta = 0.5)",
        schedule="cosine(warmup = 10)",
        epochs=None,
        steps="10 ^ 3",
        batch="none",
        seeds="[4, 2]",
        metrics="[accuracy, confusion]",
        shuffle="false",
        seed_mode='"torch"',
        device='"cpu"',
        precision='"float64"',
        save='"best"',
    )
    assert dict(experiment.graph.parameters) == {"width": 32}
    assert experiment.data["seed"] == 3
    assert (experiment.optimizer["lr"], experiment.optimizer["beta"]) == (0.005, 0.5)
    assert experiment.schedule is not None and experiment.schedule["warmup"] == 10
    assert (experiment.epochs, experiment.steps, experiment.batch) == (None, 1000, None)
    assert experiment.seeds == (4, 2)
    assert [metric.name for metric in experiment.metrics] == ["accuracy", "confusion"]
    assert not experiment.shuffle
    assert (experiment.seed_mode, experiment.device) == ("torch", "cpu")
    assert (experiment.precision, experiment.save) == ("float64", "best")


def test_one_value_stands_for_a_list_of_one() -> None:
    experiment = fitted(seeds="7", metrics="accuracy")
    assert experiment.seeds == (7,)
    assert [metric.name for metric in experiment.metrics] == ["accuracy"]


def test_ranges_include_both_ends() -> None:
    assert fitted(seeds="3..5").seeds == (3, 4, 5)


@pytest.mark.parametrize(
    ("loss", "threshold"), [("binary_cross_entropy", 0.0), ("mean_squared_error", 0.5), ("hinge", 0.0)]
)
def test_accuracy_of_one_output_is_cut_where_the_loss_is_even(loss: str, threshold: float) -> None:
    network = "network m {\n  input x: real[2]\n  output y: real[1] = x -> dense(1)\n}\n"
    (metric,) = fitted(network, data="moons", loss=loss, metrics="accuracy").metrics
    assert metric["threshold"] == threshold


def test_the_metric_that_is_watched_is_checked_and_cut_as_any_other(
    refuse: Callable[[str], list[Any]],
) -> None:
    network = "network m {\n  input x: real[2]\n  output y: real[1] = x -> dense(1)\n}\n"
    fields = {"data": "moons(validation = 0.1)", "loss": "mean_squared_error"}
    stop = fitted(network, **fields, stop="early(metric = accuracy)").stop
    assert stop is not None and stop["metric"]["threshold"] == 0.5
    network = network.replace("real[2]", "real[10]")
    fields["data"] = "diabetes(validation = 0.1)"
    (error,) = refuse(spec(network, **fields, stop="early(metric = accuracy)"))
    assert error.code == "N0613"


def test_a_small_data_set_is_one_batch_unless_the_spec_says_more() -> None:
    network = "network m {\n  input x: real[2]\n  output y: real[2] = x -> dense(2)\n}\n"
    assert fitted(network, data="xor(samples = 4, test = 0)").batch is None


def test_derived_experiments_change_single_fields() -> None:
    text = spec(batch="10") + (
        "experiment f = e { learn = weight_perturbation(sigma = 0.1) }\n"
        "experiment g = f { steps = 5\n  batch = 20 }\n"
    )
    e, f, g = checked(text).experiments
    assert (f.rule.name, f.rule["sigma"], f.epochs, f.batch) == ("weight_perturbation", 0.1, 2, 10)
    assert (g.rule, g.epochs, g.steps, g.batch) == (f.rule, None, 5, 20)
    assert f.data == e.data


def test_parameters_from_outside_reach_the_experiment() -> None:
    found = checked(spec(network="m(width = 4)"), parameters={"width": 16})
    assert dict(found.experiments[0].graph.parameters) == {"width": 16}


SYMBOLIC = """network m {
  input x: real[n]
  output y: real[3] = x -> dense(4) -> dense(3)
}
"""


def test_symbolic_inputs_take_their_sizes_from_the_data() -> None:
    found = checked(spec(SYMBOLIC, data="wine"))
    graph = found.experiments[0].graph
    assert dict(graph.root.types)["x"].shape == (13,)
    assert found.graph(found.networks()[0]) is graph


def test_analyses() -> None:
    found = checked(spec() + "analyze m { cost }\nanalyze e {\n  cost\n}\n")
    network, experiment = found.analyses
    assert (network.target, network.experiment) == ("m", None)
    assert experiment.experiment is found.experiments[0]
    assert [choice.name for choice in experiment.passes] == ["cost"]


# ------------------------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("fields", "code", "place", "help_says"),
    [
        ({"netwrok": "m"}, "N0601", "netwrok", "did you mean `network`?"),
        ({"data": None}, "N0602", "e", "data = digits"),
        ({"steps": "3"}, "N0605", "steps = 3", "keep one"),
        ({"epochs": None}, "N0606", "e", "epochs = 20"),
        ({"learn": "backprop(optimizer = adam)"}, "N0607", "optimizer = adam", "`optimizer = adam`"),
        ({"loss": "cros_entropy"}, "N0608", "cros_entropy", "did you mean `cross_entropy`?"),
        ({"loss": "accuracy"}, "N0609", "accuracy", "there are `cross_entropy`"),
        ({"data": "m"}, "N0609", "m", ""),
        ({"data": "diabetes"}, "N0610", "diabetes", "declare `input x: real[10]`"),
        ({"loss": "binary_cross_entropy"}, "N0612", "binary_cross_entropy", "use `cross_entropy`"),
        ({"metrics": "[accuracy, r2(3)]"}, "N0305", "3", ""),
        ({"batch": "5000"}, "N0614", "5000", "`batch = 1438` or less"),
        ({"seeds": "[1, 2, 1]"}, "N0615", "1", ""),
        ({"batch": "0"}, "N0604", "0", ""),
        ({"epochs": "2.5"}, "N0604", "2.5", ""),
        ({"epochs": "true"}, "N0604", "true", ""),
        ({"device": "cpu"}, "N0604", "cpu", 'write "cpu" in quotes'),
        ({"device": '"gpu"'}, "N0604", '"gpu"', ""),
        ({"seeds": "[]"}, "N0604", "[]", ""),
        ({"seeds": "0..200000"}, "N0520", "0..200000", ""),
        ({"epochs": "10^10^10"}, "N0520", "10^10^10", ""),
        ({"batch": "x => x"}, "N0618", "x => x", ""),
        ({"batch": "1 / 0"}, "N0307", "1 / 0", ""),
        ({"optimizer": "sgd"}, "N0302", "sgd", "learning rate"),
        ({"optimizer": "adam(lr = -1)"}, "N0304", "lr = -1", ""),
        ({"optimizer": "adam(0.1, lr = 1)"}, "N0303", "lr = 1", ""),
        ({"optimizer": "adam(lr = rat)"}, "N0201", "rat", "did you mean `rate`?"),
        ({"data": "digits(tset = 0.1)"}, "N0301", "tset = 0.1", "did you mean `test`?"),
        ({"data": "digits(test = 0.9, validation = 0.2)"}, "N0304", "test = 0.9", ""),
        ({"network": "mm"}, "N0201", "mm", "did you mean `m`?"),
        ({"network": "m(widht = 3)"}, "N0301", "widht = 3", "did you mean `width`?"),
        ({"network": 'm(width = "a")'}, "N0304", 'width = "a"', ""),
        ({"network": "3"}, "N0604", "3", ""),
        ({"stop": "early"}, "N0619", "early", "digits(validation = 0.1)"),
        ({"stages": "[fit(epochs = 2)]"}, "N0637", "stages = [fit(epochs = 2)]", ""),
        ({"network": "m(width = sweep(2, 8))"}, "N1000", "sweep(2, 8)", ""),
        ({"network": "trained(e)"}, "N0644", "trained(e)", ""),
    ],
)
def test_refused(
    refuse: Callable[[str], list[Any]],
    fields: dict[str, str | None],
    code: str,
    place: str,
    help_says: str,
) -> None:
    (error,) = refuse(spec(**fields))
    assert (error.code, error.span.text) == (code, place)
    assert help_says in (error.help or "")


@pytest.mark.parametrize(
    ("declared", "data_set", "help_says"),
    [
        ("real[64]", "digits", "declare `input x: real[8, 8]` and begin with `x -> flatten`"),
        ("real[1, 8, 8]", "digits", "and begin with `x -> reshape([1, 8, 8])`"),
        ("real[3]", "iris", "declare `input x: real[4]`"),
    ],
)
def test_shapes_that_do_not_meet(
    refuse: Callable[[str], list[Any]], declared: str, data_set: str, help_says: str
) -> None:
    network = f"network m {{\n  input x: {declared}\n  output y = x -> flatten -> dense(3)\n}}\n"
    network = network.replace("flatten -> ", "") if declared == "real[3]" else network
    (error,) = refuse(spec(network, data=data_set))
    assert (error.code, error.expected) == ("N0610", declared)
    assert help_says in error.help
    assert error.related[0].span.text.startswith("input x")


def test_several_inputs_meet_by_name_only(refuse: Callable[[str], list[Any]]) -> None:
    network = (
        "network m {\n  input imag: real[8, 8]\n  input label: int\n"
        "  output y = imag -> flatten -> dense(10)\n}\n"
    )
    (error,) = refuse(spec(network))
    assert (error.code, error.help) == ("N0611", "call the input `image`")
    pairs = fitted(network.replace("imag", "image"))
    assert pairs.graph.root.inputs[1].name == "label"


def test_metrics_of_another_kind_of_target(refuse: Callable[[str], list[Any]]) -> None:
    network = "network m {\n  input x: real[10]\n  output y: real[1] = x -> dense(1)\n}\n"
    (error,) = refuse(spec(network, data="diabetes", loss="mean_squared_error", metrics="accuracy"))
    assert (error.code, error.span.text) == ("N0613", "accuracy")


def test_a_cycle_of_experiments_is_one_error(refuse: Callable[[str], list[Any]]) -> None:
    (error,) = refuse(NETWORK + "experiment a = b { epochs = 1 }\nexperiment b = a { epochs = 2 }\n")
    assert error.code == "N0616"
    assert "a -> b -> a" in error.message


def test_several_mistakes_are_several_errors(refuse: Callable[[str], list[Any]]) -> None:
    errors = refuse(spec(loss="cross", batch="0", seeds="[1, 1]", data="digit"))
    assert sorted(error.code for error in errors) == ["N0604", "N0608", "N0608", "N0615"]


def test_errors_of_the_network_are_said_once(refuse: Callable[[str], list[Any]]) -> None:
    errors = refuse(spec(NETWORK.replace("real[10]", "real[11]")))
    assert [error.code for error in errors] == ["N0402"]


def test_unknown_targets_of_analyses(refuse: Callable[[str], list[Any]]) -> None:
    errors = refuse(NETWORK + "analyze n { cost }\nanalyze m { cots }\n")
    assert [error.code for error in errors] == ["N0201", "N0608"]
    assert errors[1].help == "did you mean `cost`?"


# --------------------------------------------------------------------------------------- data from files


def test_files_are_fitted_when_they_are_read(tmp_path: Any) -> None:
    (tmp_path / "a.csv").write_text("".join(["a,b,c\n"] + [f"{i},{i * i},{i % 3}\n" for i in range(30)]))
    network = "network m {\n  input x: real[n]\n  output y: real[n] = x -> relu\n}\n"
    experiment = fitted(network, data='csv("a.csv", target = "c")', batch="8")
    splits = data.load(experiment.data, tmp_path)
    with pytest.raises(RunError) as caught:
        feed(experiment, splits)
    assert caught.value.error.code == "N0612"
    network = NETWORK.replace("real[8, 8]", "real[2]").replace("10", "3").replace("flatten -> ", "")
    experiment = fitted(network, data='csv("a.csv", target = "c")', batch="8")
    sized, fed = feed(experiment, splits)
    assert list(fed.train.inputs) == ["x"]
    np.testing.assert_array_equal(fed.train.inputs["x"], splits.train.inputs["features"])
    assert (splits.train.inputs["features"].dtype, fed.train.inputs["x"].dtype) == (
        torch.int64,
        torch.float32,
    )
    assert sized.graph == experiment.graph
    with pytest.raises(RunError) as caught:
        feed(experiment.replace(batch=25), splits)
    assert caught.value.error.code == "N0707"


def test_symbolic_inputs_of_files_are_sized_when_they_are_read(tmp_path: Any) -> None:
    (tmp_path / "a.csv").write_text("".join(["a,b,c\n"] + [f"{i},{i * i},{i / 3}\n" for i in range(30)]))
    network = "network m {\n  input x: real[n]\n  output y: real = x -> sum\n}\n"
    experiment = fitted(network, data='csv("a.csv", target = "c")', loss="mean_squared_error", batch="8")
    sized, _ = feed(experiment, data.load(experiment.data, tmp_path))
    assert dict(sized.graph.root.types)["x"].shape == (2,)


def test_labels_can_enter_the_network(tmp_path: Any) -> None:
    network = (
        "network m {\n  input point: real[2]\n  input label: int\n"
        "  output y: real[2] = point -> dense(2)\n}\n"
    )
    experiment = fitted(network, data="moons")
    _, fed = feed(experiment, data.load(experiment.data, tmp_path))
    assert list(fed.train.inputs) == ["point", "label"]
    assert fed.train.inputs["label"] is fed.train.targets
