"""A benchmark on disk: its figures for scripts, and its chart."""

from __future__ import annotations

from pathlib import Path

from fieldmark.core.files import storage_error, write_json
from fieldmark.reports.charts.chart import save_png
from fieldmark.speed.benchmark import Benchmark
from fieldmark.speed.chart import latency_chart


def write_benchmark(found: Benchmark, folder: Path) -> None:
    """benchmark.json and benchmark.png, in a folder that is made if there is none. Raises InputError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder) from error
    write_json(folder / "benchmark.json", found.to_dict())
    save_png([[latency_chart(found)]], folder / "benchmark.png")
