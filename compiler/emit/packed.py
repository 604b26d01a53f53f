"""Packed networks: constraints evaluated, weights in as few bits as they need, and text that reads them.

In: a typed graph and a state of it. Out: the text of a module with a function `load`, and the bytes of a
safetensors file. Each tensor takes the smallest of the forms that give it back exactly: as it is; each entry as
the number of one of at most 16 values (of the tensor, or of each row), so that -1 and +1 take one bit and -1, 0, +1
two; only the entries that are not zero, row by row; whole numbers in as many bits as the largest needs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from nnspec.compiler.emit.code import definitions
from nnspec.compiler.emit.torch import Frame, emit
from nnspec.compiler.ir import Graph
from nnspec.compiler.rewrites.hard import evaluated, evaluated_state

if TYPE_CHECKING:
    from torch import Tensor

_MOST_VALUES = 16


class Packed(NamedTuple):
    """A packed network; `rows` says of each tensor its name, form, bytes as it was and bytes now."""

    text: str
    data: bytes
    rows: tuple[tuple[str, str, int, int], ...]


class _Form(NamedTuple):
    """One way to store a tensor: what the header says of it (None: as it is), and its parts."""

    about: dict[str, Any] | None
    parts: dict[str, Tensor]

    @property
    def size(self) -> int:
        return sum(part.numel() * part.element_size() for part in self.parts.values())

    @property
    def name(self) -> str:
        if self.about is None:
            return "as it is"
        bits = f"{self.about['bits']} bit" + ("" if self.about["bits"] == 1 else "s")
        return {"codes": bits, "numbers": bits, "entries": "only what is not zero"}[self.about["is"]]


def packed(graph: Graph, state: dict[str, Tensor], file: str) -> Packed:
    """Return the packed version of a network with these weights, which `load` reads from `file` by default."""
    from safetensors.torch import save

    deployed = evaluated(graph)
    before = {name: tensor.numel() * tensor.element_size() for name, tensor in state.items()}
    tensors: dict[str, Tensor] = {}
    forms: dict[str, Any] = {}
    rows: list[tuple[str, str, int, int]] = []
    for name, tensor in evaluated_state(graph, state).items():
        form = smallest(tensor)
        rows.append((name, form.name, before.get(name, tensor.numel() * tensor.element_size()), form.size))
        if form.about is None:
            tensors[name] = form.parts["tensor"]
            continue
        forms[name] = form.about
        tensors |= {f"{name}:{part}": value for part, value in form.parts.items()}
    return Packed(
        emit(deployed, frame=_frame(file)), save(tensors, {"packed": json.dumps(forms)}), tuple(rows)
    )


def smallest(tensor: Tensor) -> _Form:
    """Return the smallest form of a tensor that gives it back exactly."""
    tensor = tensor.detach().cpu().contiguous()
    if tensor.is_floating_point():
        tensor = tensor + 0.0  # of the two zeros one
    whole = _Form(None, {"tensor": tensor})
    forms = [whole, *_numbers(tensor), *_codes(tensor, 1), *_codes(tensor, _rows(tensor)), *_entries(tensor)]
    return min(forms, key=lambda form: form.size)


def _rows(tensor: Tensor) -> int:
    return tensor.shape[0] if tensor.dim() > 1 else 1


def _about(tensor: Tensor, form: str, parts: dict[str, Tensor], **more: Any) -> _Form:
    return _Form({"is": form, "shape": list(tensor.shape), "parts": list(parts), **more}, parts)


def _numbers(tensor: Tensor) -> list[_Form]:
    """Whole numbers and truth values, in as many bits as the largest needs."""
    from nnspec.compiler.constraints.code.packed import packed_bits

    kinds = {"torch.bool": "BOOL", "torch.int32": "I32", "torch.int64": "I64"}
    kind = kinds.get(str(tensor.dtype))
    if kind is None or tensor.numel() < 8 or bool((tensor < 0).any()):
        return []
    bits = max(1, int(tensor.max()).bit_length())
    return [_about(tensor, "numbers", {"numbers": packed_bits(tensor, bits)}, bits=bits, kind=kind)]


def _codes(tensor: Tensor, rows: int) -> list[_Form]:
    """Each entry as the number of a value: of the whole tensor, or of its row."""
    import torch

    from nnspec.compiler.constraints.code.packed import packed_bits

    if not tensor.is_floating_point() or tensor.numel() < 8 or not bool(tensor.isfinite().all()):
        return []
    whole: Any = tensor
    tables: list[Tensor] = [row.unique() for row in whole.view(rows, -1)]
    most = max(len(table) for table in tables)
    if most > _MOST_VALUES:
        return []
    values = torch.stack([torch.cat([table, table[-1:].expand(most - len(table))]) for table in tables])
    # The last columns repeat the largest value; searchsorted gives the first that is not below an entry.
    codes = torch.searchsorted(values, tensor.view(rows, -1))
    bits = max(1, (most - 1).bit_length())
    parts = {"codes": packed_bits(codes, bits), "values": values}
    return [_about(tensor, "codes", parts, bits=bits, rows=rows)]


def _entries(tensor: Tensor) -> list[_Form]:
    """The entries that are not zero: how many in each row, their columns, their values."""
    import torch

    from nnspec.compiler.constraints.code.packed import packed_bits

    if not tensor.is_floating_point() or tensor.dim() < 2 or tensor.numel() < 8:
        return []
    flat = tensor.flatten(1)
    there = flat != 0
    if int(there.sum()) * 2 > there.numel():
        return []
    bits = max(1, (flat.shape[1] - 1).bit_length())
    parts = {
        "counts": there.sum(1, dtype=torch.int32),
        "columns": packed_bits(there.nonzero()[:, 1], bits),
        "values": flat[there],
    }
    return [_about(tensor, "entries", parts, bits=bits, rows=flat.shape[0])]


def _frame(file: str) -> Frame:
    """Return the code that reads the file."""
    found = definitions("packed", "unpacked_state")

    def after(name: str) -> str:
        return (
            f"def load(path: str | None = None) -> {name}:\n"
            '    """The network with the weights of a packed file, by default the one beside this module."""\n'
            f"    net = {name}()\n"
            f"    beside = os.path.join(os.path.dirname(__file__), {file!r})\n"
            "    net.load_state_dict(unpacked_state(path or beside))\n"
            "    return net.eval()"
        )

    reserved = frozenset({"load", "json", "os", "Any", *(item.name for item in found)})
    return Frame(reserved, "\n\n\n".join(item.text for item in found), after)
