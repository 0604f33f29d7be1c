import numpy as np
import pytest
import scipy.stats

from fieldmark.core.errors import InputError
from fieldmark.evaluation.comparison import compare
from fieldmark.evaluation.predictions import Predictions


def predictions(hits: np.ndarray, ids: np.ndarray | None = None) -> Predictions:
    logits = np.where(hits[:, None], [[1.0, 0.0]], [[0.0, 1.0]]).astype(np.float32)
    ids = np.array([f"{row:04}" for row in range(len(hits))]) if ids is None else ids
    return Predictions(ids, np.zeros(len(hits), np.int32), logits, np.zeros((len(hits), 0), np.float32), ("x", "y"))


def test_the_difference_its_interval_and_mcnemars_test():
    rng = np.random.default_rng(0)
    one, other = rng.random(500) < 0.8, rng.random(500) < 0.7
    found = compare(predictions(one), predictions(other), 4000, 0)
    assert found.points == pytest.approx(100 * (one.mean() - other.mean())) and found.n == 500
    wins, losses = int((one & ~other).sum()), int((other & ~one).sum())
    assert (found.wins, found.losses) == (wins, losses)
    tail = scipy.stats.binom.cdf(min(wins, losses), wins + losses, 0.5)
    assert found.p == pytest.approx(min(2 * tail, 1))
    gained = one.astype(float) - other
    theirs = scipy.stats.bootstrap((gained,), np.mean, method="percentile", n_resamples=4000, random_state=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((100 * theirs.low, 100 * theirs.high), abs=0.5)
    assert found.shown and "no difference" not in str(found)


def test_a_few_pictures_show_nothing():
    """Four wins and no loss: the bootstrap's interval leaves zero out, but a coin falls so once in eight times."""
    one, other = np.ones(100, bool), np.arange(100) >= 4
    found = compare(predictions(one), predictions(other), 1000, 0)
    assert (found.wins, found.losses) == (4, 0) and found.low > 0 and found.p == pytest.approx(0.125)
    assert not found.shown and str(found).endswith("no difference shown")


def test_images_are_paired_by_id_and_equal_models_do_not_differ():
    hits = np.random.default_rng(1).random(50) < 0.5
    one = predictions(hits)
    order = np.random.default_rng(2).permutation(50)[:40]
    found = compare(one, predictions(hits[order], one.ids[order]), 200, 0)
    assert (found.points, found.low, found.high, found.n, found.p) == (0, 0, 0, 40, 1) and not found.shown
    with pytest.raises(InputError, match="no labelled images in common"):
        compare(one, predictions(hits, np.array([f"x{row}" for row in range(50)])), 200, 0)
