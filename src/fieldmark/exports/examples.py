"""A few images in a bundle with the answers that are expected for them, so that any program that uses it can be tested."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from fieldmark.bundles.bundle import Bundle
from fieldmark.bundles.expected import FOLDER, write_expected
from fieldmark.datasets.loading import LoadedData
from fieldmark.exports.parity import Reference
from fieldmark.runtime.decode import open_rgb

_COUNT = 4
_SIDE = 640
"""The longest side of an example. They are PNG, which every decoder reads alike."""


def write_examples(bundle: Bundle, reference: Reference, loaded: LoadedData) -> None:
    """Images of val from the surest answer to the least sure, and the one that looks most like none of the classes, with the answers.

    They are reduced in size and stored as PNG.
    """
    folder = bundle.path / FOLDER
    folder.mkdir()
    predictions = reference.predictions
    largest = bundle.probabilities(predictions.logits).max(axis=1)
    order = np.argsort(-largest, kind="stable")
    rows = order[np.unique(np.linspace(0, len(order) - 1, _COUNT).round().astype(int))].tolist()
    if bundle.score is not None:
        rows.append(int(bundle.score(predictions.logits, predictions.features).argmin()))
    written = []
    for place, row in enumerate(dict.fromkeys(rows), 1):
        path = str(predictions.ids[row])
        image = open_rgb(loaded.dataset.images.read(path), path, _SIDE, None, bundle.preprocess.colours)
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.BILINEAR)
        file = folder / f"{place}.png"
        content = io.BytesIO()
        image.save(content, "PNG", optimize=True)
        file.write_bytes(content.getvalue())
        written.append(file)
    write_expected(bundle, written)
