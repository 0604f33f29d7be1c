"""The device, its threads and the memory allocator."""

from __future__ import annotations

import ctypes
import platform
import sys
from functools import cache
from pathlib import Path

import torch

from fieldmark.core.errors import InputError
from fieldmark.core.processor import available_cores

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8


def choose_device(wanted: str) -> torch.device:
    """The device for auto, cpu or cuda. Raises InputError for cuda if there is no GPU."""
    if wanted == "cuda" and not torch.cuda.is_available():
        raise InputError("train.device=cuda, but this machine has no usable GPU", hint="Use train.device=auto or cpu.")
    return torch.device("cuda" if wanted == "cuda" or (wanted == "auto" and torch.cuda.is_available()) else "cpu")


def set_threads(threads: int | None) -> int:
    """Use `threads` CPU threads (by default all cores that this process may use); returns the number."""
    count = threads or available_cores()
    torch.set_num_threads(count)
    return count


@cache
def keep_freed_memory() -> None:
    """Have glibc keep freed blocks instead of returning them to the kernel after every layer.

    Activations of a CPU training step are large blocks that glibc maps and unmaps each time; touching fresh pages then costs about a
    quarter of the step. One arena for all threads, because the others cannot hold large blocks. Does nothing with another C library.
    """
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_ARENA_MAX, 1)
    libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
    libc.mallopt(_M_TOP_PAD, 2**28)


def device_name(device: torch.device) -> str:
    """The model of the processor or GPU, for the manifest and as a key of measured choices."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        described = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in described if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{model}, {torch.get_num_threads()} threads"


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
