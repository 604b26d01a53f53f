"""Say what is installed, what it is good for, and how to get what is missing (exit code 3 if that is torch)."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable

from nnspec import exits
from nnspec.dsl.node import Node
from nnspec.terminal import coloured, write

# In a process of its own: a broken torch can take the whole process down.
_ASK_TORCH = """
import torch
devices = [f"cuda ({torch.cuda.get_device_name(0)})"] if torch.cuda.is_available() else []
devices += ["mps"] if torch.backends.mps.is_available() else []
print(torch.__version__, "with " + ", ".join(["cpu", *devices]), f"{torch.get_num_threads()} threads", sep=", ")
"""
_PATIENCE = 120  # seconds; the first import of torch on a slow disk takes long


class Finding(Node):
    """One line: what was looked at, how it is, and what to do about it."""

    name: str
    state: str
    fix: str | None = None
    needed: bool = True


def arguments(parser: ArgumentParser) -> None:
    del parser


def run(options: Namespace) -> int:
    del options
    checks: tuple[Callable[[], Finding], ...] = (
        _python,
        _torch,
        _renderer,
        _matplotlib,
        _scikit,
        _threads,
        _terminal,
    )
    findings = [check() for check in checks]
    for finding in findings:
        write(_line(finding))
    return exits.RUN_FAILED if any(f.fix and f.needed for f in findings) else exits.OK


def _line(finding: Finding) -> str:
    sign = "ok" if finding.fix is None else "missing" if finding.needed else "optional"
    line = f"{sign:<9} {finding.name:<13} {finding.state}\n"
    return line if finding.fix is None else f"{line}{'':<24}fix: {finding.fix}\n"


def _python() -> Finding:
    from nnspec import __version__

    version = ".".join(str(part) for part in sys.version_info[:3])
    return Finding(name="python", state=f"{version}, nnspec {__version__}, in {sys.prefix}")


def _torch() -> Finding:
    from subprocess import TimeoutExpired
    from subprocess import run as call

    fix = "pip install torch (a CPU build first, if there is no GPU: see the README)"
    try:
        command = [sys.executable, "-c", _ASK_TORCH]
        answer = call(command, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except TimeoutExpired:
        return Finding(name="torch", state=f"did not start within {_PATIENCE} s", fix=fix)
    if answer.returncode == 0:
        return Finding(name="torch", state=answer.stdout.strip())
    last = (answer.stderr.strip().splitlines() or [f"ended with code {answer.returncode}"])[-1]
    return Finding(name="torch", state=last[:200], fix=fix)


def _renderer() -> Finding:
    from nnspec.compiler.diagrams.renderer import find_renderer

    found = find_renderer()
    if found is None:
        fix = 'pip install "nnspec[render]", or install Graphviz'
        return Finding(name="renderer", state="none: pictures are written as DOT", fix=fix, needed=False)
    return Finding(name="renderer", state=str(found))


def _matplotlib() -> Finding:
    return _package("matplotlib", "learning curves in reports", "plot")


def _scikit() -> Finding:
    return _package("scikit-learn", "the data sets digits, iris, wine, breast_cancer, diabetes", "data")


def _package(name: str, purpose: str, extra: str) -> Finding:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return Finding(name=name, state=f"{version(name)}, for {purpose}")
    except PackageNotFoundError:
        fix = f'pip install "nnspec[{extra}]"'
        return Finding(name=name, state=f"not installed: no {purpose}", fix=fix, needed=False)


def _threads() -> Finding:
    set_to = os.environ.get("OMP_NUM_THREADS")
    cores = os.cpu_count() or 1
    if set_to is None:
        return Finding(
            name="threads", state=f"{cores} cores; OMP_NUM_THREADS=1 is often faster for small nets"
        )
    return Finding(name="threads", state=f"{cores} cores, OMP_NUM_THREADS={set_to}")


def _terminal() -> Finding:
    colour = "colours" if coloured(sys.stdout) else "no colours"
    return Finding(name="terminal", state=f"{colour}, {sys.stdout.encoding}")
