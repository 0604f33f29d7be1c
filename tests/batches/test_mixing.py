import numpy as np
import pytest
import scipy.stats
import torch

from fieldmark.batches import mixing
from fieldmark.core.randomness import uniform
from fieldmark.core.recipe.augment import Cutmix, Mixup, MixupOrCutmix

SIZE = 20


def draws(count: int, seed: int = 0) -> np.ndarray:
    return uniform(seed, np.arange(count), mixing.DRAWS)


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_shares_of_mixup_have_a_beta_distribution(alpha):
    shares = mixing.draw(Mixup(alpha=alpha), SIZE, draws(5000)).shares
    # In single precision shares next to 0 and 1 are 0 and 1.
    assert scipy.stats.kstest(shares.astype(float), scipy.stats.beta(alpha, alpha).cdf).pvalue > 1e-4


@pytest.mark.parametrize("alpha", [0.5, 1.0])
def test_boxes_of_cutmix_are_those_of_the_paper(alpha):
    """Against boxes drawn one by one: a middle, half the side of the area's square root to either side, cut off."""
    size = 160
    boxes = mixing.draw(Cutmix(alpha=alpha), size, draws(4000)).boxes
    generator, expected = np.random.default_rng(0), []
    for _ in range(4000):
        half = int(np.sqrt(1 - generator.beta(alpha, alpha)) * size / 2)
        y, x = generator.integers(0, size, 2)
        expected.append((max(y - half, 0), max(x - half, 0), min(y + half, size), min(x + half, size)))
    for ours, theirs in zip(boxes.T, np.array(expected).T, strict=True):
        assert scipy.stats.ks_2samp(ours, theirs).pvalue > 1e-4


@pytest.mark.parametrize(
    "mix",
    [Mixup(alpha=0.8), Cutmix(), MixupOrCutmix(), MixupOrCutmix(probability=0.5), Mixup(probability=0.3)],
    ids=lambda mix: f"{mix.name}-{mix.probability:g}",
)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_each_image_holds_as_much_of_the_next_as_its_label_says(mix, layout):
    """Image i is all i: what is seen of the next one, pixel by pixel, is its share of the label exactly."""
    count = 60
    images = torch.arange(count, dtype=torch.float32).view(-1, 1, 1, 1).expand(-1, 3, SIZE, SIZE).contiguous(memory_format=layout)
    before = images.clone()
    mixture = mixing.draw(mix, SIZE, draws(count))
    mixed = mixing.mix_images(images, mixture)
    assert torch.equal(images, before)
    of_next = (mixed - before) / (before.roll(-1, 0) - before)
    assert torch.allclose(of_next.mean(dim=(1, 2, 3)), 1 - torch.from_numpy(mixture.shares), atol=1e-5)
    pasted = mixture.boxes[:, 2] > 0
    for part, box, is_pasted in zip(of_next, mixture.boxes, pasted, strict=True):
        if is_pasted:
            expected = torch.zeros(3, SIZE, SIZE)
            expected[:, box[0] : box[2], box[1] : box[3]] = 1
            assert torch.equal(part, expected)
        else:
            assert (part - part[0, 0, 0]).abs().max() < 1e-5


def test_the_probability_is_how_often_and_either_is_one_of_the_two():
    mixture = mixing.draw(MixupOrCutmix(mixup_alpha=1.0, probability=0.6), 160, draws(10_000))
    pasted, blended = mixture.boxes[:, 2] > 0, (mixture.boxes[:, 2] == 0) & (mixture.shares < 1)
    assert 0.28 < pasted.mean() < 0.32 and 0.28 < blended.mean() < 0.32
    assert (mixture.shares[~pasted & ~blended] == 1).all()


def test_nothing_changes_where_nothing_is_mixed():
    images = torch.rand(30, 3, SIZE, SIZE)
    mixture = mixing.draw(Mixup(probability=1e-9), SIZE, draws(30))
    assert (mixture.shares == 1).all() and torch.equal(mixing.mix_images(images, mixture), images)
