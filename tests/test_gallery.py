"""Every spec of the gallery is right, canonical, compiles, takes a step, and trains to what it promises."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest
import torch

import nnspec
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.format import format
from nnspec.dsl.parse import parse
from nnspec.dsl.source import Source

ROOT = Path(__file__).parent.parent
SPECS = sorted((ROOT / "specs").rglob("*.nnspec"))
ANALYSED = sorted((ROOT / "specs" / "symmetry").glob("*.nnspec"))  # networks, and what symmetry says of them
every_spec = pytest.mark.parametrize("path", SPECS, ids=lambda path: path.stem)
every_trained = pytest.mark.parametrize(
    "path", [p for p in SPECS if p not in ANALYSED], ids=lambda path: path.stem
)
every_analysed = pytest.mark.parametrize("path", ANALYSED, ids=lambda path: path.stem)
# Specs that train for minutes: tests of their rules and `benchmarks/rules_table.py` hold what they reach.
LONG = {ROOT / "specs" / f"{name}.nnspec" for name in ("directed_ep/cifar10", "directed_ep/digits")}
LONG |= {ROOT / "specs" / f"{name}.nnspec" for name in ("directed_ep/xor", "rules/one_network")}
every_short = pytest.mark.parametrize(
    "path", [p for p in SPECS if p not in ANALYSED and p not in LONG], ids=lambda path: path.stem
)

# The least that each experiment reaches on its test part; at least 0.93 for those on digits.
PROMISED = {
    "aligned": 0.93,
    "exact": 0.95,
    "backprop_cnn": 0.96,
    "dense_feedback": 0.95,
    "without_backward": 0.93,
    "mirrored": 0.94,
    "by_subspaces": 0.82,
    "projected": 0.8,
    "rewarded": 0.75,
    "by_changes": 0.89,
    "dilated_feedback": 0.96,
    "adversarial_weights": 0.84,
    "implicit_digits": 0.95,
    "optimal_digits": 0.94,
    "phantom_digits": 0.94,
    "unrolled_digits": 0.95,
    "all_directions": 0.95,
    "all_samples": 0.85,
    "by_gradient": 0.91,
    "by_loss": 0.6,
    "by_output": 0.91,
    "few_noisy_digits": 0.79,
    "one_at_a_time": 0.9,
    "one_basis": 0.6,
    "straight_through": 0.9,
    "random_bases": 0.94,
    "sharpness_aware": 0.84,
    "two_workers": 0.94,
    "acyclic_digits": 0.9,
    "asymmetric_digits": 0.9,
    "boltzmann_digits": 0.85,
    "by_errors": 0.93,
    "by_points_on_a_circle": 0.93,
    "directed_layers": 0.93,
    "exact_digits": 0.9,
    "free_ways_digits": 0.9,
    "proximal_digits": 0.85,
    "pruned_bits": 1.0,
    "scale_free_digits": 0.9,
    "small_world_digits": 0.9,
    "symmetric_layers": 0.93,
    "vector_field_digits": 0.4,
    "noise_images": 0.0,  # labels of noise
    "noisy_digits": 0.95,
    "remembered_digits": 0.95,
    "unscaled_wine": 0.9,
    "all_features": 0.95,
    "attending_digits": 0.95,
    "binary_digits": 0.95,
    "binary_scaled_digits": 0.94,
    "bounded_digits": 0.95,
    "branching_digits": 0.95,
    "by_backprop": 0.9,
    "by_curvature": 0.3,
    "by_perturbation": 0.9,
    "by_adam": 0.4,
    "convex_steps": 0.4,
    "in_four_blocks": 0.4,
    "backprop_on_digits": 0.93,
    "difference_target_on_digits": 0.92,
    "predictive_coding_on_digits": 0.92,
    "equilibrium_on_digits": 0.92,
    "asymmetric_on_digits": 0.93,
    "vector_field_on_digits": 0.92,
    "deep_on_digits": 0.85,
    "contrastive_on_digits": 0.93,
    "weight_perturbation_on_digits": 0.7,
    "random_subspace_on_digits": 0.93,
    "adversarial_on_digits": 0.93,
    "filtered_on_digits": 0.93,
    "written_on_digits": 0.93,
    "fa_on_digits": 0.93,
    "dfa_on_digits": 0.9,
    "usf_on_digits": 0.92,
    "frsf_on_digits": 0.92,
    "brsf_on_digits": 0.9,
    "kolen_pollack_on_digits": 0.93,
    "sparse_dfa_on_digits": 0.88,
    "node_perturbation_on_digits": 0.5,
    "delta_on_digits": 0.75,
    "perceptron_on_digits": 0.75,
    "hebb_on_digits": 0.05,
    "oja_on_digits": 0.05,
    "sanger_on_digits": 0.3,
    "bcm_on_digits": 0.3,
    "circles_by_frozen_eye": 0.75,
    "circles_by_tuned_eye": 0.95,
    "circles_sine": 0.95,
    "deep_digits": 0.95,
    "diabetes_huber": 0.35,
    "diabetes_units": 0.35,
    "digits_backprop": 0.95,
    "drawn_again": 0.5,
    "few_features": 0.95,
    "five_value_digits": 0.95,
    "four_bit_digits": 0.95,
    "four_units": 0.95,
    "free_digits": 0.93,
    "going_on": 0.95,
    "halves_digits": 0.93,
    "halves_meet": 0.3,
    "identity_digits": 0.93,
    "in_blocks": 0.94,
    "iris_descent": 0.9,
    "judged_thrice": 0.95,
    "learn_from_teacher": 0.95,
    "lenet_digits": 0.93,
    "local_digits": 0.93,
    "mean_teacher": 0.95,
    "mixer_digits": 0.95,
    "mixed_flowers": 0.9,
    "moods": 0.95,
    "moons_early": 0.95,
    "moons_seen": 0.95,
    "on_circles": 0.93,
    "on_moons": 0.95,
    "named_and_drawn": 0.95,
    "one_basin": 0.95,
    "orthogonal_digits": 0.95,
    "pruned_digits": 0.93,
    "pyramid_digits": 0.95,
    "parts_of_digits": 0.6,
    "refined_digits": 0.93,
    "residual_digits": 0.95,
    "ring_turns": 0.93,
    "saying_again": 0.95,
    "seen_by_halves": 0.95,
    "shallow_digits": 0.95,
    "sparse_digits": 0.95,
    "structured_flowers": 0.9,
    "superposed_moons": 0.95,
    "ternary_scaled_digits": 0.94,
    "thin_digits": 0.94,
    "two_paces": 0.92,
    "two_units": 0.8,
    "two_units_restarted": 0.95,
    "vae_digits": 0.15,  # many pixels never vary, and count as 0
    "warmed_digits": 0.95,
    "wine_decay": 0.9,
    "with_real_weights": 0.95,
    "tower_digits": 0.93,
    "with_fixed_slopes": 0.93,
    "with_learned_slopes": 0.93,
    "with_ternary_weights": 0.93,
}
# Specs of networks that are too large to train here, with the parameters that they are known to have.
SHAPES = {"gpt2": 124_439_808, "llama": 70_553_706_496}
# Specs whose networks are analysed as they begin, and not trained.
UNTRAINED = {"fcn", "tanh_fibre"}
# Whose loss is an energy, which has no zero.
ENERGIES = {"all_seen", "some_hidden"}
# The most by which moments of what a network draws differ from those of the data.
MATCHED = {"all_seen": 0.05, "some_hidden": 0.05, "moons_made": 0.25}
MATCHED |= {"first_component": 1e-3, "leading_components": 1e-3}  # the norms of units that find components


def test_the_gallery_is_there() -> None:
    assert len(SPECS) >= 12
    texts = [path.read_text(encoding="utf-8") for path in SPECS]
    assert sum("expect symmetry.order" in text for text in texts) >= 4
    assert sum("expect test.accuracy" in text for text in texts) >= 4


@every_spec
def test_it_is_right_and_says_what_it_is(path: Path) -> None:
    report = nnspec.check(path)
    assert not len(report), str(report)
    bag = Bag()
    file = parse(Source(path.name, path.read_text(encoding="utf-8")), bag)
    assert file.doc and not bag.failed


@every_spec
def test_it_is_in_canonical_form(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert format(parse(Source(path.name, text), Bag())) == text


@every_spec
def test_its_networks_compile(path: Path) -> None:
    spec = nnspec.load(path)
    for name in spec.networks:
        network = spec.network(name)
        ast.parse(network.source())
        with torch.device("meta" if path.stem in SHAPES else "cpu"):  # on "meta" tensors have no numbers
            module = network.torch()
        learned = sum(p.numel() for p in module.parameters() if p.requires_grad)
        assert learned == network.cost().parameters


@pytest.mark.parametrize("name", SHAPES)
def test_shapes_of_large_networks_have_the_parameters_they_are_known_for(name: str) -> None:
    (path,) = (path for path in SPECS if path.stem == name)
    spec = nnspec.load(path)
    assert not spec.experiments
    assert spec.network(name).cost().parameters == SHAPES[name]


@every_spec
def test_what_it_claims_of_its_networks_holds(path: Path) -> None:
    verdicts = nnspec.load(path).claims()
    assert all(verdict.holds for verdict in verdicts), verdicts


@every_analysed
def test_its_networks_are_analysed(path: Path) -> None:
    spec = nnspec.load(path)
    assert {analysis.target for analysis in spec.checked.analyses} == set(
        spec.networks
    ) and not spec.experiments
    assert "# Expected: " in path.read_text(encoding="utf-8")


@pytest.mark.slow
@every_analysed
def test_its_symmetries_are_verified(path: Path) -> None:
    spec = nnspec.load(path)
    for name in spec.networks:
        found = spec.network(name).analyze("symmetry", verify=True).data
        assert found["verified"]["max_output_error"] < 1e-10
        assert found["continuous_dimension"] <= found["verified"]["nullity"]


@every_trained
def test_its_experiments_take_a_step(path: Path, tmp_path: Path) -> None:
    spec = nnspec.load(path)
    assert bool(spec.experiments) != (path.stem in SHAPES or path.stem in UNTRAINED)
    for name in spec.experiments:
        experiment = spec.experiment(name)
        first = experiment.fitted.seeds[:1]
        short = {"epochs": None, "steps": 1, "stages": (), "seeds": first, "stop": None, "save": "last"}
        start = experiment.fitted.start
        experiment.fitted = experiment.fitted.replace(start=start and start.replace(**short), **short)
        result = experiment.train(out=tmp_path)
        assert math.isfinite(result.mean["loss"]) and not result.problems
        assert result.mean["loss"] > 0 or name in ENERGIES


@pytest.mark.slow
@every_short
def test_it_trains_as_it_promises(path: Path, tmp_path: Path) -> None:
    spec = nnspec.load(path)
    for name in spec.experiments:
        result = spec.experiment(name).train(out=tmp_path)
        mean = result.mean
        assert all(verdict.holds for verdict in result.claims), result.claims
        if name in MATCHED:
            distances = {key: abs(value) for key, value in mean.items() if "loss" not in key}
            assert max(distances.values()) <= MATCHED[name], distances
            continue
        words = {name.split("(")[0]: value for name, value in mean.items()}  # `accuracy(y, label)`
        reached = next(words[word] for word in ("accuracy", "r2", "where") if word in words)
        assert reached >= PROMISED[name], f"{name} reached {reached:.3f}"
