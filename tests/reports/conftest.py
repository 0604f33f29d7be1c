"""Runs whose reports are hard to write: names that would be code, and many of everything."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fieldmark
from fieldmark.core.manifest import Origin
from fieldmark.core.run_folder import RunFolder
from fieldmark.datasets.content import file_hash
from fieldmark.evaluation.run import Run
from fieldmark.models.factory import build_model
from fieldmark.models.weights import read_weights, save_weights
from fieldmark.scoring.predictions import Predictions

HOSTILE = ("\"quoted\" & 'single' <img src=x onerror=alert(1)>", "<script>alert(1)<\\script>", "{{ 7 * 7 }} \u202eevil " + "very" * 40)


@pytest.fixture(scope="session")
def hostile_run(birds: Path, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Names of classes and files that would be code in a page; one image, <u>broken.png of the first class, cannot be read."""
    root = tmp_path_factory.mktemp("data") / 'a "set" <b>'
    for name, folder in zip(HOSTILE, sorted((birds / "train").iterdir()), strict=True):
        (root / name).mkdir(parents=True)
        for index, file in enumerate(sorted(folder.iterdir())):
            shutil.copy(file, root / name / f'<i>{index}\' onload="x".png')
    (root / HOSTILE[0] / "<u>broken.png").write_bytes(b"not an image")
    return fieldmark.train(root, *tiny("data.max_unreadable=0.1"), out=tmp_path_factory.mktemp("runs") / "<em>run", quiet=True)


@pytest.fixture(scope="session")
def large_run(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """200 classes and 5,000 images in test, all of them noise, which no JPEG makes small. Some classes are never right."""
    classes, n = 200, 5000
    rng = np.random.default_rng(0)
    names = tuple(f"{'Éëp'[index % 3]}species {index} with a long name" for index in range(classes))
    folder = tmp_path_factory.mktemp("large")
    noise = folder / "noise.jpg"
    Image.fromarray(rng.integers(0, 255, (400, 400, 3), np.uint8)).save(noise, quality=95)
    labels = rng.integers(0, classes, n).astype(np.int32)
    ids = [f"test/{label}/{index}.jpg" for index, label in enumerate(labels)]
    for path in ids:
        (folder / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / "data" / path).hardlink_to(noise)

    shutil.copytree(finished_run.path, folder / "run")
    run = RunFolder(folder / "run")
    run.update_manifest(data=Origin(name="many", root=str(folder / "data"), layout="class-folders"))
    logits = (rng.normal(size=(n, classes)) + 4 * np.eye(classes)[labels] * (labels > 3)[:, None]).astype(np.float32)
    Predictions(np.array(ids), labels, logits, np.zeros((n, 8), np.float32), names).save(run.predictions / "test.npz")
    rows = [(f"{split}/{label}.jpg", label, split) for split in ("train", "val") for label in range(classes)]
    rows += [(path, int(label), "test") for path, label in zip(ids, labels, strict=True)]
    given = {"hash": file_hash(noise.read_bytes()), "note": ""}
    # A network with as many classes, whose answers are not those of the predictions: the maps are of no matter.
    wide, metadata = build_model(Run.load(run.path).recipe.model, classes, 32, seed=0).model, read_weights(run.best_weights)[1]
    save_weights(wide, run.best_weights, metadata | {"class_names": list(names)})
    run.calibration_file.unlink()
    table = [{"path": path, "label": names[label], "split": split, **given} for path, label, split in rows]
    pq.write_table(pa.Table.from_pylist(table), run.split_file)
    return Run.load(run.path)
