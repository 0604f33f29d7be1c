"""A format that networks are exported to: what every one of them can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from fieldmark.bundles.record import Format
from fieldmark.core.console import Console
from fieldmark.evaluation.run import Run
from fieldmark.exports.bias_correction import bias_corrected
from fieldmark.exports.fine_tuning import IMAGES, fine_tuned
from fieldmark.exports.network import Deployed, DeployedEnsemble

CALIBRATION_IMAGES = 512
FloatPart = Literal["squeeze-excite", "stem", "head"]
Cure = Literal["percentile", "seven_bits", "in_float", "fine_tuned"]
"""The fields of Cures."""


@dataclass(frozen=True)
class Cures:
    """What is done beyond correcting biases, and quantising weights per channel and activations by their extremes.

    percentile: ranges of activations without the most extreme values. seven_bits: weights of seven bits, for processors whose sums of
    products saturate. in_float: parts that are left in float32. fine_tuned: a short training with the rounding simulated.
    """

    percentile: bool = False
    seven_bits: bool = False
    in_float: tuple[FloatPart, ...] = ()
    fine_tuned: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        named = {
            "percentile ranges": self.percentile,
            "7-bit weights": self.seven_bits,
            f"{', '.join(self.in_float)} in float32": bool(self.in_float),
            "fine-tuning": self.fine_tuned,
        }
        return tuple(name for name, done in named.items() if done)


@dataclass(frozen=True, eq=False)
class Source:
    """A run about to be exported, and its network in float32.

    work: a folder for files in between. console: shows how far quantising is. train: images of train, uint8 (n, 3, S, S), at most so many
    and alike every time.
    """

    run: Run
    network: Deployed
    work: Path
    console: Console
    train: Callable[[int], np.ndarray]

    @property
    def combines(self) -> bool:
        """Whether it is an ensemble."""
        return isinstance(self.network, DeployedEnsemble)

    @cached_property
    def calibration(self) -> np.ndarray:
        """What int8 is calibrated on: uint8 (n, 3, S, S)."""
        return self.train(CALIBRATION_IMAGES)

    @cached_property
    def corrected(self) -> Source:
        """The same with biases that make up for what rounding shifts."""
        with self.run.computing(), self.console.waiting("correcting biases"):
            return self._with(bias_corrected(self.network, self.calibration), "corrected")

    @cached_property
    def fine_tuned(self) -> Source:
        """The same with a network that was corrected and then fine-tuned for int8."""
        corrected, macs = self.corrected.network, self.run.summary.model.macs
        with self.run.computing():
            network = fine_tuned(self.network, corrected, self.train(IMAGES), macs, self.console)
        return self._with(network, "fine-tuned")

    def _with(self, network: Deployed, name: str) -> Source:
        work = self.work / name
        work.mkdir()
        return replace(self, network=network, work=work)


class Exporter(ABC):
    """One of the formats."""

    format: ClassVar[Format]
    layout: ClassVar[Literal["NCHW", "NHWC"]] = "NCHW"
    packages: ClassVar[tuple[str, ...]] = ()
    """Whose versions a bundle records."""
    settings: ClassVar[Mapping[Literal["INFERENCE_PRECISION_HINT"], Literal["f32"]]] = {}
    """Of the runtime, as a bundle records them."""
    tool: ClassVar[str] = ""
    """What quantises; "" where int8 is not offered."""
    cures: ClassVar[frozenset[Cure]] = frozenset({"percentile", "seven_bits", "in_float", "fine_tuned"})
    """What `quantise` can do; no others are asked of it."""

    @abstractmethod
    def require(self) -> None:
        """Raise InputError if a library that this needs is not installed."""

    @abstractmethod
    def write(self, source: Source, batch: int, folder: Path) -> list[str]:
        """Write the graph in float32 for exactly `batch` images; returns the names of the files, that of the graph first.

        Raises InputError if the format cannot express the network.
        """

    def quantise(self, source: Source, batch: int, folder: Path, cures: Cures) -> list[str]:
        """As `write`, in int8, with a sign on the console of how far it is; for formats with a `tool`.

        The source's network is corrected already, or fine-tuned where the cures have it so: the tool does neither.
        """
        raise NotImplementedError

    def has(self, source: Source, part: FloatPart) -> bool:
        """Whether there is anything in a part; for formats with a `tool`."""
        raise NotImplementedError
