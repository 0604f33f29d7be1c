"""How well a run tells images of unknown classes from those of test: every score, and what its threshold does."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm, rankdata

from fieldmark.datasets.dataset import UNKNOWN
from fieldmark.evaluation.run import Run
from fieldmark.scoring.decisions import Decisions
from fieldmark.scoring.intervals import share_interval, variance_of_mean
from fieldmark.scoring.metrics import top_k_hits
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection import aupr, auroc, fpr_at, oscr
from fieldmark.scoring.rejection_scores import Score, fitted_scores, without_train


@dataclass(frozen=True)
class ScoreFigures:
    """One score against one set of unknown images, in per cent.

    auroc: share of pairs of a known and an unknown image that it puts in the right order, with its 95 % interval over such
    images, or groups of them; over other unknown classes it would be wider. aupr: average precision of finding the unknown ones.
    fpr: unknown images that pass where 95 % of test does. oscr: area under rightly named known against passed unknown images (Dhamija
    et al., NeurIPS 2018).
    """

    name: str
    auroc: float
    auroc_low: float
    auroc_high: float
    aupr: float
    fpr: float
    oscr: float


@dataclass(frozen=True)
class UnknownFigures:
    """Images of unknown classes, `n` of them, beside the `known` of test.

    score: the run's; its threshold was fitted on val to accept the share `accept` of known images. accepted: share of test that it does
    accept, rejected: share of the unknown images that it rejects, each with its 95 % interval, in per cent. chose: whether some of these
    very images chose the score, which flatters it. values: by score, what each known and unknown image gets, float64 (n,) each.
    """

    name: str
    n: int
    known: int
    score: str
    accept: float
    accepted: float
    accepted_low: float
    accepted_high: float
    rejected: float
    rejected_low: float
    rejected_high: float
    chose: bool
    scores: tuple[ScoreFigures, ...]
    values: Mapping[str, tuple[np.ndarray, np.ndarray]]

    @property
    def chosen(self) -> ScoreFigures:
        return next(each for each in self.scores if each.name == self.score)

    @property
    def blindness(self) -> str | None:
        """That the run's score does no better on these images than chance, as far as they show, as a sentence; None if it does."""
        chosen = self.chosen
        if chosen.auroc_low > 50:
            return None
        interval = f"{chosen.auroc:.1f} [{chosen.auroc_low:.1f}, {chosen.auroc_high:.1f}]"
        return (
            f"this run cannot be seen to tell these images from those of its classes: its score, {self.score}, has an AUROC of {interval}, "
            "and chance alone gets 50"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON, without `values`."""
        listed = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "values"}
        return listed | {"scores": [asdict(each) for each in self.scores]}


@dataclass(frozen=True)
class UnknownEvaluation:
    """What a run makes of images of none of its classes, and the saved `predictions`."""

    run: Path
    predictions: Path
    figures: UnknownFigures

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"run": str(self.run), "predictions": str(self.predictions), **self.figures.to_dict()}


def unknown_figures(
    name: str,
    scores: Mapping[str, Score],
    test: Predictions,
    unknown: Predictions,
    decisions: Decisions,
    chose: Collection[str] = (),
) -> UnknownFigures:
    """`scores` are those of `fitted_scores`; `chose` are the unknown images that the run's score was chosen by.

    Raises InputError where test has no labelled images, there are no unknown ones, or the run's score is not among `scores`.
    """
    if decisions.score not in scores:
        raise without_train(decisions.score)
    known = test.labelled()
    hits = top_k_hits(known.logits, known.labels, 1)
    values = {each: scores_of(scores[each], known, unknown) for each in decisions.record.rejection.scores if each in scores}
    of_known, of_unknown = values[decisions.score]
    accepted, low, high = (100 * each for each in share_interval(of_known >= decisions.threshold, known.groups))
    rejected, rejected_low, rejected_high = (100 * each for each in share_interval(of_unknown < decisions.threshold, unknown.groups))
    return UnknownFigures(
        name=name,
        n=len(unknown),
        known=len(known),
        score=decisions.score,
        accept=100 * decisions.record.rejection.accept,
        accepted=accepted,
        accepted_low=low,
        accepted_high=high,
        rejected=rejected,
        rejected_low=rejected_low,
        rejected_high=rejected_high,
        chose=not set(unknown.ids.tolist()).isdisjoint(chose),
        scores=tuple(_figures(each, pair, hits, (known.groups, unknown.groups)) for each, pair in values.items()),
        values=values,
    )


def scores_of(score: Score, known: Predictions, unknown: Predictions) -> tuple[np.ndarray, np.ndarray]:
    """Of the images of both: float64 (n,) each."""
    return score(known.logits, known.features), score(unknown.logits, unknown.features)


def auroc_interval(
    known: np.ndarray, unknown: np.ndarray, known_groups: np.ndarray | None = None, unknown_groups: np.ndarray | None = None
) -> tuple[float, float, float]:
    """The AUROC and its 95 % interval in [0, 1], on the scale of its logit.

    From the variance of DeLong et al. (Biometrics 1988); with groups, int (n,), from that of Obuchowski (Biometrics 1997), for groups of
    known or of unknown images alone.
    """
    value = auroc(known, unknown)
    if not 0 < value < 1 or min(len(known), len(unknown)) < 2:
        return value, *_of_few(value, len(known), len(unknown))
    together = rankdata(np.concatenate([known, unknown]))
    above = (together[: len(known)] - rankdata(known)) / len(unknown)  # share of the unknown that each known image outranks
    below = 1 - (together[len(known) :] - rankdata(unknown)) / len(known)
    spread = math.sqrt(variance_of_mean(above, known_groups) + variance_of_mean(below, unknown_groups))
    if math.isnan(spread):  # of one group alone nothing is known
        return value, 0.0, 1.0
    middle, width = math.log(value / (1 - value)), float(norm.ppf(0.975)) * spread / (value * (1 - value))
    return value, 1 / (1 + math.exp(width - middle)), 1 / (1 + math.exp(-middle - width))


def _of_few(value: float, known: int, unknown: int) -> tuple[float, float]:
    """Where there is no spread to go by: as of a share of so many images as the smaller kind has."""
    pairs = min(known, unknown)
    _, low, high = share_interval(np.arange(pairs) < round(value * pairs))
    return low, high


def unknown_sets(run: Run, features: bool = True) -> dict[str, Predictions]:
    """By name, what was saved of images of unknown classes; those held out of training come first, as "unknown"."""
    held_out = run.predictions(UNKNOWN, features)
    given = sorted((run.folder.predictions / UNKNOWN).glob("*.npz"), key=lambda file: file.stem)
    return ({} if held_out is None else {UNKNOWN: held_out}) | {file.stem: Predictions.load(file, features) for file in given}


def assess_unknown(run: Run, test: Predictions, decisions: Decisions) -> list[UnknownFigures]:
    """Of each set that was saved, beside the images of test."""
    sets = unknown_sets(run)
    scores = fitted_scores(run.predictions("train")) if sets else {}
    chose = that_chose(decisions, sets)
    return [unknown_figures(name, scores, test, each, decisions, chose) for name, each in sets.items() if len(each)]


def that_chose(decisions: Decisions, sets: Mapping[str, Predictions]) -> frozenset[str]:
    """The unknown images, among these sets of them, that the score was chosen by."""
    by = decisions.record.rejection.unknown or ()
    return frozenset(path for name in by if name in sets for path in sets[name].ids.tolist())


def _figures(
    name: str, scores: tuple[np.ndarray, np.ndarray], hits: np.ndarray, groups: tuple[np.ndarray | None, np.ndarray | None]
) -> ScoreFigures:
    known, unknown = scores
    value, low, high = (100 * each for each in auroc_interval(known, unknown, *groups))
    return ScoreFigures(name, value, low, high, 100 * aupr(known, unknown), 100 * fpr_at(known, unknown), 100 * oscr(known, hits, unknown))
