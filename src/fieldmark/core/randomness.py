"""Random numbers as a function of (seed, epoch, sample, purpose), never of history.

A counter-based generator: the same key gives the same number whatever was drawn before, so a resumed run draws exactly what the
unbroken run would have drawn. The mixing function is the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import hashlib

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def _mix(values: np.ndarray) -> np.ndarray:
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def key(*parts: int | str) -> int:
    """A 63-bit key from integers and words, alike on every machine."""
    text = "\x1f".join(str(part) for part in parts)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def uniform(stream: int, samples: np.ndarray, draws: int) -> np.ndarray:
    """`draws` numbers in [0, 1) for each sample: float64 of shape (len(samples), draws)."""
    samples = np.asarray(samples, dtype=np.uint64)
    with np.errstate(over="ignore"):
        rows = _mix(np.uint64(stream) + _GOLDEN * (samples + np.uint64(1)))
        columns = _GOLDEN * np.arange(1, draws + 1, dtype=np.uint64)
        bits = _mix(rows[:, None] + columns[None, :])
    return (bits >> np.uint64(11)) * 2.0**-53


def permutation(stream: int, n: int) -> np.ndarray:
    """A random order of range(n), int64, alike on every machine."""
    return np.argsort(uniform(stream, np.arange(n), 1)[:, 0], kind="stable")
