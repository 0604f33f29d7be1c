"""The gate of an export: whether a graph answers as the run does, on the run's own images of val."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from fieldmark.bundles.parity import AccuracyLoss, Agreement, Attempt, Limits
from fieldmark.scoring.comparison import paired_interval
from fieldmark.scoring.decisions import Decisions, calibrated_probabilities
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import Score

CLEAR_MARGIN = 1e-3
"""Between the two largest logits: where they are closer, rounding alone may exchange them."""
LARGEST_DIFFERENCE = 1e-3
"""Of probabilities, that a float format may have."""
_MOST_IMAGES = 10**7


@dataclass(frozen=True, eq=False)
class Reference:
    """What the run answers in float32 for images of val, and what it decides with."""

    predictions: Predictions
    decisions: Decisions | None
    score: Score | None

    def agreement(self, logits: np.ndarray, features: np.ndarray, rows: np.ndarray | None = None) -> Agreement:
        """Of other outputs for the same images, or for some rows of them."""
        own = self.predictions if rows is None else self.predictions.take(rows)
        best, other = own.logits.argmax(axis=1), logits.argmax(axis=1)
        two = np.partition(own.logits, -2, axis=1)[:, -2:]
        clear = two[:, 1] - two[:, 0] > CLEAR_MARGIN
        before, after = (calibrated_probabilities(self.decisions, each) for each in (own.logits, logits))
        largest = float(np.abs(before - after).max()) if len(own) else 0.0
        found = Agreement(
            n=len(own),
            equal=int((best == other).sum()),
            clear=int(clear.sum()),
            clear_equal=int((best == other)[clear].sum()),
            largest_difference=largest if math.isfinite(largest) else None,
        )
        if self.decisions is None or self.score is None:
            return found
        unknown = (self.decisions.unknown(self.score, *each) for each in ((own.logits, own.features), (logits, features)))
        sets = self.decisions.sets.sets(before), self.decisions.sets.sets(after)
        return found.model_copy(
            update={"equal_unknown": int(np.equal(*unknown).sum()), "equal_sets": int(np.equal(*sets).all(axis=1).sum())}
        )

    def loss(self, logits: np.ndarray) -> AccuracyLoss:
        """Of accuracy on the labelled images."""
        known = self.predictions.labels >= 0
        labels = self.predictions.labels[known]
        return AccuracyLoss.of(self.predictions.logits[known].argmax(axis=1) == labels, logits[known].argmax(axis=1) == labels)


def is_proven(loss: AccuracyLoss, limits: Limits) -> bool:
    """Whether the loss is within its limit with 97.5 % confidence."""
    return loss.high <= limits.loss


def images_to_prove(loss: AccuracyLoss, limits: Limits) -> int | None:
    """About how many images of val it would take, if as many of them were lost and gained as now; None if the loss is over its limit."""
    if not loss.n or loss.points >= limits.loss:
        return None
    lost, gained = loss.lost / loss.n, loss.gained / loss.n

    def proves(n: int) -> bool:
        return paired_interval(round(lost * n), round(gained * n), n)[1] <= limits.loss

    most = max(loss.n, 1)
    while not proves(most):
        most *= 2
        if most > _MOST_IMAGES:
            return None
    least = most // 2
    while most - least > max(1, most // 100):
        middle = (least + most) // 2
        least, most = (least, middle) if proves(middle) else (middle, most)
    return most


def why_not_float(agreement: Agreement) -> str:
    """Why a float format fails; "" if it passes: every clear answer equal, and no probability far off."""
    if agreement.clear_equal < agreement.clear:
        return f"{agreement.clear - agreement.clear_equal:,} of {agreement.clear:,} answers whose logits are clearly apart differ"
    if agreement.largest_difference is None:
        return "some probabilities are not numbers"
    if agreement.largest_difference > LARGEST_DIFFERENCE:
        return f"a probability differs by {agreement.largest_difference:.2g}, and {LARGEST_DIFFERENCE:g} is allowed"
    return ""


def why_not_int8(agreement: Agreement, loss: AccuracyLoss, limits: Limits) -> str:
    """Why an int8 graph fails; "" if it passes."""
    reasons = []
    if loss.points > limits.loss:
        reasons.append(f"it loses {loss.points:.2f} points of accuracy [{loss.low:.2f}, {loss.high:.2f}], and {limits.loss:g} are allowed")
    if agreement.changed > limits.changed:
        reasons.append(f"{agreement.changed:.1f} % of the answers changed, and {limits.changed:g} % are allowed")
    if agreement.largest_difference is None:
        reasons.append("some probabilities are not numbers")
    if limits.strict and not reasons and not is_proven(loss, limits):
        reasons.append(proof(loss, limits))
    return "; ".join(reasons)


def proof(loss: AccuracyLoss, limits: Limits) -> str:
    """Whether the loss is proven to be within its limit, as a sentence; if not, about how many images of val it would take."""
    if is_proven(loss, limits):
        return f"{loss.n:,} images of val prove that the loss is within {limits.loss:g} points: it is at most {max(loss.high, 0):.2f}"
    needed = images_to_prove(loss, limits)
    takes = "" if needed is None else f"; about {needed:,} images would prove it"
    return f"{loss.n:,} images of val do not prove that the loss is within {limits.loss:g} points: it may be {loss.high:.1f}{takes}"


def shortfall(attempt: Attempt, limits: Limits) -> tuple[float, float]:
    """How far an int8 graph is from passing, in points over the limits, and in answers that changed; the less the better."""
    if attempt.agreement.largest_difference is None:
        return math.inf, math.inf
    lost = attempt.loss.high if limits.strict else attempt.loss.points
    over = max(lost - limits.loss, 0.0) + max(attempt.agreement.changed - limits.changed, 0.0)
    return over, attempt.agreement.changed
