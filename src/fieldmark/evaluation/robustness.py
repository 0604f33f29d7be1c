"""How much a run loses under corruptions of the images of test that it was not trained for."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.files import write_json
from fieldmark.datasets.corruptions import CORRUPTIONS
from fieldmark.datasets.loading import LoadedData
from fieldmark.evaluation.evaluate import require_finished, run_data
from fieldmark.evaluation.run import Run
from fieldmark.scoring.metrics import top_k


def evaluate_robustness(run: Run, severities: tuple[int, ...], console: Console) -> dict[str, Any]:
    """Top-1 in per cent of test as it is ("none") and by corruption and severity; written to robustness.json in the run folder.

    What was measured before stays there, so that severities can be measured one after another.
    Raises InputError where the run is not finished, or its data have moved or changed.
    """
    require_finished(run)
    with run.folder.locked():
        loaded = run_data(run, None, console)
        rows = loaded.rows("test")
        measured = read_robustness(run) or {"n": len(rows), "none": _top1(run, loaded, rows, console, "none"), "corruptions": {}}
        for name in CORRUPTIONS:
            for severity in severities:
                if str(severity) not in measured["corruptions"].get(name, {}):
                    console.say(f"{name}:{severity}")
                    found = _top1(run, loaded, rows, console, f"{name}:{severity}")
                    measured["corruptions"].setdefault(name, {})[str(severity)] = found
                    write_json(run.folder.robustness_file, measured)
    return measured


def read_robustness(run: Run) -> dict[str, Any] | None:
    """What robustness.json holds; None where nothing was measured. Raises InputError where it is damaged."""
    if not run.folder.robustness_file.is_file():
        return None
    try:
        found = json.loads(run.folder.robustness_file.read_text(encoding="utf-8"))
        float(found["none"])
        if not all(float(value) >= 0 for each in found["corruptions"].values() for value in each.values()):
            raise ValueError("a share below 0")
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise InputError(f"{run.folder.robustness_file} is damaged", hint="Delete it, and measure again.") from None
    return dict(found)


def _top1(run: Run, loaded: LoadedData, rows: np.ndarray, console: Console, corrupt: str) -> float:
    predictions = run.predict_rows(loaded, rows, console, None, corrupt)
    return 100 * top_k(predictions.logits, predictions.labels, 1)
