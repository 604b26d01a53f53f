"""Fits the lines of an experiment that begin weights from files: `initialize backbone.**: load("f.safetensors")`.

In: the statements as written and the typed graph. Out: loads, each with the names that its tensors have in the
file. The files themselves are read when the run begins.
"""

from __future__ import annotations

from nnspec.compiler.configuration import Configuration
from nnspec.compiler.experiment import Load
from nnspec.compiler.ir import Graph, state_key
from nnspec.compiler.tensors import selected_keys
from nnspec.compiler.values import Refused
from nnspec.dsl.errors.training import WrongLoad
from nnspec.dsl.syntax import Initialize, Selection


def fit_load(statement: Initialize, graph: Graph, configuration: Configuration) -> Load:
    """Return a load; Refused if it is none, or its selector selects nothing."""
    choice = configuration.word(statement.value, "weights", "`initialize`")
    if not choice["path"].endswith(".safetensors"):
        why, label = "weights are read from safetensors files alone", "of another kind"
        help_text = "convert it with `safetensors.torch.save_file(state_dict, path)`"
        raise Refused(WrongLoad(statement.value.span, why=why, label=label, help=help_text))
    keys = selected_keys(
        graph, statement.selector, configuration.evaluator, kinds=("learned", "frozen", "buffer")
    )
    names = tuple((key, key) for key in keys)
    if choice["prefix"] is not None:
        if len(statement.selector.chosen) != 1 or statement.selector.chosen[0].every:
            why, label = "`prefix` replaces the beginning of one path", "several paths, or none"
            help_text = "write a line for each path: `initialize backbone.**: load(...)`"
            raise Refused(WrongLoad(statement.selector.span, why=why, label=label, help=help_text))
        begin = _beginning(statement.selector.chosen[0])
        names = tuple((key, choice["prefix"] + key.removeprefix(begin)) for key in keys)
    return Load(path=choice["path"], names=names, span=statement.value.span)


def _beginning(selection: Selection) -> str:
    """Return the parts before the first `*`, as keys begin: `backbone.`; an index ends them too."""
    fixed: list[str] = []
    for part in selection.parts[:-1]:
        if part.name in ("*", "**") or part.index is not None:
            break
        fixed.append(part.name)
    return state_key(".".join(fixed), "") + "." if fixed else ""
