"""Images in memory decode to the same pixels as their files, and what could be understood in several ways is refused."""

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image
from PIL.ImageCms import ImageCmsProfile, createProfile

from fieldmark.answering.images import images_in
from fieldmark.answering.in_memory import encoded
from fieldmark.core.errors import InputError
from fieldmark.runtime.decode import decode

SIDES = st.integers(1, 9)


@given(st.tuples(SIDES, SIDES, st.sampled_from((1, 3, 4))).flatmap(lambda shape: arrays(np.uint8, shape)))
def test_an_array_is_decoded_to_itself(array):
    alpha = array[..., 3:].astype(int) if array.shape[2] == 4 else np.full((*array.shape[:2], 1), 255)
    shown = np.broadcast_to(array[..., :3], (*array.shape[:2], 3)).astype(int)
    laid_over_white = shown * alpha / 255 + 255 - alpha
    assert np.abs(decode(encoded(array)) - laid_over_white).max() <= 1
    assert (decode(encoded(array[::-1, ::-1])) == decode(encoded(array))[::-1, ::-1]).all()
    if array.shape[2] == 1:
        assert (decode(encoded(array[..., 0])) == decode(encoded(array))).all()


def saved(image: Image.Image, kind: str, **options) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def drawn(mode: str) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    if mode == "P":
        return Image.fromarray(pixels[..., :3]).quantize(8)
    return Image.fromarray(pixels[..., :3] if mode in ("RGB", "CMYK", "LAB", "YCbCr", "HSV", "1", "L") else pixels).convert(mode)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    "file",
    [
        saved(drawn("RGB"), "PNG"),
        saved(drawn("RGB"), "JPEG"),
        saved(drawn("RGB"), "JPEG", exif=turned()),
        saved(drawn("RGB"), "PNG", exif=turned()),
        saved(drawn("RGB"), "PNG", transparency=tuple(drawn("RGB").getpixel((0, 0)))),
        saved(drawn("RGBA"), "PNG"),
        saved(drawn("LA"), "PNG"),
        saved(drawn("L"), "PNG"),
        saved(drawn("1"), "PNG"),
        saved(drawn("P"), "PNG"),
        saved(drawn("P"), "PNG", transparency=3),
        saved(drawn("P"), "GIF", transparency=2),
        saved(drawn("I;16"), "PNG"),
        saved(drawn("CMYK"), "TIFF"),
        saved(drawn("LAB"), "TIFF"),
    ],
    ids=lambda value: f"{Image.open(io.BytesIO(value)).format} {Image.open(io.BytesIO(value)).mode}",
)
def test_a_picture_is_decoded_as_its_file_is(file):
    picture = Image.open(io.BytesIO(file))
    (from_memory,) = images_in(picture)
    assert (decode(from_memory) == decode(file)).all()


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "La"])
def test_modes_that_no_file_has_are_those_nearest_to_them(mode):
    picture = drawn({"RGBa": "RGBA", "La": "LA", "RGBX": "RGB"}.get(mode, mode)).convert(mode)
    (image,) = images_in(picture)
    assert decode(image).shape == (7, 5, 3)


def test_everything_may_be_given_alone_or_in_a_list(tmp_path):
    picture = drawn("RGB")
    array, file = np.asarray(picture), saved(picture, "PNG")
    (tmp_path / "a.png").write_bytes(file)
    stream = io.BytesIO(file)
    stream.seek(10)
    with (tmp_path / "a.png").open("rb") as opened:
        for each in (picture, array, file, bytearray(file), memoryview(file), stream, opened, tmp_path / "a.png", str(tmp_path / "a.png")):
            (alone,), (listed,), (generated,) = images_in(each), images_in([each]), images_in(each for _ in range(1))
            assert all((decode(image) == array).all() for image in (alone, listed, generated))
    assert stream.tell() == 10
    several = list(images_in([tmp_path, picture, array]))
    assert several[0] == tmp_path / "a.png" and [isinstance(image, bytes) for image in several] == [False, True, True]
    batch = list(images_in(np.stack([array, array[::-1]])))
    assert len(batch) == 2 and (decode(batch[1]) == array[::-1]).all()


def test_a_picture_that_was_only_opened_is_its_file(tmp_path):
    file = saved(Image.effect_noise((64, 48), 90).convert("RGB"), "JPEG", quality=95, exif=turned())
    (tmp_path / "a.jpg").write_bytes(file)
    with Image.open(tmp_path / "a.jpg") as opened, Image.open(io.BytesIO(file)) as other:
        position = opened.fp.tell()
        assert list(images_in([opened, other])) == [file, file]
        assert opened.fp.tell() == position
        assert (np.asarray(opened) == np.asarray(Image.open(io.BytesIO(file)))).all()


@pytest.mark.parametrize(
    "change",
    [
        lambda picture: picture.load(),
        lambda picture: picture.draft("RGB", (8, 6)),
        lambda picture: picture.thumbnail((8, 8)),
        lambda picture: picture.paste((255, 0, 0), (0, 0, 9, 9)),
        lambda picture: picture.info.pop("icc_profile"),
        lambda picture: picture.getexif().pop(0x0112),
    ],
    ids=["loaded", "at a lower resolution", "made smaller", "painted on", "without its profile", "not turned"],
)
def test_a_picture_that_was_read_or_changed_is_its_pixels(change):
    file = saved(
        Image.effect_noise((64, 48), 90).convert("RGB"), "JPEG", exif=turned(), icc_profile=ImageCmsProfile(createProfile("sRGB")).tobytes()
    )
    picture = Image.open(io.BytesIO(file))
    change(picture)
    (image,) = images_in(picture)
    assert image != file
    assert Image.open(io.BytesIO(image)).size == picture.size
    assert (np.asarray(Image.open(io.BytesIO(image))) == np.asarray(picture)).all()


class Tensor:
    """As PyTorch's: it can make an array of itself."""

    def __array__(self, dtype=None, copy=None):
        return np.zeros((3, 4, 4), np.float32)


@pytest.mark.parametrize(
    ("image", "problem", "remedy"),
    [
        (np.zeros((4, 4, 3)), "an array of float64, whose range is unknown", "(255 * array).round().astype(numpy.uint8)"),
        (np.zeros((4, 4, 3), np.int64), "an array of int64", "uint8"),
        (np.zeros((4, 4), np.uint16), "an array of uint16", "uint8"),
        (np.zeros((4, 4), bool), "an array of bool", "uint8"),
        (np.zeros((3, 40, 50), np.uint8), "an array of the shape (3, 40, 50), with the channels first", "array.transpose(1, 2, 0)"),
        (np.zeros((6, 40, 50), np.uint8), "an array of the shape (6, 40, 50)", "(height, width, 3) in the order red, green, blue"),
        (np.zeros((5, 4, 2), np.uint8), "an array of the shape (5, 4, 2)", "(height, width, 4) with alpha"),
        (np.zeros(12, np.uint8), "an array of the shape (12)", "(height, width, 3)"),
        (np.zeros((0, 4, 3), np.uint8), "an array without pixels", "Leave it out"),
        (np.array(["a.jpg", "b.jpg"]), "an array of <U5", "array.tolist()"),
        (np.array("a.jpg"), "an array of <U5", "array.item()"),
        (np.array(3.0), "an array of the shape ()", "(height, width, 3)"),
        (np.zeros((4, 4, 3), object), "an array of object of the shape (4, 4, 3)", "array.astype(numpy.uint8)"),
        (Image.new("F", (4, 4)), "a PIL image of mode F, whose range is unknown", "8 bits"),
        (Image.new("I", (4, 4)), "a PIL image of mode I, whose range is unknown", "8 bits"),
        (Image.new("RGB", (0, 4)), "a PIL image without pixels", "Leave it out"),
        (io.StringIO("text"), "a file that is open for reading text", 'open(path, "rb")'),
        (Tensor(), "a tensor", "tensor.permute(1, 2, 0).numpy()"),
        (3, "3 (int)", "NumPy arrays"),
        (None, "None", "NumPy arrays"),
        ({"image": b""}, "a dict", "NumPy arrays"),
    ],
)
def test_what_is_ambiguous_is_refused_with_the_remedy(image, problem, remedy):
    with pytest.raises(InputError) as error:
        images_in([b"", image])
    assert f"image 2 is {problem}" in str(error.value)
    assert remedy in error.value.hint


def test_a_file_that_was_closed_and_a_picture_that_is_cut_are_refused(tmp_path):
    stream = io.BytesIO()
    stream.close()
    with pytest.raises(InputError, match="image 1 is an open file that cannot be read"):
        images_in(stream)
    with pytest.raises(InputError, match="image 1 is a PIL image that cannot be read"):
        images_in(Image.open(io.BytesIO(saved(Image.effect_noise((99, 99), 90), "PNG")[:3000])))


def test_no_images_at_all():
    with pytest.raises(InputError, match="no images are named"):
        images_in([])


def test_a_batch_with_the_channels_first_has_a_remedy_that_works():
    batch = np.zeros((5, 3, 40, 50), np.uint8)
    with pytest.raises(InputError, match=r"shape \(5, 3, 40, 50\), with the channels first\n.*array.transpose\(0, 2, 3, 1\)"):
        images_in(batch)
    assert len(list(images_in(batch.transpose(0, 2, 3, 1)))) == 5
