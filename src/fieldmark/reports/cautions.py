"""What a reader has to know before believing a run's figures: faults of its data, and of how they were used."""

from __future__ import annotations

import numpy as np

from fieldmark.core.summary import SplitMetrics
from fieldmark.datasets.cautions import data_cautions
from fieldmark.evaluation.assessment import Assessment
from fieldmark.evaluation.run import Run
from fieldmark.scoring.summary import calibration_harm


def cautions(found: Assessment) -> list[str]:
    """One sentence or two for each; none if nothing was found. Those of the data were said before the first epoch as well."""
    run, names = found.evidence.run, found.test.class_names
    return [
        *data_cautions(found.evidence.used, np.bincount(found.test.labels, minlength=len(names)), names),
        *run.folder.manifest().cautions,
        *_no_answers(found),
        *_calibration(found),
        *_vector_scaling(run.summary.test),
        *_refitted(run, found),
    ]


def _no_answers(found: Assessment) -> list[str]:
    unanswered = int((found.predicted < 0).sum())
    return [f"{unanswered:,} of {len(found.test):,} images of test have an output that is not a finite number."] if unanswered else []


def _calibration(found: Assessment) -> list[str]:
    harm = None if found.decisions is None else calibration_harm(found.evidence.run.summary.test, found.decisions.record.n)
    return [] if harm is None else [f"{harm[:1].upper()}{harm[1:]}"]


def _vector_scaling(test: SplitMetrics) -> list[str]:
    calibrated, _, _ = test.interval("top1_calibrated")
    if calibrated is None:
        return []
    return [
        f"Vector scaling, fitted on val, changes answers: {calibrated:.1f} % are right and not {test.top1:.1f} %. "
        "predict and all below the first figures go by it."
    ]


def _refitted(run: Run, found: Assessment) -> list[str]:
    if found.decisions is None or not run.has_learnt_val:
        return []
    return ["Temperature, threshold and sets were fitted on the predictions of val before the refit, and the network has changed since."]
