"""What a run decides with, fitted on val alone and carried in calibration.json: temperature, rejection, sets of classes, back-off."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fieldmark.core.errors import InputError
from fieldmark.core.files import write_json
from fieldmark.core.run_folder import RunFolder
from fieldmark.core.summary import SplitMetrics
from fieldmark.datasets.dataset import Level
from fieldmark.scoring.calibration import Calibration, Fitted, Scaling, fit_calibration
from fieldmark.scoring.conformal import SetRule, fit_class_sets
from fieldmark.scoring.intervals import units_of
from fieldmark.scoring.predictions import Predictions, softmax
from fieldmark.scoring.promises import Acceptance, SetCoverage, acceptance, set_coverage
from fieldmark.scoring.rejection import auroc, choose_score, threshold
from fieldmark.scoring.rejection_scores import SCORES, Score, fitted_scores
from fieldmark.scoring.summary import calibration_harm
from fieldmark.scoring.taxonomy import Backoff, fit_backoff

SCHEMA = 2
Chosen = Literal["held-out classes", "unknown images", "by the user"]
_BLIND = "this run cannot tell images of none of its classes: "
_TELLING = 0.6
"""The AUROC below which a score is near chance. That of held-out classes flatters: the network has seen them."""
Share = Annotated[float, Field(gt=0, lt=1)]


@dataclass(frozen=True)
class Wanted:
    """What is promised, each on average over images drawn as val was.

    accept: share of images of known classes that are not rejected. coverage: share of images whose set of classes holds the right one.
    precision: share of answers that are right if a coarser answer may replace an unsure one. score: of rejection, None to choose it.
    """

    accept: float = 0.95
    coverage: float = 0.9
    precision: float = 0.95
    scaling: Scaling = "temperature"
    score: str | None = None

    def __post_init__(self) -> None:
        wrong = [name for name in ("accept", "coverage", "precision") if not 0 < getattr(self, name) < 1]
        if wrong:
            raise InputError(*(f"{name}: expected a share between 0 and 1, such as 0.95, got {getattr(self, name):g}" for name in wrong))
        if self.score is not None and self.score not in SCORES:
            raise InputError(f"there is no score {self.score!r}", hint=f"The scores are {', '.join(SCORES)}.")


class _Part(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class ScoreRecord(_Part):
    """threshold: None if everything is accepted. held_out_auroc: from classes of val treated as unknown; auroc: from given images."""

    threshold: float | None
    held_out_auroc: float | None
    auroc: float | None = None


class RejectionRecord(_Part):
    """`unknown` names the given unknown images that chose the score; None if it was chosen without any, or by the user."""

    accept: Share
    score: str
    chosen: Chosen
    unknown: list[str] | None = None
    scores: dict[str, ScoreRecord]


class VectorRecord(_Part):
    scale: list[float]
    bias: list[float]


class _SetsRecord(_Part):
    method: Literal["aps", "raps"]
    coverage: Share
    quantile: float | None
    penalty: float
    k_reg: int
    class_quantiles: list[float | None]
    n: int | None = None
    units: int | None = None


class _BackoffRecord(_Part):
    precision: Share
    species_threshold: float | None
    parent_threshold: float | None
    parents: list[int]


class DecisionsRecord(_Part):
    """calibration.json. `n` labelled images, in so many groups or alone, `units`, None in records that do not say. `nll` is that of val in
    nats: as it is, and by each scaling, each image judged by a fit without it."""

    schema_: int = Field(alias="schema", ge=SCHEMA, le=SCHEMA)
    fitted_on: Literal["val"]
    n: int
    units: int | None = None
    scaling: Scaling
    temperature: Annotated[float, Field(gt=0)]
    vector: VectorRecord | None
    nll: dict[str, float | None]
    rejection: RejectionRecord
    sets: _SetsRecord
    backoff: dict[str, _BackoffRecord]


@dataclass(frozen=True, eq=False)
class Decisions:
    """`record` is what calibration.json holds; `classes` their number."""

    record: DecisionsRecord
    classes: int

    @cached_property
    def calibration(self) -> Calibration:
        if self.record.vector is None:
            return Calibration.of(self.record.temperature, self.classes)
        return Calibration("vector", np.array(self.record.vector.scale), np.array(self.record.vector.bias))

    @cached_property
    def sets(self) -> SetRule:
        return SetRule.from_dict(self.record.sets.model_dump())

    @cached_property
    def backoff(self) -> dict[str, Backoff]:
        """By the name of the level."""
        return {name: Backoff.from_dict(each.model_dump()) for name, each in self.record.backoff.items()}

    @property
    def score(self) -> str:
        return self.record.rejection.score

    @property
    def threshold(self) -> float:
        """Of the score; an image below it is rejected."""
        return self.threshold_of(self.score)

    def threshold_of(self, score: str) -> float:
        found = self.record.rejection.scores[score].threshold
        return -math.inf if found is None else found

    @cached_property
    def blindness(self) -> str | None:
        """Why answers do not tell images of none of the classes, as a sentence; None if val gives no such reason."""
        rejection, known = self.record.rejection, f"{self.record.n:,} images of val"
        chosen = rejection.scores[self.score]
        if chosen.threshold is None:
            needed = math.ceil(rejection.accept / (1 - rejection.accept) - 1e-9)
            few = f"there are {known}, and it takes {needed:,} to accept {100 * rejection.accept:g} % of known images and reject others"
            return _BLIND + (few if self.record.n < needed else f"the threshold from {known} rejects nothing")
        found = chosen.held_out_auroc if chosen.auroc is None else chosen.auroc
        if found is None or found >= _TELLING:
            return None
        others = "held-out classes of val" if chosen.auroc is None else "the unknown images that were given"
        return f"{_BLIND}its score ranks {others} below known images in {100 * found:.0f} % of pairs, where chance alone gets 50 %"

    def unknown(self, score: Score, logits: np.ndarray, features: np.ndarray) -> np.ndarray:
        """Which images are to be rejected by the fitted score that is named here: bool (n,)."""
        return np.asarray(score(logits, features) < self.threshold)

    def probabilities(self, logits: np.ndarray) -> np.ndarray:
        """Calibrated: float32 (n, C), NaN in rows that are not finite."""
        return softmax(self.calibration(logits))

    def set_coverage(self, known: Predictions) -> SetCoverage:
        """How often the sets of images of known classes hold the right one, beside what was promised."""
        return set_coverage(self.sets, self.probabilities(known.logits), known.labels, known.groups)

    def acceptance(self, score: Score, known: Predictions) -> Acceptance | None:
        """How many images of known classes are not rejected by the run's score, beside what was promised; None if nothing is rejected."""
        if math.isinf(self.threshold):
            return None
        accepted = score(known.logits, known.features) >= self.threshold
        return acceptance(self.record.rejection.accept, accepted, self.record.n, self.record.units, known.groups)


@dataclass(frozen=True, eq=False)
class FittedDecisions:
    """What was fitted on val: the decisions, the score that they reject by, and the fit of the calibration."""

    decisions: Decisions
    score: Score
    calibration: Fitted

    def save(self, folder: RunFolder) -> None:
        """Write calibration.json and the score that it names, rejection.safetensors."""
        self.score.save(folder.rejection_file)
        write_json(folder.calibration_file, self.decisions.record.model_dump(by_alias=True))


def calibrated_probabilities(decisions: Decisions | None, logits: np.ndarray) -> np.ndarray:
    """Calibrated if there are decisions: float32 (n, C), NaN in rows that are not finite."""
    return softmax(logits) if decisions is None else decisions.probabilities(logits)


def fit_decisions(
    train: Predictions | None,
    val: Predictions,
    levels: Mapping[str, Sequence[str]],
    wanted: Wanted,
    unknown: Mapping[str, Predictions] | None = None,
    rejection: tuple[Score, float | None] | None = None,
) -> FittedDecisions:
    """Fit everything on the labelled images of val.

    Args:
        train: what scores of features are fitted on, from the same network as val; None if there are no such predictions.
        levels: by name, the parent of each class.
        unknown: by name, images of unknown classes, which then choose the score; the threshold comes from val all the same.
        rejection: a score that is fitted already, and its AUROC for classes that are held out; no other is then considered.

    Raises InputError if val has no labelled images, or the score that is wanted needs predictions of train.
    """
    known = val.labelled()
    fitted = fit_calibration(val, wanted.scaling)
    probabilities = softmax(fitted.cross_fitted[val.labels >= 0])
    parents = {name: Level.of(name, list(names)) for name, names in levels.items()}
    scores = fitted_scores(train) if rejection is None else {rejection[0].name: rejection[0]}
    rejected = _rejection(scores, train, known, wanted, unknown or {}) if rejection is None else _by(*rejection, known, wanted)
    record = DecisionsRecord(
        schema=SCHEMA,
        fitted_on="val",
        n=len(known),
        units=int(units_of(known.groups, len(known)).max()) + 1,
        scaling=wanted.scaling,
        temperature=fitted.temperature,
        vector=None
        if wanted.scaling == "temperature"
        else VectorRecord(scale=fitted.calibration.scale.tolist(), bias=fitted.calibration.bias.tolist()),
        nll={name: value if math.isfinite(value) else None for name, value in fitted.nll.items()},
        rejection=rejected,
        sets=_SetsRecord(**fit_class_sets(probabilities, known.labels, wanted.coverage, "raps", groups=known.groups).to_dict()),
        backoff={
            name: _BackoffRecord(**fit_backoff(probabilities, known.labels, level.parents, wanted.precision).to_dict())
            for name, level in parents.items()
            if len(level.names) > 1
        },
    )
    return FittedDecisions(Decisions(record, len(val.class_names)), scores[rejected.score], fitted)


def trust_notes(fitted: FittedDecisions, test: Predictions, figures: SplitMetrics) -> list[str]:
    """What they do on test, whose `figures` are these: how often the sets hold the right class, how many images are accepted, whether
    calibration did harm, and whether unknown images can be told."""
    decisions, known = fitted.decisions, test.labelled()
    accepted, harm = decisions.acceptance(fitted.score, known), calibration_harm(figures, decisions.record.n)
    notes = [decisions.set_coverage(known), accepted, None if harm is None else f"warning: {harm}", decisions.blindness]
    return [str(note) for note in notes if note is not None]


def _rejection(
    scores: Mapping[str, Score], train: Predictions | None, val: Predictions, wanted: Wanted, unknown: Mapping[str, Predictions]
) -> RejectionRecord:
    if wanted.score is not None and wanted.score not in scores:
        raise InputError(f"{wanted.score} is fitted on train, of which there are no predictions", hint=f"Choose among {', '.join(scores)}.")
    of_val = {name: score(val.logits, val.features) for name, score in scores.items()}
    best, held_out = choose_score(train, val, tuple(scores))
    of_unknown = {
        name: auroc(of_val[name], np.concatenate([score(each.logits, each.features) for each in unknown.values()]))
        for name, score in scores.items()
        if unknown
    }
    how: Chosen
    if wanted.score is not None:
        chosen, how = wanted.score, "by the user"
    elif of_unknown:
        chosen, how = max(of_unknown, key=of_unknown.__getitem__), "unknown images"
    else:
        chosen, how = best, "held-out classes"
    thresholds = {name: threshold(values, wanted.accept) for name, values in of_val.items()}
    return RejectionRecord(
        accept=wanted.accept,
        score=chosen,
        chosen=how,
        unknown=sorted(unknown) if how == "unknown images" else None,
        scores={
            name: ScoreRecord(
                threshold=thresholds[name] if math.isfinite(thresholds[name]) else None,
                held_out_auroc=held_out[name],
                auroc=of_unknown.get(name),
            )
            for name in scores
        },
    )


def _by(score: Score, held_out: float | None, val: Predictions, wanted: Wanted) -> RejectionRecord:
    """By this score alone."""
    found = threshold(score(val.logits, val.features), wanted.accept)
    record = ScoreRecord(threshold=found if math.isfinite(found) else None, held_out_auroc=held_out)
    return RejectionRecord(accept=wanted.accept, score=score.name, chosen="held-out classes", scores={score.name: record})


def load_decisions(path: Path, classes: int, levels: Collection[str]) -> Decisions | None:
    """None if there is no such file. `levels` are the names of the run's.

    Raises InputError if it does not hold what Fieldmark writes there, or belongs to another run.
    """
    if not path.is_file():
        return None
    again = "`fieldmark calibrate RUN` writes it anew."
    try:
        values: Any = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(values, dict) and values.get("schema") != SCHEMA:
            raise InputError(f"{path} is of schema {values.get('schema')!r}, and this Fieldmark writes {SCHEMA}", hint=again)
        record = DecisionsRecord.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{path} is damaged: {'.'.join(map(str, first['loc']))}: {first['msg']}", hint=again) from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} cannot be read: {error}", hint=again) from None
    return checked_decisions(record, path, classes, levels, again)


def checked_decisions(record: DecisionsRecord, path: Path, classes: int, levels: Collection[str], remedy: str) -> Decisions:
    """Of a record that was read from `path`. Raises InputError if it is not of so many classes and of these levels."""
    lengths = {len(each) for each in (record.vector.scale, record.vector.bias)} if record.vector else set()
    lengths |= {len(each.parents) for each in record.backoff.values()} | ({len(record.sets.class_quantiles)} - {0})
    if not lengths <= {classes} or not {record.rejection.score} <= set(record.rejection.scores) <= set(SCORES):
        raise InputError(f"{path} holds decisions of another network, not of one with {classes} classes", hint=remedy)
    if others := sorted(set(record.backoff) - set(levels)):
        raise InputError(f"{path} holds decisions of another network, one with a level {', '.join(others)}", hint=remedy)
    return Decisions(record, classes)
