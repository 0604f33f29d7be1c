from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fieldmark.batches.geometry import DRAWS, Frame, random_matrices, view_matrices
from fieldmark.core.schema import Augment, BoxCrop, NoCrop, WholeImage
from fieldmark.datasets.regions import seen_regions, tile_margin_of, windows
from fieldmark.runtime.decode import UnreadableImage, open_rgb
from fieldmark.runtime.preprocess import Preprocess, grown, square

WIDTH, HEIGHT = 300, 200
STILL = Augment(crop=NoCrop(), flip=0.0)


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


@given(boxes_in(WIDTH, HEIGHT), st.floats(0, 0.5), st.floats(0.01, 0.5), st.sampled_from(["squash", "shorter-side", "letterbox"]))
def test_a_tile_with_jitter_still_shows_the_box_in_evaluation(box, margin, jitter, resize):
    """The evaluation view through the larger tile looks at the same pixels as the crop alone."""
    crop = BoxCrop(margin=margin, jitter=jitter)
    sides = np.array([WIDTH]), np.array([HEIGHT])
    seen = seen_regions(np.array([box], np.float32), *sides, margin)
    tile = seen_regions(np.array([box], np.float32), *sides, tile_margin_of(crop))
    width, height = seen[0, 2:] - seen[0, :2]
    direct = view_matrices(Frame.of(resize, [width], [height]))[0]
    through = view_matrices(Frame.of(resize, [width], [height], windows(tile, seen, crop)))[0]
    for corner in ([-1, -1, 1], [1, -1, 1], [0.3, 0.7, 1]):
        in_crop, in_tile = (direct @ corner)[:2], (through @ corner)[:2]
        from_crop = seen[0, :2] + (in_crop + 1) / 2 * [width, height]
        from_tile = tile[0, :2] + (in_tile + 1) / 2 * (tile[0, 2:] - tile[0, :2])
        np.testing.assert_allclose(from_tile, from_crop, atol=1e-3)


def test_jitter_moves_each_edge_by_up_to_its_share_and_stays_on_the_tile():
    box = np.tile(np.array([[100, 50, 200, 150]], np.float32), (4000, 1))
    crop = BoxCrop(margin=0.1, jitter=0.2)
    sides = np.full(4000, WIDTH), np.full(4000, HEIGHT)
    seen, tile = seen_regions(box, *sides, 0.1), seen_regions(box, *sides, tile_margin_of(crop))
    frame = Frame.of("squash", *(seen[:, 2:] - seen[:, :2]).T, windows(tile, seen, crop))
    draws = np.random.default_rng(0).random((4000, DRAWS))
    matrices = random_matrices(STILL, frame, draws)
    corners = matrices @ np.array([[-1, 1], [-1, 1], [1, 1]])
    np.testing.assert_allclose(tile[0], [70, 20, 230, 180])
    edges = tile[:, :2, None] + (corners[:, :2] + 1) / 2 * 160
    moves = edges - np.array([[90, 210], [40, 160]])
    assert np.abs(moves).max() <= 20 + 1e-6 and np.abs(moves).max() > 19.9
    np.testing.assert_allclose(moves.mean(axis=0), 0, atol=0.7)
    assert np.abs(np.corrcoef(moves.reshape(4000, 4).T) - np.eye(4)).max() < 0.06


def test_without_jitter_or_box_nothing_moves():
    seen = np.array([[0.0, 0, 10, 10]])
    assert windows(seen, seen, WholeImage()) is None and windows(seen, seen, BoxCrop(margin=0.3)) is None
    assert windows(seen, seen, BoxCrop(jitter=0.3)).reach.tolist() == [[0, 0]]


def test_boxes_are_of_another_decoder(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded("PNG"))
    with Image.open(file) as image:
        expected = np.asarray(image.crop((50, 60, 90, 120)).resize((16, 16), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert (square(file, 16, "squash", region=[50.2, 59.8, 90.1, 119.9]) == expected).all()
