from __future__ import annotations

import hashlib
import io
import math
import subprocess
import sys
import tracemalloc
from functools import cache

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from fieldmark.core.errors import InputError
from fieldmark.datasets.birds.scene import individual, photograph
from fieldmark.datasets.birds.species import SPECIES
from fieldmark.datasets.corruptions import CORRUPTIONS, SEVERITIES, all_corruptions, corrupt, parse

FIXED = {"gaussian-blur", "defocus-blur", "jpeg", "pixelate", "underexposure", "overexposure", "contrast"}
every_corruption = pytest.mark.parametrize("name", CORRUPTIONS)
every_severity = pytest.mark.parametrize("severity", SEVERITIES)


@cache
def bird(key: int, side: int) -> np.ndarray:
    return np.asarray(photograph(individual(SPECIES[key % len(SPECIES)].look, key), side, key).image)


def smooth(key: int, height: int, width: int) -> np.ndarray:
    """Random colours that change over about a fifth of the image."""
    coarse = np.random.default_rng(key).integers(0, 256, (5, 5, 3)).astype(np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def plain(colour: tuple[int, int, int], height: int = 32, width: int = 32) -> np.ndarray:
    return np.full((height, width, 3), colour, np.uint8)


def parameter(name: str, severity: int) -> float:
    return CORRUPTIONS[name].parameters[SEVERITIES.index(severity)]


def squared_error(one: np.ndarray, other: np.ndarray) -> float:
    return float(((one.astype(np.float64) - other) ** 2).mean())


def test_families():
    assert {corruption.family for corruption in CORRUPTIONS.values()} == {"noise", "blur", "digital", "weather", "exposure"}
    assert all(name == corruption.name for name, corruption in CORRUPTIONS.items())


@every_corruption
@pytest.mark.parametrize("shape", [(16, 16), (32, 48), (97, 33), (1, 1), (1, 40), (3, 2), (16, 600)])
def test_any_size_keeps_type_and_shape_and_the_image_given(name, shape):
    image = smooth(1, *shape)
    before = image.copy()
    for severity in SEVERITIES:
        corrupted = corrupt(image, name, severity, 3)
        assert corrupted.dtype == np.uint8 and corrupted.shape == image.shape and corrupted.flags.writeable
        assert not np.shares_memory(corrupted, image)
        assert (corrupt(image, name, severity, 3) == corrupted).all()
    assert (image == before).all()


@every_corruption
def test_the_arrangement_in_memory_does_not_matter(name):
    image = smooth(2, 40, 30)
    for same in (image[:, ::-1].copy()[:, ::-1], np.asfortranarray(image)):
        assert (corrupt(same, name, 3, 1) == corrupt(image, name, 3, 1)).all()


@every_corruption
def test_the_seed_decides_where_there_is_chance_and_only_there(name):
    image = bird(3, 64)
    assert (corrupt(image, name, 3, 1) == corrupt(image, name, 3, 2)).all() == (name in FIXED)


@every_corruption
@given(key=st.integers(0, 10**6), seed=st.integers(0, 2**62), side=st.sampled_from([32, 48, 75, 112]))
@settings(max_examples=15)
def test_birds_lose_more_the_higher_the_severity(name, key, seed, side):
    image = bird(key, side)
    errors = [0.0, *(squared_error(corrupt(image, name, severity, seed), image) for severity in SEVERITIES)]
    assert (np.diff(errors) > 0).all(), errors


@every_corruption
@given(key=st.integers(0, 10**6), seed=st.integers(0, 2**62), height=st.integers(48, 150), width=st.integers(48, 150))
@settings(max_examples=15)
def test_smooth_images_lose_more_the_higher_the_severity(name, key, seed, height, width):
    image = smooth(key, height, width)
    errors = [0.0, *(squared_error(corrupt(image, name, severity, seed), image) for severity in SEVERITIES)]
    assert (np.diff(errors) >= 0).all() and errors[5] > errors[1], errors


@every_corruption
def test_large_images_lose_more_the_higher_the_severity(name):
    image = bird(5, 448)
    errors = [0.0, *(squared_error(corrupt(image, name, severity, 2), image) for severity in SEVERITIES)]
    assert (np.diff(errors) > 0).all(), errors


@pytest.mark.parametrize("name", [name for name, corruption in CORRUPTIONS.items() if corruption.family != "noise"])
def test_a_scene_loses_about_as_much_at_every_size(name):
    """Severity 4, on average over scenes, relative to a side of 224. What is per pixel (noise) is tested below."""
    large = [bird(key, 448) for key in range(6)]
    lost = {}
    for side in (64, 224, 448):
        images = [np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BOX)) for image in large]
        lost[side] = math.sqrt(np.mean([squared_error(corrupt(image, name, 4, 1), image) for image in images]))
    assert all(0.6 < lost[side] / lost[224] < 1.7 for side in (64, 448)), lost


# Images of one colour


@every_severity
@given(colour=st.tuples(*[st.integers(0, 255)] * 3))
@settings(max_examples=15)
def test_jpeg_of_one_colour_is_one_colour_near_it(severity, colour):
    seen = corrupt(plain(colour, 50, 40), "jpeg", severity, 0)
    assert (seen == seen[0, 0]).all()
    assert np.abs(seen[0, 0] - np.array(colour, np.int16)).max() < 16


@every_severity
@pytest.mark.parametrize("name", ["gaussian-blur", "defocus-blur", "motion-blur", "pixelate"])
@given(colour=st.tuples(*[st.integers(0, 255)] * 3), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=15)
def test_one_colour_has_nothing_to_blur(name, severity, colour, height, width):
    image = plain(colour, height, width)
    assert (corrupt(image, name, severity, 0) == image).all()


@every_severity
def test_black_and_white_where_nothing_can_happen(severity):
    black, white = plain((0, 0, 0)), plain((255, 255, 255))
    for name in ("shot-noise", "underexposure", "overexposure", "contrast"):
        assert (corrupt(black, name, severity, 0) == black).all(), name
    for name in ("overexposure", "contrast"):
        assert (corrupt(white, name, severity, 0) == white).all(), name
    grey = plain((93, 93, 93))
    assert (corrupt(grey, "contrast", severity, 0) == grey).all()


# Noise

GREY = plain((128, 128, 128), 224, 224)


@every_severity
@pytest.mark.parametrize(("side", "power"), [(224, 1.0), (112, 0.5), (448, 2.0)])
def test_gaussian_noise_has_its_deviation(severity, side, power):
    """Clipping makes it a little smaller where it is strong."""
    image = plain((128, 128, 128), side, side)
    seen = (corrupt(image, "gaussian-noise", severity, 1) / 255.0).std()
    expected = parameter("gaussian-noise", severity) * math.sqrt(power)
    assert expected * (0.85 if expected > 0.18 else 0.98) < seen < expected * 1.02


@every_severity
@pytest.mark.parametrize("side", [112, 224])
def test_shot_noise_counts_photons(severity, side):
    """The variance of a count is its mean."""
    photons = parameter("shot-noise", severity) * 224 / side
    counts = corrupt(plain((60, 60, 60), side, side), "shot-noise", severity, 1) * (photons / 255)
    assert counts.mean() == pytest.approx(60 / 255 * photons, rel=0.01)
    assert counts.var() == pytest.approx(counts.mean(), rel=0.03)


@every_severity
@pytest.mark.parametrize(("side", "squares"), [(224, 1), (448, 2)])
def test_impulse_noise_hits_its_share_as_often_dark_as_light(severity, side, squares):
    share = 1 - (1 - parameter("impulse-noise", severity)) ** squares
    seen = corrupt(plain((128, 128, 128), side, side), "impulse-noise", severity, 1)
    assert set(np.unique(seen)) == {0, 128, 255}
    assert (seen == 0).mean() == pytest.approx(share / 2, rel=0.06) and (seen == 255).mean() == pytest.approx(share / 2, rel=0.06)


def test_a_stronger_noise_is_the_same_noise():
    weak, strong = (corrupt(GREY, "impulse-noise", severity, 1) for severity in (2, 4))
    assert (strong[weak != 128] == weak[weak != 128]).all()
    weak, strong = (corrupt(GREY, "gaussian-noise", severity, 1).ravel() - 128.0 for severity in (1, 2))
    assert np.corrcoef(weak, strong)[0, 1] > 0.99


# Blur


@every_severity
@pytest.mark.parametrize("side", [64, 224])
def test_gaussian_blur_agrees_with_scipy(severity, side):
    image = bird(7, side)
    width = 1 + (parameter("gaussian-blur", severity) - 1) * side / 224
    expected = ndimage.gaussian_filter(image.astype(np.float64), (width / math.sqrt(12),) * 2 + (0,), mode="nearest")
    seen = corrupt(image, "gaussian-blur", severity, 0)
    assert np.abs(seen - expected).mean() < 1 and np.abs(seen - expected).max() < 8


@every_severity
def test_defocus_blur_is_the_mean_over_a_disc(severity):
    """The disc is drawn anew here, from 15 x 15 points per pixel."""
    image = bird(7, 224)
    radius = parameter("defocus-blur", severity) / 2
    reach = math.ceil(radius)
    points = (np.arange((2 * reach + 1) * 15) + 0.5) / 15 - reach - 0.5
    inside = points[:, None] ** 2 + points**2 <= radius**2
    disc = inside.reshape(2 * reach + 1, 15, 2 * reach + 1, 15).mean(axis=(1, 3))
    expected = ndimage.convolve(image.astype(np.float64), (disc / disc.sum())[..., None], mode="reflect")
    seen = corrupt(image, "defocus-blur", severity, 0)
    assert np.abs(seen - expected).mean() < 0.6 and np.abs(seen - expected).max() < 6


@every_severity
@pytest.mark.parametrize("seed", range(4))
def test_motion_blur_draws_a_point_out_to_a_line(severity, seed):
    """Of the length said: the variance along a line is a twelfth of its squared length."""
    image = plain((0, 0, 0), 224, 224)
    image[110:113, 110:113] = 255
    seen = corrupt(image, "motion-blur", severity, seed)[..., 0].astype(np.float64)
    assert seen.sum() == pytest.approx(9 * 255, rel=0.03)
    offsets = np.mgrid[:224, :224] - 111.0
    spread = np.einsum("ihw,jhw,hw->ij", offsets, offsets, seen) / seen.sum()
    across, along = np.linalg.eigvalsh(spread)
    assert math.sqrt(12 * (along - across)) == pytest.approx(parameter("motion-blur", severity), rel=0.1, abs=0.7)
    assert across < 1.1


def test_motion_has_one_direction_at_all_severities_and_another_with_another_seed():
    def direction(severity: int, seed: int) -> float:
        image = plain((0, 0, 0), 224, 224)
        image[110:113, 110:113] = 255
        seen = corrupt(image, "motion-blur", severity, seed)[..., 0]
        offsets = np.mgrid[:224, :224] - 111.0
        down, right = np.linalg.eigh(np.einsum("ihw,jhw,hw->ij", offsets, offsets, seen))[1][:, 1]
        return math.atan2(down, right) % math.pi

    directions = [direction(5, seed) for seed in range(12)]
    assert direction(2, 0) == pytest.approx(directions[0], abs=0.05)
    assert max(directions) - min(directions) > 1.5


# Digital


@every_severity
def test_jpeg_is_what_pillow_writes_at_that_quality(severity):
    image = bird(9, 224)
    file = io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", quality=parameter("jpeg", severity), subsampling=2)
    assert (corrupt(image, "jpeg", severity, 0) == np.asarray(Image.open(file))).all()


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_jpeg_scales_the_quantisation_with_the_side(severity):
    """The tables of half the side are half as large."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "JPEG", quality=parameter("jpeg", severity))
    tables = {number: [max(round(value / 2), 1) for value in table] for number, table in Image.open(file).quantization.items()}
    image, file = bird(9, 112), io.BytesIO()
    Image.fromarray(image).save(file, "JPEG", qtables=tables, subsampling=2)
    seen, expected = (squared_error(each, image) for each in (corrupt(image, "jpeg", severity, 0), np.asarray(Image.open(file))))
    assert seen == pytest.approx(expected, rel=0.15)


@pytest.mark.parametrize(("severity", "cell"), [(1, 2), (3, 4), (5, 8)])
def test_pixelate_makes_cells_of_their_mean(severity, cell):
    image = bird(9, 224)
    assert parameter("pixelate", severity) == cell
    means = image.reshape(224 // cell, cell, 224 // cell, cell, 3).mean(axis=(1, 3))
    assert np.abs(corrupt(image, "pixelate", severity, 0) - means.repeat(cell, 0).repeat(cell, 1)).max() <= 1


# Weather


def veil(name: str, severity: int, seed: int = 1, side: int = 224) -> np.ndarray:
    """What a corruption adds to black, as grey levels: float64 (side, side)."""
    return corrupt(plain((0, 0, 0), side, side), name, severity, seed).mean(axis=2)


def test_fog_lies_in_soft_banks():
    for seed in range(5):
        fog = veil("fog", 3, seed)
        assert fog.min() > 5 and fog.std() > 10
        assert np.abs(np.diff(fog, axis=0)).mean() < 2 and np.abs(np.diff(fog, axis=1)).mean() < 2
        distant = np.abs(fog[:, 112:] - fog[:, :112]).mean()
        assert distant > 8 * np.abs(np.diff(fog, axis=1)).mean()


@pytest.mark.parametrize("seed", range(5))
def test_rain_falls_in_thin_streaks_of_one_slant(seed):
    """Read from the gradients: their main direction is across the streaks, and it is much stronger than the other."""
    down, right = np.gradient(veil("rain", 3, seed))
    weak, strong = np.linalg.eigvalsh([[(down**2).mean(), (down * right).mean()], [(down * right).mean(), (right**2).mean()]])
    assert strong > 3 * weak
    assert (right**2).mean() > (down**2).mean(), "it falls down, not sideways"


@pytest.mark.parametrize("seed", range(5))
def test_snow_falls_in_flakes(seed):
    """Bright spots of several sizes, about as long as they are wide."""
    snow = veil("snow", 2, seed)
    spots, count = ndimage.label(snow > snow.min() + 60)
    places = ndimage.find_objects(spots)
    heights, widths = ([place[axis].stop - place[axis].start for place in places] for axis in (0, 1))
    assert 60 < count < 500
    assert 1 < np.mean(heights) < 8 and 1 < np.mean(widths) < 8
    assert max(heights) >= 8


@pytest.mark.parametrize("name", ["fog", "rain", "snow"])
def test_worse_weather_is_more_of_the_same(name):
    for low, high in ((1, 2), (2, 3), (3, 4), (4, 5)):
        assert (veil(name, high) >= veil(name, low) - 1).all()
    weak, strong = veil(name, 1).ravel(), veil(name, 2).ravel()
    assert np.corrcoef(weak, strong)[0, 1] > 0.6


@pytest.mark.parametrize("name", ["rain", "snow"])
def test_strokes_cover_as_much_of_a_small_image_and_stay_visible(name):
    for seed in range(3):
        small, large = veil(name, 4, seed, 32), veil(name, 4, seed, 224)
        assert small.mean() == pytest.approx(large.mean(), rel=0.12)
        assert small.std() > 0.4 * large.std()


def test_a_long_strip_takes_little_memory():
    strip = plain((0, 0, 0), 2, 20_000)
    corrupt(strip, "fog", 1, 0)
    tracemalloc.start()
    for name in ("fog", "rain", "snow", "pixelate", "motion-blur"):
        corrupt(strip, name, 5, 0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60 * strip.nbytes


# Exposure


def test_exposure_is_in_stops_of_linear_light():
    """Half the light of white is 188 in sRGB, a quarter 137; dark greys have a linear part."""
    assert (corrupt(plain((255, 255, 255)), "underexposure", 1, 0) == 188).all()
    assert parameter("underexposure", 1) == -1 and parameter("overexposure", 3) == 1
    assert (corrupt(plain((137, 137, 137)), "overexposure", 3, 0) == 188).all()
    assert (corrupt(plain((188, 137, 200)), "overexposure", 3, 0) == (255, 188, 255)).all()
    assert (corrupt(plain((4, 4, 4)), "overexposure", 3, 0) == 8).all()


@every_severity
def test_contrast_draws_values_to_the_mean(severity):
    image = bird(4, 64)
    seen = corrupt(image, "contrast", severity, 0)
    assert seen.mean() == pytest.approx(image.mean(), abs=0.5)
    assert seen.std() == pytest.approx(image.std() * parameter("contrast", severity), rel=0.05)


# The same everywhere


def test_what_uses_neither_a_transform_nor_a_codec_is_the_same_on_every_machine():
    """Where this fails after a change, robustness figures can no longer be compared with those before."""
    image = smooth(0, 40, 56)
    digest = hashlib.sha256()
    for name in ("gaussian-noise", "impulse-noise", "pixelate", "underexposure", "overexposure", "contrast"):
        digest.update(corrupt(image, name, 3, 5).tobytes())
    assert digest.hexdigest() == "bb0ba36304ac8d37a8155316375bcd68e7b826b1b381af2eb74f1c439a37469a"


def test_importing_it_loads_no_scipy():
    code = "import sys, fieldmark.datasets.corruptions; sys.exit(any(name in sys.modules for name in ('scipy', 'torch')))"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


# Names


def test_parse():
    assert parse("gaussian-noise:3") == ("gaussian-noise", 3)
    assert parse(" fog:1 ") == ("fog", 1)


KNOWN = f"The corruptions are {', '.join(CORRUPTIONS)}."


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("gaussian_noise:3", f"there is no corruption called 'gaussian_noise'; did you mean gaussian-noise?\n{KNOWN}"),
        ("JPEG:3", f"there is no corruption called 'JPEG'; did you mean jpeg?\n{KNOWN}"),
        ("fog", "fog has no severity\nWrite fog:1 (mild) to fog:5 (strong)."),
        ("fogg", f"there is no corruption called 'fogg'; did you mean fog?\n{KNOWN}"),
        ("fog:6", "there is no severity '6'\nThe severities are 1 (mild) to 5 (strong)."),
        ("fog:", "there is no severity ''\nThe severities are 1 (mild) to 5 (strong)."),
        ("fog:2.5", "there is no severity '2.5'\nThe severities are 1 (mild) to 5 (strong)."),
        ("fog:٣", "there is no severity '٣'\nThe severities are 1 (mild) to 5 (strong)."),
        (
            "rian:0",
            "there is no corruption called 'rian'; did you mean rain?\nthere is no severity '0'\n"
            f"{KNOWN} The severities are 1 (mild) to 5 (strong).",
        ),
    ],
)
def test_parse_says_what_is_wrong(text, said):
    with pytest.raises(InputError) as caught:
        parse(text)
    assert str(caught.value) == said


def test_a_name_like_no_other_gets_the_list():
    with pytest.raises(InputError, match="The corruptions are gaussian-noise, shot-noise, "):
        corrupt(GREY, "", 3, 0)


@pytest.mark.parametrize("severity", [0, 6, -1])
def test_corrupt_refuses_other_severities(severity):
    with pytest.raises(InputError, match=f"there is no severity {severity}"):
        corrupt(GREY, "fog", severity, 0)


@given(st.text())
@example("fog:1:2")
def test_parse_answers_any_text_with_a_corruption_or_an_input_error(text):
    try:
        name, severity = parse(text)
    except InputError:
        return
    assert name in CORRUPTIONS and severity in SEVERITIES


@pytest.mark.parametrize(("text", "severities"), [("none", ()), ("fog:3", ()), ("all", (1, 2, 3, 4, 5)), ("all:1", (1,)), ("all:5", (5,))])
def test_the_severities_that_are_asked_for(text: str, severities: tuple[int, ...]) -> None:
    assert all_corruptions(text) == severities


@pytest.mark.parametrize("text", ["all:0", "all:6", "all:x", "all:-1", "all:1:2"])
def test_there_is_no_such_severity(text: str) -> None:
    with pytest.raises(InputError, match="there is no severity"):
        all_corruptions(text)
