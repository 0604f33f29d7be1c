"""The table of a study of 200 runs at the size of Stanford Cars' test set: seconds by stage, and peak memory. Linux only.

40 rungs, five seeds each; every run has 8,041 images, 196 classes and 64 features, and one of them is cut short. The runs are synthetic,
not trained. The table is made in a fresh process: read, statistics, files, figures, page.

    python benchmarks/study_table.py --rungs 40 --seeds 5

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TESTS = Path(__file__).resolve().parents[1] / "tests"
sys.path[:0] = [str(TESTS), str(TESTS / "studies")]

TABLE = r"""
import json, re, sys, time
from pathlib import Path

seconds, last = {}, time.perf_counter()
def stage(name):
    global last
    seconds[name], last = round(time.perf_counter() - last, 2), time.perf_counter()

from fieldmark.studies.analysis import study_table
from fieldmark.studies.figures import write_figures
from fieldmark.studies.formats import write_table
from fieldmark.studies.page import write_page
from fieldmark.studies.plan import StudyPlan
from fieldmark.studies.results import read_results
stage("imports")
plan = StudyPlan.load(Path(sys.argv[1]))
results = read_results(plan)
stage("read")
table = study_table(plan, results)
stage("statistics")
write_table(plan, table)
stage("files")
write_figures(plan, table, results)
stage("figures")
page = write_page(plan, table, results)
stage("page")
assert len(results.broken) == 1, results.absent
peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10
used = {"processor_seconds": round(time.process_time(), 2), "mebibytes": round(peak), "page_kilobytes": page.stat().st_size // 1000}
print(json.dumps({"finished": len(results.outcomes), **seconds, **used}))
"""


def main() -> None:
    from synthetic import ladder, synthetic_study

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rungs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        accuracies = [70 + 0.2 * rung for rung in range(arguments.rungs)]
        size = {"images": 8041, "classes": 196, "features": 64, "epochs": 30}
        plan = synthetic_study(Path(folder) / "study", ladder(arguments.rungs - 1), accuracies, range(arguments.seeds), **size)
        broken = plan.run_path(plan.datasets[0], plan.rungs[arguments.rungs // 2], plan.seeds[-1]) / "predictions" / "test.npz"
        broken.write_bytes(broken.read_bytes()[:1_000_000])
        began = time.perf_counter()
        ended = subprocess.run([sys.executable, "-c", TABLE, plan.folder], check=True, capture_output=True, text=True)
        measured = {**json.loads(ended.stdout), "seconds": round(time.perf_counter() - began, 2)}
    stages = ", ".join(f"{name} {measured[name]:.1f}" for name in ("imports", "read", "statistics", "files", "figures", "page"))
    used = f"{measured['processor_seconds']:.1f} s of processor time, {measured['mebibytes']:,} MiB at most"
    print(f"{measured['finished']} runs and a broken one: {measured['seconds']:.1f} s ({stages}), {used}")
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
