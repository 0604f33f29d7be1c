"""What a finished run left behind of its images and its answers. Each file is read once, when it is first needed."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.datasets.split_file import images_of, read_split, recorded_boxes, recorded_hashes, rows_of
from fieldmark.evaluation.run import Run
from fieldmark.scoring.predictions import Predictions

_LATE = "it could not be decoded when test was opened; train.log says why"


@dataclass(frozen=True, eq=False)
class Evidence:
    """The split table and the predictions of test of one run."""

    run: Run

    @cached_property
    def saved_test(self) -> Predictions:
        """Of all images of test that could be read, with features. Raises InputError if the run is not finished."""
        return Predictions.load(self.run.folder.predictions / "test.npz")

    @cached_property
    def test(self) -> Predictions:
        """Of the labelled ones. Raises InputError if the run is not finished."""
        return self.saved_test.labelled()

    @cached_property
    def split(self) -> dict[str, list[Any]]:
        """The columns of split.parquet. Raises InputError if it is damaged."""
        return read_split(self.run.folder.split_file)

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """The rows of split.parquet."""
        return rows_of(self.split)

    @cached_property
    def set_aside(self) -> dict[str, str]:
        """By path, why an image was not used. Images of test are decoded last of all, after the split table was written."""
        tested = set(self.saved_test.ids.tolist())
        reasons = {row["path"]: row["note"] for row in self.rows}
        reasons |= {row["path"]: _LATE for row in self.rows if row["split"] == "test" and not row["note"] and row["path"] not in tested}
        return {path: reason for path, reason in reasons.items() if reason}

    @cached_property
    def used(self) -> list[dict[str, Any]]:
        """The rows of the images that were not set aside."""
        return [row for row in self.rows if row["path"] not in self.set_aside]

    @property
    def learnt(self) -> tuple[str, ...]:
        """The splits that its weights have seen."""
        return ("train", "val") if self.run.has_learnt_val else ("train",)

    @property
    def root(self) -> str:
        """Where the dataset was."""
        return self.run.folder.manifest().data.root

    @cached_property
    def moved(self) -> bool:
        """Whether the dataset is not there any more."""
        return not os.path.exists(self.root)  # Path.exists raises for a folder below one that may not be entered

    @cached_property
    def images(self) -> RecordedImages:
        """As they were when the run began, with boxes only if it crops to them."""
        boxes = recorded_boxes(self.split) if self.run.preprocess.margin is not None else {}
        return RecordedImages(images_of(self.run.folder.manifest().data), recorded_hashes(self.split), boxes)
