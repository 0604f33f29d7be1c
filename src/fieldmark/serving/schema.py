"""What requests and answers of the first version of the API look like."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from fieldmark.answering.answer import Answer


class ErrorMessage(BaseModel):
    message: str
    hint: str = Field(description="What to do about it; empty if nothing is to be said.")


class ErrorBody(BaseModel):
    error: ErrorMessage


class ClassAnswer(BaseModel):
    name: str
    probability: float = Field(ge=0, le=1, description="Calibrated on validation images, unless the model is not calibrated.")


class ImageAnswer(BaseModel):
    """The answer for one image."""

    name: str = Field(description="The image's, as it was given.")
    classes: list[ClassAnswer] = Field(description="The likeliest, best first.")
    unknown: bool | None = Field(description="Whether it is probably of none of the classes; null if the model is not calibrated.")
    set: list[str] = Field(description="The classes that hold the right one with the promised probability.")
    coarser: dict[str, str] = Field(description="By level, what is answered there with the promised precision; empty for nothing.")
    note: str = Field(description="What the answer may suffer from.")

    @classmethod
    def of(cls, answer: Answer, name: str) -> ImageAnswer:
        return cls(
            name=name,
            classes=[
                ClassAnswer(name=each, probability=probability)
                for each, probability in zip(answer.classes, answer.probabilities.tolist(), strict=True)
            ],
            unknown=answer.unknown,
            set=list(answer.among),
            coarser=dict(answer.coarser),
            note=answer.note,
        )


class FailedAnswer(BaseModel):
    """An image that cannot be answered for, among others that can."""

    name: str
    error: str


class Answers(BaseModel):
    model: str
    answers: list[ImageAnswer | FailedAnswer] = Field(description="In the order of the images.")


class EvidenceMap(BaseModel):
    png: str = Field(description="A grey PNG of 8 bits as a data URI: how much each place of the square speaks for the likeliest class.")


class TrainingImage(BaseModel):
    class_: str = Field(alias="class")
    path: str = Field(description="In the dataset.")
    similarity: float = Field(description="The cosine between its features and the image's.")
    thumbnail: str | None = Field(description="A JPEG as a data URI; null if the image could not be read.")


class Explanation(BaseModel):
    answer: ImageAnswer
    map: EvidenceMap | None = Field(description="Null if the model has no maps.")
    seen: str = Field(description="The square that the network saw, a JPEG as a data URI.")
    neighbours: list[TrainingImage] = Field(description="The nearest training images of the likeliest class; empty if the model has none.")


class Kept(BaseModel):
    kept: str = Field(description="The image's file in the folder of feedback.")


class V2Error(BaseModel):
    error: str


class ModelEntry(BaseModel):
    name: str
    network: str
    format: str = Field(description="That of a bundle, or run.")
    precision: str
    classes: int
    levels: list[str] = Field(description="Of the taxonomy above the classes.")
    calibrated: bool
    explains: bool = Field(description="Whether there are maps of what speaks for an answer.")
    neighbours: bool = Field(description="Whether there are training images to show beside an answer.")
    loaded: str = Field(description="When, by ISO 8601.")
    digest: str = Field(description="Changes with the model.")


class ModelList(BaseModel):
    models: list[ModelEntry]
    feedback: bool = Field(description="Whether corrected images are kept.")
    enroll: bool = Field(description="Whether new classes can be added.")


class ClassList(BaseModel):
    model: str
    classes: list[str]
    levels: dict[str, list[str]] = Field(description="By level, the parent of each class.")


class JsonImage(BaseModel):
    model_config = ConfigDict(extra="forbid")

    data: Annotated[str, Field(description="The file in base64.")]
    name: str = ""
    box: Annotated[list[float], Field(min_length=4, max_length=4)] | None = None


class JsonImages(BaseModel):
    """The body of a request in JSON."""

    model_config = ConfigDict(extra="forbid")

    model: str | None = None
    top: Annotated[int, Field(ge=1)] | None = None
    images: Annotated[list[JsonImage], Field(min_length=1)]
