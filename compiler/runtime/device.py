"""Where a run computes: the device asked for, or why it cannot be had; how much memory is free there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from nnspec.dsl.diagnostics import RunError
from nnspec.dsl.errors.runs import DeviceAbsent, PrecisionUnsupported
from nnspec.dsl.source import Span

if TYPE_CHECKING:
    import torch


_DEVICES = ("auto", "cpu", "cuda", "mps")


def resolve(name: str, precision: str, span: Span | None = None) -> torch.device:
    """Return the device for `auto`, `cpu`, `cuda` or `mps`; RunError if it is not there."""
    import torch

    if name == "auto":
        name = _best(precision)
    if name not in _DEVICES:
        why = f"devices are {', '.join(_DEVICES)}"
        raise RunError(DeviceAbsent(span, device=name, why=why, help=None))
    if name == "cuda" and not torch.cuda.is_available():
        built = "torch finds no GPU" if torch.version.cuda else "this torch is built without CUDA"
        raise RunError(DeviceAbsent(span, device=name, why=built, help='write `device = "auto"`'))
    if name == "mps" and not torch.backends.mps.is_available():
        why = "only a Mac with an Apple GPU has it"
        raise RunError(DeviceAbsent(span, device=name, why=why, help='write `device = "auto"`'))
    if name == "mps" and precision == "float64":
        help_text = 'write `device = "cpu"`, or `precision = "float32"`'
        raise RunError(PrecisionUnsupported(span, device="mps", precision=precision, help=help_text))
    return torch.device(name)


def _best(precision: str) -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() and precision != "float64" else "cpu"


def available_memory(device: torch.device) -> int | None:
    """Return the free bytes on a device, None where it cannot be known."""
    import torch

    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    found = [size for size in (_free(), _group_limit()) if size is not None]
    return min(found, default=None)


def describe(device: torch.device) -> str:
    """Return the device in words, for the record of a run: `cuda (NVIDIA H100)`."""
    import platform

    import torch

    if device.type == "cuda":
        return f"cuda ({torch.cuda.get_device_name(device)})"
    return f"{device.type} ({platform.processor() or platform.machine()})"


def _free() -> int | None:
    """What Linux says could be allocated without swapping; elsewhere all of the memory."""
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def _group_limit() -> int | None:
    """What a container leaves: its limit less what it uses (cgroups, version 2)."""
    folder = Path("/sys/fs/cgroup")
    try:
        limit = (folder / "memory.max").read_text().strip()
        used = int((folder / "memory.current").read_text())
        reclaimable = (folder / "memory.stat").read_text().split("inactive_file ")[1].split()[0]
        return None if limit == "max" else int(limit) - used + int(reclaimable)
    except (OSError, ValueError, IndexError):
        return None
