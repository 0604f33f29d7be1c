from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torchvision.transforms import v2

from fieldmark.runtime.decode import UnreadableImage
from fieldmark.runtime.preprocess import Preprocess, Resize

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def preprocess(size: int, resize: Resize) -> Preprocess:
    return Preprocess(size, resize, MEAN, STD)


def bilinear(pixels: np.ndarray, size: int) -> Any:
    """Antialiased bilinear resampling in floating point: a triangle as wide as the scale, written as a matrix per axis."""

    def weights(length: int) -> Any:
        scale = max(length / size, 1)
        centres = (np.arange(size)[:, None] + 0.5) * length / size
        triangle = np.clip(1 - np.abs(np.arange(length) + 0.5 - centres) / scale, 0, None)
        return triangle / triangle.sum(1, keepdims=True)

    return np.einsum("yh,xw,hwc->cyx", weights(pixels.shape[0]), weights(pixels.shape[1]), pixels.astype(float))


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 64), st.integers(0, 9))
def test_squash_is_antialiased_bilinear(width: int, height: int, size: int, seed: int) -> None:
    pixels = noise(width, height, seed)
    tile = preprocess(size, "squash").pixels(png(pixels))
    assert tile.shape == (3, size, size) and tile.dtype == np.uint8 and tile.flags.c_contiguous
    assert np.abs(tile - bilinear(pixels, size)).max() < 1.6


def test_squash_agrees_with_torchvision() -> None:
    pixels = noise(150, 90)
    theirs = v2.Resize((64, 64), antialias=True)(torch.from_numpy(pixels).permute(2, 0, 1))
    assert np.abs(preprocess(64, "squash").pixels(png(pixels)).astype(int) - theirs.numpy()).max() <= 1


@pytest.mark.parametrize("width, height", [(150, 90), (90, 150), (90, 90), (151, 90)])
def test_shorter_side_cuts_the_middle_square(width: int, height: int) -> None:
    pixels = np.array(Image.fromarray(noise(9, 9)).resize((width, height), Image.Resampling.BICUBIC))
    tile = preprocess(60, "shorter-side").pixels(png(pixels)).astype(int)
    theirs = v2.Compose([v2.Resize(60, antialias=True), v2.CenterCrop(60)])(torch.from_numpy(pixels).permute(2, 0, 1)).numpy()
    assert np.abs(tile - theirs).mean() < (0.5 if (width + height) % 2 == 0 else 2)


@pytest.mark.parametrize("width, height", [(150, 90), (90, 150), (1000, 3), (7, 7)])
def test_letterbox_keeps_the_whole_image_and_its_shape(width: int, height: int) -> None:
    pixels = np.full((height, width, 3), (250, 10, 60), np.uint8)
    tile = preprocess(50, "letterbox").pixels(png(pixels))
    inside = (tile == np.array([250, 10, 60])[:, None, None]).all(0)
    bars = (tile == 128).all(0)
    assert (inside ^ bars).all()
    fitted = (max(1, round(50 * height / max(width, height))), max(1, round(50 * width / max(width, height))))
    assert (inside.any(1).sum(), inside.any(0).sum()) == fitted
    top, left = np.argwhere(inside).min(0)
    assert abs(2 * top + fitted[0] - 50) <= 1 and abs(2 * left + fitted[1] - 50) <= 1


def test_drafted_jpegs_stay_close_to_the_full_decode() -> None:
    smooth = Image.fromarray(noise(40, 30)).resize((800, 600), Image.Resampling.BICUBIC)
    stream = io.BytesIO()
    smooth.save(stream, "JPEG", quality=95)
    drafted = preprocess(128, "squash").pixels(stream.getvalue()).astype(int)
    full = np.asarray(Image.open(stream).convert("RGB").resize((128, 128), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    assert 0 < np.abs(drafted - full).mean() < 2


def test_a_view_is_all_but_the_normalisation() -> None:
    original = preprocess(16, "letterbox")
    other = Preprocess(16, "letterbox", (0.5, 0.5, 0.5), STD)
    assert original.view == other.view != original and original.view != preprocess(17, "letterbox").view
    image = png(noise(20, 30))
    np.testing.assert_array_equal(original.view.pixels(image), original.pixels(image))


def test_dictionary_there_and_back() -> None:
    original = preprocess(224, "letterbox")
    assert Preprocess.from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match=r"^kea: the file is empty$"):
        preprocess(8, "squash").pixels(b"", "kea")


def test_runtime_needs_no_torch() -> None:
    code = "import sys, fieldmark.runtime.preprocess; print([m for m in ('torch', 'torchvision', 'timm', 'pyarrow') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
