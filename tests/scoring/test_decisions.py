from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sklearn.metrics

import fieldmark
from fieldmark.core.errors import InputError
from fieldmark.core.run_folder import RunFolder
from fieldmark.evaluation.assessment import assess
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.unknowns import unknown_figures, unknown_sets
from fieldmark.scoring import metrics
from fieldmark.scoring.calibration import Scaling
from fieldmark.scoring.conformal import coverage_report
from fieldmark.scoring.decisions import Wanted, fit_decisions, load_decisions, trust_notes
from fieldmark.scoring.intervals import bootstrap, drawn_units, units_of
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import OF_LOGITS, SCORES, fitted_scores, load_score
from fieldmark.scoring.summary import evaluate_predictions
from fieldmark.scoring.taxonomy import backoff_report
from runs import train


def made(n: int, seed: int = 0, known: bool = True, classes: int = 6) -> Predictions:
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n).astype(np.int32)
    features = (3 * known * np.eye(classes)[labels] + rng.normal(size=(n, classes))).astype(np.float32)
    names = tuple(map(str, range(classes)))
    return Predictions(
        np.array([f"{seed}/{row}" for row in range(n)]), labels if known else labels * 0 - 1, 1.5 * features, features, names
    )


LEVELS = {"half": ["a", "a", "a", "b", "b", "b"]}


def test_what_is_saved_is_loaded_and_decides_alike(tmp_path: Path) -> None:
    fitted = fit_decisions(made(400), made(300, 1), LEVELS, Wanted())
    decisions = fitted.decisions
    fitted.save(RunFolder(tmp_path))
    again = load_decisions(tmp_path / "calibration.json", 6, LEVELS)
    assert again is not None and again.record == decisions.record and again.sets == decisions.sets and again.backoff == decisions.backoff
    logits = made(50, 2).logits
    np.testing.assert_array_equal(again.probabilities(logits), decisions.probabilities(logits))
    assert load_score(tmp_path / "rejection.safetensors", again.score).name == fitted.score.name == decisions.score
    assert load_decisions(tmp_path / "none.json", 6, LEVELS) is None


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 1}', '{"schema": 2}', "null", "[" * 100_000])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "calibration.json").write_text(text)
    with pytest.raises(InputError, match=r"calibration\.json"):
        load_decisions(tmp_path / "calibration.json", 6, LEVELS)


def test_decisions_of_another_run_are_refused(tmp_path: Path) -> None:
    fit_decisions(made(400), made(300, 1), LEVELS, Wanted()).save(RunFolder(tmp_path))
    with pytest.raises(InputError, match="decisions of another network, not of one with 7 classes"):
        load_decisions(tmp_path / "calibration.json", 7, LEVELS)


def test_promises_are_checked() -> None:
    with pytest.raises(InputError, match="accept: expected a share"):
        Wanted(accept=95)
    with pytest.raises(InputError, match="no score 'odin'"):
        Wanted(score="odin")
    with pytest.raises(InputError, match="knn is fitted on train"):
        fit_decisions(None, made(50, 1), {}, Wanted(score="knn"))
    assert set(fit_decisions(None, made(50, 1), {}, Wanted()).decisions.record.rejection.scores) == {"msp", "max-logit", "energy"}


def test_the_threshold_accepts_what_it_promises_and_unknown_images_choose_the_score() -> None:
    train, val, test, unknown = made(400), made(2000, 1), made(4000, 2), made(800, 3, known=False)
    decisions = fit_decisions(train, val, {}, Wanted(accept=0.9)).decisions
    found = unknown_figures("x", fitted_scores(train), test, unknown, decisions)
    assert found.accepted == pytest.approx(90, abs=2.5) and not found.chose
    told = fit_decisions(train, val, {}, Wanted(accept=0.9), {"x": unknown}).decisions
    assert told.record.rejection.chosen == "unknown images"
    scores = told.record.rejection.scores
    assert told.score == max(scores, key=lambda name: scores[name].auroc or 0)
    assert told.record.rejection.unknown == ["x"]
    assert unknown_figures("x", fitted_scores(train), test, unknown, told, unknown.ids[-1:].tolist()).chose
    assert not unknown_figures("x", fitted_scores(train), test, unknown, told, ["another"]).chose
    by_hand = fit_decisions(train, val, {}, Wanted(score="msp"), {"x": unknown}).decisions
    assert by_hand.record.rejection.unknown is None and by_hand.record.rejection.scores["msp"].auroc is not None


def test_decisions_say_when_they_cannot_tell_unknown_images() -> None:
    few = fit_decisions(made(400), made(17, 1), LEVELS, Wanted()).decisions
    assert few.threshold == -np.inf and few.blindness is not None
    assert "there are 17 images of val, and it takes 19 to accept 95 % of known images" in few.blindness
    assert fit_decisions(made(400), made(17, 1), LEVELS, Wanted(accept=0.9)).decisions.blindness is None
    assert fit_decisions(made(400), made(300, 1), LEVELS, Wanted()).decisions.blindness is None
    noise = np.random.default_rng(0).normal(size=(700, 6)).astype(np.float32)
    train, val = (replace(made(n, seed), logits=rows, features=rows) for n, seed, rows in ((400, 0, noise[:400]), (300, 1, noise[400:])))
    blind = fit_decisions(train, val, LEVELS, Wanted()).decisions
    assert np.isfinite(blind.threshold) and blind.blindness is not None and "where chance alone gets 50 %" in blind.blindness
    given = fit_decisions(train, val, LEVELS, Wanted(), {"same": replace(val, labels=val.labels * 0 - 1)}).decisions
    assert given.blindness is not None and "the unknown images that were given below known images in 50 % of pairs" in given.blindness


def test_the_notes_say_how_many_known_images_are_accepted() -> None:
    val, test = replace(made(300, 1), groups=(np.arange(300) // 3).astype(np.int32)), made(200, 2)
    fitted = fit_decisions(made(400), val, LEVELS, Wanted())
    assert fitted.decisions.record.units == 100
    unknown = int((fitted.score(test.logits, test.features) < fitted.decisions.threshold).sum())
    sets, accepted = trust_notes(fitted, test, evaluate_predictions(test, 50, 0, fitted.decisions.calibration(test.logits)))
    size = fitted.decisions.sets.sets(fitted.decisions.probabilities(test.logits)).sum(axis=1).mean()
    assert f"], with {size:.1f} of 6 classes on average; " in sets
    assert f": {unknown} of 200 known images come out unknown; fitted on 300 images of val in 100 groups it may accept " in accepted
    few = fit_decisions(made(400), made(17, 1), LEVELS, Wanted())
    assert few.decisions.acceptance(few.score, test) is None, "nothing is rejected"


def test_new_figures_agree_with_scikit_learn() -> None:
    test = made(300, 4)
    found = metrics.figures(test.logits, test.labels)
    probabilities = test.probabilities().astype(float)
    assert found["balanced_accuracy"] == pytest.approx(sklearn.metrics.balanced_accuracy_score(test.labels, test.logits.argmax(axis=1)))
    assert found["brier"] == pytest.approx(((probabilities - np.eye(6)[test.labels]) ** 2).sum(axis=1).mean(), abs=1e-6)
    order = np.argsort(probabilities.max(axis=1), kind="stable")
    gap = (probabilities.max(axis=1) - (test.logits.argmax(axis=1) == test.labels))[order]
    assert found["ece_adaptive"] == pytest.approx(np.abs(gap.reshape(15, 20).sum(axis=1)).sum() / 300, abs=1e-6)


def test_a_bootstrap_over_groups_draws_whole_groups() -> None:
    test = made(60, 5)
    groups = np.repeat([4, 7, -1], [20, 20, 20]).astype(np.int32)
    samples = bootstrap(test.logits, test.labels, 50, 0, groups)
    units = units_of(groups, 60)
    assert len(np.unique(units)) == 22
    for r in range(50):
        rows = np.concatenate([np.flatnonzero(units == unit) for unit in drawn_units(22, np.array([r]), 0)[0]])
        assert samples["top1"][r] == pytest.approx(metrics.top_k(test.logits[rows], test.labels[rows], 1))
    alone = bootstrap(test.logits, test.labels, 50, 0, np.full(60, -1))
    np.testing.assert_array_equal(alone["nll"], bootstrap(test.logits, test.labels, 50, 0)["nll"])


@pytest.mark.parametrize("scaling", ["temperature", "vector"])
def test_sets_and_coarser_answers_keep_their_promise_beside_a_scaling_of_many_parameters(scaling: Scaling) -> None:
    """A vector fitted on three images of each class fits those images far better than others."""
    levels = {"half": [str(name % 2) for name in range(30)]}
    covered, answered, right = [], 0.0, 0.0
    for seed in range(6):
        val, test = (noisy(n, seed + place) for place, n in enumerate((90, 1500)))
        decisions = fit_decisions(None, val, levels, Wanted(coverage=0.9, precision=0.8, scaling=scaling)).decisions
        found = decisions.probabilities(test.logits)
        covered.append(coverage_report(decisions.sets.sets(found), test.labels).coverage)
        species = backoff_report(decisions.backoff["half"], found, test.labels).species
        answered += species.share
        right += species.share * (species.precision or 0)
    assert np.mean(covered) > 0.86
    assert not answered or right / answered > 0.8


def noisy(n: int, seed: int) -> Predictions:
    rng = np.random.default_rng(100 + seed)
    labels = (np.arange(n) % 30).astype(np.int32)
    logits = (2 * np.eye(30)[labels] + rng.normal(size=(n, 30))).astype(np.float32)
    return Predictions(np.arange(n).astype(str), labels, logits, np.zeros((n, 0), np.float32), tuple(map(str, range(30))))


def test_what_is_fitted_for_a_refitted_run_comes_from_one_network(birds: Path, tiny, tmp_path: Path) -> None:
    """Val was answered before the refit, train after it: features of the two cannot be held against each other."""
    run = train(birds, *tiny("train.refit=true"), out=tmp_path / "run")
    assert run.has_learnt_val and set(run.decisions.record.rejection.scores) == set(OF_LOGITS)
    assert set(fieldmark.calibrate(run.path).record.rejection.scores) == set(OF_LOGITS)
    assert "fitted on the predictions of val before the refit" in run.folder.report_file.read_text()


def test_a_run_holds_classes_out_rejects_and_is_calibrated_anew(birds: Path, tiny, tmp_path: Path) -> None:
    run = fieldmark.train(birds, *tiny("data.unknown_classes=1"), out=tmp_path / "run", quiet=True)
    assert len(run.class_names) == 2 and run.decisions is not None
    unknown = run.predictions("unknown")
    assert (
        unknown is not None and (unknown.labels == -1).all() and not set(unknown.ids.tolist()) & set(run.predictions("test").ids.tolist())
    )
    assert run.summary.test.has("ece_calibrated") and run.summary.val.has("ece_calibrated_low")
    found = assess(run)
    assert [each.name for each in found.unknown] == ["unknown"] and found.unknown[0].n == len(unknown)
    written = json.loads(run.folder.evaluation_file.read_text())
    assert written["unknown"][0]["scores"][0]["name"] == SCORES[0] and written["n"] == run.summary.test.n
    assert run.folder.confusion_file.read_text().startswith("class,")
    for answer in run.predict([birds / path for path in unknown.ids.tolist()[:3]]):
        assert answer.unknown in (True, False)
    assert list(unknown_sets(run)) == ["unknown"]
    told = fieldmark.calibrate(run.path, accept=0.5, unknown=[birds / unknown.ids.tolist()[0]])
    assert told.record.rejection.accept == 0.5 and Run.load(run.path).decisions.record == told.record
    assert fieldmark.evaluate_unknowns(run.path, [birds / unknown.ids.tolist()[0]]).figures.n == 1
    run.folder.calibration_file.unlink()
    assert Run.load(run.path).predict(birds / unknown.ids.tolist()[0])[0].unknown is None
    with pytest.raises(InputError, match=r"no calibration\.json"):
        fieldmark.evaluate_unknowns(run.path, [birds / unknown.ids.tolist()[0]])
