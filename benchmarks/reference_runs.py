"""Digests of the weights and predictions of short trainings, to compare before and after a change that should change none of them.

    python benchmarks/reference_runs.py digests.json                 # trains; writes name -> file -> digest
    python benchmarks/reference_runs.py other.json --against digests.json

Each run is a process of its own, with one thread, so that the digests repeat on one machine. To measure another commit, put its src first
on PYTHONPATH. Exit code 1 if something differs.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from safetensors import safe_open

SMALL = ("model.name=small_cnn", "model.weights=none", "data.size=32", "train.epochs=3", "train.batch=16", "evaluate.resamples=100")
FIXED = ("train.precision=float32", "train.memory_format=channels-last", "train.threads=1")
STAGES = "stages=[{epochs: 2, trainable: [head]}, {lr_factor: 0.1}]"
RUNS = {
    "demo": ("demo", *FIXED, "train.epochs=2", "data.subset.name=per-class", "data.subset.count=12"),
    "default": ("train", "BIRDS", *SMALL, *FIXED),
    "default-seed-1": ("train", "BIRDS", *SMALL, *FIXED, "train.seed=1"),
    "bfloat16": ("train", "BIRDS", *SMALL, *FIXED, "train.precision=bfloat16"),
    "measured-mean": ("train", "BIRDS", *SMALL, *FIXED, "data.normalise=measured", "data.resize=letterbox"),
    "refined": ("train", "BIRDS", "--recipe", "refined", *SMALL, *FIXED, "ema.every=2", "schedule.warmup_epochs=0.5"),
    "two-stage": ("train", "BIRDS", "--recipe", "two-stage", *SMALL, *FIXED, "augment.crop.name=none", "augment.flip=0", "augment.rotate=0",
                  "augment.zoom=[1, 1]", "augment.contrast=0", "train.patience=null", STAGES),
    "cached-views": ("train", "BIRDS", *SMALL, *FIXED, "train.epochs=4", "schedule.warmup_epochs=0.5",
                     "stages=[{epochs: 3, trainable: [head], views: 2}, {lr_factor: 0.1}]"),
    "refit": ("train", "BIRDS", *SMALL, *FIXED, "train.refit=true"),
    "ema-better": ("train", "BIRDS", *SMALL, *FIXED, "ema.name=exponential", "ema.decay=0.8", "ema.use=better"),
    "mixup": ("train", "BIRDS", *SMALL, *FIXED, "augment.mix.name=mixup"),
    "micro-batch": ("train", "BIRDS", *SMALL, *FIXED, "train.micro_batch=8", "train.clip_norm=1.0"),
    "plateau": ("train", "BIRDS", *SMALL, *FIXED, "schedule.name=plateau", "optim.name=sgd", "optim.lr=0.05", "train.epochs=5"),
    "fold-0": ("train", "BIRDS", *SMALL, *FIXED, "data.folds=2", "data.fold=0", "data.splits=own"),
    "fold-1": ("train", "BIRDS", *SMALL, *FIXED, "data.folds=2", "data.fold=1", "data.splits=own"),
    "mean": ("ensemble", "DEFAULT", "DEFAULT-SEED-1", "--method", "mean"),
    "stack": ("ensemble", "DEFAULT", "DEFAULT-SEED-1", "--method", "stack"),
    "soup": ("ensemble", "DEFAULT", "DEFAULT-SEED-1", "--method", "soup", "--ingredients", "all"),
    "folds": ("ensemble", "FOLD-0", "FOLD-1", "--method", "mean"),
}  # fmt: skip


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--against", type=Path)
    parser.add_argument("--only", nargs="*", default=list(RUNS))
    arguments = parser.parse_args()
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    found: dict[str, dict[str, str]] = {}
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        environment["FIELDMARK_CACHE"] = str(root / "cache")
        fieldmark(["birds", str(root / "birds"), "--species", "6", "--per-class", "40", "--size", "48"], environment)
        for name in arguments.only:
            command, *words = RUNS[name]
            words = list({word.partition("=")[0]: word for word in words}.values())  # the last of each key
            words = [str(root / word.lower()) if word.isupper() else word for word in words]
            fieldmark([command, *words, "--out", str(root / name)], environment)
            found[name] = digests(root / name)
            print(f"{name}: {len(found[name])} files", flush=True)
    arguments.out.write_text(json.dumps(found, indent=1) + "\n")
    if arguments.against is None:
        return 0
    before = json.loads(arguments.against.read_text())
    wrong = [
        f"{name}/{file}" for name in found for file in before[name].keys() | found[name] if before[name].get(file) != found[name].get(file)
    ]
    print(f"{sum(len(files) for files in found.values())} files compared; different: {', '.join(sorted(wrong)) or 'none'}")
    return 1 if wrong else 0


def fieldmark(words: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run([sys.executable, "-m", "fieldmark", *words, "--quiet"], env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"fieldmark {' '.join(words)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")


def digests(run: Path) -> dict[str, str]:
    """Of the tensors of a run's weights, those of its members too, and of the bytes of its predictions."""
    found = {str(path.relative_to(run)): digest(path.read_bytes()) for path in sorted(run.rglob("predictions/*.npz"))}
    for path in sorted(run.rglob("checkpoints/*.safetensors")):
        with safe_open(path, framework="np") as file:
            tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        content = b"".join(f"{name} {tensor.dtype} {tensor.shape}".encode() + tensor.tobytes() for name, tensor in tensors.items())
        found[str(path.relative_to(run))] = digest(content)
    return found


def digest(content: bytes) -> str:
    return hashlib.blake2b(content, digest_size=16).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
