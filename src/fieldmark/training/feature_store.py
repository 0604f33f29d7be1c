"""Features on disk as the network returned them, bit for bit and in the same memory layout."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import torch
from torch import Tensor

from fieldmark.core.files import whole_file

_STORED = {torch.float32: np.float32, torch.float16: np.float16, torch.bfloat16: np.uint16}


@dataclass(frozen=True)
class Form:
    """The memory layout of one image's features, which decides the choice of kernels. Shape and strides are in elements."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: torch.dtype

    @classmethod
    def of(cls, output: Tensor) -> Form:
        dense = torch.empty_like(output)
        if dense.stride(0) != math.prod(output.shape[1:]):  # not one image after another
            dense = torch.empty_like(output, memory_format=torch.contiguous_format)
        return cls(tuple(output.shape[1:]), tuple(dense.stride()[1:]), output.dtype)

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    def flat(self, output: Tensor) -> np.ndarray:
        """Features (n, ...) as rows of a NumPy dtype, (n, elements), in memory order."""
        dense = torch.empty_strided((len(output), *self.shape), (self.elements, *self.strides), dtype=self.dtype)
        rows = dense.copy_(output.detach()).as_strided((len(output), self.elements), (self.elements, 1))
        return (rows.view(torch.uint16) if self.dtype == torch.bfloat16 else rows).numpy()

    def features(self, rows: Tensor) -> Tensor:
        """The inverse of `flat`: features (n, ...)."""
        return rows.view(self.dtype).as_strided((len(rows), *self.shape), (self.elements, *self.strides))


class StoredFeatures:
    """Features mapped from disk, or resident on a GPU if they take less than half of its free memory."""

    def __init__(self, path: Path, form: Form, device: torch.device):
        self._form, self._device = form, device
        self._rows = np.load(path, mmap_mode="r")
        self._resident: Tensor | None = None
        if device.type == "cuda" and self._rows.nbytes < torch.cuda.mem_get_info(device)[0] / 2:
            self._resident = torch.from_numpy(np.array(self._rows)).to(device)

    def take(self, places: np.ndarray) -> Tensor:
        """Features (n, ...) on the device, as the network returned them."""
        if self._resident is not None:
            return self._form.features(self._resident[torch.from_numpy(places).to(self._device)])
        return self._form.features(torch.from_numpy(self._rows[places])).to(self._device)


class Recorder:
    """Writes features to a stream as they come, as a .npy file of shape (count, elements)."""

    def __init__(self, stream: IO[bytes], count: int):
        self._stream, self._count = stream, count
        self._form: Form | None = None

    @property
    def form(self) -> Form:
        assert self._form is not None, "something was added"
        return self._form

    def add(self, output: Tensor) -> None:
        if self._form is None:
            self._form = Form.of(output)
            kind = np.dtype(_STORED[output.dtype]).str
            header = {"descr": kind, "fortran_order": False, "shape": (self._count, self._form.elements)}
            np.lib.format.write_array_header_1_0(self._stream, header)
        self._stream.write(self._form.flat(output).data)


@contextmanager
def recording(path: Path, count: int) -> Iterator[Recorder]:
    with whole_file(path) as temporary, temporary.open("wb") as stream:
        yield Recorder(stream, count)
