"""Latency, throughput, memory, start and size of runs and bundles, side by side: measured in turn, so that all meet the same machine."""

from __future__ import annotations

import io
import statistics
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from fieldmark.bundles.bundle import is_bundle
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.processor import available_cores, instruction_sets
from fieldmark.core.run_folder import RunFolder, versions
from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.datasets.split_file import images_of, read_split, recorded_hashes
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.speed.contender import Contender, contenders
from fieldmark.speed.process import Ready, What, Worker

ROUNDS = 10
REPEATS = 25
"""Of one image, in each round."""
_IMAGES = 8
_JPEG = b"\xff\xd8"


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one image: half, nine in ten and 99 in 100 take no longer."""

    p50: float
    p90: float
    p99: float

    @classmethod
    def of(cls, milliseconds: Sequence[float]) -> Latency:
        return cls(*(float(each) for each in np.percentile(milliseconds, (50, 90, 99))))


@dataclass(frozen=True)
class Measured:
    """What was measured of one contender; `problem` says why nothing was, "" otherwise.

    model: its computation alone; decode: from the bytes of a JPEG to pixels; answer: from the bytes to the answer with all decisions.
    throughput: images/s by batch size, of the computation alone. memory and size in bytes, start in seconds until the first answer.
    """

    name: str
    problem: str = ""
    model: Latency | None = None
    decode: Latency | None = None
    answer: Latency | None = None
    throughput: dict[int, float] = field(default_factory=dict)
    memory: int = 0
    start: float = 0.0
    size: int = 0

    @property
    def best(self) -> tuple[int, float] | None:
        """The batch size with the most images/s."""
        return max(self.throughput.items(), key=lambda item: item[1], default=None)

    @property
    def overhead(self) -> float | None:
        """The time from JPEG to answer over that of decoding and computing."""
        if self.model is None or self.decode is None or self.answer is None:
            return None
        return self.answer.p50 / (self.model.p50 + self.decode.p50)


@dataclass(frozen=True)
class Benchmark:
    """`alongside`: how many copies of each contender computed at the same time."""

    contenders: tuple[Measured, ...]
    threads: int
    alongside: int
    machine: dict[str, Any]

    def check_budget(self, milliseconds: float) -> None:
        """Raise CheckFailed if nine in ten answers of some contender take longer than that."""
        slow = {each.name: each.answer.p90 for each in self.contenders if each.answer is not None and each.answer.p90 > milliseconds}
        if slow:
            said = [f"{name} takes {taken:.1f} ms, over --budget-ms {milliseconds:g}" for name, taken in slow.items()]
            raise CheckFailed(*said, hint="That is what nine in ten answers stay below, from JPEG to answer.")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "threads": self.threads,
            "alongside": self.alongside,
            "machine": self.machine,
            "contenders": [asdict(each) | {"overhead": each.overhead} for each in self.contenders],
        }


def benchmark(paths: Sequence[Path], threads: int | None, alongside: int, console: Console) -> Benchmark:
    """Of runs, by PyTorch as it is and compiled, and of bundles.

    Raises InputError for what is neither, and if there are no images to measure with.
    """
    if not paths:
        raise InputError("nothing to measure", hint="Give runs and bundles: fieldmark benchmark runs/mine bundles/mine")
    threads = available_cores() if threads is None else threads
    if threads < 1 or alongside < 0:
        raise InputError("--threads must be at least 1, and --alongside at least 0")
    for path in paths:
        if not is_bundle(path):
            RunFolder.open(path)
    images = _images(paths)
    found: dict[Contender, Measured] = {}
    with ExitStack() as opened, console.progress("measuring", "rounds") as advance:
        measured: list[_Measuring] = []
        for contender in contenders(paths, threads):
            worker = opened.enter_context(Worker(contender, images))
            try:
                ready = worker.ready()
            except InputError as error:
                found[contender] = Measured(contender.name, str(error.problems[0]))
                continue
            copies = [opened.enter_context(Worker(contender, images)) for _ in range(alongside)]
            for copy in copies:
                copy.compute_without_end()
            measured.append(_Measuring(worker, copies, ready))
        for number in range(1, ROUNDS + 1):
            for each in measured:
                each.round()
            advance(number, ROUNDS)
    found |= {each.worker.contender: each.result() for each in measured}
    sets = sorted(instruction_sets())
    machine = versions() | {"cores": available_cores(), "instruction_sets": sets, "vnni": any("vnni" in name for name in sets)}
    return Benchmark(tuple(found[each] for each in contenders(paths, threads)), threads, alongside, machine)


@dataclass(frozen=True, eq=False)
class _Measuring:
    """A contender's worker, the copies that compute next to it, and the milliseconds so far by what was measured and batch size."""

    worker: Worker
    copies: Sequence[Worker]
    ready: Ready
    times: dict[tuple[What, int], list[float]] = field(default_factory=dict)

    def round(self) -> None:
        cases: list[tuple[What, int]] = [("decode", 1), ("answer", 1), *(("model", batch) for batch in sorted({1, *self.ready.batches}))]
        with _computing(self.copies):
            for what, batch in cases:
                repeats = max(2, REPEATS // batch)
                self.times.setdefault((what, batch), []).extend(self.worker.measure(what, repeats, batch))

    def result(self) -> Measured:
        contender, ready = self.worker.contender, self.ready
        return Measured(
            name=contender.name,
            model=Latency.of(self.times["model", 1]),
            decode=Latency.of(self.times["decode", 1]),
            answer=Latency.of(self.times["answer", 1]),
            throughput={batch: 1000 * batch / statistics.median(self.times["model", batch]) for batch in ready.batches},
            memory=ready.memory,
            start=ready.seconds,
            size=contender.size,
        )


@contextmanager
def _computing(copies: Sequence[Worker]) -> Iterator[None]:
    """While the block runs, so do these processes."""
    for copy in copies:
        copy.go_on()
    try:
        yield
    finally:
        for copy in copies:
            copy.pause()


def _images(paths: Sequence[Path]) -> list[bytes]:
    """The bytes of JPEGs: of a run's own images, or else of a bundle's examples."""
    for path in paths:
        if found := _of_bundle(path) if is_bundle(path) else _of_run(path):
            return found
    raise InputError(
        "there are no images to measure with: the data of these runs are not where they were", hint="Give a bundle as well: it has some."
    )


def _of_bundle(path: Path) -> list[bytes]:
    return [_as_jpeg(Image.open(file)) for file in sorted((path / "examples").glob("*.png"))]


def _of_run(path: Path) -> list[bytes]:
    folder = RunFolder.open(path)
    stored = read_split(folder.split_file)
    rows = zip(stored["path"], stored["split"], stored["note"], strict=True)
    names = [name for name, split, note in rows if split == "val" and not note]
    images = RecordedImages(images_of(folder.manifest().data), recorded_hashes(stored), {})
    found = []
    for name in names[:: max(1, len(names) // _IMAGES)][:_IMAGES]:
        with suppress(UnreadableImage):
            found.append(images.read(name))
    return [each if each[:2] == _JPEG else _as_jpeg(Image.open(io.BytesIO(each))) for each in found]


def _as_jpeg(image: Image.Image) -> bytes:
    content = io.BytesIO()
    image.convert("RGB").save(content, "JPEG", quality=90)
    return content.getvalue()
