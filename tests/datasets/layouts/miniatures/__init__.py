"""Miniature datasets in the exact format that each layout is published in."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset


@dataclass(frozen=True)
class Miniature:
    """`write` makes the dataset below a folder and gives DATA. The rest is what must be read from it.

    `annotations` are patterns, relative to the folder of `write`, of the files that are not images; `marks` are those (or folders)
    without which the layout cannot be read, so that removing one must give an error that names it. `text` says whether problems in the
    annotations are named with their line.
    """

    layout: str
    write: Callable[[Path], Path]
    class_names: tuple[str, ...]
    counts: dict[str, int]
    levels: dict[str, tuple[str, ...]]
    boxes: bool
    groups: bool
    annotations: tuple[str, ...]
    marks: tuple[str, ...]
    text: bool = True
    banner: int = 0


def jpeg(seed: int, width: int = 64, height: int = 48) -> bytes:
    """A small noisy image, another for each seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (6, 8, 3), np.uint8), "RGB").resize((width, height))
    stream = io.BytesIO()
    coarse.save(stream, "JPEG", quality=80)
    return stream.getvalue()


def put(path: Path, data: bytes | str) -> Path:
    """Write a file, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return path


def edit(file: Path, old: str, new: str) -> None:
    """Replace what stands in a file once."""
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))


def refusal(root: Path) -> str:
    """What is said of a dataset that cannot be read."""
    with pytest.raises(InputError) as caught:
        read_dataset(root)
    return str(caught.value)
