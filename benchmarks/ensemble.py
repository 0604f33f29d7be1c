"""Memory and time of an ensemble of ten, compared with one of its members.

    python benchmarks/ensemble.py RUN [RUN ...] --members 10

Makes an equal mean of this many members, the given runs and copies of them, in a temporary folder. Then one run and the ensemble take
turns, each in a process of its own: `evaluate` on test, one network after another, and `predict` of the same images from their files, all
networks in memory at once. Prints medians: seconds of the work, without importing; images per second; and the largest resident memory of
the process. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from fieldmark.core.console import Console
from fieldmark.ensembles.ensemble import make_ensemble
from fieldmark.ensembles.members import open_members
from fieldmark.ensembles.method import MeanOf
from fieldmark.evaluation.evaluate import evaluate_run
from fieldmark.evaluation.run import Run
from fieldmark.scoring.predictions import Predictions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path)
    parser.add_argument("--members", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", choices=["evaluate", "predict"], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.work:
        print(json.dumps(measured(args.runs[0], args.work)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        members = [shutil.copytree(args.runs[index % len(args.runs)], Path(scratch) / f"{index:03}") for index in range(args.members)]
        started = time.perf_counter()
        ensemble = make_ensemble(open_members(members), MeanOf(), Path(scratch) / "ensemble", Console(quiet=True)).path
        answer: dict[str, float] = {"members": args.members, "made_seconds": time.perf_counter() - started}
        for work in ("evaluate", "predict"):
            results: dict[str, list[dict[str, float]]] = {"one": [], "ensemble": []}
            for _ in range(args.repeats):
                for name, run in (("one", members[0]), ("ensemble", ensemble)):
                    command = [sys.executable, __file__, str(run), "--work", work]
                    results[name].append(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
                    print(work, name, results[name][-1], flush=True)
            for name, found in results.items():
                for key in found[0]:
                    answer[f"{work}_{name}_{key}"] = statistics.median(each[key] for each in found)
            answer[f"{work}_times"] = answer[f"{work}_ensemble_seconds"] / answer[f"{work}_one_seconds"]
            answer[f"{work}_memory_times"] = answer[f"{work}_ensemble_peak_mib"] / answer[f"{work}_one_peak_mib"]
    print(json.dumps({key: round(value, 2) for key, value in answer.items()}))


def measured(path: Path, work: str) -> dict[str, float]:
    run = Run.load(path)
    test = Predictions.load(run.folder.predictions / "test.npz", features=False)
    root = Path(run.folder.manifest().data.root)
    started = time.perf_counter()
    if work == "evaluate":
        evaluate_run(run, None, "test", Console(quiet=True))
    else:
        assert len(run.predict([root / each for each in test.ids.tolist()], top=1)) == len(test)
    seconds = time.perf_counter() - started
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 2**10
    return {"seconds": seconds, "images_per_second": len(test) / seconds, "peak_mib": peak}


if __name__ == "__main__":
    main()
