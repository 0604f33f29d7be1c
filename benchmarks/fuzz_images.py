"""Damaged images by the thousand: the decoder must answer each with pixels or with a reason, in time and in memory.

    python benchmarks/fuzz_images.py --files 10000 --seed 0
    python benchmarks/fuzz_images.py --seed 0 --write 1234 broken.jpg

Draws one scene in every format and variant that the decoder opens, checks that each shows the scene, and damages them: flipped bytes,
overwritten, deleted, inserted and doubled runs, cuts, exchanged fields of the header, other dimensions, two images spliced. Half of the
damaged PNGs get correct checksums again, so that the damage reaches the decoder.

A worker process calls `dimensions` and `decode` on each. Pixels must be uint8 (height, width, 3), of the size that `dimensions` returns,
and the same when decoded twice; a drafted decode must come to the same verdict; an UnreadableImage must carry a reason. Everything else is
a finding: another exception, memory beyond --memory (GiB above what the worker starts with), more than --limit seconds, a crash. Findings
are listed with the number that regenerates the file (the second form writes it), and the exit status is then 1.

The same seed gives the same files on the same Pillow. Linux only.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import multiprocessing
import random
import re
import resource
import signal
import struct
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops, MpoImagePlugin  # noqa: F401

from fieldmark.runtime import decode as decoder
from fieldmark.runtime.decode import UnreadableImage, decode, dimensions

WIDTH, HEIGHT = 40, 28


@dataclass(frozen=True)
class Seed:
    """An image of the scene. `error` is the largest mean difference that its format may make."""

    data: bytes
    shows: np.ndarray
    error: float


def scene() -> np.ndarray:
    """Smooth, and unlike itself under every turn and flip."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH]
    return np.stack([255 * x / WIDTH, 255 * y / HEIGHT, 200 - 180 * x * y / (WIDTH * HEIGHT)], -1).astype(np.uint8)


@cache
def seeds() -> dict[str, Seed]:
    """By name; the first word is the format."""
    rgb = scene()
    alpha = np.linspace(0, 255, WIDTH).astype(np.uint8)[None].repeat(HEIGHT, 0)
    image = Image.fromarray(rgb)
    grey, clear = image.convert("L"), Image.fromarray(np.dstack([rgb, alpha]))
    sixteen = np.asarray(grey).astype(np.uint16) * 257
    palette, bilevel = image.quantize(200), image.convert("1")
    keyed = Image.fromarray(np.where(alpha[..., None] < 128, np.uint8([1, 2, 3]), rgb))
    few = keyed.quantize(64)
    key = few.getpixel((0, 0))
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(rgb)))  # upright again by orientation 6

    colours, greys = rgb, repeated(np.asarray(grey))
    over_white = np.rint(255 - alpha[..., None] / 255.0 * (255.0 - rgb)).astype(np.uint8)
    half_white = np.where(alpha[..., None] < 128, np.uint8(255), rgb)
    two = repeated(np.asarray(bilevel).astype(np.uint8) * 255)
    orientation = Image.Exif()
    orientation[0x0112] = 6
    exif = orientation.tobytes()
    frames: dict[str, Any] = {"save_all": True, "append_images": [image.rotate(90), grey.convert("RGB")]}

    found: dict[str, Seed] = {}

    def add(name: str, data: bytes | Image.Image, shows: np.ndarray, error: float = 0.0, **options: Any) -> None:
        kind = {"heic": "HEIF"}.get(name.split()[0], name.split()[0].upper())
        found[name] = Seed(data if isinstance(data, bytes) else encoded(data, kind, **options), shows, error)

    add("jpeg", image, colours, 4)
    add("jpeg grey", grey, greys, 4)
    add("jpeg progressive", image, colours, 4, progressive=True)
    add("jpeg restarts", image, colours, 4, restart_marker_blocks=1)
    add("jpeg turned", turned, colours, 4, exif=exif)
    add("jpeg profile and comment", image, colours, 4, icc_profile=bytes(300), comment=b"a" * 40, dpi=(72, 72))
    add("jpeg cmyk adobe", image.convert("CMYK"), colours, 6)
    add("jpeg cmyk plain", plain_cmyk(image), colours, 6)
    add("jpeg ycck", ycck(image), colours, 6)
    add("mpo", image, colours, 4, **frames)

    add("png", image, colours)
    add("png alpha", clear, over_white, 1)
    add("png grey", grey, greys)
    add("png grey alpha", Image.merge("LA", (grey, Image.fromarray(alpha))), over(greys, alpha), 1)
    add("png bilevel", bilevel, two)
    add("png palette", palette, colours, 6)
    add("png palette alpha", few, half_white, 12, transparency=key)
    for bits in (1, 2, 4):
        steps = np.asarray(grey) >> (8 - bits)
        shown = repeated((steps * (255 // (2**bits - 1))).astype(np.uint8))
        add(f"png grey {bits} bits", png(packed(steps, bits), bits, 0), shown)
        add(
            f"png grey {bits} bits key",
            png(packed(steps, bits), bits, 0, (b"tRNS", b"\0\1")),
            np.where(repeated(steps) == 1, np.uint8(255), shown),
        )
        table = (b"PLTE", bytes(value for step in range(2**bits) for value in (step * (255 // (2**bits - 1)),) * 3))
        add(f"png palette {bits} bits", png(packed(steps, bits), bits, 3, table), shown)
    add("png grey 16 bits", Image.fromarray(sixteen), greys)
    deep = (rgb.astype(">u2") * 257).reshape(HEIGHT, -1).view(np.uint8)
    add("png 16 bits", png(deep, 16, 2), colours)
    add("png key", keyed, half_white, transparency=(1, 2, 3))
    add("png interlaced", png(rgb.reshape(HEIGHT, -1), 8, 2, interlaced=True), colours)
    add("png turned", turned, colours, exif=exif)
    late = (b"eXIf", exif.removeprefix(b"Exif\0\0"))
    add("png turned late", png(np.asarray(turned).reshape(WIDTH, -1), 8, 2, late=late), colours)
    text = (b"zTXt", b"Comment\0\0" + zlib.compress(b"a" * 500))
    add("png text and profile", png(rgb.reshape(HEIGHT, -1), 8, 2, text, (b"iCCP", b"p\0\0" + zlib.compress(bytes(300)))), colours)
    add("png animated", image, colours, **frames)

    add("gif", palette, colours, 6)
    add("gif grey", grey, greys)
    add("gif interlaced", palette, colours, 6, interlace=1)
    add("gif clear", few, half_white, 12, transparency=key)
    add("gif animated", image, colours, 8, **frames)

    add("webp", image, colours, 5, quality=90)
    add("webp lossless", image, colours, lossless=True)
    add("webp alpha", clear, over_white, 1, lossless=True, exact=True)
    add("webp turned", turned, colours, lossless=True, exif=exif)
    add("webp animated", image, colours, 1, lossless=True, **frames)

    add("tiff", image, colours)
    for compression in ("packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg"):
        add(f"tiff {compression}", image, colours, 4 if compression == "jpeg" else 0, compression=compression)
    add("tiff group 4", bilevel, two, compression="group4")
    add("tiff alpha", clear, over_white, 1)
    add("tiff grey 16 bits", Image.fromarray(sixteen), greys)
    add("tiff grey 16 bits lzw", Image.fromarray(sixteen), greys, compression="tiff_lzw")
    add("tiff grey 16 bits big-endian", Image.fromarray(sixteen.astype(">u2")), greys)
    add("tiff grey 16 bits white is zero", tiff(1, 16, 0, (65535 - sixteen).astype("<u2").tobytes()), greys)
    add("tiff grey 12 bits", tiff(1, 12, 1, twelve_bits(sixteen >> 4)), greys)
    add("tiff 16 bits", tiff(3, 16, 2, (rgb.astype("<u2") * 257).tobytes()), colours)
    add("tiff 16 bits alpha", tiff(4, 16, 2, (np.dstack([rgb, alpha]).astype("<u2") * 257).tobytes(), {338: [2]}), over_white, 1)
    add("tiff palette", palette, colours, 6)
    add("tiff cmyk", image.convert("CMYK"), colours, 2)
    add("tiff lab", image.convert("LAB"), colours, 4)
    add("tiff tiled", tiff(3, 8, 2, tiles(rgb, 16), tile=16), colours)
    add("tiff turned", turned, colours, exif=exif)
    add("tiff pages", image, colours, **frames)

    add("bmp", image, colours)
    add("bmp palette", palette, colours, 6)
    add("bmp bilevel", bilevel, two)
    add("bmp alpha", bmp_alpha(np.dstack([rgb, alpha])), over_white, 1)
    add("bmp run lengths", bmp_run_lengths(np.asarray(bilevel).astype(np.uint8)), np.where(two == 0, np.uint8([30, 20, 10]), two))

    add("ppm", image, colours)
    add("ppm grey", grey, greys)
    add("ppm bilevel", bilevel, two)
    add("ppm grey 16 bits", b"P5 %d %d 65535\n" % (WIDTH, HEIGHT) + sixteen.astype(">u2").tobytes(), greys)
    add("ppm 10 bits", b"P6 %d %d 1020\n" % (WIDTH, HEIGHT) + (rgb.astype(np.uint16) * 4).astype(">u2").tobytes(), colours)
    add("ppm plain", b"P3 # written as text\n%d %d 255\n%s\n" % (WIDTH, HEIGHT, b" ".join(b"%d" % value for value in rgb.ravel())), colours)

    add("avif", image, colours, 5, quality=90)
    add("avif grey", grey, greys, 5, quality=90)
    add("avif alpha", clear, over_white, 5, quality=90)
    add("avif turned", turned, colours, 5, quality=90, exif=exif)
    add("avif animated", image, colours, 5, quality=90, **frames)
    if "HEIF" in decoder._FORMATS:
        add("heic", image, colours, 5, quality=90)
        add("heic alpha", clear, over_white, 5, quality=90)
        add("heic turned", turned, colours, 5, quality=90, exif=exif)
    return found


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Copies are saved: Pillow keeps the options of one format on an image, and trips over them in the next."""
    stream = io.BytesIO()
    if "append_images" in options:
        options["append_images"] = [frame.copy() for frame in options["append_images"]]
    image.copy().save(stream, kind, **options)
    return stream.getvalue()


def repeated(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[..., None], 3, -1)


def over(shown: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Laid over white."""
    return np.rint(255 - alpha[..., None] / 255.0 * (255.0 - shown)).astype(np.uint8)


def plain_cmyk(image: Image.Image) -> bytes:
    """CMYK by the JPEG standard: no Adobe marker, and nothing inverted."""
    data = encoded(ImageChops.invert(image.convert("CMYK")), "JPEG")
    start = data.index(b"\xff\xee")
    return data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]


def ycck(image: Image.Image) -> bytes:
    """CMYK whose first three channels are coded as luminance and colour differences, as the Adobe marker declares."""
    cyan, magenta, yellow, black = image.convert("CMYK").split()
    inks = Image.merge("RGB", (cyan, magenta, yellow)).convert("YCbCr").split()
    data = encoded(Image.merge("CMYK", [ImageChops.invert(channel) for channel in inks] + [black]), "JPEG")
    transform = data.index(b"Adobe") + 11
    return data[:transform] + b"\2" + data[transform + 1 :]


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Rows of `bits` per pixel, the first in the highest bits."""
    spread = (values[..., None] >> np.arange(bits - 1, -1, -1)) & 1
    return np.packbits(spread.reshape(len(values), -1).astype(np.uint8), axis=1)


def png(rows: np.ndarray, bits: int, colour: int, *chunks: tuple[bytes, bytes], late: Any = None, interlaced: bool = False) -> bytes:
    """`rows` are uint8 (height, bytes of a row)."""
    channels = {0: 1, 2: 3, 3: 1}[colour]
    height, width = len(rows), WIDTH if late is None else HEIGHT
    passes = [rows]
    if interlaced:
        pixels = rows.reshape(height, width, -1)
        starts = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
        passes = [pixels[y::down, x::right].reshape(len(pixels[y::down]), -1) for y, x, down, right in starts]
    assert rows.shape[1] == -(-width * bits * channels // 8)
    body = zlib.compress(b"".join(b"\0" + row.tobytes() for part in passes for row in part))
    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, interlaced)
    after = () if late is None else (late,)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", body), *after, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(kind, content) for kind, content in parts)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def twelve_bits(values: np.ndarray) -> bytes:
    first, second = values.reshape(-1, 2).astype(np.uint16).T
    return np.stack([first >> 4, (first << 4 & 0xF0) | second >> 8, second & 0xFF], -1).astype(np.uint8).tobytes()


def tiles(pixels: np.ndarray, side: int) -> list[bytes]:
    down, right = (-(-length // side) * side for length in pixels.shape[:2])
    padded = np.zeros((down, right, pixels.shape[2]), np.uint8)
    padded[: len(pixels), : pixels.shape[1]] = pixels
    return [padded[y : y + side, x : x + side].tobytes() for y in range(0, down, side) for x in range(0, right, side)]


def tiff(channels: int, bits: int, photometric: int, data: bytes | list[bytes], more: Any = None, tile: int | None = None) -> bytes:
    """Uncompressed and little-endian, all numbers 32-bit."""
    parts = [data] if isinstance(data, bytes) else data
    tags: dict[int, list[int]] = {256: [WIDTH], 257: [HEIGHT], 258: [bits] * channels, 259: [1], 262: [photometric], 277: [channels]}
    tags |= more or {}
    offsets = [8 + sum(map(len, parts[:index])) for index in range(len(parts))]
    lengths = [len(part) for part in parts]
    if tile is None:
        tags |= {273: offsets, 278: [HEIGHT], 279: lengths}
    else:
        tags |= {322: [tile], 323: [tile], 324: offsets, 325: lengths}
    start = 8 + sum(lengths)
    beyond = start + 2 + 12 * len(tags) + 4
    entries, extra = b"", b""
    for tag, values in sorted(tags.items()):
        content = struct.pack(f"<{len(values)}I", *values)
        if len(content) > 4:
            content, extra = struct.pack("<I", beyond + len(extra)), extra + content
        entries += struct.pack("<HHI", tag, 4, len(values)) + content
    return b"II*\0" + struct.pack("<I", start) + b"".join(parts) + struct.pack("<H", len(tags)) + entries + bytes(4) + extra


def bmp_alpha(pixels: np.ndarray) -> bytes:
    """32 bits with a mask for each channel, which Pillow reads and does not write."""
    body = np.ascontiguousarray(pixels[::-1]).tobytes()
    masks = (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII4I", 56, pixels.shape[1], len(pixels), 1, 32, 3, len(body), 0, 0, 0, 0, *masks)
    return b"BM" + struct.pack("<IHHI", 14 + 56 + len(body), 0, 0, 14 + 56) + header + body


def bmp_run_lengths(values: np.ndarray) -> bytes:
    """8-bit RLE of zeros and ones, brown and white; row by row from below."""
    body = b""
    for row in values[::-1]:
        ends = [*(np.flatnonzero(np.diff(row)) + 1).tolist(), len(row)]
        body += b"".join(bytes([end - start, row[start]]) for start, end in zip([0, *ends], ends, strict=False)) + b"\0\0"
    body += b"\0\1"
    colours = bytes([10, 20, 30, 0, 255, 255, 255, 0])
    header = struct.pack("<IiiHHIIiiII", 40, values.shape[1], len(values), 1, 8, 1, len(body), 0, 0, 2, 0)
    return b"BM" + struct.pack("<IHHI", 14 + 40 + 8 + len(body), 0, 0, 14 + 40 + 8) + header + colours + body


# Damage


def flip(data: bytearray, rng: random.Random, _: bytes) -> None:
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)


def overwrite(data: bytearray, rng: random.Random, _: bytes) -> None:
    start, length = run_in(data, rng)
    data[start : start + length] = rng.choice((rng.randbytes(length), bytes(length), b"\xff" * length))


def delete(data: bytearray, rng: random.Random, _: bytes) -> None:
    start, length = run_in(data, rng)
    del data[start : start + length]


def insert(data: bytearray, rng: random.Random, _: bytes) -> None:
    start, length = run_in(data, rng)
    data[start:start] = rng.randbytes(length)


def double(data: bytearray, rng: random.Random, _: bytes) -> None:
    start, length = run_in(data, rng)
    data[start:start] = data[start : start + length] * rng.choice((1, 1, 10))


def cut(data: bytearray, rng: random.Random, _: bytes) -> None:
    del data[rng.randrange(len(data)) :]


def exchange(data: bytearray, rng: random.Random, _: bytes) -> None:
    """Two fields of the header change places."""
    length = rng.choice((1, 2, 4))
    first, second = (rng.randrange(min(len(data), 120) - 4) for _ in range(2)) if len(data) > 8 else (0, 0)
    data[first : first + length], data[second : second + length] = data[second : second + length], data[first : first + length]


def resize(data: bytearray, rng: random.Random, _: bytes) -> None:
    """Another number where the header has a dimension, or anywhere in it."""
    order, width = rng.choice("<>"), rng.choice("HI")
    known = [match for side in (WIDTH, HEIGHT) if (match := data.find(struct.pack(order + width, side))) >= 0]
    start = rng.choice(known) if known and rng.random() < 0.8 else rng.randrange(min(len(data), 120))
    numbers = (0, 1, 2, 3, 27, 41, 255, 256, 4000, 9000, 13_000, 16_383, 32_767, 32_768, 65_535, 10**6, 10**8, 2**31 - 1, 2**31, 2**32 - 1)
    number = struct.pack(order + width, rng.choice(numbers) & (0xFFFF if width == "H" else 0xFFFFFFFF))
    data[start : start + len(number)] = number


def splice(data: bytearray, rng: random.Random, other: bytes) -> None:
    """The head of one image and the tail of another."""
    data[rng.randrange(len(data)) :] = other[rng.randrange(len(other)) :]


def run_in(data: bytearray, rng: random.Random) -> tuple[int, int]:
    return rng.randrange(len(data)), rng.choice((1, 2, 4, 16, 64, 256))


DAMAGES: Sequence[Callable[[bytearray, random.Random, bytes], None]] = (
    flip,
    overwrite,
    delete,
    insert,
    double,
    cut,
    exchange,
    resize,
    splice,
)


def damaged(seed: int, number: int) -> tuple[str, bytes]:
    """The name of the image that was damaged, and the damaged bytes."""
    rng = random.Random(f"{seed} {number}")
    names = sorted(seeds())
    name = names[number % len(names)]
    data = bytearray(seeds()[name].data)
    for _ in range(rng.choice((1, 1, 2, 4))):
        if data:
            rng.choice(DAMAGES)(data, rng, seeds()[rng.choice(names)].data)
    if data.startswith(b"\x89PNG") and rng.random() < 0.5:
        mend_checksums(data)
    return name, bytes(data)


def mend_checksums(data: bytearray) -> None:
    start = 8
    while start + 12 <= len(data):
        end = start + 8 + int.from_bytes(data[start : start + 4], "big")
        if end + 4 > len(data):
            return
        data[end : end + 4] = struct.pack(">I", zlib.crc32(data[start + 4 : end]))
        start = end + 4


# Verdicts

DECODED = "decoded"


@dataclass(frozen=True)
class Verdict:
    """`reason` is DECODED, or why not; `finding` says what was wrong with the answer itself."""

    reason: str
    finding: str = ""


def examine(data: bytes) -> Verdict:
    try:
        pixels = answer(lambda: decode(data))
        if isinstance(pixels, str):
            verdict = Verdict(pixels)
            others: dict[str, Any] = {"the second decode": answer(lambda: decode(data)), "the drafted one": drafted(data)}
            size = answer(lambda: dimensions(data))
            if isinstance(size, str):
                others["dimensions"] = size
        else:
            verdict = Verdict(DECODED)
            if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
                return Verdict(DECODED, f"{pixels.dtype} of shape {pixels.shape}")
            again = answer(lambda: decode(data))
            others = {
                "dimensions": DECODED if answer(lambda: dimensions(data)) == (pixels.shape[1], pixels.shape[0]) else "another size",
                "the second decode": DECODED if not isinstance(again, str) and np.array_equal(again, pixels) else "other pixels",
                "the drafted one": drafted(data),
            }
    except (Exception, MemoryError) as error:
        return Verdict(type(error).__name__, f"{type(error).__name__}: {error}")
    wrong = [f"{who} says {what!r} where decode says {verdict.reason!r}" for who, what in others.items() if what != verdict.reason]
    return Verdict(verdict.reason, "; ".join(wrong))


def answer(ask: Callable[[], Any]) -> Any:
    """The result of `ask`, or the reason why the image is unreadable."""
    try:
        return ask()
    except UnreadableImage as error:
        return error.reason or "no reason"


def drafted(data: bytes) -> str:
    pixels = answer(lambda: decode(data, at_least=8))
    return pixels if isinstance(pixels, str) else DECODED


# Workers


def work(pipe: Connection, seed: int, first: int, last: int, memory: float) -> None:
    seeds()
    with open("/proc/self/statm") as stream:
        now = int(stream.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + int(memory * 2**30),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    pipe.send(None)
    for number in range(first, last):
        pipe.send(examine(damaged(seed, number)[1]))


def verdicts(seed: int, first: int, last: int, limit: float, memory: float) -> Iterable[tuple[int, Verdict]]:
    """(number, verdict) of every file; a worker that hangs or dies is replaced."""
    context = multiprocessing.get_context("spawn")
    while first < last:
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=work, args=(theirs, seed, first, last, memory), daemon=True)
        worker.start()
        theirs.close()
        ours.recv()  # ready
        try:
            while first < last:
                if not ours.poll(limit):
                    yield first, Verdict("hang", f"no answer within {limit:g} s")
                    first += 1
                    break
                yield first, ours.recv()
                first += 1
        except EOFError:
            worker.join()
            code = worker.exitcode or 0
            yield first, Verdict("crash", f"the process died ({signal.Signals(-code).name if code < 0 else f'exit status {code}'})")
            first += 1
        worker.kill()
        worker.join()


@dataclass
class Report:
    """Counts by format and by reason."""

    seconds: float = 0.0
    files: int = 0
    decoded: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    spent: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    reasons: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)


def fuzz(files: int, seed: int, limit: float, memory: float) -> Report:
    report, start = Report(), time.perf_counter()
    last = start
    for number, verdict in verdicts(seed, 0, files, limit, memory):
        name, data = damaged(seed, number)
        kind = name.split()[0]
        report.files += 1
        if verdict.reason == DECODED:
            report.decoded[kind] += 1
        else:
            report.refused[kind] += 1
            report.reasons[re.sub(r"\d[\d.,]*", "N", verdict.reason)] += 1
        if verdict.finding:
            digest = hashlib.sha256(data).hexdigest()[:8]
            report.findings.append(f"--seed {seed} --write {number}   {name}, {len(data):,} bytes, {digest}: {verdict.finding}")
        now = time.perf_counter()
        report.spent[kind] += now - last
        last = now
    report.seconds = last - start
    return report


def untrue_seeds() -> list[str]:
    """Undamaged images that do not show what was drawn."""
    found = []
    for name, seed in seeds().items():
        pixels = decode(seed.data, name)
        error = float("inf") if pixels.shape != seed.shows.shape else np.abs(pixels.astype(int) - seed.shows).mean()
        if error > seed.error:
            found.append(f"{name}: differs by {error:.2f} on average, and may by {seed.error:g}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=30, help="seconds for one file, which is decoded three times")
    parser.add_argument("--memory", type=float, default=4, help="GiB above what a worker starts with")
    parser.add_argument("--write", nargs=2, metavar=("NUMBER", "FILE"), help="write one damaged file and stop")
    args = parser.parse_args()
    if args.write:
        name, data = damaged(args.seed, int(args.write[0]))
        Path(args.write[1]).write_bytes(data)
        print(f"{name}, {len(data):,} bytes: {examine(data)}")
        return 0

    print(f"{len(seeds())} kinds of image, {decoder.DECODER}")
    report = fuzz(args.files, args.seed, args.limit, args.memory)
    print(f"\n{'format':8}{'files':>8}{'decoded':>9}{'refused':>9}{'files/s':>9}")
    for kind in sorted(report.spent):
        decoded, refused = report.decoded[kind], report.refused[kind]
        print(f"{kind:8}{decoded + refused:8,}{decoded:9,}{refused:9,}{(decoded + refused) / report.spent[kind]:9,.0f}")
    decoded, refused = report.decoded.total(), report.refused.total()
    print(f"{'all':8}{report.files:8,}{decoded:9,}{refused:9,}{report.files / report.seconds:9,.0f}   in {report.seconds:.0f} s\n")
    for reason, count in report.reasons.most_common():
        print(f"{count:8,}  {reason}")
    findings = untrue_seeds() + report.findings
    print(f"\n{len(findings):,} findings")
    for finding in findings:
        print(f"  {finding}")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
