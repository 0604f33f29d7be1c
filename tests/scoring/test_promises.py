from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta

from fieldmark.scoring.conformal import SetRule, fit_class_sets
from fieldmark.scoring.promises import acceptance, set_coverage
from fieldmark.scoring.rejection import allowed_acceptance, threshold


def test_the_share_that_is_covered_stands_beside_what_chance_allows() -> None:
    """Of ten images the sets of one class hold nine labels."""
    probabilities = np.tile([0.8, 0.2], (10, 1))
    labels = np.array([0] * 9 + [1])
    found = set_coverage(SetRule("aps", 0.9, 0.5, n=74), probabilities, labels)
    assert (found.promised, found.measured, found.fitted_on) == (90, 90, 74)
    assert (found.low, found.high) == pytest.approx(100 * beta.ppf([0.025, 0.975], [9, 10], [2, 1]))
    assert (found.allowed_low, found.allowed_high) == pytest.approx(tuple(100 * beta.ppf([0.025, 0.975], 68, 7)))
    assert str(found) == (
        "90 % sets hold the right class of 90.0 % of test [55.5, 99.7], with 1.0 of 2 classes on average; "
        "fitted on 74 images of val they may hold 83.2 to 96.1 %"
    )
    assert not found.below_chance


def test_fewer_than_chance_allows_is_said_and_rules_of_old_runs_say_less() -> None:
    probabilities, labels = np.tile([0.8, 0.2], (100, 1)), np.arange(100) % 2
    found = set_coverage(SetRule("aps", 0.9, 0.5, n=740), probabilities, labels)
    assert found.below_chance and str(found).endswith("%, and hold fewer: test is unlike val")
    old = set_coverage(SetRule("aps", 0.9, 0.5), probabilities, labels)
    assert old.allowed_low is None and not old.below_chance and str(old).endswith("of test [39.8, 60.2], with 1.0 of 2 classes on average")


def test_images_of_a_group_count_as_one_and_sets_of_all_classes_are_said() -> None:
    probabilities, labels = np.tile([0.8, 0.2], (10, 1)), np.zeros(10, np.int64)
    groups = np.repeat(np.arange(25), 6)
    rule = fit_class_sets(np.tile([0.8, 0.2], (150, 1)), np.arange(150) % 2, 0.9, "aps", groups=groups)
    assert (rule.n, rule.units) == (150, 25)
    found = set_coverage(rule, probabilities, labels)
    place = 136 / 151 * 26
    assert (found.allowed_low, found.allowed_high) == pytest.approx(tuple(100 * beta.ppf([0.025, 0.975], place, 26 - place)))
    assert "; fitted on 150 images of val in 25 groups they may hold " in str(found)
    few = set_coverage(fit_class_sets(probabilities[:3], labels[:3], 0.9, "aps"), probabilities, labels)
    assert few.holds_all and str(few) == "90 % sets: 3 images of val are too few for any but sets of all classes"


def test_the_share_that_is_accepted_stands_beside_what_chance_allows() -> None:
    """Of 49 images six come out unknown, by a threshold that is the smallest of 24 scores."""
    found = acceptance(0.95, np.arange(49) >= 6, fitted_on=24, units=24)
    assert (found.promised, found.rejected, found.n) == (95, 6, 49) and found.measured == pytest.approx(100 * 43 / 49)
    assert (found.allowed_low, found.allowed_high) == pytest.approx((100 * 0.025 ** (1 / 24), 100 * 0.975 ** (1 / 24)))
    assert str(found) == (
        "95 % threshold accepts 87.8 % of test [75.2, 95.4]: 6 of 49 known images come out unknown; "
        "fitted on 24 images of val it may accept 85.8 to 99.9 %"
    )
    assert not found.below_chance
    fewer = acceptance(0.95, np.arange(490) >= 60, fitted_on=1000, units=None)
    assert fewer.below_chance and str(fewer).endswith("of val it may accept 93.6 to 96.3 %, and accepts fewer: test is unlike val")
    in_groups = acceptance(0.95, np.arange(49) >= 6, fitted_on=240, units=24)
    assert "; fitted on 240 images of val in 24 groups it may accept " in str(in_groups)
    assert in_groups.allowed_low == pytest.approx(100 * beta.ppf(0.025, 25 * 229 / 241, 25 * 12 / 241))


def test_thresholds_accept_as_many_as_is_said_that_they_may() -> None:
    """Of uniform scores, where the share that a threshold accepts is known."""
    shares = [1 - threshold(np.random.default_rng(seed).random(40), 0.9) for seed in range(4000)]
    low, high = allowed_acceptance(0.9, 40) or (0, 0)
    assert np.mean((low <= np.array(shares)) & (np.array(shares) <= high)) == pytest.approx(0.95, abs=0.012)
    assert allowed_acceptance(0.95, 18) is None and allowed_acceptance(0.95, 19) is not None
