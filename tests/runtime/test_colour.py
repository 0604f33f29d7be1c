from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, features

from fieldmark.runtime import colour
from fieldmark.runtime.colour import BRIGHT, DAMAGED, UNFIT, made_profile
from fieldmark.runtime.decode import decode, open_rgb
from fieldmark.runtime.preprocess import Preprocess

D65 = (0.3127, 0.3290)
SRGB = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
ADOBE = (*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
P3 = (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060)
PROPHOTO = (0.3457, 0.3585, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)

# To XYZ under D65, as published: Adobe RGB (1998), annex C; SMPTE EG 432-1; IEC 61966-2-1.
ADOBE_TO_XYZ = np.array([[0.57667, 0.18556, 0.18823], [0.29734, 0.62736, 0.07529], [0.02703, 0.07069, 0.99134]])
P3_TO_XYZ = np.array([[0.48657, 0.26567, 0.19822], [0.22897, 0.69174, 0.07929], [0.00000, 0.04511, 1.04394]])
XYZ_TO_SRGB = np.array([[3.2406, -1.5372, -0.4986], [-0.9689, 1.8758, 0.0415], [0.0557, -0.2040, 1.0570]])


def curve_of_srgb(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def by_formula(stored: np.ndarray, to_xyz: np.ndarray, gamma: float | None) -> np.ndarray:
    """uint8 RGB to sRGB, rounded, without LittleCMS."""
    linear = curve_of_srgb(stored / 255) if gamma is None else (stored / 255) ** gamma
    light = np.clip(linear @ (XYZ_TO_SRGB @ to_xyz).T, 0, 1)
    return np.rint(255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)).astype(np.uint8)


def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(20, 236, (48, 64, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def picture() -> Image.Image:
    return Image.fromarray(pixels())


def with_chunks(png: bytes, **chunks: bytes) -> bytes:
    body = b"".join(
        struct.pack(">I", len(data)) + kind.encode() + data + struct.pack(">I", zlib.crc32(kind.encode() + data))
        for kind, data in chunks.items()
    )
    return png[:33] + body + png[33:]


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"prtr", connection: bytes = b"Lab ") -> bytes:
    table, body, start = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for mark, content in tags.items():
        table += mark + struct.pack(">II", start + len(body), len(content))
        body += content + bytes(-len(content) % 4)
    white = struct.pack(">3i", 63190, 65536, 54061)
    header = struct.pack(">I4xI4s4s4s12x4s28x", start + len(body), 0x02400000, kind, space, connection, b"acsp")
    return header + white + bytes(48) + table + body


def grey_profile(gamma: float) -> bytes:
    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return profile(b"GRAY", {b"wtpt": white, b"kTRC": curve}, b"mntr", b"XYZ ")


def cmyk_profile() -> bytes:
    """A table with two points for each ink; what is not white paper is the darker, the more of it; cyan and yellow have a tint."""
    grid = np.array([[c, m, y, k] for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)], float)
    light = 255 * (1 - 0.2 * grid[:, 0] - 0.3 * grid[:, 1] - 0.1 * grid[:, 2]) * (1 - grid[:, 3])
    lab = (
        np.column_stack([light, 128 - 60 * grid[:, 0] * (1 - grid[:, 3]), 128 + 80 * grid[:, 2] * (1 - grid[:, 3])])
        .round()
        .astype(np.uint8)
    )
    linear = bytes(range(256))
    table = b"mft1\0\0\0\0" + struct.pack(">BBBx9i", 4, 3, 2, *np.eye(3, dtype=int).ravel() * 65536)
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return profile(b"CMYK", {b"wtpt": white, b"A2B0": table + linear * 4 + lab.tobytes() + linear * 3})


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
@pytest.mark.parametrize(("primaries", "gamma", "to_xyz"), [(ADOBE, 563 / 256, ADOBE_TO_XYZ), (P3, None, P3_TO_XYZ)])
def test_colours_become_srgb_by_the_published_formula(kind: str, primaries: Any, gamma: float | None, to_xyz: np.ndarray) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("Pillow without AVIF")
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 95}, "AVIF": {"quality": 95}}.get(kind, {})
    data = encoded(picture(), kind, icc_profile=made_profile(primaries, gamma), **options)
    stored = decode(data, colours="stored")
    difference = np.abs(decode(data).astype(int) - by_formula(stored, to_xyz, gamma))
    assert difference.max() <= 2 and difference.mean() < 0.3
    if kind in ("PNG", "TIFF", "WEBP"):
        np.testing.assert_array_equal(stored, pixels())


def test_a_wide_space_keeps_its_neutrals() -> None:
    greys = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, 2)
    converted = decode(encoded(Image.fromarray(greys), icc_profile=made_profile(PROPHOTO, 1.8))).astype(int)
    assert np.ptp(converted, axis=2).max() <= 1 and (np.diff(converted[0, :, 0]) >= 0).all()


@pytest.mark.parametrize("primaries", [(*D65, 0.6401, 0.3299, 0.3001, 0.6, 0.15, 0.0599), SRGB])
def test_srgb_is_recognised_and_not_converted(primaries: Any) -> None:
    for icc in (made_profile(primaries, None), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()):
        notes: list[str] = []
        for image, kind in ((picture(), "PNG"), (picture().convert("L"), "PNG"), (picture(), "JPEG"), (picture().convert("RGBA"), "PNG")):
            with_profile, without = encoded(image, kind, icc_profile=icc), encoded(image, kind)
            np.testing.assert_array_equal(np.asarray(open_rgb(with_profile, notes=notes)), decode(without))
        assert notes == []


def test_grey_profiles() -> None:
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8), (4, 1)))
    found = decode(encoded(ramp, icc_profile=grey_profile(1.0)))
    light = np.arange(256) / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    assert np.abs(found[0].astype(float) - expected[:, None]).max() <= 1
    deep = Image.fromarray((np.tile(np.arange(256, dtype=np.uint16), (4, 1)) * 256).astype(np.uint16))
    np.testing.assert_array_equal(decode(encoded(deep, icc_profile=grey_profile(1.0))), found)
    np.testing.assert_array_equal(decode(encoded(ramp.convert("LA"), icc_profile=grey_profile(1.0))), found)


def test_cmyk_by_its_own_profile() -> None:
    inks = Image.fromarray(np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 255, 0], [0, 0, 0, 255]]], np.uint8).repeat(8, 0), "CMYK")
    data = encoded(inks, "TIFF", icc_profile=cmyk_profile())
    white, cyan, yellow, black = decode(data)[0].astype(int)
    assert white.min() > 250 and black.max() < 5
    assert cyan[0] < cyan[1] and yellow[2] < yellow[1] and cyan.max() < 245
    assert not np.array_equal(decode(data), decode(data, colours="stored"))
    plain = Image.new("CMYK", (16, 16), (0, 0, 255, 0))
    jpeg = decode(encoded(plain, "JPEG", quality=95, icc_profile=cmyk_profile()))[0, 0].astype(int)
    assert np.abs(jpeg - yellow).max() <= 3


def test_transparent_images_are_converted_before_they_are_laid_over_white() -> None:
    pixel = Image.new("RGBA", (4, 4), (200, 60, 40, 0))
    pixel.putpixel((0, 0), (200, 60, 40, 255))
    found = decode(encoded(pixel, icc_profile=made_profile(ADOBE, 563 / 256)))
    assert found[1, 1].tolist() == [255, 255, 255]
    np.testing.assert_allclose(found[0, 0].astype(int), by_formula(np.array([200, 60, 40]), ADOBE_TO_XYZ, 563 / 256), atol=1)


def test_palettes_are_converted() -> None:
    palette = picture().quantize(16)
    found = decode(encoded(palette, icc_profile=made_profile(P3, None)))
    assert np.abs(found.astype(int) - by_formula(np.asarray(palette.convert("RGB")), P3_TO_XYZ, None)).max() <= 2


@pytest.mark.parametrize(
    ("icc", "note"),
    [
        (b"no profile", DAMAGED),
        (made_profile(P3, None)[:200], DAMAGED),
        (made_profile(P3, None)[:140], DAMAGED),
        (made_profile(P3, None)[:128] + struct.pack(">I", 2**32 - 1) + made_profile(P3, None)[132:], DAMAGED),
        (cmyk_profile(), UNFIT),
        (grey_profile(1.0), UNFIT),
        (profile(b"Lab ", {}), UNFIT),
        (profile(b"RGB ", {}, b"link"), UNFIT),
        (profile(b"RGB ", {}), DAMAGED),
    ],
)
def test_a_profile_that_cannot_be_used_is_ignored_with_a_note(icc: bytes, note: str) -> None:
    notes: list[str] = []
    np.testing.assert_array_equal(np.asarray(open_rgb(encoded(picture(), icc_profile=icc), notes=notes)), pixels())
    assert notes == [note]


def test_a_huge_profile_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(colour, "_SIZE_LIMIT", 1000)
    notes: list[str] = []
    data = encoded(picture(), icc_profile=made_profile(P3, None) + bytes(1000))
    np.testing.assert_array_equal(np.asarray(open_rgb(data, notes=notes)), pixels())
    assert notes == [DAMAGED]


def test_a_part_of_a_profile_is_missing_from_a_jpeg() -> None:
    data = encoded(picture(), "JPEG", icc_profile=made_profile(P3, None))
    start = data.index(b"ICC_PROFILE\0\x01\x01")
    notes: list[str] = []
    open_rgb(data[: start + 13] + b"\x02" + data[start + 14 :], notes=notes)
    assert notes == [DAMAGED]


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([made_profile(P3, None), grey_profile(1.8), cmyk_profile()]), st.data())
def test_damaged_profiles_never_do_harm(icc: bytes, data: st.DataObject) -> None:
    damaged = bytearray(icc)
    for place in data.draw(st.lists(st.integers(0, len(icc) - 1), min_size=1, max_size=8)):
        damaged[place] = data.draw(st.sampled_from([0, 1, 127, 128, 255]))
    for mode in ("RGB", "L", "CMYK"):
        assert open_rgb(encoded(Image.new(mode, (4, 3)), "TIFF", icc_profile=bytes(damaged))).size == (4, 3)


def test_code_points_of_png() -> None:
    png, expected = encoded(picture()), by_formula(pixels(), P3_TO_XYZ, None)
    assert np.abs(decode(with_chunks(png, cICP=bytes([12, 13, 0, 1]))).astype(int) - expected).max() <= 2
    np.testing.assert_array_equal(decode(with_chunks(png, cICP=bytes([1, 13, 0, 1]))), pixels())
    preferred = with_chunks(encoded(picture(), icc_profile=made_profile(ADOBE, 2.2)), cICP=bytes([1, 1, 0, 1]))
    np.testing.assert_array_equal(decode(preferred), pixels())
    notes: list[str] = []
    np.testing.assert_array_equal(np.asarray(open_rgb(with_chunks(png, cICP=bytes([9, 16, 0, 1])), notes=notes)), pixels())
    assert notes == [BRIGHT]


@pytest.mark.skipif(not features.check("avif"), reason="Pillow without AVIF")
def test_code_points_of_avif() -> None:
    data = encoded(picture(), "AVIF", quality=95)
    codes = data.index(b"colrnclx") + 8
    wide = data[: codes + 1] + bytes([12]) + data[codes + 2 :]
    expected = by_formula(decode(data), P3_TO_XYZ, None)
    assert np.abs(decode(wide).astype(int) - expected).max() <= 2


def chromaticities(values: tuple[float, ...], gamma: float) -> dict[str, bytes]:
    return {"gAMA": struct.pack(">I", round(100_000 * gamma)), "cHRM": struct.pack(">8I", *(round(100_000 * value) for value in values))}


def test_gamma_and_chromaticities_of_png() -> None:
    png = encoded(picture())
    wide = chromaticities(ADOBE, 256 / 563)
    expected = by_formula(pixels(), ADOBE_TO_XYZ, 563 / 256)
    assert np.abs(decode(with_chunks(png, **wide)).astype(int) - expected).max() <= 2
    for plain in ({"gAMA": struct.pack(">I", 100_000)}, chromaticities(SRGB, 0.45455), {"sRGB": b"\0", **wide}):
        np.testing.assert_array_equal(decode(with_chunks(png, **plain)), pixels())
    for values, gamma in (((0.0,) * 8, 0.5), (ADOBE, 0.0), ((*D65, *(0.3, 0.3) * 3), 0.45)):
        notes: list[str] = []
        damaged = with_chunks(png, **chromaticities(values, gamma))
        np.testing.assert_array_equal(np.asarray(open_rgb(damaged, notes=notes)), pixels())
        assert notes == [DAMAGED]


def exif(colour_space: int, index: str | None) -> Image.Exif:
    made = Image.Exif()
    made.get_ifd(0x8769)[0xA001] = colour_space
    if index is not None:
        made.get_ifd(0x8769)[0xA005] = {1: index, 2: b"0100"}
    return made


def test_cameras_say_adobe_rgb_in_exif_and_uncalibrated_alone_says_nothing() -> None:
    plain = decode(encoded(picture(), "JPEG", quality=95))
    data = encoded(picture(), "JPEG", quality=95, exif=exif(0xFFFF, "R03"))
    assert np.abs(decode(data).astype(int) - by_formula(plain, ADOBE_TO_XYZ, 563 / 256)).max() <= 2
    for said in (exif(0xFFFF, None), exif(1, "R98"), exif(0xFFFF, "R98")):
        np.testing.assert_array_equal(decode(encoded(picture(), "JPEG", quality=95, exif=said)), plain)


def test_a_smaller_jpeg_is_converted_as_well() -> None:
    large = Image.new("RGB", (640, 480), (60, 200, 90))
    data = encoded(large, "JPEG", quality=95, icc_profile=made_profile(P3, None))
    small = decode(data, at_least=60)
    assert small.shape == (60, 80, 3)
    np.testing.assert_allclose(small[30, 40].astype(int), decode(data)[240, 320], atol=1)


def test_threads_share_a_transform() -> None:
    data = encoded(picture().resize((400, 300)), icc_profile=made_profile(ADOBE, 2.2))
    alone = decode(data)
    with ThreadPoolExecutor(8) as pool:
        for found in pool.map(decode, [data] * 64):
            np.testing.assert_array_equal(found, alone)


def test_what_a_run_records_decides() -> None:
    data = encoded(picture(), icc_profile=made_profile(ADOBE, 2.2))
    new = Preprocess(32, "squash", (0.0,) * 3, (1.0,) * 3, colours="srgb")
    earlier = Preprocess.from_dict({key: value for key, value in new.to_dict().items() if key != "colours"})
    assert earlier.colours == "stored" and Preprocess.of(new.record()) == new and Preprocess.from_dict(new.to_dict()) == new
    np.testing.assert_array_equal(earlier.pixels(data), earlier.pixels(encoded(picture())))
    assert np.abs(new.pixels(data).astype(int) - earlier.pixels(data)).mean() > 3
