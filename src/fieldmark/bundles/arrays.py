"""Arrays of a bundle in a file of safetensors, with values in JSON beside them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], said: Mapping[str, Any] | None = None) -> None:
    """Write them, whole or not at all."""
    texts = {name: json.dumps(value, ensure_ascii=False) for name, value in (said or {}).items()}
    content = safetensors.numpy.save({name: np.ascontiguousarray(each) for name, each in arrays.items()}, texts or None)
    with whole_file(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def arrays_of(path: Path) -> Iterator[tuple[dict[str, np.ndarray], dict[str, Any]]]:
    """The arrays and values of a file, whose hash is the bundle's to check.

    Raises InputError if it cannot be read, or lacks what is looked for in the `with` block.
    """
    try:
        with safetensors.safe_open(path, "np") as file:
            arrays = {each: file.get_tensor(each) for each in file.keys()}  # noqa: SIM118 (it cannot be iterated)
            said = {name: json.loads(value) for name, value in (file.metadata() or {}).items()}
        yield arrays, said
    except (OSError, ValueError, KeyError, TypeError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint="Export the run again.") from error
