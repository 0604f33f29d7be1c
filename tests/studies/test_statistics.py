from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.studies.statistics import Gain, Spread, gains, smallest_gain, spread

PAIR = np.array([[-1.0, 1.0]])


def over_the_first(rungs: int) -> np.ndarray:
    return np.concatenate([-np.ones((rungs - 1, 1)), np.eye(rungs - 1)], axis=1)


def simulated(rng: np.random.Generator, seeds: Sequence[int], n: int, sd: float | np.ndarray = 0.0, gain: float = 0.0) -> list[np.ndarray]:
    """Hits of runs that differ in luck on images that differ in difficulty; the last rung is better by `gain` points.

    sd: of the luck, in points; one for all rungs or one for each
    """
    difficulty = rng.normal(size=n)
    slope = scipy.stats.norm.pdf(scipy.stats.norm.ppf(0.8)) * 100
    hits = []
    sds = np.broadcast_to(sd, len(seeds))
    for rung, number in enumerate(seeds):
        level = scipy.stats.norm.ppf(0.8 + (gain / 100 if rung == len(seeds) - 1 else 0))
        luck = sds[rung] / slope * rng.normal(size=(number, 1))
        image = 0.95 * (0.95 * difficulty + math.sqrt(1 - 0.95**2) * rng.normal(size=n))
        hits.append(level + luck + image + math.sqrt(1 - 0.95**2) * rng.normal(size=(number, n)) > 0)
    return hits


def slowly(hits: Sequence[np.ndarray], contrast: Sequence[float], comparisons: int) -> tuple[float, float, float]:
    """Value, half width and adjusted p-value of one contrast, written out in loops from the description."""
    n = hits[0].shape[1]
    rungs = range(len(hits))
    y = [each.astype(float).tolist() for each in hits]

    def mean(numbers: Sequence[float]) -> float:
        return math.fsum(numbers) / len(numbers)

    runs = [[mean(run) for run in y[r]] for r in rungs]
    images = [[mean([run[i] for run in y[r]]) for i in range(n)] for r in rungs]
    level = [mean(runs[r]) for r in rungs]
    value = math.fsum(contrast[r] * level[r] for r in rungs)

    own = [math.fsum(contrast[r] * images[r][i] for r in rungs) for i in range(n)]
    worst = max(sum(w for w in contrast if w > 0), -sum(w for w in contrast if w < 0))
    of_images = (math.fsum((g - value) ** 2 for g in own) + worst**2) / n**2

    seed_mean_square, residual_mean_square = {}, {}
    for r in rungs:
        number = len(y[r])
        if number > 1:
            seed_mean_square[r] = n * math.fsum((m - level[r]) ** 2 for m in runs[r]) / (number - 1)
            residuals = [(y[r][s][i] - runs[r][s] - images[r][i] + level[r]) ** 2 for s in range(number) for i in range(n)]
            residual_mean_square[r] = math.fsum(residuals) / ((number - 1) * (n - 1))
    components = {r: (seed_mean_square[r] - residual_mean_square[r]) / n for r in seed_mean_square}
    together = max(0.0, mean(list(components.values())))
    compared = [r for r in rungs if contrast[r] != 0]
    of_seeds = sum(contrast[r] ** 2 * max(components[r], together) / len(y[r]) for r in compared)
    chance = sum(contrast[r] ** 2 * residual_mean_square[r] / n / len(y[r]) for r in compared)
    fewest = min(len(y[r]) for r in compared)
    free = min(sum(len(y[r]) - 1 for r in rungs), len(components) * (fewest - 1))

    variance = of_images + of_seeds
    freedom = variance**2 / (of_images**2 / (n - 1) + (of_seeds + chance) ** 2 / free)
    level_of_one = 1 - 0.95 ** (1 / comparisons)
    width = float(scipy.stats.t.ppf(1 - level_of_one / 2, freedom)) * math.sqrt(variance)
    p = 1 - (1 - 2 * float(scipy.stats.t.cdf(-abs(value) / math.sqrt(variance), freedom))) ** comparisons
    return value, width, p


@pytest.mark.parametrize("seeds, n, sd", [((2, 2), 40, 0), ((3, 3, 3), 60, 8), ((5, 1, 2, 3), 35, 4), ((2, 8), 12, 20)])
def test_gains_equal_the_same_computed_in_loops(seeds: tuple[int, ...], n: int, sd: float) -> None:
    hits = simulated(np.random.default_rng(n), seeds, n, sd, gain=10)
    weights = np.concatenate([over_the_first(len(seeds)), [np.linspace(-0.5, 0.5, len(seeds)) * (np.array(seeds) > 1)]])
    weights = weights[~weights[:, np.array(seeds) == 1].any(axis=1)]
    for gain, contrast in zip(gains(hits, weights), weights.tolist(), strict=True):
        value, width, p = slowly(hits, contrast, len(weights))
        least, most = 100 * sum(w for w in contrast if w < 0), 100 * sum(w for w in contrast if w > 0)
        assert gain.value == pytest.approx(100 * value)
        assert gain.low == pytest.approx(max(100 * (value - width), least))
        assert gain.high == pytest.approx(min(100 * (value + width), most))
        assert gain.p == pytest.approx(p)


def test_where_all_images_are_alike_it_is_the_t_test_of_the_runs() -> None:
    """Runs that are right on so many images or so many others differ by their accuracies alone: what varies over images cancels."""
    rng = np.random.default_rng(5)
    n, seeds = 20_000, 6
    rates = [0.5 + 0.03 * rng.normal(size=(seeds, 1)), 0.53 + 0.03 * rng.normal(size=(seeds, 1))]
    hits = [rng.random((seeds, n)) < rate for rate in rates]
    gain = gains(hits, PAIR)[0]
    accuracies = [each.mean(axis=1) for each in hits]
    interval = scipy.stats.ttest_ind(accuracies[1], accuracies[0]).confidence_interval(0.95)
    assert gain.low is not None and gain.high is not None
    larger = max(each.var(ddof=1) for each in accuracies)
    both = sum(each.var(ddof=1) for each in accuracies)
    # Each recipe has the larger of its own variance and the pooled one: the interval is the t-test's, wider by what that adds.
    wider = math.sqrt((larger + both / 2) / both)
    assert gain.high - gain.low == pytest.approx(100 * wider * (interval.high - interval.low), rel=0.02)


def test_where_seeds_do_not_matter_it_is_the_paired_t_test_over_images() -> None:
    rng = np.random.default_rng(6)
    first, second = rng.random(2000) < 0.6, rng.random(2000) < 0.63
    gain = gains([np.tile(first, (3, 1)), np.tile(second, (3, 1))], PAIR)[0]
    interval = scipy.stats.ttest_rel(second.astype(float), first.astype(float)).confidence_interval(0.95)
    assert (gain.low, gain.high) == pytest.approx((100 * interval.low, 100 * interval.high), abs=0.01)


def test_many_seeds_and_images_agree_with_a_bootstrap_over_both() -> None:
    rng = np.random.default_rng(7)
    seeds, n = 30, 700
    hits = simulated(rng, (seeds, seeds), n, sd=4, gain=3)
    drawn = []
    for _ in range(1500):
        images = rng.integers(0, n, n)
        accuracy = [each[rng.integers(0, seeds, seeds)][:, images].mean() for each in hits]
        drawn.append(100 * (accuracy[1] - accuracy[0]))
    gain = gains(hits, PAIR)[0]
    assert gain.low is not None and gain.high is not None
    # A bootstrap over rows and columns counts what is both row's and column's twice (Owen and Eckles 2012): a little wider, never narrower.
    ratio = (gain.high - gain.low) / float(np.subtract(*np.percentile(drawn, [97.5, 2.5])))
    assert 0.9 < ratio < 1.08


@given(st.integers(0, 2**32 - 1), st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(1, 30))
@settings(max_examples=60, deadline=None)
def test_signs_orders_and_scales(seed: int, seeds: list[int], n: int) -> None:
    rng = np.random.default_rng(seed)
    hits = simulated(rng, seeds, n, sd=float(rng.integers(0, 10)), gain=float(rng.integers(0, 19)))
    weights = over_the_first(len(seeds))
    there, back, tenfold = gains(hits, weights), gains(hits, -weights), gains(hits, 10 * weights)
    rungs, images = rng.permutation(len(seeds)), rng.permutation(n)
    shuffled = gains([rng.permutation(hits[r], axis=0)[:, images] for r in rungs], weights[:, rungs])
    for one, other, wide, same in zip(there, back, tenfold, shuffled, strict=True):
        assert (one.low is None) == (other.low is None) == (wide.low is None) == (same.low is None)
        if one.low is None or one.high is None or one.p is None or other.low is None or other.high is None:
            assert 1 in seeds
            continue
        assert (one.value, one.low, one.high) == pytest.approx((-other.value, -other.high, -other.low))
        assert (wide.value, wide.low, wide.high) == pytest.approx((10 * one.value, 10 * one.low, 10 * one.high))
        assert (same.value, same.low, same.high, same.p) == pytest.approx((one.value, one.low, one.high, one.p))
        assert -100 <= one.low <= one.value <= one.high <= 100
        assert one.significant == (one.p < 0.05)
        assert 0 <= one.p <= 1


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
@settings(max_examples=40, deadline=None)
def test_another_comparison_never_narrows(seed: int, rungs: int) -> None:
    rng = np.random.default_rng(seed)
    hits = simulated(rng, rng.integers(2, 4, rungs).tolist(), 50, sd=3, gain=8)
    weights = np.array([np.eye(rungs)[b] - np.eye(rungs)[a] for a, b in itertools.combinations(range(rungs), 2)])
    for m in range(1, len(weights)):
        for fewer, more in zip(gains(hits, weights[:m]), gains(hits, weights[: m + 1])[:m], strict=True):
            assert fewer.value == more.value
            assert more.low <= fewer.low and fewer.high <= more.high and fewer.p <= more.p  # type: ignore[operator]


@pytest.mark.parametrize(
    "seeds, n, sd",
    [
        ((3, 3, 3, 3), 400, 0.0),
        ((3, 3, 3, 3), 2000, 2.0),
        ((4, 4), 1000, 3.0),
        ((8, 2), 1000, 3.0),
        ((8, 8, 8, 2), 400, 3.0),
        ((3, 3, 3, 1), 1000, 3.0),
    ],
)
def test_gains_that_are_not_there_are_seldom_significant(seeds: tuple[int, ...], n: int, sd: float) -> None:
    rng = np.random.default_rng(8)
    weights = over_the_first(len(seeds))
    studies = 300
    significant = sum(any(gain.significant for gain in gains(simulated(rng, seeds, n, sd), weights)) for _ in range(studies))
    # At a rate of 5 %, more than 27 of 300 have a probability of 0.1 %. Images alone would show 200 and more where sd is not 0.
    assert significant <= 27


@pytest.mark.parametrize("n", [2, 3, 5, 8, 12, 20])
def test_a_handful_of_images_seldom_shows_a_gain(n: int) -> None:
    """The worst case: all seeds of a recipe agree on every image, and two recipes are right by chance, each for itself."""
    rng = np.random.default_rng(9)
    studies = 1000
    hits = rng.random((studies, 2, 1, n)) < 0.5
    significant = sum(bool(gains([np.repeat(each, 2, axis=0) for each in pair], PAIR)[0].significant) for pair in hits)
    assert significant <= 72  # of 1000 at 5 %: more in 0.1 % of cases


def test_the_smallest_gain_is_found_as_often_as_it_says() -> None:
    rng = np.random.default_rng(10)
    seeds, n, sd = (3, 3, 3), 600, 0.5
    weights = over_the_first(3)
    sizes = [smallest_gain(simulated(rng, seeds, n, sd), weights) for _ in range(100)]
    size = float(np.mean([each for each in sizes if each is not None]))
    found = sum(bool(gains(simulated(rng, seeds, n, sd, size), weights)[-1].significant) for _ in range(300))
    assert 0.70 < found / 300 < 0.90


def test_more_seeds_and_more_images_find_smaller_gains() -> None:
    def smallest(seeds: int, n: int) -> float:
        return float(np.mean([smallest_gain(simulated(np.random.default_rng(r), (seeds, seeds), n, 1.0), PAIR) for r in range(20)]))  # type: ignore[arg-type]

    assert smallest(8, 1500) < smallest(4, 1500) < smallest(2, 1500)
    assert smallest(4, 1500) < smallest(4, 300) < smallest(4, 60)


def test_seeds_that_are_equally_accurate_do_not_tell_what_would_be_found_and_gains_stay_useful() -> None:
    """Every run names one class of six for all images, another with each seed: it is right on a sixth of them each time."""
    runs = np.stack([np.arange(48) % 6 == seed for seed in range(3)])
    hits = [runs, runs]
    (gain,) = gains(hits, PAIR)
    assert gain.value == 0 and gain.low is not None and gain.high is not None and -15 < gain.low < 0 < gain.high < 15
    assert smallest_gain(hits, PAIR) is None


@given(st.integers(2, 4), st.integers(1, 40), st.integers(0, 2**32))
def test_no_gain_is_stated_that_is_larger_than_any_can_be(seeds: int, n: int, seed: int) -> None:
    hits = list(np.random.default_rng(seed).random((3, seeds, n)) < 0.5)
    smallest = smallest_gain(hits, over_the_first(3))
    assert smallest is None or 0 < smallest <= 100
    for gain in gains(hits, over_the_first(3)):
        assert gain.low is not None and gain.high is not None and -100 <= gain.low <= gain.value <= gain.high <= 100


def test_one_seed_shows_nothing() -> None:
    hits = simulated(np.random.default_rng(0), (1, 1), 50, gain=15)
    gain = gains(hits, PAIR)[0]
    assert (gain.low, gain.high, gain.p, gain.significant) == (None, None, None, None)
    assert gain.value == pytest.approx(100 * (hits[1].mean() - hits[0].mean()))
    assert smallest_gain(hits, PAIR) is None


def test_a_rung_with_one_seed_has_no_interval_and_the_others_keep_theirs() -> None:
    hits = simulated(np.random.default_rng(3), (4, 4, 1), 3000, sd=3)
    weights = over_the_first(3)
    over_base, single = gains(hits, weights)
    assert (single.low, single.high, single.p, single.significant) == (None, None, None, None)
    assert single.value == pytest.approx(100 * (hits[2].mean() - hits[0].mean()))
    assert over_base == gains(hits[:2], np.array([[-1.0, 1.0], [1.0, -1.0]]))[0], "corrected for two comparisons, as there are two rows"
    assert smallest_gain(hits, weights) == pytest.approx(smallest_gain(hits[:2], np.array([[-1.0, 1.0], [1.0, -1.0]])))
    assert gains(hits, np.array([[-0.5, 1.0, -0.5]]))[0].low is None, "in an average, too, it is not known"


@pytest.mark.parametrize("last, most", [(1, 15), (2, 34)])
def test_a_rung_that_varies_three_times_as_much_with_fewer_seeds(last: int, most: int) -> None:
    """Beside three rungs with eight. With two, 8 % of studies show a gain."""
    rng = np.random.default_rng(12)
    weights = over_the_first(4)
    sd = np.array([2.0, 2.0, 2.0, 6.0])
    significant = 0
    for _ in range(300):
        hits = simulated(rng, (8, 8, 8, last), 1000, sd)
        significant += any(gain.significant for gain in gains(hits, weights))
    assert significant <= most


@pytest.mark.parametrize("n, significant", [(1, False), (2, False), (3, False), (200, True)])
def test_all_wrong_against_all_right(n: int, significant: bool) -> None:
    gain = gains([np.zeros((3, n), bool), np.ones((3, n), bool)], PAIR)[0]
    assert gain.value == 100
    assert gain.significant is significant
    assert gain.high == 100


def test_the_average_of_several_rungs_is_as_careful_on_few_images() -> None:
    hits = [np.zeros((2, 3), bool)] * 4 + [np.ones((2, 3), bool)] * 4
    gain = gains(hits, np.array([[-0.25] * 4 + [0.25] * 4]))[0]
    assert gain.value == 100
    assert not gain.significant


@pytest.mark.parametrize("n", [1, 2, 500])
def test_identical_runs_show_nothing_and_have_an_interval(n: int) -> None:
    run = np.random.default_rng(0).random(n) < 0.7
    gain = gains([np.tile(run, (3, 1))] * 2, PAIR)[0]
    assert gain.value == 0 and gain.p == 1 and gain.significant is False
    assert gain.low is not None and gain.high is not None and gain.low < 0 < gain.high


@pytest.mark.parametrize(
    "gain, words",
    [
        (Gain(1.31, 0.42, 2.2, 0.01), "+1.3 [0.4, 2.2]"),
        (Gain(-1.31, -2.2, -0.42, 0.01), "-1.3 [-2.2, -0.4]"),
        (Gain(0.3, -0.8, 1.4, 0.6), "+0.3 [-0.8, 1.4], no significant difference"),
        (Gain(0.3, None, None, None), "+0.3, one seed: no verdict"),
        (Gain(0.3, None, None, None, (-0.84, 1.4)), "+0.3 (-0.8, 1.4), one seed: no verdict"),
        (Gain(-0.04, -0.04, 0.03, 1), "+0.0 [0.0, 0.0], no significant difference"),
        (Gain(0.5, 0.013, 0.987, 0.04), "+0.50 [0.01, 0.99]"),
        (Gain(-0.5, -0.987, -0.004, 0.04), "-0.500 [-0.987, -0.004]"),
        (Gain(0, 0, 0, 1), "+0.0 [0.0, 0.0], no significant difference"),
    ],
)
def test_words(gain: Gain, words: str) -> None:
    assert gain.words() == words


def test_spread() -> None:
    result = spread([70.0, 71.0, 73.0])
    assert result.mean == pytest.approx(71.333, abs=1e-3)
    assert result.sd == pytest.approx(1.5275, abs=1e-4)
    # sd * sqrt(2 / 7.3778) and sd * sqrt(2 / 0.050636), from a table of the chi-squared distribution
    assert (result.sd_low, result.sd_high) == pytest.approx((0.7953, 9.600), rel=1e-3)
    assert spread([70.0]) == Spread(70.0, None, None, None)
    assert spread([70.0, 70.0]) == Spread(70.0, 0.0, 0.0, 0.0)


def test_the_interval_of_a_spread_holds_the_true_one() -> None:
    rng = np.random.default_rng(4)
    intervals = [spread(rng.normal(80, 0.4, 3).tolist()) for _ in range(400)]
    held = sum(each.sd_low <= 0.4 <= each.sd_high for each in intervals)  # type: ignore[operator]
    assert 363 <= held <= 394  # 95 % of 400, outside in 0.1 % of cases on either side


def test_with_one_seed_there_is_an_interval_for_new_images() -> None:
    """As a bootstrap that draws whole images, written out."""
    rng = np.random.default_rng(1)
    hits = [rng.random((1, 150)) < 0.6, rng.random((1, 150)) < 0.7, rng.random((3, 150)) < 0.7]
    gain, third = gains(hits, np.array([[-1, 1, 0], [-1, 0, 1]]))
    difference = hits[1][0].astype(float) - hits[0][0]
    draws = [difference[rng.integers(0, 150, 150)].mean() for _ in range(4000)]
    assert gain.images == pytest.approx(tuple(100 * np.quantile(draws, (0.025, 0.975))), abs=1.0)
    assert gain.significant is None and third.images is not None, "against one with a single seed, too"
    assert gains(hits, np.array([[-1, 1, 0], [-1, 0, 1]])) == [gain, third], "the same each time"


def test_intervals_for_new_images_hold_for_new_images() -> None:
    rng = np.random.default_rng(2)
    held = 0
    for _ in range(400):
        draws = rng.random((2, 300)) < np.array([[0.6], [0.7]])
        (gain,) = gains([draws[:1], draws[1:]], np.array([[-1.0, 1.0]]))
        assert gain.images is not None
        held += gain.images[0] <= 10 <= gain.images[1]
    assert 0.92 <= held / 400 <= 0.98
