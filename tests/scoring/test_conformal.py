from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.scoring import conformal
from fieldmark.scoring.conformal import SetRule, SizeBin
from fieldmark.scoring.intervals import units_of


def softmax(logits: np.ndarray) -> np.ndarray:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def case(seed: int, n: int, classes: int, scale: float = 3.0, temperature: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Labels drawn from the very probabilities, which are given sharpened by the temperature."""
    rng = np.random.default_rng(seed)
    logits = scale * rng.normal(size=(n, classes))
    labels = (softmax(logits).cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    return softmax(logits / temperature).astype(np.float32), labels.astype(np.int32)


def coarse(seed: int, n: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities full of ties, of which some are zero."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 3, (n, classes)).astype(float)
    counts[:, -1] += counts.sum(axis=1) == 0
    return counts / counts.sum(axis=1, keepdims=True), rng.integers(0, classes, n)


cases = st.builds(case, st.integers(0, 2**32), st.integers(1, 40), st.integers(2, 9), st.floats(0.1, 10))
tied = st.builds(coarse, st.integers(0, 2**32), st.integers(1, 40), st.integers(2, 9))


def slow_scores(row: np.ndarray, penalty: float, k_reg: int) -> list[float]:
    ranked = sorted(range(len(row)), key=lambda each: (-row[each], each))
    scores, mass = [0.0] * len(row), 0.0
    for rank, each in enumerate(ranked, start=1):
        scores[each] = mass + penalty * max(rank - k_reg, 0)
        mass += float(row[each])
    return scores


def slow_quantile(scores: list[float], coverage: float) -> float:
    """The smallest value that holds enough of the scores, were one more of them infinite."""
    padded = [*sorted(scores), math.inf]
    return next(value for place, value in enumerate(padded, start=1) if place / len(padded) >= coverage - 1e-12)


@given(st.one_of(cases, tied), st.sampled_from([0, 0.01, 0.3]), st.integers(1, 9))
def test_scores_agree_with_a_loop(data: tuple[np.ndarray, np.ndarray], penalty: float, k_reg: int) -> None:
    probabilities, _ = data
    expected = [slow_scores(row, penalty, k_reg) for row in probabilities]
    np.testing.assert_allclose(conformal.aps_scores(probabilities, penalty, k_reg), expected, atol=1e-12)


@given(st.one_of(cases, tied), st.sampled_from([0.07, 0.5, 0.8, 0.9]))
def test_an_aps_rule_agrees_with_a_loop(data: tuple[np.ndarray, np.ndarray], coverage: float) -> None:
    probabilities, labels = data
    rule = conformal.fit_sets(probabilities, labels, coverage, "aps")
    scores = [slow_scores(row, 0, 1)[label] for row, label in zip(probabilities, labels, strict=True)]
    assert rule.quantile == pytest.approx(slow_quantile(scores, coverage), abs=1e-12)
    assert (rule.sets(probabilities) == (conformal.aps_scores(probabilities) <= rule.quantile)).all()


@given(st.one_of(cases, tied), st.floats(0.01, 0.99))
def test_an_aps_set_is_the_smallest_that_reaches_its_mass(data: tuple[np.ndarray, np.ndarray], quantile: float) -> None:
    probabilities, _ = data
    for row, chosen in zip(probabilities.astype(float), SetRule("aps", 0.9, quantile).sets(probabilities), strict=True):
        size = int(chosen.sum())
        ranked = np.sort(row)[::-1].cumsum()
        assert chosen[row.argmax()]
        if abs(ranked - quantile).min() > 1e-6:
            assert size == min(int((ranked < quantile).sum()) + 1, len(row))
            assert row[chosen].min() >= row[~chosen].max(initial=0)


@given(st.one_of(cases, tied), st.floats(0.05, 0.95), st.sampled_from(["aps", "raps"]), st.integers(0, 9))
def test_most_of_the_fitted_labels_are_held_and_no_set_is_empty(
    data: tuple[np.ndarray, np.ndarray], coverage: float, method: conformal.Method, seed: int
) -> None:
    probabilities, labels = data
    sets = conformal.fit_sets(probabilities, labels, coverage, method, seed).sets(probabilities)
    assert sets.any(axis=1).all()
    if method == "aps":
        assert sets[np.arange(len(labels)), labels].mean() >= coverage - 1e-12
    wider = conformal.fit_sets(probabilities, labels, (1 + coverage) / 2, "aps").sets(probabilities)
    assert method == "raps" or (wider | ~sets).all()


def test_the_quantile_is_exact_in_decimal_fractions() -> None:
    probabilities, labels = case(0, 99, 8, 1.0)
    scores = np.sort(conformal.aps_scores(probabilities)[np.arange(99), labels])
    assert conformal.fit_sets(probabilities, labels, 0.97, "aps").quantile == scores[96]
    low = conformal.fit_sets(probabilities, labels, 0.55, "aps").quantile  # 0.55 * 100 is 55.00000000000001
    assert 0 < low == scores[54] < scores[55]


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_too_few_images_promise_only_sets_of_all_classes(method: conformal.Method) -> None:
    for n in (1, 2, 8):
        rule = conformal.fit_sets(*case(1, n, 5), 0.9, method)
        assert math.isinf(rule.quantile)
        assert rule.sets(case(2, 20, 5)[0]).all()
    assert conformal.fit_sets(*case(1, 9, 5), 0.9, "aps").quantile < math.inf


@pytest.mark.parametrize("method", ["aps", "raps"])
@pytest.mark.parametrize("temperature", [1.0, 0.4])
@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_coverage_is_as_promised_on_average(method: conformal.Method, temperature: float, coverage: float) -> None:
    report = conformal.resplit_coverage(*case(3, 3000, 40, 4.0, temperature), coverage, method)
    assert report.top1 < 0.75
    assert report.coverage == pytest.approx(coverage, abs=0.01)
    assert 0.003 < report.deviation < 0.03
    assert 1.5 < report.size < 25


def test_coverage_is_as_promised_on_few_images() -> None:
    """On average over fits to 25 new images, exactly k / (n + 1); without the + 1 it would be 3 points less."""
    probabilities, labels = case(4, 250_000, 20, 2.0)
    new = np.sort(conformal.aps_scores(probabilities)[np.arange(250_000), labels][50_000:])
    covered = []
    for start in range(0, 50_000, 25):
        part = slice(start, start + 25)
        rule = conformal.fit_sets(probabilities[part], labels[part], 0.8, "aps")
        covered.append(np.searchsorted(new, rule.quantile, side="right") / len(new))
    assert np.mean(covered) == pytest.approx(21 / 26, abs=0.006)


@pytest.mark.parametrize("method", ["aps", "raps"])
def test_coverage_is_as_promised_where_probabilities_are_tied(method: conformal.Method) -> None:
    rng = np.random.default_rng(5)
    probabilities = softmax(rng.normal(scale=2, size=(4000, 40)).round())
    labels = (probabilities.cumsum(axis=1) > rng.random((4000, 1))).argmax(axis=1)
    assert conformal.resplit_coverage(probabilities, labels, 0.9, method).coverage == pytest.approx(0.9, abs=0.01)
    uniform = np.full((4000, 100), 0.01)
    report = conformal.resplit_coverage(uniform, np.random.default_rng(0).integers(0, 100, 4000), 0.9, method)
    assert report.coverage == pytest.approx(0.905, abs=0.01)
    assert report.size == pytest.approx(90.5, abs=2)


def test_a_best_class_that_is_right_more_often_than_promised_is_the_whole_set() -> None:
    probabilities, labels = case(6, 2000, 10, 20.0)
    report = conformal.resplit_coverage(probabilities, labels, 0.8, "aps", splits=20)
    assert report.top1 > 0.88
    assert report.size == 1
    assert report.coverage == pytest.approx(report.top1, abs=0.01)


def test_the_vectorised_resplits_are_fits_and_reports_of_halves() -> None:
    """The same halves, one after the other through the public functions, for APS, which draws nothing else."""
    probabilities, labels = case(7, 301, 12)
    probabilities[5], labels[5] = np.nan, 0
    one = conformal.resplit_coverage(probabilities, labels, 0.85, "aps", splits=7, seed=3)
    reports = []
    for split in range(7):
        half = conformal._part(np.arange(301), 0.5, conformal.randomness.key(3, "resplit", split))
        assert half.sum() in (150, 151)
        rule = conformal.fit_sets(probabilities[half], labels[half], 0.85, "aps")
        reports.append(conformal.coverage_report(rule.sets(probabilities[~half]), labels[~half]))
    assert one.coverage == pytest.approx(np.mean([each.coverage for each in reports]), abs=1e-12)
    assert one.deviation == pytest.approx(np.std([each.coverage for each in reports]), abs=1e-12)
    assert one.size == pytest.approx(np.mean([each.mean_size for each in reports]), abs=1e-12)
    assert one.top1 == np.mean((probabilities.argmax(axis=1) == labels) & (np.arange(301) != 5))


def test_resplits_depend_on_the_seed_alone() -> None:
    data = case(8, 200, 10)
    first = conformal.resplit_coverage(*data, 0.9, "raps", splits=5, seed=1)
    np.random.default_rng(0).random(100)
    assert conformal.resplit_coverage(*data, 0.9, "raps", splits=5, seed=1) == first
    assert conformal.resplit_coverage(*data, 0.9, "raps", splits=5, seed=2) != first
    assert conformal.fit_sets(*data, 0.9, "raps", seed=1) != conformal.fit_sets(*data, 0.9, "raps", seed=2)


def test_whole_groups_go_to_one_half() -> None:
    """Ten copies of each image: parted, they make coverage look steadier than it is."""
    probabilities, labels = case(9, 200, 10)
    probabilities, labels = np.repeat(probabilities, 10, axis=0), np.repeat(labels, 10)
    groups = np.repeat(np.arange(200), 10)
    parted = conformal.resplit_coverage(probabilities, labels, 0.8, "aps")
    whole = conformal.resplit_coverage(probabilities, labels, 0.8, "aps", groups=groups)
    assert whole.deviation > 2 * parted.deviation
    assert conformal.resplit_coverage(probabilities, labels, 0.8, "aps", groups=np.full(2000, -1)) == parted


@given(st.lists(st.integers(-1, 6), min_size=2, max_size=40), st.integers(0, 99))
def test_a_half_holds_whole_groups_and_something_is_left(groups: list[int], key: int) -> None:
    units = units_of(np.array(groups), len(groups))
    assert len(np.unique(units)) == len({each for each in groups if each >= 0}) + groups.count(-1)
    if units.max() > 0:
        half = conformal._part(units, 0.5, key)
        assert 0 < half.sum() < len(groups)
        assert not set(units[half]) & set(units[~half])
        assert abs(half.sum() - len(groups) / 2) <= np.bincount(units).max() / 2


def test_raps_chooses_on_images_that_do_not_calibrate() -> None:
    probabilities, labels = case(10, 1000, 50, 3.0, 0.5)
    rule = conformal.fit_sets(probabilities, labels, 0.9, "raps", seed=4)
    choosing = conformal._part(np.arange(1000), 0.3, conformal.randomness.key(4, "raps"))
    assert choosing.sum() == 300
    held = conformal.aps_scores(probabilities, rule.penalty, rule.k_reg)[np.arange(1000), labels]
    assert rule.quantile == pytest.approx(slow_quantile(held[~choosing].tolist(), 0.9), abs=1e-12)
    ranks = [sorted(-row).index(-row[label]) + 1 for row, label in zip(probabilities[choosing], labels[choosing], strict=True)]
    assert rule.k_reg == slow_quantile(ranks, 0.9)

    def size(penalty: float) -> float:
        scores = conformal.aps_scores(probabilities[choosing], penalty, rule.k_reg)
        quantile = slow_quantile(scores[np.arange(300), labels[choosing]].tolist(), 0.9)
        return float((scores <= quantile).sum(axis=1).mean())

    sizes = {penalty: size(penalty) for penalty in (0, 0.001, 0.01, 0.1, 0.2, 0.5)}
    assert sizes[rule.penalty] == min(sizes.values())


def test_raps_shortens_the_sets_of_a_model_that_ranks_well_and_is_now_too_sure_and_now_not_sure_enough() -> None:
    rng = np.random.default_rng(11)
    logits = rng.normal(size=(4000, 50))
    labels = rng.integers(0, 50, 4000)
    logits[np.arange(4000), labels] += 3
    logits *= np.where(rng.random((4000, 1)) < 0.5, 0.3, 4)
    aps, raps = (conformal.resplit_coverage(softmax(logits), labels, 0.9, method, splits=30) for method in ("aps", "raps"))
    assert raps.size < 0.5 * aps.size
    assert aps.coverage == pytest.approx(0.9, abs=0.01) and raps.coverage == pytest.approx(0.9, abs=0.01)


def test_classes_with_enough_images_get_the_promise_for_themselves() -> None:
    rng = np.random.default_rng(12)
    n, classes = 20_000, 10
    labels = np.where(rng.random(n) < 0.001, 9, rng.integers(0, 9, n))
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += np.where(labels == 0, 0.5, 4)  # class 0 is hard
    half, rest = slice(0, n // 2), slice(n // 2, n)
    marginal = conformal.fit_sets(softmax(logits)[half], labels[half], 0.9, "aps")
    own = conformal.fit_class_sets(softmax(logits)[half], labels[half], 0.9, "aps")
    before, after = (conformal.coverage_report(rule.sets(softmax(logits)[rest]), labels[rest]).class_coverage for rule in (marginal, own))
    assert before[0] < 0.6
    assert after[0] == pytest.approx(0.9, abs=0.04)
    assert own.quantile == marginal.quantile
    assert own.class_quantiles[9] is None and None not in own.class_quantiles[:9]
    assert np.array(after[1:9]).min() >= 0.87


def test_a_class_needs_30_images_or_what_the_promise_takes() -> None:
    labels = np.repeat([0, 1, 2, 3], [29, 30, 98, 99])
    probabilities = np.random.default_rng(13).dirichlet(np.ones(4), len(labels))
    chosen = {coverage: conformal.fit_class_sets(probabilities, labels, coverage, "aps").class_quantiles for coverage in (0.9, 0.99)}
    assert [each is not None for each in chosen[0.9]] == [False, True, True, True]
    assert [each is not None for each in chosen[0.99]] == [False, False, False, True]
    for method in ("aps", "raps"):
        assert conformal.fit_class_sets(probabilities, labels, 0.9, method).sets(probabilities).any(axis=1).all()


def test_a_rule_survives_json() -> None:
    data = case(14, 400, 4)
    rules = [
        conformal.fit_sets(*data, 0.9, "raps"),
        conformal.fit_class_sets(*data, 0.985, "aps"),
        conformal.fit_sets(*case(14, 3, 4), 0.9, "raps"),
    ]
    for rule in rules:
        text = json.dumps(rule.to_dict(), allow_nan=False)
        assert SetRule.from_dict(json.loads(text)) == rule
        assert (SetRule.from_dict(json.loads(text)).sets(data[0]) == rule.sets(data[0])).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_gets_all_classes(bad: float) -> None:
    probabilities, labels = case(15, 100, 6)
    probabilities[3, 2] = bad
    for rule in (conformal.fit_sets(probabilities, labels, 0.7, "raps"), conformal.fit_class_sets(probabilities, labels, 0.7, "aps")):
        sets = rule.sets(probabilities)
        assert sets[3].all() and not sets.all()
    assert SetRule("raps", 0.9, 0.5, penalty=0.2, k_reg=1).sets(probabilities)[3].all()
    probabilities[:95] = bad
    rule = conformal.fit_sets(probabilities, labels, 0.7, "aps")
    assert rule.quantile == 0
    assert (rule.sets(probabilities).sum(axis=1) == np.where(np.arange(100) < 95, 6, 1)).all()
    assert conformal.resplit_coverage(probabilities, labels, 0.7, "aps", splits=3).coverage > 0.9


def test_an_image_gets_the_same_set_alone_as_among_others() -> None:
    probabilities, labels = case(16, 300, 40)
    rule = conformal.fit_sets(probabilities, labels, 0.9, "aps")
    alone = np.concatenate([rule.sets(probabilities[row : row + 1]) for row in range(300)])
    np.testing.assert_array_equal(alone, rule.sets(probabilities))


def test_a_report_by_hand() -> None:
    sizes, labels = [1, 1, 2, 3, 12], np.array([0, 5, 1, 3, 1])
    sets = np.arange(12) < np.array(sizes)[:, None]
    report = conformal.coverage_report(sets, labels)
    assert (report.n, report.coverage, report.mean_size, report.median_size, report.single, report.largest) == (5, 0.6, 3.8, 2, 0.4, 12)
    assert report.by_size == (SizeBin(1, 1, 2, 0.5), SizeBin(2, 3, 2, 0.5), SizeBin(11, 12, 1, 1)), "there are twelve classes"
    assert report.class_coverage == (1, 1, None, 0, None, 0, *[None] * 6)


@given(st.one_of(cases, tied), st.floats(0.1, 0.9))
def test_a_report_adds_up(data: tuple[np.ndarray, np.ndarray], quantile: float) -> None:
    probabilities, labels = data
    sets = SetRule("aps", 0.9, quantile).sets(probabilities)
    report = conformal.coverage_report(sets, labels)
    assert sum(each.n for each in report.by_size) == report.n == len(labels)
    assert sum(each.n * each.coverage for each in report.by_size) == pytest.approx(report.coverage * len(labels))
    counts = np.bincount(labels, minlength=probabilities.shape[1])
    assert [each is None for each in report.class_coverage] == (counts == 0).tolist()
    assert sum(
        count * each for count, each in zip(counts.tolist(), report.class_coverage, strict=True) if each is not None
    ) == pytest.approx(report.coverage * len(labels))


def test_what_cannot_be_fitted_is_refused() -> None:
    probabilities, labels = case(17, 20, 3)
    for call in (conformal.fit_sets, conformal.fit_class_sets, conformal.resplit_coverage):
        with pytest.raises(InputError, match="no labelled images"):
            call(np.zeros((0, 3)), np.zeros(0, np.int32), 0.9, "aps")
        for coverage in (0, 1, 90, math.nan):
            with pytest.raises(InputError, match="cannot be promised"):
                call(probabilities, labels, coverage, "aps")
        with pytest.raises(ValueError, match="labels go from -1 to"):
            call(probabilities, np.where(np.arange(20) == 4, -1, labels), 0.9, "aps")
        with pytest.raises(ValueError, match="do not fit"):
            call(probabilities, labels[1:], 0.9, "aps")
        with pytest.raises(ValueError, match="not probabilities"):
            call(np.log(probabilities), labels, 0.9, "aps")
        with pytest.raises(ValueError, match="not probabilities"):
            call(probabilities * 0.9, labels, 0.9, "aps")
    with pytest.raises(InputError, match="no labelled images"):
        conformal.coverage_report(np.zeros((0, 3), bool), np.zeros(0, np.int32))
    with pytest.raises(InputError, match="cannot be halved"):
        conformal.resplit_coverage(probabilities, labels, 0.9, "aps", groups=np.zeros(20, np.int32))


def test_one_class_of_many_in_the_images_and_a_single_class_at_all() -> None:
    probabilities, _ = case(18, 200, 5)
    report = conformal.resplit_coverage(probabilities, np.full(200, 2), 0.9, "raps", splits=20)
    assert report.coverage == pytest.approx(0.9, abs=0.06)
    assert conformal.fit_sets(np.ones((50, 1)), np.zeros(50, np.int32), 0.9, "raps").sets(np.ones((2, 1))).all()


@pytest.mark.parametrize(("n", "coverage"), [(40, 0.9), (74, 0.9), (200, 0.5)])
def test_rules_from_few_images_cover_what_the_beta_distribution_allows(n: int, coverage: float) -> None:
    """Without ties: the middle 95 % of rules are within the ends, and as many are below as above."""
    many, labels = case(1, 30_000, 20, scale=1.0)
    shares, rule = [], None
    for seed in range(400):
        probabilities, drawn = case(2 + seed, n, 20, scale=1.0)
        rule = conformal.fit_sets(probabilities, drawn, coverage, "aps")
        assert rule.n == n
        shares.append(rule.quantile)
    scores = np.sort(conformal.aps_scores(many)[np.arange(len(labels)), labels])
    covered = np.searchsorted(scores, shares, side="right") / len(scores)
    assert rule is not None and (ends := rule.allowed_coverage()) is not None
    assert abs((covered < ends[0]).mean() - 0.025) < 0.025 and abs((covered > ends[1]).mean() - 0.025) < 0.025


def test_what_a_rule_allows_is_not_known_without_its_images_or_where_it_holds_all_classes() -> None:
    assert SetRule("aps", 0.9, 0.5).allowed_coverage() is None
    assert SetRule("aps", 0.9, math.inf, n=5).allowed_coverage() is None
    probabilities, labels = case(0, 50, 5)
    assert conformal.fit_sets(probabilities, labels, 0.9, "raps").n == 35
