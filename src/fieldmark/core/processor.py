"""The processor: how many cores this process may use, and their instruction sets."""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_DECIDES_SPEED = re.compile(r"avx|amx|fma|f16c|sse4|asimd|sve|sme|bf16|i8mm")
_NATIVE_BFLOAT16 = frozenset({"avx512_bf16", "amx_bf16", "bf16"})
"""AVX-512 without `avx512_bf16` is not among them: PyTorch supports bfloat16 on it by converting to float32 and back."""


def available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def instruction_sets() -> frozenset[str]:
    """The extensions that decide how fast a network runs, in Linux's names (`avx2`, `avx512_bf16`); empty on other systems."""
    try:
        described = _CPUINFO.read_text(encoding="utf-8")
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", described, re.MULTILINE)
    return frozenset(name for name in found[1].split() if _DECIDES_SPEED.match(name)) if found else frozenset()


def computes_bfloat16() -> bool:
    """Whether the cores multiply bfloat16 themselves; otherwise it is emulated, far more slowly than float32."""
    return not instruction_sets().isdisjoint(_NATIVE_BFLOAT16)
