"""bundle.json: what a bundle holds, how its graph is called, and what its answers mean."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from fieldmark.core.files import json_text
from fieldmark.core.manifest import Preprocessing, Time
from fieldmark.core.record import Count, Record, RecordFile
from fieldmark.scoring.decisions import DecisionsRecord

Format = Literal["onnx", "openvino", "litert", "executorch", "torch"]
FORMATS: tuple[Format, ...] = ("onnx", "openvino", "litert", "executorch", "torch")
Precision = Literal["float32", "int8"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
OUTPUTS = ("logits", "features", "map")
"""float32: (batch, classes); (batch, width), what rejection looks at; and, where the network allows, (batch, height, width): how much each
place speaks for the likeliest class."""


class Network(Record):
    """parameters, and multiply-adds per image, of all `members` together; `name` of each if they differ."""

    name: str
    parameters: Count
    macs: Count
    members: Annotated[int, Field(ge=1)] = 1


class Graph(Record):
    """How the graph is called.

    files: by batch size, the file that holds it; each takes exactly so many images.
    layout: of the images, uint8 (batch, 3, size, size) or (batch, size, size, 3), red first; the graph normalises them itself.
    outputs: in order, of OUTPUTS. width: of the features. settings: of the runtime, without which it may answer otherwise.
    """

    files: Annotated[dict[str, str], Field(min_length=1)]
    layout: Literal["NCHW", "NHWC"]
    outputs: tuple[str, ...]
    width: Count
    settings: dict[Literal["INFERENCE_PRECISION_HINT"], Literal["f32"]] = Field(default_factory=dict)

    @property
    def by_batch(self) -> dict[int, str]:
        return {int(batch): name for batch, name in sorted(self.files.items(), key=lambda item: int(item[0]))}


class Quantisation(Record):
    """How int8 was made: the tool, the number of training images that it was calibrated on, and what cured it, in order."""

    tool: str
    images: Count
    cures: tuple[str, ...] = ()


class EnrolledRecord(Record):
    """A class that was added without training: from how many photos, and when."""

    name: str
    photos: Annotated[int, Field(ge=1)]
    added: Time


class Provenance(Record):
    """The run that was exported: its name, when it was made, its recipe's identity and its data; `weights`: what training started from."""

    run: str
    created: Time
    recipe: str | None
    data: str
    fingerprint: str
    weights: tuple[str, ...]
    licence: str | None = None


class BundleRecord(RecordFile):
    """What a bundle holds.

    levels: the taxonomy: by the name of each level, the parent of each class. decisions: as in a run's calibration.json. enrolled: the
    last classes, which the graph does not know: head.safetensors answers in place of its logits, from its features.
    files: the SHA-256 of every other file. digest: that of this record without `digest`.
    """

    SCHEMA: ClassVar[int] = 1
    REMEDY: ClassVar[str | None] = "Copy the bundle again, or export the run again."

    created: Time
    versions: dict[str, str]
    format: Format
    precision: Precision
    network: Network
    graph: Graph
    preprocess: Preprocessing
    class_names: Annotated[tuple[str, ...], Field(min_length=2)]
    levels: dict[str, list[str]]
    decisions: DecisionsRecord | None
    quantisation: Quantisation | None = None
    provenance: Provenance
    enrolled: tuple[EnrolledRecord, ...] = ()
    files: dict[str, Sha256]
    digest: Sha256 | Literal[""] = ""

    @model_validator(mode="after")
    def _is_coherent(self) -> Self:
        """Raises ValueError for names that lead out of the folder, and for what contradicts itself."""
        for name in self.files:
            place = PurePosixPath(name)
            if place.is_absolute() or ".." in place.parts or "\\" in name or not place.parts:
                raise ValueError(f"{name!r} is not a file of the bundle")
        if not all(batch.isdecimal() and int(batch) > 0 for batch in self.graph.files):
            raise ValueError("its graph is for no number of images")
        if not set(self.graph.files.values()) <= set(self.files):
            raise ValueError("its graph is not among its files")
        if self.graph.outputs not in (OUTPUTS, OUTPUTS[:2]):
            raise ValueError(f"its graph returns {', '.join(self.graph.outputs)}")
        if len(set(self.class_names)) < len(self.class_names):
            raise ValueError("several classes have one name")
        if self.enrolled and self.class_names[-len(self.enrolled) :] != tuple(each.name for each in self.enrolled):
            raise ValueError("the enrolled classes are not its last ones")
        if self.enrolled and not {"head.safetensors", "enrolment.safetensors"} <= set(self.files):
            raise ValueError("the head of its enrolled classes is not among its files")
        if wrong := [name for name, parents in self.levels.items() if len(parents) != len(self.class_names)]:
            raise ValueError(f"the level {wrong[0]} is not of its classes")
        return self

    def digested(self) -> Self:
        """The same with its digest."""
        return self.model_copy(update={"digest": self._digest()})

    @property
    def is_intact(self) -> bool:
        """Whether it is what was written."""
        return self.digest == self._digest()

    def _digest(self) -> str:
        values = {name: value for name, value in self.to_json().items() if name != "digest"}
        return hashlib.sha256(json_text(values).encode()).hexdigest()
