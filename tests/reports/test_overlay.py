from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from fieldmark.reports.overlay import overlay

GREY = np.full((40, 40, 3), 128, np.uint8)


def lightness(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("L"), np.int64)


def test_cold_places_keep_the_image_and_hot_ones_glow() -> None:
    heat = np.zeros((40, 40), np.float32)
    heat[:, 20:] = 1
    laid = np.asarray(overlay(GREY, heat), np.int64)
    assert laid.shape == (40, 40, 3) and laid.dtype == np.int64
    assert (laid[:, :20] == 128).all()
    red, _, blue = laid[0, -1]
    assert red > 200 and red - blue > 30, "the hot end of inferno is a pale yellow"


def test_the_image_is_seen_through_the_hottest_place() -> None:
    stripes = np.zeros((40, 40, 3), np.uint8)
    stripes[:, ::2] = 255
    seen = lightness(overlay(stripes, np.ones((40, 40), np.float32)))
    assert (seen[:, ::2] - seen[:, 1::2] > 40).all()


def test_colour_means_heat() -> None:
    """What is coloured in the image is muted, and hotter is lighter over black, as in a grey print."""
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    cold = np.asarray(overlay(red, np.zeros((8, 8), np.float32)), np.int64)[0, 0]
    assert cold[0] - cold[1] < 80
    ramp = np.tile(np.linspace(0, 1, 256, dtype=np.float32), (4, 1))
    assert (np.diff(lightness(overlay(np.zeros((4, 256, 3), np.uint8), ramp))[0]) >= -1).all()


def test_the_map_is_stretched_over_an_image_of_any_size() -> None:
    heat = np.zeros((4, 4), np.float32)
    heat[3, 0] = 1
    laid = np.asarray(overlay(Image.new("L", (200, 80), 128), heat), np.int64)
    assert laid.shape == (80, 200, 3)
    assert np.ptp(laid[-1, 0]) > 30
    assert np.ptp(laid[0, -1]) == 0 and np.ptp(laid[0, 0]) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0])
def test_heat_that_is_no_heat_marks_nothing(value: float) -> None:
    assert (np.asarray(overlay(GREY, np.full((40, 40), value, np.float32))) == 128).all()


def test_the_arguments_are_left_alone_and_the_same_gives_the_same() -> None:
    rng = np.random.default_rng(0)
    image, heat = rng.integers(0, 256, (16, 16, 3), np.uint8), rng.random((16, 16), np.float32)
    before = image.copy(), heat.copy()
    first = overlay(image, heat)
    assert np.array_equal(first, overlay(Image.fromarray(image), heat))
    assert np.array_equal(image, before[0]) and np.array_equal(heat, before[1])
