"""Reading a table of a million images, as CSV and as Parquet: seconds, and peak memory beyond that of the process before it. Linux only.

Each is read in a fresh process, pyarrow's import included; the images themselves do not exist, because no layout reader opens them.

    python benchmarks/million_rows.py --rows 1000000 --repeats 3

The last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

CLASSES = 1000
PER_GENUS = 5
PER_GROUP = 3

READ = r"""
import json, re, sys, time
from pathlib import Path
from fieldmark.datasets.layouts import read_dataset
# Not getrusage: its peak of a process begins with that of the process that started it.
peak = lambda: int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10
before, start = peak(), time.perf_counter()
dataset = read_dataset(Path(sys.argv[1]))
seconds = time.perf_counter() - start
assert dataset.boxes is not None and dataset.groups is not None and [level.name for level in dataset.levels] == ["genus"]
print(json.dumps({"rows": len(dataset), "classes": len(dataset.class_names), "seconds": seconds, "mebibytes": peak() - before}))
"""


def rows(count: int) -> Iterator[tuple[str, str, str, int, int, int, int, str, str]]:
    """path, label, split, left, top, width, height, genus and group, in random order of classes."""
    randomness = random.Random(0)
    for number in range(count):
        label = randomness.randrange(CLASSES)
        left, top, width, height = (randomness.randrange(1, 400) for _ in range(4))
        split = randomness.choices(("train", "val", "test"), (8, 1, 1))[0]
        genus = f"Genus{label // PER_GENUS}"
        path = f"images/{label:04d}/{randomness.getrandbits(64):016x}.jpg"
        yield path, f"{genus} species{label}", split, left, top, width, height, genus, f"bird {number // PER_GROUP}"


def write(folder: Path, count: int) -> list[Path]:
    import pyarrow.csv
    import pyarrow.parquet

    text = folder / "million.csv"
    with text.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("path", "label", "split", "left", "top", "width", "height", "genus", "group"))
        table.writerows(rows(count))
    pyarrow.parquet.write_table(pyarrow.csv.read_csv(text), folder / "million.parquet")
    return [text, folder / "million.parquet"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        for file in write(Path(folder), arguments.rows):
            runs = [
                json.loads(subprocess.run([sys.executable, "-c", READ, file], check=True, capture_output=True, text=True).stdout)
                for _ in range(arguments.repeats)
            ]
            assert all(run["rows"] == arguments.rows for run in runs)
            kind, size = file.suffix[1:], file.stat().st_size / 2**20
            results[kind] = {name: round(statistics.median(run[name] for run in runs), 2) for name in ("seconds", "mebibytes")}
            print(f"{kind:8} {size:6.1f} MiB: {results[kind]['seconds']:.1f} s, {results[kind]['mebibytes']:.0f} MiB at most", flush=True)
    print(json.dumps({"rows": arguments.rows, **results}))


if __name__ == "__main__":
    main()
