"""The verbs of the command line, one file each.

Each module has `arguments(parser)`, which says what it takes, and `run(options)`, which does it and returns
an exit code; its docstring is what `--help` shows. All of a module's costly imports are inside functions.
"""

from __future__ import annotations

VERBS = {
    "check": "find every error in specs",
    "fmt": "put specs into their canonical form",
    "show": "list a network's layers, shapes, parameters and cost",
    "compile": "write a network as a PyTorch module, a graph or an exported program",
    "render": "draw a network",
    "train": "train one experiment",
    "analyze": "run an analysis over a network or a trained experiment",
    "align": "move one network's weights into the basin of another's",
    "merge": "measure the loss on the straight path between two networks, before and after alignment",
    "equivalent": "say whether two specs or two sets of weights are one network up to symmetry",
    "run": "do all that a file asks for, and write one report",
    "explain": "explain an error code or a word of the library",
    "new": "write a first spec to start from",
    "doctor": "say what is installed and how to get what is missing",
}
