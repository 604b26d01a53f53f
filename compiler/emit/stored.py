"""The lines of a constructor that set up what a weight stores under its constraints.

In: the expression that reaches an instance (`self.fc1`) and one of its weights. Out: lines that come after
the instance has been made as torch makes it, its weight initialised.
"""

from __future__ import annotations

from nnspec.compiler.emit.maps import Maps
from nnspec.compiler.emit.text import Line, lines, one_line
from nnspec.compiler.emit.uses import call_text, effective_text
from nnspec.compiler.ir import Tensor, Weight, WeightMap, weight_path


def reached(owner: str, name: str) -> str:
    """Return how a tensor of an instance is reached; that of a parameter is the instance itself."""
    return weight_path(owner, name)


def stored_lines(owner: str, weight: Weight, maps: Maps) -> list[Line]:
    """Return the lines for one weight of an instance."""
    if weight.tie is not None:
        comment = f"tied to {weight.tie.child}.{weight.tie.weight}"
        return [Line(code=f"{reached(owner, weight.name)} = None", comment=comment)]
    made = [_said(owner, weight, penalty.name) for penalty in weight.penalties]
    for index, item in enumerate(weight.maps):
        made += _started(owner, weight, index, item, maps)
    main = next((tensor for tensor in weight.stored if tensor.name == weight.name), None)
    if main is None:
        return [*made, *lines(f"del {reached(owner, weight.name)}")]
    if main.kind == "frozen":
        made += lines(f"{reached(owner, weight.name)}.requires_grad_(False)")
    return [*made, *_projected(owner, weight, maps)]


def _said(owner: str, weight: Weight, penalty: str) -> Line:
    place = reached(owner, weight.name).removeprefix("self.")
    return Line(code=f"# {place} has a penalty, {one_line(penalty)}: the training adds it")


def _projected(owner: str, weight: Weight, maps: Maps) -> list[Line]:
    """Bring the initial weight into its sets; what a topology removes is 0 for that."""
    data = f"{reached(owner, weight.name)}.data"
    masks = [t for item in weight.maps for t in item.stored if t.dtype == "bool"]
    kept = " & ".join(reached(owner, tensor.name) for tensor in masks)
    made = lines(f"{data} = {data}.where({kept}, 0)") if weight.projections and kept else []
    for item in weight.projections:
        given = [data, f"kept={kept}"] if item.takes_kept and kept else [data]
        text = f"{data} = {call_text(maps.projection(item), given, item.code)}"
        made.append(Line(code=text, comment="training does this after each step"))
    return made


def _started(owner: str, weight: Weight, index: int, item: WeightMap, maps: Maps) -> list[Line]:
    """Make the tensors that a map stores, from the weight as the maps before it give it."""
    if not item.stored:
        return []
    if item.start is None:
        return [
            line for tensor in item.stored for line in _kept(owner, tensor, f"torch.zeros({_shape(tensor)})")
        ]
    before = effective_text(
        weight.replace(stored=(Tensor(name=weight.name, shape=weight.shape), *weight.stored)),
        lambda tensor: reached(owner, tensor.name),
        maps.function,
        weight.maps[:index],
    )
    start = call_text(maps.code(item.start), [before], item.start)
    if len(item.stored) == 1:
        return _kept(owner, item.stored[0], start)
    local = [tensor.name.removeprefix(f"{weight.name}_") or "value" for tensor in item.stored]
    return [
        *lines(f"{', '.join(local)} = {start}"),
        *(line for t, name in zip(item.stored, local, strict=True) for line in _kept(owner, t, name)),
    ]


def _kept(owner: str, tensor: Tensor, value: str) -> list[Line]:
    place = reached(owner, tensor.name)
    if tensor.kind == "buffer":
        module, _, name = place.rpartition(".")
        return lines(f'{module}.register_buffer("{name}", {value})')
    fixed = ", requires_grad=False" if tensor.kind == "frozen" else ""
    return lines(f"{place} = nn.Parameter({value}{fixed})")


def _shape(tensor: Tensor) -> str:
    return ", ".join(str(size) for size in tensor.shape) or "()"
