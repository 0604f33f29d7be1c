"""Graphs of ONNX, run by ONNX Runtime on the processor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fieldmark.bundles.graph_session import Run
from fieldmark.bundles.record import BundleRecord
from fieldmark.core.errors import InputError
from fieldmark.core.extras import needed_for


def open_onnx(path: Path, record: BundleRecord, threads: int) -> Run:
    """Raises InputError if ONNX Runtime is not installed, or cannot run the file."""
    with needed_for(f"{path.parent}, a bundle for ONNX,"):
        import onnxruntime

    options: Any = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3
    try:
        session: Any = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors share no base of their own
        raise InputError(f"ONNX Runtime cannot run {path}: {str(error).strip()}") from error
    (given,) = session.get_inputs()
    names = list(record.graph.outputs)
    return lambda images: session.run(names, {given.name: images})
