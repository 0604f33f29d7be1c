import numpy as np
import pytest
import scipy.stats
import torch
from torchvision.transforms import v2

from fieldmark.batches import erasing
from fieldmark.core.randomness import key, uniform
from fieldmark.core.recipe.augment import NoiseErasing, ZeroErasing

SIZE = 64


def draws(count: int, seed: int = 0) -> np.ndarray:
    return uniform(seed, np.arange(count), erasing.DRAWS)


@pytest.mark.parametrize(
    ("area", "aspect"),
    [((0.02, 0.3333), (0.3, 3.3333)), ((0.5, 0.9), (0.2, 5.0)), ((0.01, 0.01), (1.0, 1.0))],
    ids=["usual", "large", "fixed"],
)
def test_rectangles_have_torchvisions_distribution(area, aspect):
    """Top, left, height and width by two-sample Kolmogorov-Smirnov tests; the large ones often do not fit and are drawn again."""
    ours = erasing.rectangles(NoiseErasing(probability=1.0, area=area, aspect=aspect), SIZE, draws(4000))
    transform, image = v2.RandomErasing(1.0, area, aspect), [torch.empty(3, SIZE, SIZE)]
    torch.manual_seed(0)
    theirs = [transform.make_params(image) for _ in range(2000)]
    theirs = np.array([[each["i"], each["j"], each["h"], each["w"]] for each in theirs if each["v"] is not None])
    assert len(theirs) / 2000 == pytest.approx((ours[:, 2] > 0).mean(), abs=0.02)
    for of_ours, of_theirs in zip(ours[ours[:, 2] > 0].T, theirs.T, strict=True):
        assert scipy.stats.ks_2samp(of_ours, of_theirs).pvalue > 1e-4
    assert (ours >= 0).all() and (ours[:, :2] + ours[:, 2:] <= SIZE).all()


def test_the_probability_is_how_often():
    erased = erasing.patches(ZeroErasing(probability=0.1), SIZE, draws(20_000), 0, np.arange(20_000))
    assert 0.09 < len(erased) / 20_000 < 0.11
    assert not erasing.patches(ZeroErasing(probability=0.0), SIZE, draws(1000), 0, np.arange(1000))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_only_the_rectangles_change(layout):
    erase = ZeroErasing(probability=0.5)
    images = torch.ones(40, 3, SIZE, SIZE).contiguous(memory_format=layout)
    erasing.cover(images, erasing.patches(erase, SIZE, draws(40), 0, np.arange(40)))
    erased = draws(40)[:, 0] < 0.5
    assert erased.any() and not erased.all()
    for image, covered, (top, left, height, width) in zip(images, erased, erasing.rectangles(erase, SIZE, draws(40)), strict=True):
        expected = torch.ones(3, SIZE, SIZE)
        expected[:, top : top + height, left : left + width] = 1 - float(covered)
        assert torch.equal(image, expected)


def test_noise_is_standard_normal_and_the_samples_own():
    erase, stream = NoiseErasing(probability=1.0, area=(0.3, 0.3)), key(0, "erase", 0)
    patches = erasing.patches(erase, SIZE, draws(200), stream, np.arange(200))
    values = np.concatenate([patch.values.ravel() for patch in patches])
    assert abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
    assert scipy.stats.kstest(values[:20_000], "norm").pvalue > 1e-4
    assert len({float(patch.values[0, 0, 0]) for patch in patches}) == len(patches)
    assert all(abs(np.corrcoef(*(patch.values[colour].ravel() for colour in (0, 1)))[0, 1]) < 0.15 for patch in patches)
    alone = erasing.patches(erase, SIZE, draws(200)[7:8], stream, np.array([7]))
    assert np.array_equal(alone[0].values, patches[7].values)
    other = erasing.patches(erase, SIZE, draws(200)[7:8], key(0, "erase", 1), np.array([7]))
    assert not np.array_equal(other[0].values, patches[7].values)
