"""Images as people have them: what becomes of every kind, alike in training and in prediction."""

from __future__ import annotations

import importlib.util
import os
import random
import re
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fieldmark.datasets.content import scan
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.pixel_cache import Decoding, Selection, open_pixels
from fieldmark.runtime import decode as decoder
from fieldmark.runtime.decode import FILE_LIMIT, SCAN_LIMIT, UnreadableImage, decode, dimensions, read
from fieldmark.runtime.preprocess import Preprocess

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_images.py"
spec = importlib.util.spec_from_file_location("benchmarks_fuzz_images", SCRIPT)
drawn = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = drawn
spec.loader.exec_module(drawn)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")
SCENE = Image.fromarray(drawn.scene())
WIDTH, HEIGHT = SCENE.size
HEIC = b"\0\0\0\x1cftypheic\0\0\0\0mif1heicmiaf" + bytes(100)


def encoded(kind: str, image: Image.Image = SCENE, **options: object) -> bytes:
    return drawn.encoded(image, kind, **options)


def reason(source: bytes | Path) -> str:
    """Why it is refused; the header alone gives the same reason, or passes."""
    with pytest.raises(UnreadableImage) as caught:
        decode(source, "a.jpg")
    try:
        dimensions(source, "a.jpg")
    except UnreadableImage as error:
        assert error.reason == caught.value.reason
    return caught.value.reason


def oriented(orientation: int, little: bool = True, thumbnail: bytes = b"") -> bytes:
    """An EXIF block by hand: orientation, and a second directory that points at a thumbnail."""
    order = "<" if little else ">"
    head = (b"II" if little else b"MM") + struct.pack(order + "HI", 42, 8)
    first = struct.pack(order + "HHHIHHI", 1, 0x0112, 3, 1, orientation, 0, 26 if thumbnail else 0)
    second = struct.pack(order + "HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(thumbnail), 0) if thumbnail else b""
    return b"Exif\0\0" + head + first + second + thumbnail


def xmp(orientation: int) -> bytes:
    return b'<x:xmpmeta><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>' % orientation


def turned(orientation: int) -> np.ndarray:
    scene = np.asarray(SCENE)
    back = {1: scene, 2: scene[:, ::-1], 3: scene[::-1, ::-1], 4: scene[::-1]}
    back |= {key: np.swapaxes(value, 0, 1) for key, value in {5: scene, 6: scene[::-1], 7: scene[::-1, ::-1], 8: scene[:, ::-1]}.items()}
    return back[orientation]


def difference(pixels: np.ndarray, expected: np.ndarray) -> float:
    assert pixels.shape == expected.shape
    return float(np.abs(pixels.astype(int) - expected).mean())


# What is read


@pytest.mark.parametrize("name", sorted(drawn.seeds()))
def test_every_kind_shows_what_was_drawn(name: str) -> None:
    seed = drawn.seeds()[name]
    pixels = decode(seed.data)
    assert pixels.dtype == np.uint8
    assert difference(pixels, seed.shows) <= seed.error
    assert dimensions(seed.data) == (WIDTH, HEIGHT)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("little", [True, False], ids=["little-endian", "big-endian"])
def test_exif_orientation(kind: str, orientation: int, little: bool) -> None:
    data = encoded(kind, exif=oriented(orientation, little), **({"quality": 90} if kind != "TIFF" else {}))
    assert difference(decode(data), turned(orientation)) < 6
    assert dimensions(data) == turned(orientation).shape[1::-1]


@pytest.mark.parametrize("orientation", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_is_upright(orientation: int) -> None:
    assert difference(decode(encoded("PNG", exif=oriented(orientation))), np.asarray(SCENE)) == 0


@pytest.mark.parametrize("compression", [None, "tiff_lzw"])
def test_orientation_of_a_tiff_by_xmp_alone(compression: str | None) -> None:
    data = encoded("TIFF", compression=compression, tiffinfo={700: xmp(6)})
    np.testing.assert_array_equal(decode(data), turned(6))
    assert dimensions(data) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_orientation_by_xmp_alone(kind: str) -> None:
    data = encoded(kind, xmp=xmp(8), quality=90)
    assert difference(decode(data), turned(8)) < 6
    assert dimensions(data) == (HEIGHT, WIDTH)


@pytest.mark.parametrize("packed", [False, True])
def test_orientation_of_a_png_by_text_after_its_pixels(packed: bool) -> None:
    text = zlib.compress(xmp(6)) if packed else xmp(6)
    late = (b"iTXt", b"XML:com.adobe.xmp\0" + bytes([packed]) + b"\0\0\0" + text)
    rows = np.asarray(SCENE.transpose(Image.Transpose.ROTATE_90)).reshape(WIDTH, -1)
    data = drawn.png(rows, 8, 2, late=late)
    np.testing.assert_array_equal(decode(data), np.asarray(SCENE))
    assert dimensions(data) == (WIDTH, HEIGHT)


def test_a_thumbnail_is_never_the_image() -> None:
    other = encoded("JPEG", Image.new("RGB", (16, 12), "red"))
    for thumbnail in (other, b"\xff\xd8 no image", other[:50]):
        data = encoded("JPEG", exif=oriented(1, thumbnail=thumbnail))
        np.testing.assert_array_equal(decode(data), decode(encoded("JPEG")))
        assert dimensions(data) == (WIDTH, HEIGHT)


def test_profiles_are_passed_over() -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF"):
        plain = decode(encoded(kind))
        for icc in (profile, b"no profile at all"):
            np.testing.assert_array_equal(decode(encoded(kind, icc_profile=icc)), plain)


def test_jpeg_with_rubbish_before_its_end() -> None:
    whole = encoded("JPEG")
    assert whole.endswith(b"\xff\xd9")
    rubbish = whole[:-2] + b"\x12\x34\x56" * 50 + b"\xff\xd9"
    np.testing.assert_array_equal(decode(rubbish), decode(whole))


@pytest.mark.parametrize("name", sorted(drawn.seeds().keys() - {"ppm plain"}))  # which is text without an end
def test_rubbish_after_the_end_changes_nothing(name: str) -> None:
    data = drawn.seeds()[name].data
    rubbish = random.Random(0).randbytes(3000)
    np.testing.assert_array_equal(decode(data + rubbish), decode(data))


def test_damaged_indices_of_further_images_do_not_matter() -> None:
    data = drawn.seeds()["mpo"].data
    start = data.index(b"MPF\0") + 4
    length = int.from_bytes(data[start - 6 : start - 4], "big") - 6
    expected, generator = decode(data), random.Random(0)
    for _ in range(100):
        damaged = bytearray(data)
        for _ in range(generator.choice((1, 4, 30))):
            damaged[start + generator.randrange(length)] = generator.randrange(256)
        np.testing.assert_array_equal(decode(bytes(damaged)), expected)
    np.testing.assert_array_equal(decode(data[: len(data) // 2]), expected)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "PPM", "AVIF"])
@pytest.mark.parametrize("width, height", [(1, 1), (1, 16_000), (16_000, 1), (2, 3)])
def test_tiny_and_narrow_images(kind: str, width: int, height: int) -> None:
    data = encoded(kind, Image.new("RGB", (width, height), (40, 200, 90)))
    assert dimensions(data) == (width, height)
    pixels = decode(data, at_least=24)
    assert pixels.shape == (height, width, 3)
    assert np.abs(pixels.astype(int) - (40, 200, 90)).max() <= 4
    for resize in ("squash", "shorter-side", "letterbox"):
        assert Preprocess(24, resize, (0, 0, 0), (1, 1, 1)).pixels(data).shape == (3, 24, 24)


@pytest.mark.skipif("HEIF" not in decoder._FORMATS, reason="pillow-heif is not installed")
def test_a_heic_is_never_read_from_its_thumbnail() -> None:
    data = encoded("HEIF", SCENE.resize((320, 224)), thumbnails=[80])
    assert decode(data, at_least=16).shape == (224, 320, 3)


# What is refused, and why


def jpeg_of_scans(scans: int) -> bytes:
    data = encoded("JPEG", Image.new("L", (64, 64)), progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + b"\xff\xd9"


def ifd(*tags: tuple[int, int, int, int]) -> bytes:
    """A TIFF of one directory: (tag, type, count, value)."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + bytes(range(256))


def patched(data: bytes, mark: bytes, beyond: int, new: bytes) -> bytes:
    """`new` over what is `beyond` bytes after the start of `mark`."""
    start = data.index(mark) + beyond
    return data[:start] + new + data[start + len(new) :]


def png_with(kind: bytes, content: bytes) -> bytes:
    return drawn.png(np.asarray(SCENE).reshape(HEIGHT, -1), 8, 2, (kind, content))


PACKED = zlib.compress(bytes(30_000_000))
SIZE = [(256, 4, 1, 40), (257, 4, 1, 28)]
KIND = [(258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (277, 3, 1, 1)]
BOMBS = {
    "jpeg.jpg": (patched(encoded("JPEG"), b"\xff\xc0", 5, b"\xff\xdc\xff\xdc"), "limit of 178 million"),
    "scans.jpg": (jpeg_of_scans(SCAN_LIMIT + 1), f"{SCAN_LIMIT + 1} progressive scans, more than the limit of {SCAN_LIMIT}"),
    "png.png": (png_with(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)), "limit of 178 million"),
    "text.png": (png_with(b"zTXt", b"Comment\0\0" + PACKED), "too large"),
    "profile.png": (png_with(b"iCCP", b"p\0\0" + PACKED), "too large"),
    "many texts.png": (
        drawn.png(np.asarray(SCENE).reshape(HEIGHT, -1), 8, 2, *[(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_000_000)))] * 80),
        "Too much memory",
    ),
    "screen.gif": (patched(encoded("GIF"), b"GIF", 6, b"\xff\xff\xff\xff"), "limit of 178 million"),
    "frame.gif": (patched(encoded("GIF"), b",\0\0\0\0", 5, b"\xff\xff\xff\xff"), "limit of 178 million"),
    "canvas.webp": (patched(drawn.seeds()["webp animated"].data, b"VP8X", 12, b"\0\xee\0\0\xee\0"), "limit of 178 million"),
    "bmp.bmp": (patched(encoded("BMP"), b"BM", 18, struct.pack("<ii", 2**31 - 1, 2**31 - 1)), "limit of 178 million"),
    "ppm.ppm": (b"P6 99999 99999 255\n", "limit of 178 million"),
    "avif.avif": (patched(encoded("AVIF"), b"ispe", 8, struct.pack(">II", 30_000, 30_000)), "AVIF"),
    "tiff.tif": (ifd((256, 4, 1, 2**31), (257, 4, 1, 2**31), *KIND, (273, 4, 1, 8), (279, 4, 1, 99)), "limit of 178 million"),
    "strips.tif": (ifd(*SIZE, *KIND, (273, 4, 2**30, 8), (278, 4, 1, 1), (279, 4, 2**30, 8)), "TIFF"),
    "tiles.tif": (ifd(*SIZE, *KIND, (322, 4, 1, 2**31), (323, 4, 1, 2**31), (324, 4, 1, 8), (325, 4, 1, 99)), "damaged"),
    "packed tiles.tif": (
        ifd(*SIZE, (258, 3, 1, 8), (259, 3, 1, 8), *KIND[2:], (322, 4, 1, 2**20), (323, 4, 1, 2**20), (324, 4, 1, 8), (325, 4, 1, 99)),
        "damaged",
    ),
    "samples.tif": (ifd(*SIZE, *KIND[:3], (277, 4, 1, 2**31), (273, 4, 1, 8), (279, 4, 1, 99)), "TIFF"),
}

REFUSED = {
    "empty.jpg": (b"", "the file is empty"),
    "zeros.jpg": (bytes(5000), "the file holds nothing but zeros"),
    "text.jpg": (b"these are not the pixels you look for", "not an image in a format that can be read"),
    "page.png": (b"<!doctype html><p>404", "not an image in a format that can be read"),
    "vector.png": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image in a format that can be read"),
    "postscript.jpg": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image in a format that can be read"),
    "header.jpg": (encoded("JPEG")[:100], "the file is cut short"),
    "header.png": (encoded("PNG")[:8] + bytes(50), "it begins like a PNG file, but is damaged or of a kind that cannot be read"),
    "fractions.tif": (
        encoded("TIFF", Image.new("F", (4, 4), 0.5)),
        "its pixels are fractions of unknown range; save it with 8 or 16 bits",
    ),
    "fractions.ppm": (b"Pf 1 1 -1.0\n\0\0\0\0", "its pixels are fractions of unknown range; save it with 8 or 16 bits"),
    "32 bits.tif": (
        encoded("TIFF", Image.fromarray(np.full((4, 4), 200, np.int32))),
        "its pixels are signed or 32-bit numbers of unknown range; save it with 8 or 16 bits",
    ),
    "signed 16 bits.tif": (
        drawn.tiff(1, 16, 1, np.full((HEIGHT, WIDTH), 9, "<i2").tobytes(), {339: [2]}),
        "its pixels are signed or 32-bit numbers of unknown range; save it with 8 or 16 bits",
    ),
    "12 bits.jpg": (
        encoded("JPEG").replace(b"\xff\xc0\0\x11\x08", b"\xff\xc1\0\x11\x0c"),
        "it begins like a JPEG file, but is damaged or of a kind that cannot be read",
    ),
}
if "HEIF" not in decoder._FORMATS:
    for brand in (b"heic", b"mif1"):
        data = HEIC.replace(b"ftypheic", b"ftyp" + brand)
        REFUSED[f"{brand.decode()}.heic"] = data, "it is a HEIC image, which needs pillow-heif: pip install 'fieldmark[heif]'"


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_reasons(name: str) -> None:
    data, expected = REFUSED[name]
    assert reason(data) == expected


@pytest.mark.parametrize("name", sorted(BOMBS))
def test_a_bomb_is_refused(name: str) -> None:
    data, expected = BOMBS[name]
    assert expected in reason(data)


def test_bombs_take_no_memory(tmp_path: Path) -> None:
    for name, (data, _) in BOMBS.items():
        (tmp_path / name).write_bytes(data)
    code = """
import resource, sys
from pathlib import Path
from fieldmark.runtime.decode import UnreadableImage, decode, dimensions
now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + 300 * 2**20,) * 2)
for file in sorted(Path(sys.argv[1]).iterdir()):
    for ask in (dimensions, decode):
        try:
            ask(file)
        except UnreadableImage:
            pass
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", sorted(drawn.seeds()))
def test_a_cut_file_is_refused_or_complete(name: str) -> None:
    """Never half an image. Two exceptions: half of the last number of a text is a number; an orientation at the very end can be lost."""
    seed = drawn.seeds()[name]
    whole, length = decode(seed.data), len(seed.data)
    for keep in {*range(0, length, max(1, length // 60)), *range(max(0, length - 12), length)}:
        try:
            pixels = decode(seed.data[:keep])
        except UnreadableImage as error:
            assert error.reason
        else:
            assert np.array_equal(pixels, whole) or (name, keep) == ("ppm plain", length - 2) or name == "png turned late"


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(encoded("JPEG"))
    np.testing.assert_array_equal(decode(file), decode(encoded("JPEG")))


def test_damaged_files_write_nothing_to_the_terminal() -> None:
    code = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("drawn", {str(SCRIPT)!r})
drawn = importlib.util.module_from_spec(spec)
sys.modules["drawn"] = drawn
spec.loader.exec_module(drawn)
for number in range(1000):
    name, data = drawn.damaged(5, number)
    if name.startswith("tiff"):
        drawn.examine(data)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout + done.stderr == ""


# What is no file


@pytest.fixture
def special(tmp_path: Path) -> dict[str, str]:
    """Files of `tmp_path` that are none, and why they are refused."""
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "broken link.jpg").symlink_to("nowhere")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "link to a pipe.jpg").symlink_to("pipe.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    with (tmp_path / "huge.tif").open("wb") as stream:
        stream.truncate(FILE_LIMIT + 1)
    with socket.socket(socket.AF_UNIX) as listener:
        here = Path.cwd()
        os.chdir(tmp_path)  # the name of a socket is short
        listener.bind("socket.jpg")
        os.chdir(here)
    pipe = "it is not a file but a pipe, a socket or a device"
    return {
        "pipe.jpg": pipe,
        "link to a pipe.jpg": pipe,
        "device.jpg": pipe,
        "socket.jpg": pipe,
        "folder.jpg": "the file cannot be read (Is a directory)",
        "broken link.jpg": "the file cannot be read (No such file or directory)",
        "loop.jpg": "the file cannot be read (Too many levels of symbolic links)",
        "huge.tif": "the file is 2.0 GiB, more than the limit of 2 GiB",
    }


@pytest.mark.timeout(120)
def test_what_is_no_file_is_refused_at_once(special: dict[str, str], tmp_path: Path) -> None:
    assert {name: reason(tmp_path / name) for name in special} == special
    with pytest.raises(UnreadableImage, match=r"pipe\.jpg: it is not a file"):
        read(tmp_path / "pipe.jpg")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_permission(tmp_path: Path) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(encoded("JPEG"))
    file.chmod(0)
    assert reason(file) == "the file cannot be read (Permission denied)"


# Training and prediction


@pytest.mark.timeout(480)
def test_training_and_prediction_come_to_the_same_verdict(special: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "huge.tif").unlink()
    files = {f"{name}.{name.split()[0]}": seed.data for name, seed in drawn.seeds().items()}
    files |= {f"misnamed {name}.jpg": seed.data for name, seed in drawn.seeds().items()}
    files |= {f"cut {name}.png": seed.data[: len(seed.data) * 2 // 3] for name, seed in drawn.seeds().items()}
    files |= {name: data for name, (data, _) in {**REFUSED, **BOMBS}.items()}
    files |= {f"damaged {number}.jpg": drawn.damaged(11, number)[1] for number in range(100)}
    root = tmp_path / "data"
    for name, data in files.items():
        file = root / ("odd" if len(name) % 2 else "even") / re.sub(r"\.(ppm|mpo) ?", r".", name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.with_name(file.name if file.suffix in decoder.IMAGE_EXTENSIONS else f"{file.name}.jpg").write_bytes(data)
    for name in special.keys() - {"huge.tif"}:
        (tmp_path / name).rename(root / "odd" / name)

    dataset = read_dataset(root, "auto")
    content = scan(dataset)
    paths = [(dataset.root / dataset.paths[row]) for row in range(len(dataset))]
    cache = open_pixels(Selection(dataset.images, dataset.paths, content.hashes), Decoding(24, "squash"), tmp_path / "cache")
    predict = Preprocess(24, "squash", (0, 0, 0), (1, 1, 1))
    assert len(dataset) == len(files)
    refused = 0
    for row, path in enumerate(paths):
        trained = content.problems.get(row) or cache.unreadable.get(row)
        try:
            pixels = predict.pixels(path)
        except UnreadableImage as error:
            assert trained == error.reason, path
            refused += 1
        else:
            assert trained is None, path
            np.testing.assert_array_equal(cache.array[row], pixels, err_msg=str(path))
    assert 100 < refused < len(files) - 100
