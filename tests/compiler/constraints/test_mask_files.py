"""Where masks in files may lie, and that a run knows which mask it was of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest

import nnspec
from nnspec.compiler.constraints.npy import BadMask, read_mask
from nnspec.compiler.emit.graph_json import graph_data

TEXT = """
network net {
  input  x: real[3]
  output y = x -> dense(3) as fc
  constrain fc.weight: mask("MASK")
}
"""


def written(folder: Path, mask: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "net.nnspec").write_text(TEXT.replace("MASK", mask))
    return folder / "net.nnspec"


def test_a_mask_lies_in_the_folder_of_the_spec_or_in_an_allowed_one(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    numpy.save(shared / "mask.npy", numpy.eye(3, dtype=bool))
    spec = written(tmp_path / "specs", "../shared/mask.npy")
    assert [error.code for error in nnspec.check(spec)] == ["N0662"]
    assert not list(nnspec.check(spec, allow=[shared]))
    (tmp_path / "specs" / "link.npy").symlink_to(shared / "mask.npy")
    spec = written(tmp_path / "specs", "link.npy")
    assert [error.code for error in nnspec.check(spec)] == ["N0662"]


def test_another_mask_is_another_network(tmp_path: Path) -> None:
    found: list[str] = []
    for number in range(2):
        numpy.save(tmp_path / "mask.npy", numpy.roll(numpy.eye(3, dtype=bool), number, 0))
        network = nnspec.load(written(tmp_path, "mask.npy")).network()
        found.append(json.dumps(graph_data(network.graph)))
    assert found[0] != found[1]


@pytest.mark.parametrize("length", [0, 3, 6, 9, 11, 40, 130])
def test_a_file_that_ends_too_early_is_no_mask(length: int, tmp_path: Path) -> None:
    numpy.save(tmp_path / "mask.npy", numpy.eye(3, dtype=bool))
    with pytest.raises(BadMask):
        read_mask((tmp_path / "mask.npy").read_bytes()[:length])


def test_any_bytes_are_a_mask_or_say_why_not() -> None:
    generator = numpy.random.default_rng(0)
    start = b"\x93NUMPY\x01\x00"
    for number in range(300):
        data = generator.integers(0, 256, generator.integers(0, 200), dtype="uint8").tobytes()
        text = b"{'descr': '|b1', 'fortran_order': False, 'shape': (2, " + data[:3] + b"), }"
        whole = start + len(text).to_bytes(2, "little") + text + data
        for given in (data, start + data, whole[: number * 2], whole):
            try:
                shape, entries = read_mask(given)
            except BadMask:
                continue
            assert len(entries) == int(numpy.prod(shape))
