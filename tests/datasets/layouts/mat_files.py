"""MATLAB 5 files as MATLAB writes them: compressed, numbers as doubles, records in a row."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.io import savemat


def put_mat(path: Path, compressed: bool = True, **variables: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    savemat(path, variables, do_compression=compressed, oned_as="row")
    return path


def cells(values: Sequence[object]) -> np.ndarray:
    array = np.empty(len(values), object)
    array[:] = values
    return array


def structs(fields: Sequence[str], records: Sequence[Sequence[object]]) -> np.ndarray:
    """An array of structs; numbers become doubles."""
    array = np.empty(len(records), [(field, object) for field in fields])
    for row, record in enumerate(records):
        array[row] = tuple(np.float64(value) if isinstance(value, int) else value for value in record)
    return array
