"""Fieldmark's training loop against the plain hand-written one, in turn on one machine.

    python benchmarks/versus_plain.py DATA --weights mobilenetv2_100.safetensors --size 160 --batch 64

Alternates `plain_loop.py --steps` and `loop.py`, each in a process of its own, and prints images/s of training steps of both and the ratio
of neighbouring pairs. The plain loop flips and shifts; Fieldmark crops, resizes and flips. Run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path


def last_json_line(command: list[str]) -> dict[str, float]:
    done = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.strip().splitlines()[-1]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--weights", required=True)
    parser.add_argument("--size", default="160")
    parser.add_argument("--batch", default="64")
    parser.add_argument("--steps", default="20")
    parser.add_argument("--repeats", type=int, default=4)
    args = parser.parse_args()
    here = Path(__file__).parent
    common = [args.data, "--weights", args.weights, "--size", args.size, "--steps", args.steps]
    ratios, plain_speeds, fieldmark_speeds = [], [], []
    for _ in range(args.repeats):
        plain = last_json_line([str(here / "plain_loop.py"), *common, "--batch", args.batch])["images_per_second"]
        ours = last_json_line([str(here / "loop.py"), *common, f"train.batch={args.batch}"])["loop"]
        plain_speeds.append(plain)
        fieldmark_speeds.append(ours)
        ratios.append(ours / plain)
        print(f"fieldmark {ours:6.1f}  plain {plain:6.1f} images/s  ratio {ratios[-1]:.2f}", flush=True)
    medians = {"fieldmark": statistics.median(fieldmark_speeds), "plain": statistics.median(plain_speeds)}
    print(json.dumps({**medians, "median_ratio": round(statistics.median(ratios), 3)}))


if __name__ == "__main__":
    main()
