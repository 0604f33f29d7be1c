"""What a bundle keeps of the training images."""

from __future__ import annotations

import io

import numpy as np

from fieldmark.bundles.neighbours import Neighbours
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.datasets.thumbnails import thumbnail_of
from fieldmark.evaluation.evidence import Evidence
from fieldmark.evaluation.run import Run
from fieldmark.runtime.decode import UnreadableImage
from fieldmark.scoring.neighbours import confusions, directions

_SIDE, _QUALITY = 160, 80


def neighbours_of(run: Run, console: Console) -> Neighbours:
    """Raises InputError if nothing was saved of the run's training images; those that changed since have no thumbnail."""
    train = run.predictions("train")
    if train is None:
        raise InputError(f"{run.path} has no predictions of its training images", hint="Leave --with neighbours out.")
    train = train.labelled()
    train = train.take(np.flatnonzero(np.isfinite(train.features).all(axis=1)))
    images = Evidence(run).images
    shown: list[bytes] = []
    with console.progress("thumbnails", "images") as advance:
        for path in train.ids.tolist():
            shown.append(_jpeg(images, path))
            advance(len(shown), len(train))
    return Neighbours(
        ids=train.ids,
        labels=train.labels,
        features=directions(train.features).astype(np.float16),
        hashes=tuple(images.hashes[path] for path in train.ids.tolist()),
        thumbnails=tuple(shown),
        confusions=confusions({split: run.predictions(split, features=False) for split in ("val", "test")}),
    )


def _jpeg(images: RecordedImages, path: str) -> bytes:
    """Empty if the image cannot be read."""
    content = io.BytesIO()
    try:
        thumbnail_of(images.read(path), path, images.boxes.get(path), _SIDE).save(content, "JPEG", quality=_QUALITY)
    except UnreadableImage:
        return b""
    return content.getvalue()
