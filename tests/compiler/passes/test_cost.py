"""The cost table against counts by hand and against torch."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

from nnspec.compiler.flat import flatten
from nnspec.compiler.ir import Graph
from nnspec.compiler.passes.analysis import Subject
from nnspec.compiler.passes.cost import cost_table
from nnspec.compiler.passes.registry import entries, find

SMALL = """
network small {
  input x: real[4]
  shared first = dense(4)
  output y = x -> first -> tanh -> first -> dense(3, bias = false) as head
}
"""


def test_shared_weights_count_once_and_work_counts_twice(build: Callable[..., Graph]) -> None:
    table = cost_table(build(SMALL))
    assert table.parameters == 4 * 4 + 4 + 3 * 4
    assert table.bytes == 4 * table.parameters
    assert table.flops == 2 * (2 * 4 * 4) + 4 * 4 + 2 * 3 * 4  # tanh counts as 4
    assert [layer.parameters for layer in table.layers] == [20, 0, 0, 12]
    assert [layer.shared for layer in table.layers] == [False, False, True, False]
    assert table.activation_bytes == 4 * (4 + 4 + 4 + 3)


def test_json_has_the_keys_of_show(build: Callable[..., Graph]) -> None:
    data = cost_table(build(SMALL)).json()
    assert {"network", "parameters", "bytes", "flops", "layers"} <= set(data)
    first = {"path": "first", "operation": "dense", "input": "real[4]", "output": "real[4]", "parameters": 20}
    assert first.items() <= data["layers"][0].items()


def test_the_pass_returns_a_table(build: Callable[..., Graph]) -> None:
    result = find("cost").run(Subject(graph=build(SMALL)), {"all": False})
    (table,) = result.tables
    assert [row[0] for row in table.rows] == ["first", "head"]
    assert "32 parameters" in result.summary


def test_repeated_blocks_are_walked_with_their_paths(build: Callable[..., Graph]) -> None:
    graph = build(
        "layer f {\n input x: real[n]\n output y = x -> dense(4) as d\n}\n"
        "network n {\n input x: real[4]\n output y = x -> repeat(2) { f }\n}\n"
    )
    assert [use.path for use in flatten(graph).uses] == ["repeat[0].f.d", "repeat[1].f.d"]


def test_every_pass_has_an_entry() -> None:
    assert {"cost", "symmetry"} <= {entry.name for entry in entries()}


def test_the_cost_imports_no_torch() -> None:
    code = (
        "import sys; from nnspec.compiler.passes.cost import cost_table;"
        "from nnspec.compiler.passes.registry import entries; entries();"
        "assert not {'torch', 'numpy', 'networkx'} & set(sys.modules), 'heavy'"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
