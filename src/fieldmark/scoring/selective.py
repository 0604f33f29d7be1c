"""Answering only where sure: what share of the images is answered, and how often those answers are wrong.

El-Yaniv and Wiener (JMLR 2010), Geifman and El-Yaniv (NeurIPS 2017).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fieldmark.core.errors import InputError
from fieldmark.scoring import metrics


@dataclass(frozen=True, eq=False)
class RiskCoverage:
    """One point for each distinct confidence, from the surest, where all images of at least that confidence are answered.

    coverage: float64 (m,), share of the `n` images that are answered, growing to 1
    risk: float64 (m,), share of those answers that are wrong
    thresholds: float64 (m,), the confidences; the last is -inf where some image has none
    """

    coverage: np.ndarray
    risk: np.ndarray
    thresholds: np.ndarray
    n: int

    @property
    def aurc(self) -> float:
        """Area under the curve, in [0, 1]: the mean over images of the risk at the first point that answers the image.

        Without ties it is the mean of the risks at coverages 1/n, 2/n, …, 1 (Geifman et al., ICLR 2019).
        """
        return float((np.diff(self.coverage, prepend=0) * self.risk).sum())

    @property
    def best_aurc(self) -> float:
        """The smallest AURC with as many wrong answers: that of a confidence which puts them all last."""
        wrong = round(float(self.risk[-1]) * self.n)
        last = np.arange(1, wrong + 1)
        return float((last / (self.n - wrong + last)).sum() / self.n)

    @property
    def excess_aurc(self) -> float:
        """AURC less the best possible one (E-AURC): what is lost by the order of confidences alone."""
        return self.aurc - self.best_aurc


def risk_coverage_of_answers(logits: np.ndarray, labels: np.ndarray) -> RiskCoverage:
    """By the probability of the answer, from (calibrated) logits, float (n, C); rows that are not finite come last."""
    finite = np.isfinite(logits).all(axis=1)
    return risk_coverage(np.where(finite, metrics.confidences(logits), -np.inf), metrics.top_k_hits(logits, labels, 1))


def risk_coverage(confidence: np.ndarray, correct: np.ndarray) -> RiskCoverage:
    """The curve of any confidence, float (n,), higher where surer; images with NaN or -inf are answered last.

    correct: bool (n,)
    Raises InputError where there are no images, and ValueError where the two do not fit together.
    """
    if correct.shape != confidence.shape or correct.ndim != 1 or correct.dtype != np.bool_:
        raise ValueError(f"confidence {confidence.shape} and correct {correct.dtype} {correct.shape} do not fit together")
    n = len(correct)
    if not n:
        raise InputError("there are no images to answer", hint="Evaluate a split that has labelled images.")
    known = np.where(np.isnan(confidence), -np.inf, confidence).astype(np.float64)
    values, places = np.unique(known, return_inverse=True)
    answered = np.bincount(places, minlength=len(values))[::-1].cumsum()
    wrong = np.bincount(places[~correct], minlength=len(values))[::-1].cumsum()
    return RiskCoverage(answered / n, wrong / answered, values[::-1], n)


def coverage_at(curve: RiskCoverage, risk: float) -> float:
    """The largest coverage whose risk is at most `risk`, in [0, 1]; 0 where none is.

    It is found on the curve's own images, and so promises nothing for others.
    """
    return float(curve.coverage[curve.risk <= risk].max(initial=0))
