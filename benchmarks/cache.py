"""Decoding the first epoch, side by side with torchvision, and the memory that a mapped cache takes.

Speed: images/s of decoding into a fresh pixel cache (hash check and flush to disk included), against a torchvision ImageFolder in a
torch DataLoader with one worker process per core. The DataLoader decodes with Pillow and resizes to the same square, antialiased bilinear,
in either order of torchvision's v2 transforms: Resize, ToImage (resized by Pillow) and ToImage, Resize (resized by torch). The contenders
take turns; medians over the repeats. A ratio above 1 means that Fieldmark is faster.

Memory: anonymous memory (RssAnon) that a fresh process has after opening a cache of 500, 1,000, 2,000 and 4,000 images and after reading
every tile in random batches, beyond what it had before.

    python benchmarks/cache.py DATA --side 240 --repeats 3 --images 4000

DATA is a folder of class folders, with or without train/. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

BATCH = 64
SIZES = (500, 1000, 2000, 4000)


def images_per_second(data: Path, files: list[Path], rows: list[int], side: int, repeats: int) -> dict[str, list[float]]:
    import torch
    from torch.utils.data import DataLoader, Subset
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    from fieldmark.core.processor import available_cores
    from fieldmark.datasets.content import file_hash
    from fieldmark.datasets.images import Files
    from fieldmark.datasets.pixel_cache import Decoding, Selection, open_pixels

    hashes = [file_hash(file.read_bytes()) for file in files]
    resize = v2.Resize((side, side), antialias=True)

    def fieldmark() -> None:
        with tempfile.TemporaryDirectory() as cache:
            open_pixels(Selection(Files(Path("/")), [str(file) for file in files], hashes), Decoding(side, "squash"), Path(cache))

    def torchvision(*steps: torch.nn.Module) -> Callable[[], None]:
        def run() -> None:
            folder = Subset(ImageFolder(data, v2.Compose(list(steps))), rows)
            for _ in DataLoader(folder, BATCH, num_workers=available_cores()):
                pass

        return run

    contenders = {
        "fieldmark": fieldmark,
        "torchvision Resize, ToImage": torchvision(resize, v2.ToImage()),
        "torchvision ToImage, Resize": torchvision(v2.ToImage(), resize),
    }
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for repeat in range(repeats):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            rates[name].append(len(files) / (time.perf_counter() - start))
            print(f"  repeat {repeat + 1}  {name:<28} {rates[name][-1]:8.0f} images/s", flush=True)
    return rates


def anonymous_memory(files: list[Path], side: int) -> tuple[float, float]:
    """MB of RssAnon beyond the start, of a fresh process: after opening an existing cache, and after reading all of it."""
    from fieldmark.datasets.content import file_hash
    from fieldmark.datasets.images import Files
    from fieldmark.datasets.pixel_cache import Decoding, Selection, open_pixels

    with tempfile.TemporaryDirectory() as cache:
        hashes = [file_hash(file.read_bytes()) for file in files]
        open_pixels(Selection(Files(Path("/")), [str(file) for file in files], hashes), Decoding(side, "squash"), Path(cache))
        request = json.dumps({"files": [str(file) for file in files], "hashes": hashes, "side": side, "cache": cache})
        answer = subprocess.run([sys.executable, __file__, "--measure-memory"], input=request, capture_output=True, text=True, check=True)
    opened, read = json.loads(answer.stdout)
    return opened, read


def measure_memory() -> None:
    """In a fresh process; the request is read, and everything imported, before the first measurement."""
    from fieldmark.datasets.images import Files
    from fieldmark.datasets.pixel_cache import Decoding, Selection, open_pixels

    request = json.loads(sys.stdin.read())
    selection = Selection(Files(Path("/")), request["files"], request["hashes"])
    before = rss_anon()
    array = open_pixels(selection, Decoding(request["side"], "squash"), Path(request["cache"])).array
    opened = rss_anon()
    order = np.random.default_rng(0).permutation(len(array))
    total = 0
    for start in range(0, len(order), BATCH):
        total += int(array[np.sort(order[start : start + BATCH])].sum())
    assert total > 0
    print(json.dumps([opened - before, rss_anon() - before]))


def rss_anon() -> float:
    """MB of this process's memory that no file backs."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) / 1000
    raise SystemExit("this kernel does not report RssAnon")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--side", type=int, default=240)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--images", type=int, default=4000, help="how many images to use, drawn at random")
    arguments = parser.parse_args()

    from torchvision.datasets import ImageFolder

    data = arguments.data / "train" if (arguments.data / "train").is_dir() else arguments.data
    every = [Path(path) for path, _ in ImageFolder(data).samples]
    rows = np.random.default_rng(0).permutation(len(every))[: arguments.images].tolist()
    files = [every[row] for row in rows]

    print(f"Decoding {len(files):,} images to {arguments.side} x {arguments.side}:")
    rates = images_per_second(data, files, rows, arguments.side, arguments.repeats)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    ratios = {name: medians["fieldmark"] / median for name, median in medians.items() if name != "fieldmark"}
    for name, ratio in ratios.items():
        print(f"fieldmark {medians['fieldmark']:.0f} images/s : {name} {medians[name]:.0f} images/s = {ratio:.2f}")

    print("Anonymous memory beyond the start, MB:")
    memory = {}
    for count in [size for size in SIZES if size < len(files)] + [min(len(files), SIZES[-1])]:
        memory[count] = anonymous_memory(files[:count], arguments.side)
        opened, read = memory[count]
        tiles = count * 3 * arguments.side**2 / 1e6
        print(f"  {count:5,} images ({tiles:6.0f} MB of tiles)  after opening {opened:6.1f}  after reading all {read:6.1f}")
    print(json.dumps({"images_per_second": medians, "ratio": ratios, "memory_mb": memory}))


if __name__ == "__main__":
    measure_memory() if sys.argv[1:] == ["--measure-memory"] else main()
