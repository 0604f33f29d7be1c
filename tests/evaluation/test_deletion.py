"""The deletion check against planted objects, and what it says of maps that mark nothing."""

import math

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from fieldmark.evaluation.deletion import MOVED, Deletion, DeletionSummary, _moved, deletion_check, deletion_summary
from fieldmark.evaluation.explanation import heat_maps
from fieldmark.evaluation.inference import Normalisation, logits_and_features
from fieldmark.models.execution import Execution
from fieldmark.models.factory import Classifier, NativeHead
from fieldmark.scoring.predictions import softmax

SIZE = 64
FLOAT32 = Execution(torch.device("cpu"), "float32", "contiguous")
PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))


def red_share(images: np.ndarray) -> np.ndarray:
    """A class that is a red square of 16 pixels: how much of it is there."""
    red, green, blue = images.transpose(1, 0, 2, 3).astype(int)
    return np.clip(((red > 200) & (green < 60) & (blue < 60)).sum(axis=(1, 2)) / 256, 0, 1)


def square(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a red square somewhere: uint8 (3, SIZE, SIZE), and where it is, float32 (SIZE, SIZE)."""
    rng = np.random.default_rng(seed)
    image = rng.integers(60, 180, (3, SIZE, SIZE)).astype(np.uint8)
    top, left = rng.integers(0, SIZE - 16, 2)
    image[:, top : top + 16, left : left + 16] = np.array([250, 10, 10], np.uint8)[:, None, None]
    heat = np.zeros((SIZE, SIZE), np.float32)
    heat[top : top + 16, left : left + 16] = 1
    return image, heat


def shuffled(heat: np.ndarray, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).permutation(heat.ravel()).reshape(heat.shape)


def test_a_map_of_the_object_is_shown_to_mark_it():
    checks = [deletion_check(red_share, *square(seed), seed) for seed in range(12)]
    assert all(check.gain > 0.3 and check.score < 0.15 for check in checks)
    assert np.median([check.p for check in checks]) == 1 / (MOVED + 1)
    summary = deletion_summary(checks)
    assert summary.significant and summary.points == pytest.approx(100 * np.mean([check.gain for check in checks]))
    assert 30 < summary.low < summary.points < summary.high and summary.n == 12
    assert str(summary) == f"+{summary.points:.1f} points [{summary.low:.1f}, {summary.high:.1f}] over 12 images"


def test_cost_and_interval_have_the_same_sign_convention():
    assert DeletionSummary(-5.2, -13.0, 2.5, 8).cost == "5.2 points of probability less"
    assert DeletionSummary(-5.2, -13.0, 2.5, 8).interval == "95 % interval 13.0 less to 2.5 more"
    assert DeletionSummary(5.2, float("nan"), float("nan"), 1).interval == ""


def test_a_shuffled_map_and_one_of_the_surroundings_are_not():
    images = [square(seed) for seed in range(24)]
    anything = deletion_summary([deletion_check(red_share, each, shuffled(heat, i), i) for i, (each, heat) in enumerate(images)])
    assert not anything.significant and abs(anything.points) < 10
    assert str(anything).endswith("over 24 images: no significant evidence that the maps mark what matters")
    checks = [deletion_check(red_share, each, 1 - heat, i) for i, (each, heat) in enumerate(images[:6])]
    assert all(check.gain < -0.1 and check.p > 0.8 for check in checks)


def test_under_the_null_small_p_are_as_rare_as_they_say():
    """The map of another image's square is a map laid anywhere."""
    found = []
    for seed in range(120):
        (image, _), (_, heat) = square(seed), square(1000 + seed)
        found.append(deletion_check(red_share, image, heat, seed).p)
    assert np.mean(np.array(found) <= 0.1) < 0.18 and np.mean(np.array(found) <= 0.5) < 0.65


def test_the_curve_by_hand():
    """An image of 4 patches: the probability is 1 until the corner of the white one has given way to its blurred copy."""
    image = np.zeros((3, 8, 8), np.uint8)
    image[:, :4, :4] = 255

    def white(images):
        return images[:, 0, 3, 3] == 255

    heat = np.kron([[4.0, 3.0], [2.0, 1.0]], np.ones((4, 4)))
    # Taken out after step k of 12: round(k / 3) patches. The white one goes first, with step 2.
    assert deletion_check(white, image, heat, 0).score == pytest.approx((0.5 + 1) / 12)
    # And last, with step 11.
    assert deletion_check(white, image, -heat, 0).score == pytest.approx((0.5 + 10) / 12)


def test_a_flat_map_and_a_network_that_sees_nothing_gain_exactly_nothing():
    image, heat = square(0)
    calls = []

    def noisy(images):
        calls.append(len(images))
        return red_share(images) + 1e-9 * np.arange(len(images))

    flat = deletion_check(noisy, image, np.full((SIZE, SIZE), 0.3, np.float32), 0)
    assert (flat.gain, flat.p) == (0, 1) and calls == [2 + 11]
    blind = deletion_check(lambda images: np.full(len(images), 0.25), image, heat, 0)
    assert (blind.score, blind.gain, blind.p) == (0.25, 0, 1)


def test_nan_counts_as_zero():
    assert deletion_check(lambda images: np.full(len(images), np.nan), *square(0), 0).score == 0


@pytest.mark.parametrize("size", [2, 7, 8, 33, 60, 160])
def test_any_size_is_split_and_the_images_are_bounded(size):
    image = np.random.default_rng(0).integers(0, 256, (3, size, size), np.uint8)
    heat = np.random.default_rng(1).random((size, size), np.float32)
    sent = []

    def probability(images):
        sent.append(images)
        return np.linspace(0, 1, len(images))

    check = deletion_check(probability, image, heat, 3)
    (images,) = sent
    assert images.dtype == np.uint8 and images.shape[1:] == (3, size, size) and len(images) <= 222
    np.testing.assert_array_equal(images[0], image)
    blurred = images[1]
    assert blurred.std() < image.std() / 2 or size == 2
    assert ((images == image) | (images == blurred)).all()
    assert check.moved.shape == (MOVED,) and check.moved.dtype == np.float64 and 0 <= check.score <= 1


def test_moved_maps_keep_their_values_and_never_their_place():
    heat = np.random.default_rng(0).random((14, 14))
    moved = _moved(heat, 5)
    assert len(moved) == MOVED
    for each in moved:
        np.testing.assert_array_equal(np.sort(each.ravel()), np.sort(heat.ravel()))
        assert not (each == heat).all()
        mirrors = [heat, heat[::-1], heat[:, ::-1], heat[::-1, ::-1]]
        assert any(
            (np.roll(mirror, (down, across), (0, 1)) == each).all() for mirror in mirrors for down in range(14) for across in range(14)
        )
    assert len({each.tobytes() for each in moved}) == MOVED
    assert not all((one == other).all() for one, other in zip(moved, _moved(heat, 6), strict=True))


def test_the_same_seed_gives_the_same_check():
    one, again, other = (deletion_check(red_share, *square(1), seed) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.moved, again.moved)
    assert one.score == again.score and not (one.moved == other.moved).all()


def test_gain_and_rank_by_hand():
    check = Deletion(0.3, np.array([0.5, 0.3, 0.2, 0.6]))
    assert check.gain == pytest.approx(0.1) and check.p == 3 / 5


@pytest.mark.parametrize("n", [2, 6, 40])
def test_the_interval_is_that_of_students_t(n):
    gains = np.random.default_rng(n).normal(0.1, 0.2, n)
    summary = deletion_summary([Deletion(0.3, np.array([0.3 + gain])) for gain in gains])
    low, high = 100 * np.array(scipy.stats.ttest_1samp(gains, 0).confidence_interval(0.95))
    assert (summary.points, summary.low, summary.high) == pytest.approx((100 * gains.mean(), low, high))


def test_equal_gains_have_no_spread_and_one_gain_has_no_interval():
    check = Deletion(0.25, np.array([0.75]))
    alike = deletion_summary([check] * 6)
    assert alike.low == alike.points == alike.high == 50
    alone = deletion_summary([check])
    assert alone.points == 50 and math.isnan(alone.low) and math.isnan(alone.high) and not alone.significant
    assert str(alone) == "+50.0 points over 1 image: no significant evidence that the maps mark what matters"


def test_a_map_holds_by_chance_once_in_twenty_times():
    assert Deletion(0.1, np.full(MOVED, 0.9)).p == 0.05


def test_few_images_show_nothing_however_large_the_gain():
    check = Deletion(0.1, np.full(4, 0.9))
    assert not deletion_summary([check] * 5).significant and deletion_summary([check] * 6).significant
    assert not deletion_summary([Deletion(0.1, np.full(4, 0.1))] * 6).significant
    with pytest.raises(ValueError, match="no deletion checks"):
        deletion_summary([])


def test_maps_of_a_network_that_learnt_the_square_are_shown_and_shuffled_ones_are_not():
    """Half of the images have a square; a small network is trained for a second or two."""
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU(), nn.Conv2d(8, 8, 1), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten())
    model = Classifier("tiny", backbone, 8, 0.0, nn.Linear(8, 2), NativeHead(frozenset(), None))
    pairs = [square(seed) for seed in range(64)]
    plain = np.random.default_rng(9).integers(60, 180, (64, 3, SIZE, SIZE)).astype(np.uint8)
    pixels = np.concatenate([np.stack([image for image, _ in pairs]), plain])
    images, labels = PLAIN(torch.from_numpy(pixels)), torch.arange(128) // 64
    optimiser = torch.optim.Adam(model.parameters(), 0.02)
    for _ in range(60):
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
    assert loss < 0.05

    def probability(shown):
        return softmax(logits_and_features(model, shown, PLAIN, FLOAT32, 256)[0])[:, 0]

    count = 10
    maps = heat_maps(model, pixels[:count], np.zeros(count, np.int64), PLAIN, FLOAT32, "grad-cam")
    marked = [heat[place > 0].sum() / heat.sum() for heat, (_, place) in zip(maps, pairs, strict=False)]
    assert np.mean(marked) > 0.5  # of one sixteenth of the image
    true = deletion_summary([deletion_check(probability, pixels[i], maps[i], i) for i in range(count)])
    anywhere = deletion_summary([deletion_check(probability, pixels[i], shuffled(maps[i], i), i) for i in range(count)])
    assert true.significant and true.points > 5
    assert not anywhere.significant
