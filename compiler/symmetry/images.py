"""What biases take up when constants are added to values: the maps of these by the weights at hand."""

from __future__ import annotations

from typing import Any

from nnspec.compiler.relations import Contract, Move, Term
from nnspec.compiler.symmetry.amounts import Amounts
from nnspec.compiler.symmetry.derivation import Derivation
from nnspec.compiler.symmetry.places import State, key_of


def bias_step(d: Derivation, state: State, given: Amounts, relation: Contract, effective: bool) -> Any | None:
    """Return (shift behind a map) - (map of the shift before it): what its bias takes up."""
    assert relation.bias is not None
    labels = relation.bias.labels
    behind = given.field(d, relation.output.tensor)
    live = next(term for term in relation.terms if d.related.carriers[term.tensor].live)
    before = given.field(d, live.tensor)
    step: Any = None
    if behind is not None:
        step = _first_of_others(behind, relation.output, labels)
    if before is not None:
        image = _image(d, state, relation, live, before, effective)
        step = -image if step is None else step - image
    return step


def _first_of_others(field: Any, term: Term, labels: tuple[str, ...]) -> Any:
    """Take the first entry along labels that are not asked for (nothing varies there), and order the rest."""
    kept = [label for label in term.labels if label in labels]
    for axis in reversed(range(len(term.labels))):
        if term.labels[axis] not in labels:
            field = field.select(axis, 0)
    return field.permute([kept.index(label) for label in labels])


def _image(d: Derivation, state: State, relation: Contract, live: Term, before: Any, effective: bool) -> Any:
    """Return the map of a constant input, by the weights of a map, over the labels of its bias."""
    import torch

    assert relation.bias is not None
    weights = [term for term in relation.terms if term is not live]
    summed = {label for term in weights for label in term.labels}
    needed = tuple(label for label in live.labels if label in summed or label in relation.bias.labels)
    letters = {label: chr(97 + i) for i, label in enumerate(dict.fromkeys((*summed, *needed)))}
    operands = [_first_of_others(before, live, needed)]
    subscripts = ["".join(letters[label] for label in needed)]
    for term in weights:
        operands.append(_viewed(d, state, term.tensor, effective).to(torch.float64))
        subscripts.append("".join(letters[label] for label in term.labels))
    out = "".join(letters[label] for label in relation.bias.labels)
    return torch.einsum(f"{','.join(subscripts)}->{out}", *operands)


def _contracted(d: Derivation, state: State, relation: Contract, effective: bool) -> Any:
    """Return the product of weights that a relation makes."""
    import torch

    letters = {
        label: chr(97 + i)
        for i, label in enumerate(dict.fromkeys(x for t in relation.terms for x in t.labels))
    }
    terms = ["".join(letters[label] for label in term.labels) for term in (*relation.terms, relation.output)]
    operands = [_viewed(d, state, term.tensor, effective) for term in relation.terms]
    return torch.einsum(f"{','.join(terms[:-1])}->{terms[-1]}", *operands)


def _viewed(d: Derivation, state: State, tensor: str, effective: bool) -> Any:
    """Return an effective weight, or the view of one that a use declares."""
    from nnspec.compiler.emit.load import effective_weight

    carrier = d.related.carriers[tensor]
    lifted = carrier.action is not None and carrier.action.is_lifted
    if key_of(tensor) in state and (effective or lifted or carrier.weight is None):
        return state[key_of(tensor)]
    if carrier.weight is not None:
        return effective_weight(carrier.weight, tensor.rpartition(".")[0], state)
    for stated in d.related.stated:
        relation = stated.relation
        if isinstance(relation, Contract) and relation.output.tensor == tensor:
            return _contracted(d, state, relation, effective)
        if isinstance(relation, Move) and relation.output == tensor:
            given = _viewed(d, state, relation.input, effective)
            if all(len(ins) == 1 and len(outs) == 1 for ins, outs in relation.groups):
                order = {outs[0]: ins[0] for ins, outs in relation.groups}
                return given.permute([order[axis] for axis in range(given.dim())])
            return given.reshape([int(str(n)) for n in carrier.shape])
    raise KeyError(tensor)
