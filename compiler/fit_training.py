"""Fits what an experiment says of the course of its training: stages, `train` blocks, restarts.

In: values of fields, blocks as written, and the typed graph that they are about. Out: stages and groups that
name parameters by their state-dict keys; Refused, or errors in the bag, where they do not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nnspec.compiler.configuration import Configuration
from nnspec.compiler.constrained import constrained_weights
from nnspec.compiler.derivation import Written, WrittenBlock
from nnspec.compiler.experiment import Choice, Group
from nnspec.compiler.experiment_fields import BLOCK_FIELDS
from nnspec.compiler.experiment_record import listed
from nnspec.compiler.ir import Graph, state_key
from nnspec.compiler.runtime import selection
from nnspec.compiler.tensors import learned_keys, selected_keys, tensors
from nnspec.compiler.values import Refused, describe
from nnspec.dsl.catalog import validate
from nnspec.dsl.definitions import Definition
from nnspec.dsl.diagnostics import Bag, Related
from nnspec.dsl.errors.experiments import NoLength, TwoLengths
from nnspec.dsl.errors.training import (
    BlocksOverlap,
    NothingToFit,
    PrunedThroughMap,
    StagesAndLength,
    WrongBlock,
    WrongSelect,
)
from nnspec.dsl.source import Span
from nnspec.dsl.suggest import nearest
from nnspec.dsl.syntax import Expression, Field, Interval

_LENGTHS = ("epochs", "steps", "stages")


def check_length(definition: Definition, written: Mapping[str, Written], bag: Bag) -> None:
    """Report an experiment that says twice, or not at all, how long it trains."""
    given = sorted((written[n].field for n in _LENGTHS if n in written), key=lambda field: field.span.start)
    if not given:
        bag.add(NoLength(definition.span, experiment=definition.name))
    elif len(given) > 1:
        related = (Related(span=given[0].span, label="a first length"),)
        other = next((field.name for field in given if field.name != "stages"), "")
        if any(field.name == "stages" for field in given):
            bag.add(StagesAndLength(given[1].span, related, name=other))
        else:
            bag.add(TwoLengths(given[1].span, related))


# ------------------------------------------------------------------------------------------------- stages


def fit_stages(value: Any, graph: Graph, configuration: Configuration, span: Span) -> tuple[Choice, ...]:
    """Return stages whose selectors are keys; Refused if one selects what it cannot change."""
    found = tuple(_with_keys(stage, graph, configuration) for stage in listed(value))
    if not any(stage.name == "fit" for stage in found):
        help_text = "add one, such as `fit(epochs = 20)`"
        raise Refused(NothingToFit(span, why="none of the stages is a `fit`", help=help_text))
    for stage in found:
        if stage.name == "prune":
            _check_unmapped(stage, graph)
    return found


def _with_keys(stage: Choice, graph: Graph, configuration: Configuration) -> Choice:
    options = stage.options
    if "select" not in options:
        return stage
    if options["select"] is None:
        keys = tuple(key for key in learned_keys(graph) if _axes(graph)[key] > 1)
    else:
        keys = selected_keys(graph, options["select"], configuration.evaluator)
    if not keys:
        help_text = "say which parameters: `select = head.weight`"
        raise Refused(NothingToFit(stage.span, why="there is nothing to prune", help=help_text))
    return stage.replace(arguments=tuple((options | {"select": keys}).items()))


def _axes(graph: Graph) -> dict[str, int]:
    """Return how many axes each stored tensor has."""
    return {key: len(tensor.shape) for key, tensor in tensors(graph)}


def _check_unmapped(stage: Choice, graph: Graph) -> None:
    """Refuse weights that are made of what is stored; a topology leaves the stored numbers what they are."""
    for own in constrained_weights(graph):
        keys = {state_key(own.owner, tensor.name) for tensor in own.weight.stored}
        maps = [item.name for laid, item in own.maps if laid.rule.kind != "topology"]
        if maps and keys & set(stage["select"]):
            raise Refused(PrunedThroughMap(stage.span, key=own.path, map=maps[0]))


# ------------------------------------------------------------------------------------------------- blocks


def fit_blocks(
    blocks: Sequence[WrittenBlock], graph: Graph, configuration: Mapping[int, Configuration], bag: Bag
) -> tuple[Group, ...]:
    """Return the groups that `train` blocks mean, in order; `rest` is what no other one selects."""
    groups: list[Group] = []
    wrong = False
    taken: dict[str, Span] = {}
    rest: int | None = None
    for written in blocks:
        own, block = configuration[id(written.module)], written.block
        try:
            if block.selector is None:
                if rest is not None:
                    why, help_text = "there are two `train rest`", "keep one of them"
                    raise Refused(WrongBlock(block.span, why=why, label="a second one", help=help_text))
                groups.append(_group(block.fields, own).replace(name="rest"))
                rest = len(groups) - 1
                continue
            keys = selected_keys(graph, block.selector, own.evaluator)
            _check_apart(keys, block.selector.span, taken)
            taken |= dict.fromkeys(keys, block.selector.span)
            name = " ".join(block.selector.span.text.split())
            groups.append(_group(block.fields, own).replace(name=name, keys=keys))
        except Refused as refused:
            wrong = True
            if refused.error is not None:
                bag.add(refused.error)
    if rest is not None and not wrong:
        left = tuple(key for key in learned_keys(graph) if key not in taken)
        groups[rest] = groups[rest].replace(keys=left)
        if not left:
            span = next(written.block.span for written in blocks if written.block.selector is None)
            why, help_text = "`train rest` selects nothing", "the other blocks select every parameter already"
            bag.add(WrongBlock(span, why=why, label="nothing is left", help=help_text))
    return tuple(groups)


def _check_apart(keys: tuple[str, ...], span: Span, taken: Mapping[str, Span]) -> None:
    for key in keys:
        if key in taken:
            related = (Related(span=taken[key], label="selected here first"),)
            raise Refused(BlocksOverlap(span, related, key=key))


def _group(written: tuple[Field, ...], configuration: Configuration) -> Group:
    values: dict[str, Any] = {}
    places: dict[str, Field] = {}
    known = [argument.name for argument in BLOCK_FIELDS.arguments]
    for field in written:
        argument = BLOCK_FIELDS.argument(field.name)
        span = field.name_span or field.span
        if argument is None:
            near = nearest(field.name, known)
            help_text = f"did you mean `{near}`?" if near else f"it takes {', '.join(known)}"
            why = f"a `train` block takes no `{field.name}`"
            raise Refused(WrongBlock(span, why=why, label="not of a block", help=help_text))
        if field.name in values:
            why = f"`{field.name}` is set twice"
            raise Refused(WrongBlock(span, why=why, label="set again here", help=None))
        places[field.name] = field
        if argument.kind == "interval":
            values[field.name] = _interval(field.value, configuration)
        else:
            values[field.name] = configuration.value(field.value, argument)
    options, problems = validate(BLOCK_FIELDS, values)
    for problem in problems:
        found = f"found {describe(values[problem.argument])}"
        raise Refused(
            WrongBlock(places[problem.argument].value.span, why=problem.why, label=found, help=None)
        )
    return Group(
        loss=options["loss"],
        rule=options["learn"],
        optimizer=options["optimizer"],
        schedule=options["schedule"],
        every=options["every"],
        during=options["during"],
    )


def _interval(expression: Expression, configuration: Configuration) -> tuple[float, float]:
    """`0.5..1.0`: a part of the run, from one fraction to another."""
    help_text = "write two fractions of the run from 0 to 1, such as `0.5..1.0`"
    if isinstance(expression, Interval) and expression.start is not None and expression.stop is not None:
        ends = [configuration.plain(end) for end in (expression.start, expression.stop)]
        numbers = [float(e) for e in ends if isinstance(e, int | float) and not isinstance(e, bool)]
        if len(numbers) == 2 and 0 <= numbers[0] < numbers[1] <= 1:
            return numbers[0], numbers[1]
    why = "`during` must be a part of the run"
    raise Refused(WrongBlock(expression.span, why=why, label="not such a part", help=help_text))


def _check_rates(stages: tuple[Choice, ...], groups: tuple[Group, ...]) -> None:
    """Refuse a stage that changes the experiment's optimizer where every block has one of its own."""
    for stage in stages:
        given = stage.options.get("lr") is not None or stage.options.get("optimizer") is not None
        if given and groups and all(group.optimizer is not None for group in groups):
            name = "lr" if stage.options.get("lr") is not None else "optimizer"
            why = f"`{name}` of this stage changes nothing: every `train` block has an optimizer of its own"
            help_text = "give the blocks no `optimizer`, or say it there"
            raise Refused(WrongBlock(stage.span, why=why, label="no block uses this one", help=help_text))


def check_learning(
    stages: tuple[Choice, ...], groups: tuple[Group, ...], graph: Graph, span: Span | None
) -> None:
    """Refuse stages in which nothing learns while they train, and those that change an optimizer of nothing."""
    _check_rates(stages, groups)
    if any(True for _ in tensors(graph)) and not learned_keys(graph):  # a file may be needed to size them
        why, help_text = "nothing of the network is learned", "let some of its weights be learned"
        raise Refused(NothingToFit(span, why=why, help=help_text))
    own = {key for group in groups for key in group.keys or ()} if groups else set(learned_keys(graph))
    frozen: set[str] = set()
    for stage in stages:
        if stage.name == "freeze":
            frozen |= set(stage["select"])
        elif stage.name == "unfreeze":
            frozen -= set(stage["select"])
        elif stage.name == "fit" and own <= frozen:
            why = "every parameter is frozen in this stage"
            help_text = "`unfreeze` some of them before, or freeze fewer"
            raise Refused(NothingToFit(stage.span, why=why, help=help_text))


# ----------------------------------------------------------------------------------------------- restarts


def check_select(values: Mapping[str, Any]) -> None:
    """Refuse a `select` that chooses among one, by the test, or by what is not measured."""
    choice: Choice | None = values.get("select")
    if choice is None:
        return
    if values.get("restarts", 1) == 1:
        why, label = "`select` chooses among restarts, and there is one", "nothing to choose from"
        raise Refused(WrongSelect(choice.span, why=why, label=label, help="add `restarts = 5`"))
    part, score = choice["score"]
    text = f"{part}.{score}"
    scores = ("loss", *(m.name for m in listed(values.get("metrics", ())) if m.name != "confusion"))
    if part not in selection.PARTS:
        help_text = "write `validation.loss` or `train.loss`"
        why = f"the data have no part called `{part}`"
        raise Refused(WrongSelect(choice.span, why=why, label="no such part", help=help_text))
    if part == "test":
        help_text = f"write `{choice.name}(validation.{score})`, and keep rows for it in `data`"
        why = "the test part may not choose what is tested"
        raise Refused(WrongSelect(choice.span, why=why, label=f"`{text}` is of the test", help=help_text))
    if score not in scores:
        near = nearest(score, scores)
        help_text = f"did you mean `{near}`?" if near else f"add it: `metrics = [{score}]`"
        why = f"`{score}` is not measured in this experiment"
        listed_scores = ", ".join(f"`{name}`" for name in scores)
        raise Refused(WrongSelect(choice.span, why=why, label=f"measured: {listed_scores}", help=help_text))
    _check_validation(choice, part, values.get("data"))


def _check_validation(choice: Choice, part: str, data: Choice | None) -> None:
    if part != "validation" or data is None or data["validation"] > 0:
        return
    related = () if data.span is None else (Related(span=data.span, label="no `validation` here"),)
    why = "`select` looks at the validation part, and the data keep none"
    help_text = f"keep some rows: `{data.name}(validation = 0.1)`, beside its other arguments"
    raise Refused(WrongSelect(choice.span, related, why=why, label="no such part", help=help_text))
