"""The runtimes that need no PyTorch, by the format of their graphs."""

from __future__ import annotations

from pathlib import Path

from fieldmark.bundles.graph_session import Run
from fieldmark.bundles.record import BundleRecord


def open_light(path: Path, record: BundleRecord, threads: int) -> Run | None:
    """The graph in a file; None if its format's runtime is PyTorch. Raises InputError if its runtime is not installed."""
    if record.format == "onnx":
        from fieldmark.bundles.onnx_graph import open_onnx

        return open_onnx(path, record, threads)
    if record.format == "openvino":
        from fieldmark.bundles.openvino_graph import open_openvino

        return open_openvino(path, record, threads)
    if record.format == "litert":
        from fieldmark.bundles.litert_graph import open_litert

        return open_litert(path, record, threads)
    return None
