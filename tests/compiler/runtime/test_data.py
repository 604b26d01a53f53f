"""Data sets: what they hold, how they are split and scaled, and what is refused and where."""

from __future__ import annotations

import gzip
import io
import os
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nnspec.compiler.experiment import Choice
from nnspec.compiler.runtime import data
from nnspec.compiler.runtime.data import files, scikit
from nnspec.compiler.runtime.data.split import Sizes, scaled, split
from nnspec.dsl.catalog import validate
from nnspec.dsl.diagnostics import RunError

ENTRIES = {entry.name: entry for entry in data.entries()}
SHARED = Path(os.environ.get("NNSPEC_DATA", Path(__file__).parents[4] / "shared" / "data"))
BUNDLED = ("digits", "iris", "wine", "breast_cancer", "diabetes")
GENERATED = ("moons", "circles", "blobs", "xor", "gaussian_teacher")


def choice(name: str, **given: Any) -> Choice:
    options, problems = validate(ENTRIES[name], given)
    assert not problems, problems
    chosen = Choice(family="data", name=name, arguments=tuple(options.items()))
    assert data.misfit(chosen) is None
    return chosen


def refused(name: str, root: Path, **given: Any) -> Any:
    with pytest.raises(RunError) as caught:
        data.load(choice(name, **given), root)
    return caught.value.error


def write(folder: Path, text: str, name: str = "a.csv") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return name


# ------------------------------------------------------------------------------------------ known sets


@pytest.mark.parametrize("name", [*BUNDLED, *GENERATED])
def test_what_is_said_of_a_set_is_what_is_read(name: str, tmp_path: Path) -> None:
    if name in BUNDLED:
        pytest.importorskip("sklearn")
    chosen = choice(name, validation=0.1)
    loaded = data.load(chosen, tmp_path)
    known, sizes = data.describe(chosen), data.part_sizes(chosen)
    assert known == loaded.fields
    assert sizes is not None and loaded.validation is not None and loaded.test is not None
    parts = (loaded.train, loaded.validation, loaded.test)
    assert tuple(part.rows for part in parts) == (sizes.train, sizes.validation, sizes.test)
    for part in parts:
        for field in loaded.fields:
            values = part.field(field.name)
            assert values.shape == (part.rows, *field.shape)
            assert values.dtype == (torch.int64 if field.dtype == "int" else torch.float32)
            assert field.classes is None or 0 <= int(values.min()) <= int(values.max()) < field.classes


def test_bundled_sets_are_those_of_scikit_learn(tmp_path: Path) -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    images, labels = datasets.load_digits(return_X_y=True)
    loaded = data.load(choice("digits", scale="none", test=0), tmp_path)
    assert loaded.test is None
    np.testing.assert_array_equal(loaded.train.inputs["image"].reshape(-1, 64), images)
    np.testing.assert_array_equal(loaded.train.targets, labels)


def test_scikit_learn_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn", None)
    error = refused("iris", tmp_path)
    assert (error.code, error.help) == ("N0708", "pip install scikit-learn")
    assert scikit.SETS[1].rows({}) == 150  # known all the same


def test_generated_sets_depend_on_their_own_seed_alone(tmp_path: Path) -> None:
    first, again, other = (
        data.load(choice("moons", seed=seed), tmp_path).train.inputs["point"] for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_shapes_of_generated_sets(tmp_path: Path) -> None:
    table = data.load(choice("xor", samples=4, test=0.0), tmp_path).train
    assert table.inputs["bits"].tolist() == [[0, 0], [1, 0], [0, 1], [1, 1]]
    assert table.targets.tolist() == [0, 1, 1, 0]
    circles = data.load(choice("circles", noise=0.0, factor=0.3), tmp_path).train
    radius = circles.inputs["point"].norm(dim=1)
    torch.testing.assert_close(radius, torch.where(circles.targets == 0, 1.0, 0.3))
    chosen = choice("gaussian_teacher", inputs=3, samples=200)
    teacher = data.load(chosen, tmp_path, dtype="float64").train
    solution = torch.linalg.lstsq(teacher.inputs["input"], teacher.targets)
    torch.testing.assert_close(teacher.inputs["input"] @ solution.solution, teacher.targets)


def test_too_many_numbers_are_refused_before_they_are_made() -> None:
    options, _ = validate(ENTRIES["blobs"], {"samples": 10_000_000, "features": 100})
    misfit = data.misfit(Choice(family="data", name="blobs", arguments=tuple(options.items())))
    assert misfit is not None and misfit[0] == "samples"


# ----------------------------------------------------------------------------------- splits and scales


def test_splits_are_disjoint_seeded_and_even() -> None:
    labels = np.array([0] * 70 + [1] * 20 + [2] * 10)
    sizes = Sizes(train=70, validation=10, test=20)
    parts = split(100, labels, sizes, seed=5)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(100))
    assert [np.bincount(labels[parts[name]]).tolist() for name in ("train", "validation", "test")] == [
        [49, 14, 7],
        [7, 2, 1],
        [14, 4, 2],
    ]
    again, other = split(100, labels, sizes, seed=5), split(100, labels, sizes, seed=6)
    assert all((parts[name] == again[name]).all() for name in parts)
    assert (parts["test"] != other["test"]).any()


def test_scales_see_the_training_part_alone() -> None:
    values = np.array([[0.0, 5.0], [2.0, 5.0], [100.0, 7.0]])
    train = np.array([0, 1])
    np.testing.assert_allclose(scaled(values, train, "unit"), [[0, 0], [1, 0], [50, 2]])
    np.testing.assert_allclose(scaled(values, train, "standard"), [[-1, 0], [1, 0], [99, 2]])
    pictures = np.arange(12.0).reshape(3, 2, 2)
    assert scaled(pictures, train, "unit")[:2].max() == 1.0
    assert scaled(pictures, train, "unit")[2].min() == pytest.approx(8 / 7)


def test_parts_that_are_more_than_the_whole() -> None:
    for given in ({"test": 0.6, "validation": 0.5}, {"train": 0.9, "test": 0.2}):
        options, _ = validate(ENTRIES["iris"], given)
        assert data.misfit(Choice(family="data", name="iris", arguments=tuple(options.items()))) is not None


def test_train_can_be_less_than_what_is_left() -> None:
    sizes = data.part_sizes(choice("moons", train=0.1))
    assert sizes is not None and (sizes.train, sizes.test) == (100, 200)


def test_batch_larger_than_the_training_part(tmp_path: Path) -> None:
    loaded = data.load(choice("xor", samples=4, test=0.0), tmp_path)
    data.check_batch(loaded, 4, None)
    with pytest.raises(RunError) as caught:
        data.check_batch(loaded, 5, None)
    assert caught.value.error.code == "N0707"
    assert "`batch = 4`" in str(caught.value.error.help)


def test_identity_follows_the_data_and_the_split(tmp_path: Path) -> None:
    path = write(tmp_path, "a,b\n1,0\n2,1\n3,0\n4,1\n")
    first = data.load(choice("csv", path=path, target="b"), tmp_path).identity
    assert first == data.load(choice("csv", path=path, target="b"), tmp_path).identity
    assert first != data.load(choice("csv", path=path, target="b", seed=1), tmp_path).identity
    write(tmp_path, "a,b\n1,0\n2,1\n3,0\n5,1\n")
    assert first != data.load(choice("csv", path=path, target="b"), tmp_path).identity


# -------------------------------------------------------------------------------------------------- csv


def test_csv(tmp_path: Path) -> None:
    path = write(tmp_path, "\ufeffx,kind,y\n1,cat,0.5\n\n2,dog,1.5\n3,cat,2.5\n")
    loaded = data.load(choice("csv", path=path, target="kind", test=0.0), tmp_path)
    assert [str(field) for field in loaded.fields] == ["features: real[2]", "kind: int (2 classes)"]
    assert loaded.target.class_names == ("cat", "dog")
    assert loaded.train.inputs["features"].tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    assert loaded.train.targets.tolist() == [0, 1, 0]
    values = data.load(choice("csv", path=path, target="y", inputs=("x",), test=0.0), tmp_path)
    assert [str(field) for field in values.fields] == ["features: int[1]", "y: real"]
    scaled_values = data.load(choice("csv", path=path, target="y", inputs=("x",), scale="unit"), tmp_path)
    assert str(scaled_values.fields[0]) == "features: real[1]"
    by_number = data.load(choice("csv", path=path, target=2, inputs=(0,), test=0.0), tmp_path)
    assert torch.equal(by_number.train.targets, values.train.targets)


def test_csv_without_header_and_with_another_delimiter(tmp_path: Path) -> None:
    path = write(tmp_path, "1;7;0\n2;8;1\n")
    loaded = data.load(choice("csv", path=path, target=2, header=False, delimiter=";", test=0.0), tmp_path)
    assert loaded.train.inputs["features"].tolist() == [[1, 7], [2, 8]]
    assert loaded.target.classes == 2


@pytest.mark.parametrize(
    ("cells", "said", "classes"),
    [
        ("0 1 2 1", None, 3),
        ("1 2 3 1", None, None),  # not counted from 0: numbers, unless the spec says labels
        ("1 2 3 1", True, 3),
        ("0 1 2 1", False, None),
        ("0.5 1 2 1", None, None),
        ("a b a b", None, 2),
    ],
)
def test_what_is_a_label(tmp_path: Path, cells: str, said: bool | None, classes: int | None) -> None:
    path = write(tmp_path, "x,y\n" + "".join(f"{i},{cell}\n" for i, cell in enumerate(cells.split())))
    loaded = data.load(choice("csv", path=path, target="y", classes=said), tmp_path)
    assert loaded.target.classes == classes


@pytest.mark.parametrize(
    ("text", "given", "code", "says"),
    [
        ("a,b\n1,2\n3,x\n", {"target": 0}, "N0704", 'line 3, column `b`: "x" is no number'),
        ("a,b\n1,2\n3,\n", {"target": 0}, "N0704", "line 3, column `b`: an empty cell is no number"),
        ("a,b\n1,2\n3,\n", {"target": 1}, "N0704", "line 3, column `b`: an empty cell"),
        ("a,b\n1,2\n3,x\n", {"target": 1, "classes": False}, "N0704", 'line 3, column `b`: "x"'),
        ("a,b\n1,2\nnan,4\n", {"target": 1}, "N0705", "holds nan in line 3, column `a`"),
        ("a,b\n1,2\n3,inf\n", {"target": 1}, "N0705", "holds inf in line 3, column `b`"),
        ("a,b\n1,2\n3,4,5\n", {"target": 1}, "N0713", "line 3: 3 cells, where the first row has 2"),
        ("a,b\n", {"target": 1}, "N0711", "holds no rows"),
        ("", {"target": 1}, "N0711", "holds no rows"),
        ("a,b\n1,2\n", {"target": "bb"}, "N0703", "no column called `bb`"),
        ("a,a\n1,2\n", {"target": "a"}, "N0703", "no column called `a`"),
        ("a,b\n1,2\n", {"target": 2}, "N0703", "no column number 2"),
        ("1,2\n3,4\n", {"target": 1}, "N0712", "its first row holds numbers, not names"),
        ("b\n1\n", {"target": "b"}, "N0712", "no column is left"),
        ("a,b\n1,2\n", {"target": "b", "inputs": ("a", 1)}, "N0712", "`b` is among the inputs"),
        ("a,b\n1,x\n2,x\n", {"target": "b"}, "N0706", "every row of `b` has the label x"),
        ("a,b\n1,0\n", {"target": "b", "test": 0.9}, "N0707", "none is left to train on"),
    ],
)
def test_csv_refused(tmp_path: Path, text: str, given: dict[str, Any], code: str, says: str) -> None:
    error = refused("csv", tmp_path, path=write(tmp_path, text), **given)
    assert (error.code, says in error.message) == (code, True), error.message


def test_csv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(b"a,b\n\xff\xfe,1\n")
    assert refused("csv", tmp_path, path="b.csv", target="b").code == "N0712"


# --------------------------------------------------------------------------------------------- paths


def test_paths_stay_inside(tmp_path: Path) -> None:
    root = tmp_path / "spec"
    root.mkdir()
    write(tmp_path, "a,b\n1,2\n", "secret.csv")
    (root / "link.csv").symlink_to(tmp_path / "secret.csv")
    for path in ("../secret.csv", "link.csv", str(tmp_path / "secret.csv"), "x/../../secret.csv"):
        assert refused("csv", root, path=path, target="b").code == "N0702", path
    write(root, "a,b\n1,2.5\n2,1.5\n", "own.csv")
    data.load(choice("csv", path=str(root / "own.csv"), target="b"), root)  # absolute, and inside


def test_missing_files(tmp_path: Path) -> None:
    write(tmp_path, "a,b\n1,2\n", "banknote.csv")
    error = refused("csv", tmp_path, path="bank_note.csv", target="b")
    assert (error.code, error.help) == ("N0701", "did you mean `banknote.csv`?")
    os.mkfifo(tmp_path / "pipe.csv")
    (tmp_path / "loop.csv").symlink_to(tmp_path / "loop.csv")
    for path in ("pipe.csv", "loop.csv", ".", "a\0b.csv", "x" * 5000, ""):
        assert refused("csv", tmp_path, path=path, target="b").code == "N0701", path[:20]


# -------------------------------------------------------------------------------------- npz and idx


def test_npz(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(20, 2, 3)), np.arange(20) % 4
    np.savez_compressed(tmp_path / "a.npz", x=np.asfortranarray(x), y=y)
    loaded = data.load(choice("npz", path="a.npz", test=0.0), tmp_path, dtype="float64")
    np.testing.assert_array_equal(loaded.train.inputs["x"], x)
    np.testing.assert_array_equal(loaded.train.targets, y)
    assert [str(field) for field in loaded.fields] == ["x: real[2, 3]", "y: int (4 classes)"]


def test_npz_of_whole_numbers(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.arange(40).reshape(10, 4), y=np.linspace(0, 1, 10))
    tokens = data.load(choice("npz", path="a.npz"), tmp_path)
    assert (tokens.fields[0].dtype, tokens.train.inputs["x"].dtype) == ("int", torch.int64)
    numbers = data.load(choice("npz", path="a.npz", scale="unit"), tmp_path)
    assert (numbers.fields[0].dtype, numbers.train.inputs["x"].dtype) == ("real", torch.float32)


def test_npz_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = np.ones((6, 2))
    cases: list[tuple[str, dict[str, Any]]] = [
        ("N0709", {"x": numbers, "y": np.array([{}] * 6, dtype=object)}),
        ("N0714", {"inputs": numbers, "y": np.ones(6)}),
        ("N0715", {"x": numbers, "y": np.ones(5)}),
        ("N0716", {"x": np.ones((6, 2), dtype=complex), "y": np.ones(6)}),
        ("N0705", {"x": numbers * np.nan, "y": np.arange(6.0) / 2}),
        ("N0711", {"x": np.ones((0, 2)), "y": np.ones(0)}),
        ("N0712", {"x": np.float64(3), "y": np.ones(6)}),
    ]
    for code, arrays in cases:
        np.savez(tmp_path / "a.npz", **arrays)
        assert refused("npz", tmp_path, path="a.npz").code == code
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros((100_000, 10)), y=np.zeros(100_000))
    monkeypatch.setattr(files, "LARGEST", 1_000_000)
    error = refused("npz", tmp_path, path="bomb.npz")
    assert (error.code, "8.4 MiB" in error.message) == ("N0710", True), error.message


def test_npz_whose_header_promises_more_than_the_file_holds(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f8", "fortran_order": False, "shape": (10**12, 8)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", buffer.getvalue())
        archive.writestr("y.npy", buffer.getvalue())
    error = refused("npz", tmp_path, path="a.npz")
    assert (error.code, "not what its header says" in error.message) == ("N0712", True)


def test_broken_archives(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.ones((6, 2)), y=np.ones(6))
    whole = (tmp_path / "a.npz").read_bytes()
    for broken in (whole[:100], b"PK\x03\x04", b"", whole.replace(b"NUMPY", b"NUMPX")):
        (tmp_path / "b.npz").write_bytes(broken)
        assert refused("npz", tmp_path, path="b.npz").code == "N0712"


def idx(values: np.ndarray) -> bytes:
    sizes = b"".join(size.to_bytes(4, "big") for size in values.shape)
    return bytes([0, 0, 8, values.ndim]) + sizes + values.astype("u1").tobytes()


@pytest.mark.parametrize("packed", [False, True])
def test_idx(tmp_path: Path, packed: bool) -> None:
    images = np.arange(10 * 3 * 2).reshape(10, 3, 2)
    labels = np.arange(10) % 3
    for name, values in (("i", images), ("l", labels)):
        content = idx(values)
        (tmp_path / name).write_bytes(gzip.compress(content) if packed else content)
    loaded = data.load(choice("idx", images="i", labels="l", test=0.0), tmp_path)
    np.testing.assert_array_equal(loaded.train.inputs["image"], images)
    np.testing.assert_array_equal(loaded.train.targets, labels)


def test_idx_refused(tmp_path: Path) -> None:
    good = idx(np.arange(10) % 3)
    (tmp_path / "l").write_bytes(good)
    huge = bytes([0, 0, 8, 4]) + b"\xff" * 16
    cases = {
        good[:-1]: "N0712",
        good + b"x": "N0712",
        b"\x00\x00\x07\x01": "N0712",
        b"": "N0712",
        gzip.compress(good)[:-12]: "N0712",
        huge: "N0710",
        gzip.compress(huge): "N0710",
        idx(np.zeros((9, 2, 2))): "N0715",
    }
    for content, code in cases.items():
        (tmp_path / "i").write_bytes(content)
        assert refused("idx", tmp_path, images="i", labels="l").code == code


# --------------------------------------------------------------------------------------- shared files


@pytest.mark.skipif(not (SHARED / "banknote.csv").exists(), reason="no banknote.csv at hand")
def test_banknote() -> None:
    loaded = data.load(choice("csv", path="banknote.csv", target="class"), SHARED)
    assert loaded.train.rows + (loaded.test.rows if loaded.test else 0) == 1372
    assert [str(field) for field in loaded.fields] == ["features: real[4]", "class: int (2 classes)"]


@pytest.mark.skipif(not (SHARED / "mnist-t10k-images-idx3-ubyte.gz").exists(), reason="no MNIST at hand")
def test_mnist() -> None:
    names = {"images": "mnist-t10k-images-idx3-ubyte.gz", "labels": "mnist-t10k-labels-idx1-ubyte.gz"}
    loaded = data.load(choice("idx", **names, scale="unit", test=0.1), SHARED)
    assert loaded.train.inputs["image"].shape == (9000, 28, 28)
    assert loaded.target.classes == 10
    assert 0.1 < float(loaded.train.inputs["image"].mean()) < 0.2


@pytest.mark.parametrize(
    ("targets", "classes"),
    [
        ((0, 1, 1, 0), 2),
        ((0.5, 1, 1, 0), None),
        (("a", "b", "b", "a"), 2),
        (((1, 2), (3, 4), (5, 6), (7, 8)), None),
    ],
)
def test_rows_written_in_the_spec(targets: tuple[Any, ...], classes: int | None, tmp_path: Path) -> None:
    inputs = ((0, 0), (0, 1), (1, 0), (1, 1))
    chosen = choice("table", inputs=inputs, targets=targets)
    known = data.describe(chosen)
    splits = data.load(chosen, tmp_path)
    assert splits.fields == known and splits.test is None
    assert splits.train.inputs["features"].tolist() == [list(map(float, row)) for row in inputs]
    assert splits.target.classes == classes
    expected = [{"a": 0, "b": 1}.get(value, value) if isinstance(value, str) else value for value in targets]
    assert splits.train.targets.tolist() == [list(v) if isinstance(v, tuple) else v for v in expected]


@pytest.mark.parametrize(
    ("inputs", "targets", "argument"),
    [
        (((0, 0), (1,)), (0, 1), "inputs"),
        (((0, 0), (1, 1)), (0, 1, 1), "targets"),
        (((0, 0), (1, "x")), (0, 1), "inputs"),
        (3, (0, 1), "inputs"),
        ((), (), "inputs"),
        ((1, 2), ("a", 1), "targets"),
        ((True, False), (0, 1), "inputs"),
    ],
)
def test_rows_that_are_no_table(inputs: Any, targets: Any, argument: str) -> None:
    options, problems = validate(ENTRIES["table"], {"inputs": inputs, "targets": targets})
    assert not problems
    found = data.misfit(Choice(family="data", name="table", arguments=tuple(options.items())))
    assert found is not None and found[0] == argument
