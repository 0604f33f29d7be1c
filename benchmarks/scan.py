"""What it costs to see that files have not changed: the scan of a folder that was scanned before.

Seconds of the first scan, which reads and hashes every file, and of later ones, which look at each file's stamp; the processor's as well,
which other work on the machine does not lengthen as much. With PYTHONPATH at another
version's src, that version is measured on the same files.

    python benchmarks/scan.py --files 20000 --repeats 7

The files are JPEGs of noise, 64 pixels to a side, in 100 class folders below --folder, which is made if it is not there. The last line
is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, SIDE, SETTLED = 100, 64, 2.5


def make(folder: Path, files: int) -> None:
    if folder.exists():
        return
    random = np.random.default_rng(0)
    for number in range(files):
        path = folder / f"{number % CLASSES:03d}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 255, (SIDE, SIDE, 3), np.uint8)).save(path)
    time.sleep(SETTLED)  # a file of this moment is read again


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fieldmark-scan")
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=7)
    given = parser.parse_args()

    from fieldmark.datasets.content import scan
    from fieldmark.datasets.layouts import read_dataset

    make(given.folder, given.files)
    dataset = read_dataset(given.folder, "class-folders")
    seconds, processor = [], []
    with tempfile.TemporaryDirectory() as cache:
        for _ in range(1 + given.repeats):
            began, busy = time.perf_counter(), time.process_time()
            scan(dataset, cache_dir=Path(cache))
            seconds.append(time.perf_counter() - began)
            processor.append(time.process_time() - busy)
    for name, (first, *later) in {"seconds": seconds, "processor seconds": processor}.items():
        middle = statistics.median(later)
        print(f"{len(dataset):,} files, {name}: first {first:.2f}, later {middle:.3f} ({min(later):.3f} to {max(later):.3f})")
    print(json.dumps({"files": len(dataset), "seconds": seconds, "processor_seconds": processor}))


if __name__ == "__main__":
    main()
