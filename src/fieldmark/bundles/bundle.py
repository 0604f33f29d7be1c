"""A bundle: the folder that an export leaves, checked and ready to answer."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TypeGuard

from fieldmark.answering.answerer import Answerer
from fieldmark.answering.networks import Networks
from fieldmark.answering.predictor import Identity, OnVal, Predictor
from fieldmark.bundles.enrolment import Enrolment, load_head
from fieldmark.bundles.graph_session import GraphSession, Run
from fieldmark.bundles.neighbours import Neighbours
from fieldmark.bundles.parity import Parity
from fieldmark.bundles.record import BundleRecord
from fieldmark.core.arguments import path_of
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.names import typed
from fieldmark.core.processor import available_cores
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.decisions import Decisions, checked_decisions
from fieldmark.scoring.rejection_scores import OF_LOGITS, Score, fit_score, load_score

RECORD, PARITY, REJECTION = "bundle.json", "parity.json", "rejection.safetensors"
NEIGHBOURS, ENROLMENT, HEAD = "neighbours.safetensors", "enrolment.safetensors", "head.safetensors"
Open = Callable[[Path, BundleRecord, int], Run]
"""Opens a file of the bundle's graph in its runtime, with a number of threads."""


class Bundle(Predictor):
    """A deployed network: `load_bundle(path).predict(images)` answers as the run did.

    `open_graph` runs a file of its graph; `threads` are those of one image's computation, all cores by default.
    """

    def __init__(self, path: Path, record: BundleRecord, open_graph: Open, threads: int | None = None):
        self.path = path
        self.record = record
        self.threads = available_cores() if threads is None else threads
        self.open_graph = open_graph

    def __repr__(self) -> str:
        record = self.record
        return f"Bundle({str(self.path)!r}, {record.network.name}, {record.format} {record.precision}, {len(self.class_names)} classes)"

    @classmethod
    def load(cls, path: str | os.PathLike[str], open_graph: Open, threads: int | None = None) -> Bundle:
        """Raises InputError if it is not a bundle, is damaged in any file, or was written by a newer version."""
        folder = Path(path_of(path, "a bundle is given as the path of its folder"))
        if not (folder / RECORD).is_file():
            raise InputError(f"{folder} is not a bundle: it has no {RECORD}", hint=f"fieldmark export RUN --out {typed(folder)} makes one.")
        record = BundleRecord.read(folder / RECORD)
        if not record.is_intact:
            raise InputError(f"{folder / RECORD} was changed after it was written", hint=BundleRecord.REMEDY)
        _check_files(folder, record)
        if threads is not None and threads < 1:
            raise InputError(f"the number of threads must be at least 1, got {threads}")
        return cls(folder, record, open_graph, threads)

    @property
    def identity(self) -> Identity:
        return Identity(self.record.network.name, self.record.format, self.record.precision, self.record.digest)

    @property
    def on_val(self) -> OnVal:
        """`unknown` is what was promised; `confidence`, unless what enrols classes holds the logits of val, the accuracy there, which
        calibrated probabilities equal on average."""
        parity = Parity.read(self.path / PARITY)
        if self.decisions is None or parity.learnt:
            return OnVal()
        unknown = 0.0 if math.isinf(self.decisions.threshold) else 1 - self.decisions.record.rejection.accept
        if self.enrolment is None:
            return OnVal(parity.loss.bundle / 100 if parity.loss.n else None, unknown)
        known, head = self.enrolment.known, self.session.head
        logits = known.logits if head is None else head(known.features)[0]
        return OnVal(float(self.probabilities(logits).max(axis=1).mean()), unknown)

    @property
    def class_names(self) -> tuple[str, ...]:
        return self.record.class_names

    @property
    def levels(self) -> dict[str, list[str]]:
        """The parent of each class in the taxonomy, by the name of each level."""
        return self.record.levels

    @cached_property
    def preprocess(self) -> Preprocess:
        return Preprocess.of(self.record.preprocess)

    @cached_property
    def decisions(self) -> Decisions | None:
        if self.record.decisions is None:
            return None
        return checked_decisions(self.record.decisions, self.path / RECORD, len(self.class_names), self.levels, str(BundleRecord.REMEDY))

    @cached_property
    def score(self) -> Score | None:
        """What the bundle rejects by; None without calibration."""
        if self.decisions is None:
            return None
        name = self.decisions.score
        return fit_score(name, None) if name in OF_LOGITS else load_score(self.path / REJECTION, name)

    @cached_property
    def neighbours(self) -> Neighbours | None:
        """The training images; None if it was exported without them."""
        return Neighbours.load(self.path / NEIGHBOURS) if NEIGHBOURS in self.record.files else None

    @cached_property
    def enrolment(self) -> Enrolment | None:
        """What classes are enrolled by, and those that were; None if it was exported without."""
        return Enrolment.load(self.path / ENROLMENT) if ENROLMENT in self.record.files else None

    @property
    def has_map(self) -> bool:
        """Whether it says where in an image the evidence for its answer is."""
        return "map" in self.record.graph.outputs and not self.record.enrolled

    @cached_property
    def session(self) -> GraphSession:
        """The graph as a function from pixels to its outputs; it is opened at the first image."""
        files = self.record.graph.by_batch
        return GraphSession(
            self.preprocess,
            tuple(files),
            lambda batch: self.open_graph(self.path / files[batch], self.record, self.threads),
            self.record.graph.layout == "NHWC",
            load_head(self.path / HEAD) if self.record.enrolled else None,
        )

    def load_runtime(self, console: Console) -> None:
        with console.waiting(f"opening {self.name}"):
            self.session.warm_up()

    @cached_property
    def answerer(self) -> Answerer:
        networks = Networks((self.session,), batch=max(32, max(self.record.graph.by_batch)))
        return Answerer(networks, self.class_names, self.decisions, self.score, self.levels)


def is_bundle(given: object) -> TypeGuard[str | os.PathLike[str]]:
    """Whether it is the path of a folder that says that it is one."""
    return isinstance(given, (str, os.PathLike)) and (Path(given) / RECORD).is_file()


def seal(folder: Path, record: BundleRecord) -> None:
    """Write the record of a bundle whose other files are there, with their hashes."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    digests = {path.relative_to(folder).as_posix(): _digest(path) for path in files}
    record.model_copy(update={"files": digests}).digested().write(folder / RECORD)


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _check_files(folder: Path, record: BundleRecord) -> None:
    """Raise InputError for files that are missing, or are not what was written."""
    missing = [name for name in record.files if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder} is incomplete: {', '.join(missing)} missing", hint=BundleRecord.REMEDY)
    changed = []
    for name, expected in record.files.items():
        try:
            digest = _digest(folder / name)
        except OSError as error:
            raise InputError(f"{folder / name} cannot be read: {error.strerror}") from None
        if digest != expected:
            changed.append(name)
    if changed:
        raise InputError(f"{folder} is damaged: {', '.join(changed)} changed after it was written", hint=BundleRecord.REMEDY)
