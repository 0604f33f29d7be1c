"""What a run and a bundle have in common: they answer for images."""

from __future__ import annotations

import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fieldmark.answering.answer import Answer
from fieldmark.answering.answerer import Answerer, Boxes
from fieldmark.answering.images import crossed_off, images_in, streamed_images
from fieldmark.answering.in_memory import Source
from fieldmark.core.arguments import checked
from fieldmark.core.console import Console
from fieldmark.datasets.boxes_file import given_boxes, without_image
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.decisions import Decisions, calibrated_probabilities


@dataclass(frozen=True)
class Identity:
    """Which networks answer: the name of the network, its format ("run" for a run), its precision, and a hash of what it consists of."""

    network: str
    format: str
    precision: str
    digest: str


@dataclass(frozen=True)
class OnVal:
    """What answers were like for images of val; None where it is not known.

    confidence: the mean probability of the likeliest class. unknown: the share of images that were unknown.
    """

    confidence: float | None = None
    unknown: float | None = None


class Predictor(ABC):
    """Networks in a folder, with the decisions that were fitted to them."""

    path: Path

    @property
    @abstractmethod
    def identity(self) -> Identity:
        """Which networks answer."""

    @property
    @abstractmethod
    def on_val(self) -> OnVal:
        """What its answers were like for images of val."""

    @property
    @abstractmethod
    def levels(self) -> Mapping[str, Sequence[str]]:
        """The parent of each class in the taxonomy, by the name of each level."""

    @property
    @abstractmethod
    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits."""

    @property
    @abstractmethod
    def preprocess(self) -> Preprocess:
        """What happens to an image first; in an ensemble, for its first member."""

    @property
    @abstractmethod
    def decisions(self) -> Decisions | None:
        """Temperature, threshold and the like, fitted on val; None without calibration."""

    @property
    @abstractmethod
    def answerer(self) -> Answerer:
        """The networks with the decisions."""

    @abstractmethod
    def load_runtime(self, console: Console) -> None:
        """Load what computes, which may take seconds, with a sign of it."""

    @property
    def name(self) -> str:
        """That of its folder."""
        return os.path.basename(os.path.abspath(self.path))

    def computing(self) -> AbstractContextManager[Any]:
        """For blocks that compute many images one by one."""
        return nullcontext()

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated if there are decisions: float32 (n, C)."""
        return calibrated_probabilities(self.decisions, logits)

    @checked
    def predict(self, images: Source | Iterable[Source], top: int = 5, boxes: Boxes | str | Path | None = None) -> list[Answer]:
        """Answers for files, folders (searched for images), globs and images in memory, in order; without one, its note says why.

        Images in memory are PIL images, NumPy arrays (uint8, height x width x 3, red first; or with alpha, or grey height x width), the
        bytes of files, and files that are open for reading. A batch of arrays is its images.

        `boxes` give the left, top, right and bottom edge of the object in pixels, by the image's path, or are a table, as of
        `fieldmark.predict`. There is a UserWarning if the training is not finished, if it was on images cropped to boxes and these have
        none, or the other way round, and for a box that is of none of the images.
        """
        for caution in self.cautions(boxes is not None):
            warnings.warn(caution, stacklevel=3)
        given = given_boxes(boxes)
        unused = {os.path.abspath(path) for path in given or ()}
        answers = list(self.answerer.stream(crossed_off(images_in(images), unused), top, given))
        for caution in without_image(unused):
            warnings.warn(caution, stacklevel=3)
        return answers

    @checked
    def stream(self, images: Source | Iterable[Source], top: int = 5, boxes: Boxes | str | Path | None = None) -> Iterator[Answer]:
        """The same, one by one and in bounded memory: images are drawn from an iterable at most two batches ahead.

        So a file that does not exist has an answer without classes, whose note says why, and there is an InputError for what is no image
        only when it is its turn. `top` is cut to the number of classes.
        """
        return self.answerer.stream(streamed_images(images), top, given_boxes(boxes))

    def cautions(self, boxes: bool) -> tuple[str, ...]:
        """What to say before images are answered, with or without boxes."""
        if self.preprocess.margin is not None and not boxes:
            return (f"{self.path} was trained on images cropped to boxes and sees these whole: expect worse answers without a sign of it",)
        if self.preprocess.margin is None and boxes:
            return (f"{self.path} was trained on whole images and sees these cropped: fine only if its images were crops already",)
        return ()
