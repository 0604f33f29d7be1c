from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fieldmark.datasets.regions import seen_regions
from fieldmark.runtime.decode import UnreadableImage, open_rgb
from fieldmark.runtime.preprocess import Preprocess, grown, square

WIDTH, HEIGHT = 300, 200


def boxes_in(width: int, height: int) -> st.SearchStrategy[list[float]]:
    def ordered(corners: tuple[float, float, float, float]) -> list[float]:
        left, right = sorted((corners[0] * (width - 2), corners[1] * (width - 2)))
        top, bottom = sorted((corners[2] * (height - 2), corners[3] * (height - 2)))
        return [left, top, right + 2, bottom + 2]

    return st.tuples(*[st.floats(0, 1)] * 4).map(ordered)


@given(boxes_in(WIDTH, HEIGHT), st.floats(0, 1))
def test_a_margin_grows_a_box_within_its_image(box, margin):
    region = grown(np.array([box]), margin, np.array([WIDTH]), np.array([HEIGHT]))[0]
    left, top, right, bottom = box
    assert region[0] == pytest.approx(max(0, left - margin * (right - left)))
    assert region[3] == pytest.approx(min(HEIGHT, bottom + margin * (bottom - top)))
    assert 0 <= region[0] <= left and right <= region[2] <= WIDTH


def test_images_without_a_box_are_seen_whole_and_banners_never():
    boxes = np.array([[10, 20, 30, 40], [np.nan] * 4], np.float32)
    sides = np.array([100, 100]), np.array([80, 60])
    assert seen_regions(boxes, *sides, 0.5).tolist() == [[0, 10, 40, 50], [0, 0, 100, 60]]
    assert seen_regions(boxes, *sides, None).tolist() == [[0, 0, 100, 80], [0, 0, 100, 60]]
    assert seen_regions(None, *sides, 0.5).tolist() == [[0, 0, 100, 80], [0, 0, 100, 60]]


def encoded(kind: str, **options: object) -> bytes:
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    image = np.stack([x * 255 // WIDTH, y * 255 // HEIGHT, (x + y) % 256], axis=-1).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF"])
def test_a_region_is_of_the_upright_image(kind, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(kind, exif=exif)
    whole = open_rgb(data)
    region = (20, 30, 90, 110)
    assert open_rgb(data, region=region).tobytes() == whole.crop(region).tobytes()


def test_a_reduced_jpeg_keeps_enough_pixels_of_the_region():
    y, x = np.mgrid[:1600, :2400]
    stream = io.BytesIO()
    smooth = np.stack([x * 255 / 2400, y * 255 / 1600, (x + y) * 255 / 4000], axis=-1).astype(np.uint8)
    Image.fromarray(smooth).save(stream, "JPEG", quality=95)
    data = stream.getvalue()
    small, large = (200, 300, 440, 540), (100, 100, 2200, 1500)
    assert open_rgb(data, at_least=224, region=small).size == (240, 240)
    width, height = open_rgb(data, at_least=224, region=large).size
    assert min(width, height) >= 224 and width < 2100 / 3
    for region in (small, large):
        expected = Image.fromarray(smooth).crop(region).resize((64, 64), Image.Resampling.BILINEAR)
        difference = square(data, 64, "squash", region=region).transpose(1, 2, 0).astype(float) - np.asarray(expected, float)
        assert np.abs(difference).mean() < 2


def test_prediction_crops_as_training_does():
    data = encoded("PNG")
    preprocess = Preprocess(32, "squash", (0, 0, 0), (1, 1, 1), margin=0.25)
    expected = square(data, 32, "squash", region=(80, 40, 200, 160))
    assert (preprocess.pixels(data, box=(100, 60, 180, 140)) == expected).all()
    assert (preprocess.pixels(data) == square(data, 32, "squash")).all()
    with pytest.raises(UnreadableImage, match="its box holds less than a pixel of it"):
        preprocess.pixels(data, "x", box=(400, 60, 480, 140))


def test_boxes_are_of_another_decoder(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded("PNG"))
    with Image.open(file) as image:
        expected = np.asarray(image.crop((50, 60, 90, 120)).resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert (square(file, 16, "squash", region=[50.2, 59.8, 90.1, 119.9]) == expected).all()
