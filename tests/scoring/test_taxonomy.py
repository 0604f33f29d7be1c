from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from fieldmark.core.errors import InputError
from fieldmark.scoring import taxonomy
from fieldmark.scoring.taxonomy import Answered, Backoff, LevelFigures, LevelMistakes, Severity

BIRDS = {
    "family": ["owls", "owls", "owls", "gulls", "gulls", "gulls"],
    "genus": ["strix", "strix", "asio", "larus", "larus", "rissa"],
}
GENERA = np.array([3, 3, 0, 1, 1, 2])
"""Another numbering than that of the sorted names, and not falling or rising."""


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def case(seed: int, n: int, parents: np.ndarray, scale: float = 3.0, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """A model that is surer of the parent than of the species; labels drawn from its probabilities, given sharpened by the temperature."""
    rng = np.random.default_rng(seed)
    logits = scale * (rng.normal(size=(n, len(parents))) + rng.normal(size=(n, parents.max() + 1))[:, parents])
    labels = (softmax(logits).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return softmax(logits / temperature).astype(np.float32), labels.astype(np.int32)


cases = st.builds(case, st.integers(0, 2**32), st.integers(1, 60), st.just(GENERA), st.floats(0.1, 6))


@given(cases)
def test_the_figures_agree_with_loops(data: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = data
    figures = taxonomy.level_figures(probabilities, labels, BIRDS)
    assert [(each.name, each.names) for each in figures] == [("genus", 4), ("family", 2)]
    for each in figures:
        names = BIRDS[each.name]
        hits, summed_hits, chance = [], [], []
        for row, label in zip(probabilities, labels.tolist(), strict=True):
            hits.append(names[int(row.argmax())] == names[label])
            sums = {name: sum(float(p) for p, of in zip(row, names, strict=True) if of == name) for name in names}
            summed_hits.append(max(sums, key=lambda name: sums[name]) == names[label])
            chance.append(names.count(names[label]) / 6)
        assert (each.top1, each.top1_summed) == (pytest.approx(np.mean(hits)), pytest.approx(np.mean(summed_hits)))
        assert each.chance == pytest.approx(np.mean(chance))


@given(cases)
def test_a_level_of_the_classes_themselves_is_top_1_and_one_of_a_single_name_is_always_right(data: tuple[np.ndarray, np.ndarray]) -> None:
    probabilities, labels = data
    fine, coarse = taxonomy.level_figures(probabilities, labels, {"all": ["life"] * 6, "species": list("abcdef")})
    assert fine.top1 == fine.top1_summed == np.mean(probabilities.argmax(axis=1) == labels)
    assert fine.chance == pytest.approx(1 / 6)
    assert coarse == LevelFigures("all", 1, 1, 1, 1)


def test_the_summed_probability_finds_a_genus_that_the_best_species_misses() -> None:
    row = np.array([[0.3, 0.3, 0.0, 0.4, 0.0, 0.0]])
    figures = taxonomy.level_figures(row, np.array([0]), {"genus": BIRDS["genus"]})[0]
    assert (figures.top1, figures.top1_summed) == (0, 1)


def test_level_accuracy_by_hand() -> None:
    predicted, labels = np.array([0, 1, 2, -1, 5]), np.array([1, 1, 0, 5, 5])
    assert taxonomy.level_accuracy(predicted, labels, GENERA) == 3 / 5
    assert taxonomy.level_accuracy(np.array([-1, -1]), np.array([5, 0]), GENERA) == 0


def slow_height(one: int, other: int) -> int:
    if one == other:
        return 0
    return next((height for height, level in enumerate(("genus", "family"), start=1) if BIRDS[level][one] == BIRDS[level][other]), 3)


@given(st.integers(0, 2**32), st.integers(1, 40))
def test_severity_agrees_with_loops(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    predicted, labels = rng.integers(-1, 6, n), rng.integers(0, 6, n)
    wrong = [(int(one), int(other)) for one, other in zip(predicted, labels, strict=True) if one >= 0 and one != other]
    severity = taxonomy.mistake_severity(predicted, labels, BIRDS)
    assert severity.mistakes == len(wrong)
    if not wrong:
        assert severity == Severity(0, (), None, None)
        return
    for row, level in zip(severity.levels, ("genus", "family"), strict=True):
        names = BIRDS[level]
        assert row.name == level
        assert row.within == pytest.approx(np.mean([names[one] == names[other] for one, other in wrong]))
        others = [[names[each] == names[other] for each in range(6) if each != other] for _, other in wrong]
        assert row.random == pytest.approx(np.mean(others))
    assert severity.height == pytest.approx(np.mean([slow_height(one, other) for one, other in wrong]))
    random = [slow_height(each, other) for _, other in wrong for each in range(6) if each != other]
    assert severity.random_height == pytest.approx(np.mean(random))


def test_levels_that_do_not_nest_stand_on_their_own() -> None:
    cars = {"make": ["audi", "audi", "bmw", "bmw"], "type": ["suv", "van", "suv", "van"]}
    severity = taxonomy.mistake_severity(np.array([1, 2, 3, -1]), np.array([0, 0, 0, 2]), cars)
    third = pytest.approx(1 / 3)
    assert severity == Severity(3, (LevelMistakes("make", third, third), LevelMistakes("type", third, third)), None, None)


def test_random_mistakes_are_as_severe_as_said() -> None:
    rng = np.random.default_rng(0)
    labels = rng.choice(6, 40_000, p=[0.5, 0.1, 0.2, 0.1, 0.05, 0.05])
    severity = taxonomy.mistake_severity((labels + rng.integers(1, 6, 40_000)) % 6, labels, BIRDS)
    assert severity.height == pytest.approx(severity.random_height, abs=0.02)
    for row in severity.levels:
        assert row.within == pytest.approx(row.random, abs=0.01)


def slow_threshold(confidence: np.ndarray, right: np.ndarray, precision: float) -> float:
    found = math.inf
    for threshold in np.unique(confidence[np.isfinite(confidence)]):
        hits, n = int(right[confidence >= threshold].sum()), int((confidence >= threshold).sum())
        # The one-sided bound of 95 % is an end of the two-sided interval of 90 %.
        if binomtest(hits, n).proportion_ci(0.9, method="exact").low >= precision:
            found = min(found, float(threshold))
    return found


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("decimals", [2, 7])
def test_thresholds_agree_with_a_loop(seed: int, decimals: int) -> None:
    probabilities, labels = case(seed, 150, GENERA, 3.0)
    probabilities = probabilities.astype(float).round(decimals)
    probabilities[7] = np.nan
    backoff = taxonomy.fit_backoff(probabilities, labels, GENERA, 0.85)
    guess, sure = probabilities.argmax(axis=1), np.where(np.arange(150) == 7, -np.inf, probabilities.max(axis=1))
    assert backoff.species_threshold == pytest.approx(slow_threshold(sure, guess == labels, 0.85))
    assert math.isfinite(backoff.species_threshold)
    sums = np.stack([probabilities[:, np.flatnonzero(each == GENERA)].sum(axis=1) for each in range(4)], axis=1)
    left = sure < backoff.species_threshold
    sums[7] = -np.inf
    expected = slow_threshold(sums.max(axis=1)[left], (sums.argmax(axis=1) == GENERA[labels])[left], 0.85)
    assert backoff.parent_threshold == pytest.approx(expected)


@given(cases, st.floats(0, 1), st.floats(0, 1))
def test_answers_follow_the_thresholds(data: tuple[np.ndarray, np.ndarray], species: float, parent: float) -> None:
    probabilities, _ = data
    levels, indices = Backoff(0.9, species, parent, tuple(GENERA.tolist())).answers(probabilities)
    for row, level, index in zip(probabilities.astype(float), levels, indices, strict=True):
        sums = [sum(p for p, of in zip(row.tolist(), GENERA.tolist(), strict=True) if of == each) for each in range(4)]
        if row.max() >= species:
            assert (level, index) == (0, row.argmax())
        elif abs(max(sums) - parent) > 1e-12:
            assert (level, index) == ((1, int(np.argmax(sums))) if max(sums) >= parent else (-1, -1))


@given(cases, cases, st.sampled_from([0.5, 0.8]))
def test_the_report_adds_up(fitted: tuple[np.ndarray, np.ndarray], data: tuple[np.ndarray, np.ndarray], precision: float) -> None:
    probabilities, labels = data
    backoff = taxonomy.fit_backoff(*fitted, GENERA, precision)
    report = taxonomy.backoff_report(backoff, probabilities, labels)
    levels, indices = backoff.answers(probabilities)
    right = [
        (int(level), bool(index == (label if level == 0 else GENERA[label])))
        for level, index, label in zip(levels, indices, labels, strict=True)
        if level >= 0
    ]
    for level, each in ((0, report.species), (1, report.parent)):
        hits = [hit for of, hit in right if of == level]
        precision_of = sum(hits) / len(hits) if hits else None
        assert each == Answered(len(hits), sum(hits), len(hits) / len(labels), precision_of)
    assert report.n == len(labels) == report.species.n + report.parent.n + report.unanswered
    assert report.right == sum(hit for _, hit in right) / len(labels)
    assert (report.species_only is None) == (not right)
    if right:
        best, overall = 0, sum(hit for _, hit in right) / len(right)
        for threshold in probabilities.max(axis=1):
            chosen = probabilities.max(axis=1) >= threshold
            if (probabilities.argmax(axis=1) == labels)[chosen].mean() >= overall - 1e-12:
                best = max(best, int(chosen.sum()))
        assert report.species_only == best / len(labels)


def test_answering_the_genus_answers_more() -> None:
    parents = np.arange(40) // 4
    backoff = taxonomy.fit_backoff(*case(1, 5000, parents, 3.0), parents, 0.9)
    report = taxonomy.backoff_report(backoff, *case(2, 5000, parents, 3.0))
    assert report.parent.share > 0.1
    assert report.species_only < report.species.share + report.parent.share - 0.05


@pytest.mark.parametrize(("scale", "temperature"), [(2.0, 1.0), (4.0, 1.0), (3.0, 0.5)])
@pytest.mark.parametrize("n", [300, 2000])
def test_the_precision_holds_on_new_images_in_nine_of_ten_fits(scale: float, temperature: float, n: int) -> None:
    """At each level; a fit that answers nothing breaks no promise. The point estimate would hold in about half."""
    parents = np.arange(40) // 4
    probabilities, labels = case(3, 20_000, parents, scale, temperature)
    rng = np.random.default_rng(4)
    kept, answered = [], []
    for _ in range(100):
        drawn = rng.integers(0, len(labels), n)
        levels, indices = taxonomy.fit_backoff(probabilities[drawn], labels[drawn], parents, 0.9).answers(probabilities)
        right = indices == np.where(levels == 0, labels, parents[labels])
        kept.append([right[levels == level].mean() >= 0.9 if (levels == level).any() else True for level in (0, 1)])
        answered.append((levels >= 0).mean())
    assert (np.mean(kept, axis=0) >= 0.88).all()
    assert np.mean(answered) > (0.2 if scale > 2 else 0.02)


def test_a_precision_out_of_reach_gets_no_answers() -> None:
    probabilities, labels = case(5, 500, GENERA, 0.5)
    backoff = taxonomy.fit_backoff(probabilities, labels, GENERA, 0.99)
    assert math.isinf(backoff.species_threshold) and math.isinf(backoff.parent_threshold)
    report = taxonomy.backoff_report(backoff, probabilities, labels)
    assert (report.species, report.unanswered, report.right, report.species_only) == (Answered(0, 0, 0, None), 500, 0, None)
    few = np.eye(6)[np.zeros(58, int)]
    assert math.isinf(taxonomy.fit_backoff(few, np.zeros(58, int), GENERA, 0.95).species_threshold)
    assert taxonomy.fit_backoff(np.eye(6)[np.zeros(59, int)], np.zeros(59, int), GENERA, 0.95).species_threshold == 1


def test_all_right_and_all_wrong() -> None:
    probabilities = np.eye(6)[np.arange(600) % 6]
    labels = np.arange(600) % 6
    report = taxonomy.backoff_report(taxonomy.fit_backoff(probabilities, labels, GENERA, 0.95), probabilities, labels)
    assert (report.species, report.parent.precision, report.species_only) == (Answered(600, 600, 1, 1), None, 1)
    sisters = np.array([1, 0, 2, 4, 3, 5])[labels]  # the other species of the genus, where there is one
    wrong = np.isin(labels, [0, 1, 3, 4])
    backoff = taxonomy.fit_backoff(probabilities[wrong], sisters[wrong], GENERA, 0.95)
    report = taxonomy.backoff_report(backoff, probabilities[wrong], sisters[wrong])
    assert (report.species.n, report.parent, report.species_only) == (0, Answered(400, 400, 1, 1), 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_is_not_answered_and_wrong(bad: float) -> None:
    probabilities = np.array([[1, 0, 0, 0, 0, 0], [1, 0, 0, bad, 0, 0]])
    assert [each.tolist() for each in Backoff(0.9, -math.inf, -math.inf, tuple(GENERA.tolist())).answers(probabilities)] == [
        [0, -1],
        [0, -1],
    ]
    for each in taxonomy.level_figures(probabilities, np.array([0, 0]), BIRDS):
        assert each.top1 == each.top1_summed == 0.5
    everything = np.full((70, 6), bad)
    assert math.isinf(taxonomy.fit_backoff(everything, np.zeros(70, int), GENERA, 0.5).parent_threshold)


def test_all_tied_probabilities() -> None:
    probabilities = np.full((200, 6), 1 / 6)
    labels = np.arange(200) % 6
    figures = taxonomy.level_figures(probabilities, labels, {"genus": BIRDS["genus"]})[0]
    assert figures.top1 == pytest.approx(1 / 3, abs=0.01)  # a tie goes to the first wrong class: right for the genus of 0 or 1 alone
    backoff = taxonomy.fit_backoff(probabilities, labels, GENERA, 0.9)
    assert (backoff.answers(probabilities)[0] == -1).all()


def test_a_backoff_survives_json() -> None:
    for scale in (0.1, 4.0):
        probabilities, labels = case(6, 400, GENERA, scale)
        backoff = taxonomy.fit_backoff(probabilities, labels, GENERA, 0.9)
        again = Backoff.from_dict(json.loads(json.dumps(backoff.to_dict(), allow_nan=False)))
        assert again == backoff
        assert math.isinf(backoff.species_threshold) == (scale < 1)
        for one, other in zip(again.answers(probabilities), backoff.answers(probabilities), strict=True):
            np.testing.assert_array_equal(one, other)


def test_an_image_is_answered_alone_as_among_others() -> None:
    probabilities, labels = case(7, 300, GENERA)
    backoff = taxonomy.fit_backoff(probabilities, labels, GENERA, 0.8)
    alone = [backoff.answers(probabilities[row : row + 1]) for row in range(300)]
    np.testing.assert_array_equal(np.concatenate([each[0] for each in alone]), backoff.answers(probabilities)[0])


def test_what_does_not_fit_is_refused() -> None:
    probabilities, labels = case(8, 20, GENERA)
    none, empty = np.zeros(0, np.int32), np.zeros((0, 6))
    backoff = Backoff(0.9, 0.5, 0.5, tuple(GENERA.tolist()))
    for call in (
        lambda: taxonomy.level_accuracy(none, none, GENERA),
        lambda: taxonomy.level_figures(empty, none, BIRDS),
        lambda: taxonomy.mistake_severity(none, none, BIRDS),
        lambda: taxonomy.fit_backoff(empty, none, GENERA, 0.9),
        lambda: taxonomy.backoff_report(backoff, empty, none),
    ):
        with pytest.raises(InputError, match="no labelled images"):
            call()
    with pytest.raises(ValueError, match="the level genus has 2 parents where there are 6 classes"):
        taxonomy.level_figures(probabilities, labels, {"genus": ["a", "b"]})
    with pytest.raises(ValueError, match="do not fit"):
        taxonomy.fit_backoff(probabilities[:, :4], labels.clip(0, 3), GENERA, 0.9)
    with pytest.raises(ValueError, match="do not fit"):
        taxonomy.level_accuracy(labels[1:], labels, GENERA)
    for predicted in (np.full(20, 6), np.full(20, -2)):
        with pytest.raises(ValueError, match="outside the 6 classes"):
            taxonomy.level_accuracy(predicted, labels, GENERA)
    for precision in (0, 1, 95, math.nan):
        with pytest.raises(InputError, match="cannot be asked for"):
            taxonomy.fit_backoff(probabilities, labels, GENERA, precision)


@pytest.mark.parametrize(("count", "silent"), [(58, True), (59, False)])
def test_a_backoff_that_cannot_answer_says_how_many_answers_it_takes(count: int, silent: bool) -> None:
    """All are right, so the number of images alone decides."""
    labels = np.zeros(count, np.int64)
    probabilities = np.tile(np.array([[0.9, 0.1]]), (count, 1))
    backoff = taxonomy.fit_backoff(probabilities, labels, np.array([0, 1]), 0.95)
    assert (backoff.silent is not None) == silent
    assert backoff.silent is None or "takes 59 answers on val without a mistake" in backoff.silent
