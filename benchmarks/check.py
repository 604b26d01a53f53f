"""How long `nnspec check` takes, beside a bare process that only imports its libraries and parses the same text.

In: nothing. Out: a table in Markdown, ratios of medians over interleaved rounds in one run. Bytecode is
cached before the first round, as it is for every user.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

ROUNDS = 15
ENVIRONMENT = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
    "OMP_NUM_THREADS": "1"
}
GRAMMAR = Path(__file__).parent.parent / "dsl" / "grammar.lark"

# What any program on lark and pydantic pays: the libraries, the grammar from its cache, the parse.
BARE = """
import sys
from lark import Lark
from pydantic import BaseModel

class Newlines:
    always_accept = ("_NL",)
    def process(self, stream):
        open_brackets = []
        for token in stream:
            if token.type in ("LPAR", "LSQB", "LBRACE"):
                open_brackets.append(token.type)
            elif token.type in ("RPAR", "RSQB", "RBRACE") and open_brackets:
                open_brackets.pop()
            if token.type != "_NL" or not open_brackets or open_brackets[-1] == "LBRACE":
                yield token

grammar, cache, spec = sys.argv[1:]
parser = Lark(open(grammar).read(), parser="lalr", lexer="contextual", postlex=Newlines(),
              propagate_positions=True, maybe_placeholders=True, cache=cache)
parser.parse(open(spec).read())
"""

NETWORK = """\
layer block_{n}(width: int, scale: real = 0.5) {{
  input  x: real[width]
  inner = x -> layernorm -> dense(4 * width) as up -> gelu -> dense(width) as down
  output y: real[width] = x + scale * inner
}}

network net_{n}(width: int = 32) {{
  input  image: real[8, 8]
  stem = image -> flatten -> dense(width) as stem -> relu
  output digit: real[10] = stem -> block_{n}(width) -> block_{n}(width, 0.1) -> dense(10) as head
}}

experiment run_{n} {{
  network   = net_{n}
  data      = digits(test = 0.2)
  loss      = cross_entropy
  learn     = backprop
  optimizer = adam(lr = 0.003)
  epochs    = 20
  metrics   = [accuracy]
}}

"""


def hundred_lines() -> str:
    """A file of a hundred lines with layers, networks and experiments."""
    text = "".join(NETWORK.format(n=n) for n in range(5))
    return "\n".join(text.splitlines()[:100]) + "\n"


def layers(count: int) -> str:
    """A network of `count` dense layers, one a line."""
    lines = [f"  h{n + 1} = h{n} -> dense(16) -> tanh" for n in range(count)]
    return "\n".join(
        ["network deep {", "  input h0: real[16]", *lines, f"  output y = h{count} -> dense(2)", "}", ""]
    )


def clock(command: list[str]) -> float:
    """Run a command; return the seconds of processor time that it took, waiting excluded."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stdout + done.stderr
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def interleaved(commands: dict[str, list[str]], rounds: int = ROUNDS) -> dict[str, float]:
    """Return each command's median time; rounds take turns, so that all meet the same load."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for command in commands.values():
        clock(command)
    for _ in range(rounds):
        for name, command in commands.items():
            times[name].append(clock(command))
    return {name: median(found) for name, found in times.items()}


def peak_memory(spec: Path) -> float:
    """Return the most memory that a check of a spec takes, in MB."""
    code = (
        "import resource, sys; from nnspec.__main__ import main; "
        f"main(['check', {str(spec)!r}]); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True
    )
    unit = 1e6 if sys.platform == "darwin" else 1e3
    return int(done.stdout.split()[-1]) / unit


def main() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        specs = {"100 lines": hundred_lines(), "50 layers": layers(50)}
        specs |= {f"{n:,} layers": layers(n) for n in (1, 1_000, 10_000)}
        paths = {title: folder / f"{index}.nnspec" for index, title in enumerate(specs)}
        for title, path in paths.items():
            path.write_text(specs[title], encoding="utf-8")
        check = {title: [sys.executable, "-m", "nnspec", "check", str(path)] for title, path in paths.items()}
        bare = [sys.executable, "-c", BARE, str(GRAMMAR), str(folder / "cache"), str(paths["100 lines"])]
        short = {title: check[title] for title in ("100 lines", "50 layers", "1 layers")}
        times = interleaved({"bare": bare, **short})
        times |= interleaved({t: check[t] for t in ("1,000 layers", "10,000 layers")}, 3)
        memory = {title: peak_memory(path) for title, path in paths.items()}
    report(times, memory)


def report(times: dict[str, float], memory: dict[str, float]) -> None:
    """Print the table."""
    base = times["100 lines"]
    growth, room = (
        (found["10,000 layers"] - found["1 layers"]) / (found["1,000 layers"] - found["1 layers"])
        for found in (times, memory)
    )
    print("| `nnspec check` | ms | ratio | aim |\n|---|---|---|---|")
    print(f"| a bare process that parses 100 lines | {1e3 * times['bare']:.0f} | 1 | |")
    print(f"| 100 lines | {1e3 * base:.0f} | {base / times['bare']:.2f} of bare | 1.5 |")
    print(
        f"| 50 layers | {1e3 * times['50 layers']:.0f} | {times['50 layers'] / base:.2f} of 100 lines | 1.2 |"
    )
    print(f"| 1,000 layers | {1e3 * times['1,000 layers']:.0f} | | |")
    print(f"| 10,000 layers | {1e3 * times['10,000 layers']:.0f} | {growth:.1f} of 1,000 | 10 is linear |")
    print(
        f"| memory of 10,000 layers, MB | {memory['10,000 layers']:.0f} | {room:.1f} of 1,000 | 10 is linear |"
    )


if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"\n{time.perf_counter() - start:.0f} s in all", file=sys.stderr)
