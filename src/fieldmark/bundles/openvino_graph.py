"""Graphs of OpenVINO, run on the processor."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fieldmark.bundles.graph_session import Run
from fieldmark.bundles.record import BundleRecord
from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for

_SETTINGS: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "ENABLE_CPU_PINNING": False}
"""Threads are not bound to cores: those of several processes would be bound to the same ones."""
_TELEMETRY = "openvino_telemetry"


def open_openvino(path: Path, record: BundleRecord, threads: int) -> Run:
    """Raises InputError if OpenVINO is not installed, or cannot run the file."""
    openvino = load_openvino(f"{path.parent}, a bundle for OpenVINO,")
    try:
        core = openvino.Core()
        compiled = core.compile_model(core.read_model(path), "CPU", _SETTINGS | record.graph.settings | {"INFERENCE_NUM_THREADS": threads})
    except Exception as error:  # its errors share no base of their own
        raise InputError(f"OpenVINO cannot run {path}: {str(error).strip().splitlines()[-1].strip()}") from error
    outputs = [compiled.output(name) for name in record.graph.outputs]
    request, lock = compiled.create_infer_request(), Lock()

    def run(images: np.ndarray) -> list[np.ndarray]:
        with lock:  # one request is one computation
            results = request.infer([images], share_inputs=True)
            return [results[output] for output in outputs]

    return run


def load_openvino(what: str) -> Any:
    """The library, without its telemetry. Raises InputError if it is not installed, or cannot be loaded."""
    try:
        with needed_for(what), without_telemetry():
            import openvino
    except (ImportError, OSError) as error:
        hint = "pip install --force-reinstall openvino mends a damaged installation."
        raise InputError(f"{what} needs OpenVINO, which cannot be loaded here: {error}", hint=hint) from error
    return openvino


@contextmanager
def without_telemetry() -> Iterator[None]:
    """OpenVINO and its tools, if imported in this block, send nothing and leave no files in the home folder.

    They do as soon as they are imported, unless their package for it is not there.
    """
    before = sys.modules.get(_TELEMETRY)
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # what makes an import fail
    try:
        yield
    finally:
        if before is None:
            del sys.modules[_TELEMETRY]
        else:
            sys.modules[_TELEMETRY] = before
