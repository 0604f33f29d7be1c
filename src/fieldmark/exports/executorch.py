"""Export to ExecuTorch, and int8 by its quantiser for XNNPACK."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from threading import Lock
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from fieldmark.bundles.graph_session import Run
from fieldmark.bundles.record import BundleRecord
from fieldmark.core.environment import kept_environment
from fieldmark.core.errors import InputError, reason_of
from fieldmark.core.extras import needed_for
from fieldmark.core.quiet import quiet
from fieldmark.exports.exporter import Cures, Exporter, FloatPart, Source
from fieldmark.exports.network import Deployed

_FIT = {"executorch": "1.2", "torch": "2.11"}
"""Releases that were built for each other, as the extra has them. Any others pass one another's tensors on wrongly."""


class ExecuTorchExporter(Exporter):
    format = "executorch"
    packages = ("executorch", "torch", "torchao")
    tool = "XNNPACKQuantizer"
    cures = frozenset({"percentile", "in_float", "fine_tuned"})

    def require(self) -> None:
        _load("exporting to ExecuTorch")

    def write(self, source: Source, batch: int, folder: Path) -> list[str]:
        path = folder / f"model-{batch}.pte"
        write_executorch(source.network, _example(source.network, batch), path)
        return [path.name]

    def quantise(self, source: Source, batch: int, folder: Path, cures: Cures) -> list[str]:
        path, example, images = folder / f"model-{batch}.pte", _example(source.network, batch), source.calibration
        with source.console.waiting("calibrating"), converting():
            from fieldmark.exports.executorch_int8 import quantised

            network = quantised(source.network, example, images, cures, source.combines)
        write_executorch(network, example, path)
        return [path.name]

    def has(self, source: Source, part: FloatPart) -> bool:
        with converting():
            from fieldmark.exports.executorch_int8 import has_part

            return has_part(source.network, _example(source.network, 1), part, source.combines)


def _example(network: Deployed, batch: int) -> Tensor:
    return torch.zeros(batch, 3, network.size, network.size, dtype=torch.uint8)


def write_executorch(network: nn.Module, example: Tensor, path: Path) -> None:
    """The program for images as in the example. Raises InputError, naming the operator, where ExecuTorch cannot express the network."""
    try:
        with converting():
            import executorch.data.bin as programs
            from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
            from executorch.exir import to_edge_transform_and_lower

            os.environ["FLATC_EXECUTABLE"] = str(Path(programs.__file__).with_name("flatc"))  # or it must be on the PATH
            exported = torch.export.export(network, (example,))
            program = to_edge_transform_and_lower(exported, partitioner=[XnnpackPartitioner()]).to_executorch()
            path.write_bytes(program.buffer)
    except (OSError, MemoryError):
        raise
    except Exception as error:  # the converter's errors share no base of their own
        raise InputError(f"ExecuTorch cannot express this network: {_reason(error)}", hint="torch bundles take any network.") from error


@contextmanager
def converting() -> Iterator[None]:
    """The console and the process are as if nothing had been converted."""
    with kept_environment(), quiet(native=True):
        yield


def _reason(error: Exception) -> str:
    """The operators that are missing, or the first line of what went wrong."""
    if missing := sorted(set(re.findall(r"aten[.:]+\w+(?:\.\w+)?", str(error)))):
        return f"it has no operator for {', '.join(missing)}"
    return reason_of(error)


def open_executorch(path: Path, record: BundleRecord, threads: int) -> Run:
    """Raises InputError if ExecuTorch is not installed, was built for another PyTorch, or cannot run the file."""
    library = _load(f"{path.parent}, a bundle for ExecuTorch,")
    (batch,) = (batch for batch, name in record.graph.by_batch.items() if name == path.name)
    size = record.preprocess.size
    try:
        with quiet(native=True):
            program = _Program(library, path, threads)
            program(np.zeros((batch, 3, size, size), np.uint8))
    except RuntimeError as error:
        raise InputError(f"ExecuTorch cannot run {path}: {reason_of(error)}") from error
    return program


class _Program:
    """A program that runs with a number of threads.

    All programs of a process share its threads, and one that was made ready for other threads than there are now would never return: so
    it is made ready again after others have changed their number.
    """

    _lock: ClassVar = Lock()
    _changes: ClassVar[int] = 0

    def __init__(self, library: Any, path: Path, threads: int):
        self.library, self.threads = library, threads
        self.program = library._load_program(str(path), program_verification=library.Verification.Minimal)
        self.ready_at = -1
        self.method: Any = None

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        with self._lock:
            if self.library._threadpool_get_thread_count() != self.threads:
                self.library._unsafe_reset_threadpool(self.threads)
                _Program._changes += 1
            if self.ready_at != self._changes:
                self.method, self.ready_at = self.program.load_method("forward"), self._changes
            return [output.numpy() for output in self.method([torch.from_numpy(images)])]


def _load(what: str) -> Any:
    """Its runtime. Raises InputError if it is not installed, or was built for another PyTorch."""
    with needed_for(what), converting():
        import executorch  # noqa: F401
    here = {name: metadata.version(name) for name in _FIT}
    if any(not version.startswith(f"{_FIT[name]}.") for name, version in here.items()):
        raise InputError(
            f"{what} needs ExecuTorch {_FIT['executorch']} with PyTorch {_FIT['torch']}, for which it was built; "
            f"here is ExecuTorch {here['executorch']} with PyTorch {here['torch']}",
            hint="pip install 'fieldmark[executorch]' brings two that fit; in a new environment, it leaves the PyTorch of this one alone.",
        )
    with converting():
        from executorch.extension.pybindings import portable_lib
    return portable_lib
