"""manifest.json: what a run folder says of itself, beside its recipe and its split table."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, ClassVar, Literal

from pydantic import AwareDatetime, PlainSerializer

from fieldmark.core.ensemble_record import EnsembleRecord
from fieldmark.core.recipe.data import Resize
from fieldmark.core.record import Count, Record, RecordFile

Status = Literal["running", "finished", "failed", "interrupted"]
Colours = Literal["srgb", "stored"]
"""What becomes of an image's colours: converted to sRGB by what it says of them, or left as stored, as in earlier versions."""

Time = Annotated[AwareDatetime, PlainSerializer(datetime.isoformat)]


class Origin(Record):
    """Where a run's data are.

    banner: that of the dataset: rows of pixels at the bottom of every image that are not part of it.
    notes: what was found when they were read, such as what was passed over; none in older runs.
    """

    name: str
    root: str
    layout: str
    banner: Count = 0
    notes: tuple[str, ...] = ()


class Preprocessing(Record):
    """How an image is prepared for the network: the fields of runtime.preprocess.Preprocess."""

    size: Count
    resize: Resize
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    margin: float | None = None
    colours: Colours = "stored"


class StartingWeights(Record):
    """The file that a training starts from: its path in full, and the SHA-256 of its bytes."""

    file: str
    sha256: str


class Manifest(RecordFile):
    """What a run folder says of itself.

    reason: why the run failed. changed: when the status was last set. given: DATA as the user named it.
    recipe: the identity of the recipe that was asked for; None for an ensemble. fingerprint: of the images, labels and splits.
    levels: the taxonomy: by the name of each level, the parent of each class. notes: on the starting weights.
    weights: their file; None where they are random or were fetched by name, and in older runs.
    licence: of starting weights that were fetched by name; None for others, and in older runs.
    cautions: on the augmentation and on images that the starting weights know, found before the first epoch; none in older runs.
    ensemble: what it is made of; None for a training.
    """

    REMEDY: ClassVar[str | None] = "Restore it from a copy, or make the run again."

    status: Status
    reason: str | None = None
    created: Time
    changed: Time | None = None
    versions: dict[str, str]
    device: str
    given: str
    recipe: str | None = None
    data: Origin
    fingerprint: str
    class_names: tuple[str, ...]
    levels: dict[str, list[str]]
    preprocess: Preprocessing
    notes: tuple[str, ...]
    weights: StartingWeights | None = None
    licence: str | None = None
    cautions: tuple[str, ...] = ()
    ensemble: EnsembleRecord | None = None
