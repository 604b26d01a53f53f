"""The symmetry group of a Llama of 80 layers, beside `nnspec check` of a file of a hundred lines.

In: nothing. Out: tables in Markdown, medians over interleaved rounds in one run, as processor time and as time on the
clock. First whole processes; then, in one process that has loaded everything, a check of the same text and the
derivation alone, from the graph that a check has made. No weights are drawn.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))

from check import ENVIRONMENT, hundred_lines
from rounds import table

from nnspec.compiler.ir import Graph
from nnspec.compiler.pipeline import check
from nnspec.compiler.symmetry.group import symmetry_group
from nnspec.dsl.diagnostics import Bag
from nnspec.dsl.source import Source

ROUNDS = 11
SPECS = Path(__file__).parent.parent / "specs" / "transformers"
AIM = 5


def process(*arguments: str) -> Callable[[], object]:
    """Return what runs nnspec as a process of its own."""
    command = [sys.executable, "-m", "nnspec", *arguments]

    def run() -> None:
        done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return run


def processor_seconds() -> float:
    """Return the processor time of this process and of those that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def seconds(alternatives: Mapping[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Return the median processor time and the median time on the clock of each; rounds take turns."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in alternatives}
    for function in alternatives.values():
        function()
    for number in range(ROUNDS):
        for name in list(alternatives)[:: 1 if number % 2 == 0 else -1]:
            clock, used = time.perf_counter(), processor_seconds()
            alternatives[name]()
            found[name].append((processor_seconds() - used, time.perf_counter() - clock))
    return {name: (median(t[0] for t in times), median(t[1] for t in times)) for name, times in found.items()}


def graph_of(name: str) -> Graph:
    """Return the checked graph of a network of the gallery."""
    text = (SPECS / f"{name}.nnspec").read_text(encoding="utf-8")
    checked = check(Source(name, text), Bag())
    graph = checked.graph(checked.networks()[-1], {})
    assert graph is not None
    return graph


def shown(times: Mapping[str, tuple[float, float]], base: str) -> list[list[str]]:
    """Return a row for each alternative: milliseconds, and how many times those of `base`."""
    rows: list[list[str]] = []
    for name, (used, clock) in times.items():
        ratios = [f"**{used / times[base][0]:.2f}**", f"{clock / times[base][1]:.2f}"]
        rows.append(
            [name, f"{1e3 * used:.0f} ms", f"{1e3 * clock:.0f} ms", *(ratios if name != base else "11")]
        )
    return rows


def main() -> None:
    """Measure and print."""
    text = hundred_lines()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "hundred.nnspec"
        file.write_text(text, encoding="utf-8")
        base = "`nnspec check`, 100 lines"
        processes = {base: process("check", str(file))}
        for name in ("llama", "gpt2"):
            spec = str(SPECS / f"{name}.nnspec")
            processes[f"`nnspec analyze {name}.nnspec {name} --pass symmetry`"] = process(
                "analyze", spec, name, "--pass", "symmetry", "--json"
            )
        columns = ("processor time", "clock", "processor time, ratio", "clock, ratio")
        print(table((f"a process (the aim: at most {AIM})", *columns), shown(seconds(processes), base)))
    graphs = {name: graph_of(name) for name in ("llama", "gpt2")}
    base = "a check of 100 lines"
    inside: dict[str, Callable[[], object]] = {
        base: lambda: check(Source("hundred", text), Bag()),
        "the group of llama alone": lambda: symmetry_group(graphs["llama"]),
        "the group of gpt2 alone": lambda: symmetry_group(graphs["gpt2"]),
    }
    print()
    print(table(("in one process", *columns), shown(seconds(inside), base)))


if __name__ == "__main__":
    main()
