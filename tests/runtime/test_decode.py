from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from fieldmark.runtime.decode import IMAGE_EXTENSIONS, PIXEL_LIMIT, UnreadableImage, decode, dimensions, open_rgb
from fieldmark.runtime.jpeg_end import MISSING_END
from fieldmark.runtime.modes import DARK


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def image(width: int = 48, height: int = 32) -> Image.Image:
    """Smooth, and unlike itself under every turn and flip."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 255 * x * y / (width * height)], -1).astype(np.uint8))


def reason(data: bytes | Path) -> str:
    with pytest.raises(UnreadableImage) as caught:
        decode(data, "a.jpg")
    assert str(caught.value) == f"a.jpg: {caught.value.reason}"
    assert caught.value.path == "a.jpg"
    return caught.value.reason


@pytest.mark.parametrize("kind", ["PNG", "BMP", "PPM", "TIFF", "WEBP"])
def test_lossless_formats_come_back_exactly(kind: str) -> None:
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    pixels = decode(encoded(image(), kind, **options))
    assert pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, np.asarray(image()))


def test_jpeg_equals_pillow() -> None:
    data = encoded(image(), "JPEG")
    np.testing.assert_array_equal(decode(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(image(), kind, exif=exif, **options)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
    pixels = decode(data)
    np.testing.assert_array_equal(pixels, expected)
    assert dimensions(data, "a") == (pixels.shape[1], pixels.shape[0]) == ((32, 48) if orientation > 4 else (48, 32))


def test_orientation_after_the_pixels_of_a_png() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(image(), "PNG")
    body = b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    late = data[:-12] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + data[-12:]
    assert decode(late).shape == (48, 32, 3)
    assert dimensions(late, "a") == (32, 48)


def test_damaged_exif_is_not_a_damaged_image() -> None:
    data = encoded(image(), "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).shape == (32, 48, 3)
    assert dimensions(data, "a") == (48, 32)


def test_dimensions_read_no_pixels() -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    for kind in ("JPEG", "PNG"):
        data = encoded(noise, kind)
        assert dimensions(data[: len(data) // 2], "a") == (64, 64)


def test_grey_palette_and_bilevel() -> None:
    grey = image().convert("L")
    np.testing.assert_array_equal(decode(encoded(grey, "PNG")), np.repeat(np.asarray(grey)[..., None], 3, -1))
    palette = image().quantize(16)
    np.testing.assert_array_equal(decode(encoded(palette, "PNG")), np.asarray(palette.convert("RGB")))
    bilevel = Image.fromarray(np.eye(8, dtype=bool))
    np.testing.assert_array_equal(decode(encoded(bilevel, "PNG"))[..., 0], np.eye(8) * 255)


def test_sixteen_bits_keep_their_brightness() -> None:
    values = np.arange(0, 65536, 64, dtype=np.uint16).reshape(32, 32)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decode(encoded(Image.fromarray(values), kind))[..., 1], values // 256)
    pgm = b"P5 32 32 65535\n" + values.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(pgm)[..., 2], values // 256)


def test_transparency_is_laid_over_white() -> None:
    alpha = np.tile(np.arange(0, 256, 8, dtype=np.uint8), (32, 1))
    red = Image.fromarray(np.dstack([np.full_like(alpha, 200), np.zeros_like(alpha), np.zeros_like(alpha), alpha]))
    expected = np.rint(255 - (alpha / 255.0)[..., None] * (255 - np.array([200, 0, 0])))
    assert np.abs(decode(encoded(red, "PNG")).astype(int) - expected).max() <= 1
    clear = Image.new("P", (4, 4), 0)
    clear.putpalette([10, 20, 30, 40, 50, 60])
    clear.putpixel((0, 0), 1)
    for kind in ("PNG", "GIF"):
        pixels = decode(encoded(clear, kind, transparency=0))
        np.testing.assert_array_equal(pixels[0, 0], [40, 50, 60])
        np.testing.assert_array_equal(pixels[1, 1], [255, 255, 255])
    keyed = decode(encoded(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(1, 2, 3)))
    np.testing.assert_array_equal(keyed, np.full((4, 4, 3), 255))


def test_cmyk_is_close_to_the_colours_it_came_from() -> None:
    data = encoded(image().convert("CMYK"), "JPEG", quality=95)
    assert np.abs(decode(data).astype(int) - np.asarray(image())).mean() < 6


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    np.testing.assert_array_equal(decode(data), np.asarray(frames[0]))


def test_camera_pairs_are_read_as_their_first_image() -> None:
    data = encoded(image(), "MPO", save_all=True, append_images=[Image.new("RGB", (48, 32))])
    assert np.abs(decode(data).astype(int) - np.asarray(image())).mean() < 3


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(1, 200))
def test_draft_never_falls_below_what_was_asked(width: int, height: int, at_least: int) -> None:
    data = encoded(Image.new("RGB", (width, height)), "JPEG")
    drafted = decode(data, at_least=at_least).shape
    assert min(drafted[:2]) >= min(at_least, width, height)
    if min(width, height) >= 2 * at_least:
        assert max(drafted[:2]) <= -(-max(width, height) // 2)
    assert dimensions(data, "a") == (width, height)


def test_draft_of_turned_images_keeps_the_turn() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    assert decode(encoded(image(480, 320), "JPEG", exif=exif), at_least=150).shape == (240, 160, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
def test_a_cut_file_is_named(kind: str) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    data = encoded(noise, kind)
    assert "cut short" in reason(data[: len(data) // 2]) or kind in ("WEBP", "TIFF")
    for keep in (1, 10, len(data) // 3):
        reason(data[:keep])


def test_reasons_are_plain(tmp_path: Path) -> None:
    assert reason(b"") == "the file is empty"
    assert reason(b"<!doctype html><p>not found") == "not an image in a format that can be read"
    assert reason(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n") == "not an image in a format that can be read"
    assert "No such file" in reason(tmp_path / "missing.jpg")
    assert "fractions" in reason(encoded(Image.new("F", (4, 4)), "TIFF"))
    assert "32-bit" in reason(encoded(Image.fromarray(np.full((4, 4), 70_000, np.int32)), "TIFF"))


@pytest.mark.parametrize("side", [14_000, 60_000])
def test_a_huge_image_is_refused_from_its_header(side: int) -> None:
    assert side**2 > PIXEL_LIMIT
    bomb = b"P6 %d %d 255\n" % (side, side)
    assert "limit of 178 million" in reason(bomb)
    with pytest.raises(UnreadableImage, match="limit of 178 million"):
        dimensions(bomb, "a")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "PPM"]), st.data())
def test_damage_gives_an_image_or_a_reason(kind: str, data: st.DataObject) -> None:
    whole = bytearray(encoded(image(), kind))
    for _ in range(data.draw(st.integers(1, 8))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    try:
        pixels = decode(bytes(whole), "a")
    except UnreadableImage as error:
        assert error.reason
    else:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3


def test_a_path_names_itself_and_the_error_travels_between_processes(tmp_path: Path) -> None:
    file = tmp_path / "x.png"
    file.write_bytes(b"")
    with pytest.raises(UnreadableImage) as caught:
        decode(file)
    assert str(pickle.loads(pickle.dumps(caught.value))) == f"{file}: the file is empty"
    file.write_bytes(encoded(image(), "PNG"))
    np.testing.assert_array_equal(decode(file), np.asarray(image()))


def test_what_cannot_be_read_says_why(tmp_path: Path) -> None:
    assert reason(tmp_path) == "the file cannot be read (Is a directory)"


def test_damaged_metadata_is_silent() -> None:
    code = """
import io, sys, warnings
from PIL import Image
stream = io.BytesIO()
Image.new("RGB", (8, 8)).save(stream, "JPEG", exif=b"Exif\\0\\0II*\\0\\x08\\0\\0\\0\\xff\\xff\\xff")
from fieldmark.runtime.decode import decode
decode(stream.getvalue())
"""
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stderr == ""


def test_extensions_are_lower_case_with_a_dot() -> None:
    assert all(extension.startswith(".") and extension == extension.lower() for extension in IMAGE_EXTENSIONS)
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif"} <= IMAGE_EXTENSIONS


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}, {"subsampling": 0, "optimize": True}])
def test_a_jpeg_without_its_end_is_read_and_one_without_rows_is_not(options: dict[str, object]) -> None:
    noise = np.random.default_rng(0).normal(0, 9, (64, 96, 3))
    whole = encoded(Image.fromarray(np.clip(np.asarray(image(96, 64)) + noise, 0, 255).astype(np.uint8)), "JPEG", quality=90, **options)
    for data in (whole[:-1], whole[:-2], whole[:-2] + bytes(500)):
        notes: list[str] = []
        np.testing.assert_array_equal(np.asarray(open_rgb(data, notes=notes)), decode(whole))
        assert notes == [MISSING_END]
    assert open_rgb(whole[:-2], at_least=16).size == (24, 16)
    for left in (len(whole) - 8, len(whole) // 2, len(whole) // 3):
        assert reason(whole[:left]) == "the file is cut short"
        assert reason(whole[:left] + bytes(500)) == "the file is cut short"


def test_twelve_bits_in_a_file_of_sixteen_stay_dark_and_are_noted() -> None:
    values = np.arange(4096, dtype=np.uint16).reshape(64, 64)
    for kind in ("PNG", "TIFF"):
        notes: list[str] = []
        found = np.asarray(open_rgb(encoded(Image.fromarray(values), kind), notes=notes))
        np.testing.assert_array_equal(found[..., 0], values // 256)
        assert notes == [DARK]
    for bright in (values * 16, np.zeros_like(values)):
        notes = []
        open_rgb(encoded(Image.fromarray(bright), "PNG"), notes=notes)
        assert notes == []


@pytest.mark.parametrize(("largest", "noted"), [(4095, [DARK]), (65535, [])])
def test_sixteen_bits_of_three_colours(largest: int, noted: list[str]) -> None:
    values = np.linspace(0, largest, 16 * 16 * 3).astype(">u2").reshape(16, 16 * 3)
    rows = b"".join(b"\0" + row.tobytes() for row in values)
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", 16, 16, 16, 2, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks)
    notes: list[str] = []
    found = np.asarray(open_rgb(b"\x89PNG\r\n\x1a\n" + body, notes=notes))
    np.testing.assert_array_equal(found, values.reshape(16, 16, 3) // 256)
    assert notes == noted
