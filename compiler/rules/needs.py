"""What several rules ask of a network and a loss, each question in one place."""

from __future__ import annotations

from collections.abc import Iterator

from nnspec.compiler.experiment import Objective
from nnspec.compiler.flat import flatten
from nnspec.compiler.ir import Graph, Loop, blocks
from nnspec.compiler.operations.registry import operation
from nnspec.compiler.rules.setting import Setting
from nnspec.dsl.diagnostics import Error, Related
from nnspec.dsl.errors.learning import DrawsInBetween, RowsSeeEachOther
from nnspec.dsl.source import Span


def losses_apart(setting: Setting) -> Iterator[Error]:
    """Yield an error if the loss compares the samples of a batch."""
    span, name = setting.choice.span, setting.choice.name
    if isinstance(setting.loss, Objective) and setting.loss.coupled:
        related = () if setting.loss.span is None else (Related(span=setting.loss.span, label="the loss"),)
        why, help_text = "this loss compares the samples of a batch", "take a loss of single samples"
        yield RowsSeeEachOther(span, related, rule=name, why=why, help=help_text)


def samples_apart(setting: Setting) -> Iterator[Error]:
    """Yield an error if the network computes with the whole batch in training."""
    span, name = setting.choice.span, setting.choice.name
    for use in flatten(setting.graph).uses:
        if operation(use.primitive.operation).batch_coupled:
            word = use.primitive.operation
            where = use.primitive.span
            related = () if where is None else (Related(span=where, label="the mean is the batch's here"),)
            why = f"`{word}` computes with the whole batch"
            yield RowsSeeEachOther(span, related, rule=name, why=why, help="use `layernorm`, or no norm")
            return


def same_every_time(setting: Setting, help: str | None = None) -> Iterator[Error]:
    """Yield an error if a forward in training draws random numbers."""
    for word, where in _draws(setting.graph):
        related = () if where is None else (Related(span=where, label="draws at each forward"),)
        help = help or f"leave `{word}` out, or learn by `backprop`"
        yield DrawsInBetween(setting.choice.span, related, rule=setting.choice.name, word=word, help=help)
        return


def _draws(graph: Graph) -> Iterator[tuple[str, Span | None]]:
    """Yield the operations that draw, and the distributions in which states begin."""
    for use in flatten(graph).uses:
        if operation(use.primitive.operation).draws:
            yield use.primitive.operation, use.primitive.span
    for block in blocks(graph.root):
        for statement in block.body:
            for state in statement.carried if isinstance(statement, Loop) else ():
                if state.start is not None and state.start.name != "constant":
                    yield state.start.name, state.span
