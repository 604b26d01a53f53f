"""Groups of networks too large to hold here, GPT-2 small and a Llama of 80 blocks: from their specs, without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from math import lgamma, log, log10
from pathlib import Path
from typing import Any

import pytest

SPECS = Path(__file__).parents[3] / "specs" / "transformers"
# The command, where torch cannot be imported; then the processor time that it took.
COMMAND = """
import resource, sys
sys.modules["torch"] = None
from nnspec.__main__ import main
code = main(["analyze", sys.argv[1], sys.argv[2], "--pass", "symmetry", "--json"])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, file=sys.stderr)
raise SystemExit(code)
"""
SECONDS = 15  # of processor time; on slow cores these take 1 and 2


def analysed(name: str) -> dict[str, Any]:
    command = [sys.executable, "-c", COMMAND, str(SPECS / f"{name}.nnspec"), name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stderr.split()[-1]) < SECONDS
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def gpt2() -> dict[str, Any]:
    return analysed("gpt2")


@pytest.fixture(scope="module")
def llama() -> dict[str, Any]:
    return analysed("llama")


def log10_factorial(number: int) -> float:
    return lgamma(number + 1) / log(10)


def test_heads_of_gpt2_have_a_matrix_on_keys_and_one_on_values(gpt2: dict[str, Any]) -> None:
    layers, heads, width = 12, 12, 64
    assert gpt2["families"]["linear"] == layers * heads * 2 * width**2 == 1_179_648


def test_components_of_gpt2_are_its_heads_its_units_its_stream_and_signs(gpt2: dict[str, Any]) -> None:
    """12!^12 heads and 3072!^12 hidden units; 768! of the stream, whose flip the last gain undoes.

    The signs: an entry of each of 24 norms against the map that reads it, the stream as a whole, and the
    determinants of a GL(64) on the keys and one on the values of each head.
    """
    layers, heads, units, stream = 12, 12, 3072, 768
    found = Counter(factor["group"] for factor in gpt2["factors"])
    assert found[f"S_{heads}"] == found[f"S_{units}"] == layers
    assert found[f"components of GL(64)^{heads}"] == 2 * layers
    orders = {factor["group"]: factor["log10_order"] for factor in gpt2["factors"]}
    assert orders[f"S_{heads}"] == pytest.approx(log10_factorial(heads), rel=1e-12)
    assert orders[f"S_{units}"] == pytest.approx(log10_factorial(units), rel=1e-12)
    permutations = layers * (log10_factorial(heads) + log10_factorial(units)) + log10_factorial(stream)
    signs = 2 * layers * stream + 1 + 2 * layers * heads
    assert gpt2["log10_order"] == pytest.approx(permutations + signs * log10(2), rel=1e-12)
    assert gpt2["order"] is None


def test_groups_of_llama_have_complex_numbers_on_planes_and_a_matrix_on_values(llama: dict[str, Any]) -> None:
    """Rotary positions leave a complex number on each plane of keys (two real dimensions), values all of GL."""
    layers, groups, width = 80, 8, 128
    linear = layers * (groups * width**2 + groups * (width // 2) * 2)
    assert llama["families"]["linear"] == linear == 10_567_680


def test_the_stream_of_llama_turns(llama: dict[str, Any]) -> None:
    """Nothing but root-mean-square norms with gains that fold reads the stream of 8192."""
    assert llama["families"]["orthogonal"] == 8192 * 8191 // 2
