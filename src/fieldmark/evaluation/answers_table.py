"""What a run answers for each image, as a table for spreadsheets: predictions/test.csv, next to the arrays of test.npz, and its like."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from fieldmark.core.files import whole_file
from fieldmark.evaluation.run import Run
from fieldmark.scoring.metrics import predicted_classes
from fieldmark.scoring.predictions import Predictions

_COLUMNS = (
    *("id", "label", "predicted", "correct", "probability", "second", "second_probability"),
    *("label_probability", "unknown", "set"),
)
_YES_OR_NO = {True: "yes", False: "no", None: ""}


def write_answers(run: Run, saved: Predictions, file: Path) -> None:
    """One row for each image of the predictions `saved`, in their order: probabilities in [0, 1], calibrated if the run is.

    Of an image without a label, what depends on it is empty; without an answer that is a number, all but id and label are. `unknown` and
    `set`, the classes of the conformal set in the order of their probability, are empty without calibration.
    """
    decisions = run.decisions
    names, probabilities = saved.class_names, run.probabilities(saved.logits)
    logits = saved.logits if decisions is None else decisions.calibration(saved.logits)
    predicted, unknown = predicted_classes(logits, np.maximum(saved.labels, 0)), run.answerer.unknown(logits, saved.features)
    sets = np.zeros(saved.logits.shape, bool) if decisions is None else decisions.sets.sets(probabilities)
    with whole_file(file) as temporary, temporary.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for row, (image, label, each) in enumerate(zip(saved.ids.tolist(), saved.labels.tolist(), probabilities, strict=True)):
            name = names[label] if label >= 0 else ""
            if not np.isfinite(each).all():
                writer.writerow([image, name, *[""] * (len(_COLUMNS) - 2)])
                continue
            order = np.argsort(-each, kind="stable")
            first = predicted[row]
            second = next((other for other in order[:2] if other != first), None)
            writer.writerow(
                [
                    image,
                    name,
                    names[first],
                    _YES_OR_NO[bool(first == label) if label >= 0 else None],
                    f"{each[first]:.6f}",
                    "" if second is None else names[second],
                    "" if second is None else f"{each[second]:.6f}",
                    f"{each[label]:.6f}" if label >= 0 else "",
                    _YES_OR_NO[None if unknown is None else bool(unknown[row])],
                    "; ".join(names[index] for index in order[sets[row][order]]),
                ]
            )
