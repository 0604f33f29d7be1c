"""What reading colours costs: JPEGs without a profile, with sRGB's, and with others, decoded as training does.

Photographs are made of smooth noise, 4000 x 3000 and 500 x 375 pixels, and become squares of --side pixels, from bytes in memory, on one
thread; the kinds take turns. Prints the median milliseconds of the processor per image, what the profile adds, and the first image of a
kind, which builds the conversion. The last line is JSON.

    python benchmarks/colour_profiles.py --side 336 --repeats 15
"""

from __future__ import annotations

import argparse
import io
import json
import statistics
import time

import numpy as np
from PIL import Image, ImageCms

from fieldmark.runtime import colour
from fieldmark.runtime.colour import made_profile
from fieldmark.runtime.preprocess import square

D65 = (0.3127, 0.3290)
PROFILES = {
    "none": b"",
    "none, not asked for": b"",
    "sRGB": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
    "Display P3": made_profile((*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060), None),
    "Adobe RGB": made_profile((*D65, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06), 563 / 256),
}


def photograph(width: int, height: int, profile: bytes) -> bytes:
    generator = np.random.default_rng(0)
    smooth = Image.fromarray(generator.integers(0, 256, (height // 40, width // 40, 3), dtype=np.uint8)).resize((width, height))
    pixels = np.clip(np.asarray(smooth) + generator.normal(0, 4, (height, width, 3)), 0, 255).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=90, icc_profile=profile)
    return stream.getvalue()


def milliseconds(data: bytes, side: int, kind: str) -> float:
    started = time.thread_time()
    square(data, side, "squash", colours="stored" if kind.endswith("not asked for") else "srgb")
    return 1000 * (time.thread_time() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=336)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    found = {}
    for width, height in ((4000, 3000), (500, 375)):
        data = {kind: photograph(width, height, profile) for kind, profile in PROFILES.items()}
        colour._conversion.cache_clear()
        first = {kind: milliseconds(each, arguments.side, kind) for kind, each in data.items()}
        times: dict[str, list[float]] = {kind: [] for kind in PROFILES}
        for _ in range(arguments.repeats):
            for kind, each in data.items():
                times[kind].append(milliseconds(each, arguments.side, kind))
        medians = {kind: statistics.median(values) for kind, values in times.items()}
        for kind, median in medians.items():
            added = median - medians["none, not asked for"]
            print(f"{width} x {height}, {kind}: {median:.2f} ms, {added:+.2f} ms; the first {first[kind]:.2f} ms")
        found[f"{width}x{height}"] = {"median": medians, "first": first}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
