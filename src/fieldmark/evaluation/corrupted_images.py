"""Images of test under every corruption: predicting them, and keeping the accuracies in the run."""

from __future__ import annotations

import numpy as np

from fieldmark.core.console import Console
from fieldmark.datasets.corruptions import CORRUPTIONS
from fieldmark.datasets.loading import LoadedData
from fieldmark.evaluation.evaluate import require_finished, run_data
from fieldmark.evaluation.robustness import Robustness, read_robustness
from fieldmark.evaluation.run import Run
from fieldmark.scoring.metrics import top_k


def evaluate_robustness(run: Run, severities: tuple[int, ...], console: Console) -> Robustness:
    """Top-1 on test under every corruption; written to robustness.json in the run folder.

    What was measured before stays there, so that severities can be measured one after another.
    Raises InputError where the run is not finished, or its data have moved or changed.
    """
    require_finished(run)
    with run.folder.locked():
        loaded = run_data(run, None, console)
        rows = loaded.rows("test")
        measured = read_robustness(run) or Robustness(n=len(rows), none=_top1(run, loaded, rows, console, "none"), corruptions={})
        for name in CORRUPTIONS:
            for severity in severities:
                known = measured.corruptions.get(name, {})
                if str(severity) not in known:
                    console.say(f"{name}:{severity}")
                    found = known | {str(severity): _top1(run, loaded, rows, console, f"{name}:{severity}")}
                    measured = measured.model_copy(update={"corruptions": measured.corruptions | {name: found}})
                    measured.write(run.folder.robustness_file)
    return measured


def _top1(run: Run, loaded: LoadedData, rows: np.ndarray, console: Console, corrupt: str) -> float:
    predictions = run.predict_rows(loaded, rows, console, None, corrupt)
    return 100 * top_k(predictions.logits, predictions.labels, 1)
