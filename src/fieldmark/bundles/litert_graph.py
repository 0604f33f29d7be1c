"""Graphs of LiteRT, run on the processor."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from fieldmark.bundles.graph_session import Run
from fieldmark.bundles.record import BundleRecord
from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for
from fieldmark.core.quiet import quiet


def open_litert(path: Path, record: BundleRecord, threads: int) -> Run:
    """Raises InputError if LiteRT is not installed, or cannot run the file."""
    with needed_for(f"{path.parent}, a bundle for LiteRT,"):
        from ai_edge_litert.interpreter import Interpreter

    try:
        with quiet(native=True):
            interpreter: Any = Interpreter(str(path), num_threads=threads)
            interpreter.allocate_tensors()
            signature = interpreter.get_signature_runner()
            (given,) = signature.get_input_details().values()
            results = signature.get_output_details()
            outputs = [results[name]["index"] for name in record.graph.outputs]
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(f"LiteRT cannot run {path}: {str(error).strip()}") from error
    lock = Lock()

    def run(images: np.ndarray) -> list[np.ndarray]:
        with lock:  # an interpreter has one set of tensors
            interpreter.set_tensor(given["index"], images)
            interpreter.invoke()
            return [interpreter.get_tensor(index) for index in outputs]

    return run
