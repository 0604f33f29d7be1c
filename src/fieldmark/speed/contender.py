"""What is measured: a bundle, or a run as PyTorch computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from fieldmark.answering.answerer import Answerer
from fieldmark.answering.networks import Networks
from fieldmark.bundles.bundle import RECORD, is_bundle
from fieldmark.bundles.graph_session import GraphSession
from fieldmark.bundles.record import BundleRecord
from fieldmark.core.errors import InputError

Way = Literal["eager", "compile", "bundle"]
"""Of computing: PyTorch as it is, PyTorch's compiler, or the runtime of a bundle."""
_NEEDED = ("model", "network", "stack", "rejection")
BATCHES = (1, 2, 4, 8, 16, 32)
"""What PyTorch is measured with; a bundle has batch sizes of its own."""


@dataclass(frozen=True)
class Contender:
    """A folder, and how it is computed."""

    path: Path
    way: Way
    threads: int

    @property
    def name(self) -> str:
        """For tables: the folder's name, and what computes it."""
        ways = {"eager": "PyTorch", "compile": "torch.compile", "bundle": ""}
        return f"{self.path.resolve().name} {ways[self.way]}".strip()

    @property
    def size(self) -> int:
        """Bytes of what has to be deployed: of a bundle its graph for the fewest images and what it decides with, of a run its weights."""
        if self.way == "bundle":
            record = BundleRecord.read(self.path / RECORD)
            graphs = record.graph.by_batch
            others = {Path(name).stem for batch, name in graphs.items() if batch != min(graphs)}
            needed = [name for name in record.files if name.startswith(_NEEDED) and Path(name).stem not in others]
            return sum((self.path / name).stat().st_size for name in needed)
        return sum(each.stat().st_size for each in self.path.rglob("best.safetensors"))


def contenders(paths: Sequence[Path], threads: int) -> list[Contender]:
    """Of a run both ways of PyTorch."""
    found: list[Contender] = []
    for path in dict.fromkeys(paths):
        ways: tuple[Way, ...] = ("bundle",) if is_bundle(path) else ("eager", "compile")
        found += [Contender(path, way, threads) for way in ways]
    return found


@dataclass(frozen=True, eq=False)
class Opened:
    """A contender that is ready: `session` computes pixels, `answerer` answers for the bytes of images."""

    session: GraphSession
    answerer: Answerer
    batches: tuple[int, ...]


def open_contender(contender: Contender) -> Opened:
    """Raises InputError as Run.load and load_bundle do, and if PyTorch cannot compile here."""
    if contender.way == "bundle":
        from fieldmark.bundles.bundle import Bundle
        from fieldmark.exports.open_graph import open_graph

        bundle = Bundle.load(contender.path, open_graph, contender.threads)
        return Opened(bundle.session, bundle.answerer, bundle.session.batches)
    return _of_pytorch(contender)


def _of_pytorch(contender: Contender) -> Opened:
    import torch

    from fieldmark.evaluation.run import Run
    from fieldmark.exports.network import deployed

    run = Run.load(contender.path).in_float32()
    torch.set_num_threads(contender.threads)
    network: Callable[..., Any] = deployed(run)
    if contender.way == "compile":
        network = torch.compile(network)

    def compute(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [output.numpy() for output in network(torch.from_numpy(images))]

    try:
        session = GraphSession(run.preprocess, BATCHES, lambda batch: compute)
        session(np.zeros((1, 3, run.preprocess.size, run.preprocess.size), np.uint8))
    except Exception as error:
        if contender.way == "eager":
            raise
        reason = str(error).strip().splitlines()[0][:200]
        raise InputError(f"torch.compile does not work here: {reason}") from error
    answerer = Answerer(Networks((session,)), run.class_names, run.decisions, run.score, run.levels)
    return Opened(session, answerer, BATCHES)
