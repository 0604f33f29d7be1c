import io
import struct

import numpy as np
import pytest
from PIL import Image

from fieldmark.runtime.decode import UnreadableImage
from fieldmark.serving.limits import check_image


def saved(kind, frames=1, side=4, **options):
    noise = np.random.default_rng(0)
    first, *others = (Image.fromarray(noise.integers(0, 256, (side, side, 3), np.uint8)) for _ in range(frames))
    stream = io.BytesIO()
    first.save(stream, kind, **({"save_all": True, "append_images": others} if others else {}), **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "WEBP", "PNG", "AVIF"])
def test_frames_are_counted_before_anything_is_decoded(kind):
    assert check_image(saved(kind, 5), 100, 5) == 16
    with pytest.raises(UnreadableImage, match="more frames than the limit of 4"):
        check_image(saved(kind, 5), 100, 4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM"])
def test_pixels_are_read_from_the_header(kind):
    assert check_image(saved(kind, side=10), 100, 1) == 100
    with pytest.raises(UnreadableImage, match="10 x 10 pixels, more than the limit"):
        check_image(saved(kind, side=10), 99, 1)


def test_what_is_no_image_is_said():
    with pytest.raises(UnreadableImage, match="not an image"):
        check_image(b"no image", 100, 1)


def test_a_gif_of_very_many_blocks_is_not_walked_to_its_end():
    """A frame whose data are in blocks of a byte each."""
    head = b"GIF89a" + struct.pack("<2H3B", 4, 4, 0, 0, 0)
    frame = b"\x2c" + struct.pack("<4HB", 0, 0, 4, 4, 0) + b"\x02" + b"\x01\x00" * 3_000_000
    with pytest.raises(UnreadableImage, match="more frames"):
        check_image(head + frame + b"\x00;", 100, 1)


def test_a_gif_that_is_cut_anywhere_is_walked_without_a_failure():
    data = saved("GIF", 3)
    for end in range(13, len(data)):
        try:
            check_image(data[:end], 100, 3)
        except UnreadableImage:
            continue
