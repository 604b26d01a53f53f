"""Weights in few bits: how `compile --packed` stores tensors, and how the emitted module reads them."""

import json
from typing import Any

import torch
from torch import Tensor

_KINDS = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "BOOL": torch.bool,
}


def packed_bits(numbers: Tensor, bits: int) -> Tensor:
    """Whole numbers from 0 to 2^bits - 1 as bytes, the highest bit of the first number first."""
    places = torch.arange(bits - 1, -1, -1)
    each = (numbers.flatten().long()[:, None] >> places & 1).flatten().to(torch.uint8)
    each = torch.nn.functional.pad(each, (0, -len(each) % 8)).view(-1, 8)
    return (each << torch.arange(7, -1, -1, dtype=torch.uint8)).sum(1, dtype=torch.uint8)


def unpacked_bits(data: Tensor, bits: int, count: int) -> Tensor:
    """The whole numbers that were packed."""
    each = (data[:, None] >> torch.arange(7, -1, -1, dtype=torch.uint8) & 1).flatten()[: count * bits]
    return (each.view(count, bits).long() << torch.arange(bits - 1, -1, -1)).sum(1)


def unpacked_tensor(form: dict[str, Any], parts: dict[str, Tensor]) -> Tensor:
    """A tensor from its parts: entries that say which value of a table they are, or the entries there are."""
    shape, rows = form["shape"], form.get("rows", 1)
    count = 1
    for size in shape:
        count *= size
    if form["is"] == "numbers":
        return unpacked_bits(parts["numbers"], form["bits"], count).to(_KINDS[form["kind"]]).view(shape)
    if form["is"] == "codes":
        codes = unpacked_bits(parts["codes"], form["bits"], count).view(rows, -1)
        return parts["values"].view(rows, -1).gather(1, codes).view(shape)
    columns = unpacked_bits(parts["columns"], form["bits"], len(parts["values"]))
    row = torch.repeat_interleave(torch.arange(rows), parts["counts"].long())
    return (
        parts["values"]
        .new_zeros(count)
        .scatter(0, row * (count // rows) + columns, parts["values"])
        .view(shape)
    )


def unpacked_state(path: str) -> dict[str, Tensor]:
    """The state that a packed file holds: a safetensors file whose header says what is packed, and how."""
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        header, data = json.loads(file.read(size)), bytearray(file.read())
    forms = json.loads(header.pop("__metadata__")["packed"])
    found: dict[str, Tensor] = {}
    for name, about in header.items():
        begin, end = about["data_offsets"]
        kind = _KINDS[about["dtype"]]
        flat = torch.frombuffer(data[begin:end], dtype=kind) if end > begin else torch.empty(0, dtype=kind)
        found[name] = flat.view(about["shape"])
    for name, form in forms.items():
        parts = {part: found.pop(f"{name}:{part}") for part in form["parts"]}
        found[name] = unpacked_tensor(form, parts)
    return found
