from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics
from scipy.stats import norm

import fieldmark
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.evaluation.assessment import assess
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.unknown_images import predict_unknown
from fieldmark.evaluation.unknowns import auroc_interval, unknown_sets
from fieldmark.scoring.intervals import share_interval
from fieldmark.scoring.rejection_scores import OF_LOGITS


def test_the_interval_of_the_auroc_agrees_with_a_bootstrap() -> None:
    rng = np.random.default_rng(0)
    known, unknown = rng.normal(1, 1, 300), rng.normal(0, 1, 200)
    value, low, high = auroc_interval(known, unknown)
    labels = np.repeat([1, 0], [300, 200])
    assert value == pytest.approx(sklearn.metrics.roc_auc_score(labels, np.concatenate([known, unknown])))
    drawn = [sklearn.metrics.roc_auc_score(labels, np.concatenate([rng.choice(known, 300), rng.choice(unknown, 200)])) for _ in range(1000)]
    assert (low, high) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.006)
    assert auroc_interval(np.array([1.0]), np.array([0.0])) == (1.0, pytest.approx(0.025), 1.0)


def test_intervals_hold_in_groups_and_not_where_groups_are_ignored() -> None:
    """The images of a group score alike: of 40 groups of 8 there are hardly more than 40 known things."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 8)
    truth = float(norm.cdf(1 / math.sqrt(2)))
    held = np.zeros((400, 4), bool)
    for row in held:
        known = 1 + math.sqrt(0.8) * np.repeat(rng.normal(size=40), 8) + math.sqrt(0.2) * rng.normal(size=320)
        unknown = rng.normal(size=200)
        for place, given in enumerate((groups, None)):
            _, low, high = auroc_interval(known, unknown, given)
            row[place] = low <= truth <= high
            _, low, high = share_interval(known > 0.5, given)
            row[2 + place] = low <= norm.cdf(0.5) <= high
    coverage = held.mean(axis=0)
    assert coverage[0] > 0.91 and coverage[2] > 0.92, coverage
    assert coverage[1] < 0.8 and coverage[3] < 0.75, coverage


def test_groups_of_one_are_no_groups_and_one_group_says_next_to_nothing() -> None:
    rng = np.random.default_rng(1)
    known, unknown = rng.normal(1, 1, 60), rng.normal(size=40)
    for given in (np.arange(60), np.full(60, -1)):
        assert auroc_interval(known, unknown, given) == pytest.approx(auroc_interval(known, unknown))
        assert share_interval(known > 0.5, given) == pytest.approx(share_interval(known > 0.5))
    found = scipy.stats.binomtest(int((known > 0.5).sum()), 60).proportion_ci()
    assert share_interval(known > 0.5)[1:] == pytest.approx((found.low, found.high))
    assert auroc_interval(known, unknown, np.zeros(60, int))[1:] == (0, 1)
    value, low, high = share_interval(known > 0.5, np.zeros(60, int))
    assert low < 0.4 and high > 0.95 and value == (known > 0.5).mean()
    assert share_interval(np.ones(60, bool), np.repeat(np.arange(6), 10)) == pytest.approx(share_interval(np.ones(6, bool)))
    assert share_interval(np.arange(60) % 2 == 0, np.repeat(np.arange(30), 2)) == pytest.approx(share_interval(np.arange(30) % 2 == 0))


def test_sets_of_unknown_images_have_names_of_their_own(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    run = Run.load(shutil.copytree(finished_run.path, tmp_path / "run"))
    shutil.rmtree(run.folder.predictions / "unknown", ignore_errors=True)
    images = sorted((birds / "test").rglob("*.png"))
    for folder, chosen in (("a/photos", images[:2]), ("b/photos", images[2:4]), ("c/unknown", images[:3]), ("d/v1.2", images[:1])):
        (tmp_path / folder).mkdir(parents=True)
        for image in chosen:
            shutil.copy(image, tmp_path / folder / image.name)
    names = ["a/photos", "b/photos", "a/photos", "c/unknown", "d/v1.2", "a/photos/*.png"]
    found = [predict_unknown(run, [tmp_path / name], Console(quiet=True))[0] for name in names]
    assert found == ["photos", "photos-2", "photos", "unknown-2", "v1-2", "png"]
    shutil.copy(run.folder.predictions / "test.npz", run.folder.predictions / "unknown-birds-test.npz")
    assert list(unknown_sets(run)) == sorted(set(found))
    told = fieldmark.calibrate(run.path, unknown=[tmp_path / "a" / "photos"])
    assert told.record.rejection.unknown == ["photos"]
    chose = {each.name: each.chose for each in assess(Run.load(run.path)).unknown}
    assert chose == {"photos": True, "photos-2": False, "png": True, "unknown-2": False, "v1-2": False}


def test_without_predictions_of_train_a_score_of_features_is_named(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    run = Run.load(shutil.copytree(finished_run.path, tmp_path / "run"))
    fieldmark.calibrate(run.path, score="knn", unknown=[birds / "test"])
    (run.folder.predictions / "train.npz").unlink()
    assert Run.load(run.path).predict(birds / "test")[0].unknown is not None
    run.folder.rejection_file.unlink()
    for ask in (
        lambda: Run.load(run.path).predict(birds / "test"),
        lambda: fieldmark.report(run.path),
        lambda: fieldmark.evaluate_unknowns(run.path, [birds / "test"]),
    ):
        with pytest.raises(InputError, match="recognised by knn, which needs the predictions of train"):
            ask()
    assert set(fieldmark.calibrate(run.path, unknown=[birds / "test"]).record.rejection.scores) == set(OF_LOGITS)
    assert Run.load(run.path).predict(birds / "test")[0].unknown is not None
