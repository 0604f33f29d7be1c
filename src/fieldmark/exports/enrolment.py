"""What a bundle keeps so that classes can be enrolled in it."""

from __future__ import annotations

from fieldmark.bundles.enrolment import Enrolment
from fieldmark.core.errors import InputError
from fieldmark.evaluation.run import Run
from fieldmark.scoring.enrolment import KnownClasses
from fieldmark.scoring.predictions import Predictions


def enrolment_of(run: Run, val: Predictions) -> Enrolment:
    """From what was saved of train, and the answers for val. Raises InputError if either lacks what it takes."""
    train = run.predictions("train")
    if train is None or not train.features.shape[1]:
        raise InputError(f"{run.path} has no predictions of its training images", hint="Leave --with enroll out.")
    return Enrolment(KnownClasses.of(train, val))
