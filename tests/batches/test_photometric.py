from statistics import NormalDist

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as tvf

from fieldmark.batches import photometric
from fieldmark.core.recipe.augment import Augment

IMAGES = torch.rand(6, 3, 24, 32, generator=torch.Generator().manual_seed(1)) * 255


def per_image(values):
    return torch.tensor(values, dtype=torch.float32).view(-1, 1, 1, 1)


@pytest.mark.parametrize(
    ("ours", "theirs", "factors"),
    [
        (photometric.brightness, tvf.adjust_brightness, [0.0, 0.4, 0.9, 1.0, 1.3, 2.0]),
        (photometric.contrast, tvf.adjust_contrast, [0.0, 0.4, 0.9, 1.0, 1.3, 2.0]),
        (photometric.saturation, tvf.adjust_saturation, [0.0, 0.4, 0.9, 1.0, 1.3, 2.0]),
        (photometric.hue, tvf.adjust_hue, [-0.5, -0.2, 0.0, 0.1, 0.33, 0.5]),
    ],
)
def test_operators_agree_with_torchvision(ours, theirs, factors):
    """To a thousandth of a grey level."""
    seen = ours(IMAGES.clone(), per_image(factors))
    for image, result, factor in zip(IMAGES, seen, factors, strict=True):
        assert torch.allclose(result, theirs(image / 255, factor) * 255, atol=2e-3)


def test_hue_keeps_grey_images():
    grey = torch.full((2, 3, 4, 4), 77.0)
    assert torch.equal(photometric.hue(grey.clone(), per_image([0.3, -0.4])), grey)


def test_each_image_has_its_own_factors_within_the_strength():
    same = torch.full((500, 3, 1, 1), 100.0)
    draws = np.random.default_rng(0).random((500, 4))
    seen = photometric.jitter(same.clone(), Augment(brightness=0.4), draws)[:, 0, 0, 0] / 100
    assert len(seen.unique()) > 450
    assert 0.6 <= seen.min() < 0.62 and 1.38 < seen.max() <= 1.4


def test_no_strength_no_change():
    draws = np.random.default_rng(0).random((6, 4))
    assert torch.equal(photometric.jitter(IMAGES.clone(), Augment(), draws), IMAGES)


def test_lighting_moves_colours_along_the_principal_components():
    """By a formula written out, and with the spread of each component that the paper gives."""
    draws = np.random.default_rng(0).random((4000, photometric.LIGHTING_DRAWS))
    seen = photometric.lighting(torch.full((4000, 3, 1, 1), 128.0), 0.1, draws)[:, :, 0, 0].numpy() - 128
    vectors = np.array([[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]])
    for row, shift in zip(draws[:20], seen, strict=False):
        normal = [NormalDist(0, 0.1).inv_cdf(each) for each in row]
        expected = sum(255 * vectors[:, component] * normal[component] * (0.2175, 0.0188, 0.0045)[component] for component in range(3))
        assert np.allclose(shift, expected, atol=1e-4)
    spreads = (seen @ np.linalg.inv(vectors.T)).std(axis=0) / 255
    assert np.allclose(spreads, [0.02175, 0.00188, 0.00045], rtol=0.05)


def test_lighting_is_one_shift_for_a_whole_image_within_the_range():
    seen = photometric.lighting(IMAGES.clone(), 0.5, np.random.default_rng(0).random((6, photometric.LIGHTING_DRAWS)))
    shift = seen - IMAGES
    inside = (seen > 0) & (seen < 255)
    for image, kept in zip(shift, inside, strict=True):
        for colour in range(3):
            values = image[colour][kept[colour]]
            assert values.max() - values.min() < 1e-3
    assert seen.min() >= 0 and seen.max() <= 255
