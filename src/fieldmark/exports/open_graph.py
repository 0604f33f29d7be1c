"""The graph in a file of a bundle, opened in its runtime."""

from __future__ import annotations

from pathlib import Path

from fieldmark.bundles.graph_session import Run
from fieldmark.bundles.record import BundleRecord
from fieldmark.bundles.runtimes import open_light
from fieldmark.core.extras import needed_for


def open_graph(path: Path, record: BundleRecord, threads: int) -> Run:
    """Raises InputError if its runtime is not installed, or cannot run the file."""
    if (light := open_light(path, record, threads)) is not None:
        return light
    with needed_for(f"{path.parent}, a bundle for {record.format},"):
        import torch  # noqa: F401
    if record.format == "executorch":
        from fieldmark.exports.executorch import open_executorch

        return open_executorch(path, record, threads)
    from fieldmark.exports.torch_graph import open_torch

    return open_torch(path, record, threads)
