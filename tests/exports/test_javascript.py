import base64
import io
import itertools
import json
import shutil
import subprocess

import numpy as np
import PIL
import pytest
from exported_answers import same_answers, with_wall
from javascript import PACKAGES, PROGRAM, call, node
from odd_images import pixels, write_odd_images
from PIL import Image

import fieldmark
from fieldmark.answering.answerer import Answerer
from fieldmark.answering.networks import Networks
from fieldmark.cli.answers import answer_as_json
from fieldmark.runtime.preprocess import Preprocess, square
from fieldmark.scoring.decisions import Wanted, fit_decisions
from fieldmark.scoring.predictions import Predictions
from fieldmark.scoring.rejection_scores import SCORES

SIZES = [(64, 48, 32), (31, 57, 40), (300, 200, 64), (7, 5, 16), (33, 33, 33), (3, 200, 24), (641, 97, 50), (1, 1, 8), (63, 96, 48)]


def given(image: np.ndarray) -> dict:
    return {"width": image.shape[1], "height": image.shape[0], "data": base64.b64encode(image.tobytes()).decode()}


def returned(found: dict) -> np.ndarray:
    return np.frombuffer(base64.b64decode(found["data"]), np.uint8).reshape(found["height"], found["width"], 3)


def encoded(image: np.ndarray, format: str = "PNG", **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, format, **options)
    return stream.getvalue()


def test_squares_are_those_of_fieldmark_to_the_byte(tmp_path):
    """Before version 13, Pillow went along the rows first whatever the shape, which is a difference of rounding."""
    far = 0 if int(PIL.__version__.split(".")[0]) >= 13 else 1
    cases = list(itertools.product(SIZES, ("squash", "shorter-side", "letterbox")))
    found = call(tmp_path, *(("square", given(pixels(width, height)), size, how) for (width, height, size), how in cases))
    for ((width, height, size), how), square_of_node in zip(cases, found, strict=True):
        expected = square(encoded(pixels(width, height)), size, how)
        seen = returned(square_of_node).transpose(2, 0, 1).astype(int)
        np.testing.assert_allclose(seen, expected, rtol=0, atol=far, err_msg=f"{width} x {height} -> {size}, {how}")


LEVELS = {"genus": ["b", "a", "b", "a", "c", "c"]}


class Table:
    """A network whose outputs for an image are those of the row that its red says."""

    preprocess = Preprocess(8, "squash", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

    def __init__(self, predictions: Predictions):
        self.predictions = predictions

    def __call__(self, images):
        rows = images[:, 0, 0, 0]
        return self.predictions.logits[rows], self.predictions.features[rows]


def predictions(n: int, seed: int) -> Predictions:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 6, n).astype(np.int32)
    genus = np.array(LEVELS["genus"])
    logits = (random.normal(size=(n, 6)) + 0.7 * np.eye(6)[labels] + 3 * (genus == genus[labels][:, None])).astype(np.float32)
    features = (random.normal(size=(n, 10)) + 3 * np.eye(6, 10)[labels]).astype(np.float32)
    names = tuple(f"class {index}" for index in range(6))
    return Predictions(np.array([f"{row}.jpg" for row in range(n)]), labels, logits, features, names)


@pytest.mark.parametrize("scaling", ["temperature", "vector"])
def test_what_is_decided_is_what_fieldmark_decides(scaling, tmp_path):
    train, val, new = predictions(120, 1), predictions(200, 2), predictions(40, 3)
    new.logits[-1, 0] = np.nan
    calls, expected = [], []
    for name in SCORES:
        fitted = fit_decisions(train, val, LEVELS, Wanted(score=name, scaling=scaling, precision=0.85))
        fitted.score.save(tmp_path / f"{name}.safetensors")
        answerer = Answerer(Networks((Table(new),)), new.class_names, fitted.decisions, fitted.score, LEVELS)
        bundle = {"class_names": new.class_names, "levels": LEVELS, "decisions": fitted.decisions.record.model_dump(by_alias=True)}
        for row in range(len(new)):
            expected.append(json.loads(answer_as_json(answerer.answer(encoded(np.full((8, 8, 3), row, np.uint8))))))
            logits = [None if np.isnan(each) else float(each) for each in new.logits[row]]
            calls.append(("decide", bundle, str(tmp_path / f"{name}.safetensors"), logits, new.features[row].tolist()))
    found = call(tmp_path, *calls)
    for ours, theirs in zip(expected, found, strict=True):
        same_answers({"path": "", **theirs}, ours)
    assert {answer["unknown"] for answer in expected} == {True, False, None} and {len(answer["among"]) for answer in expected} >= {1, 2}
    assert {answer["coarser"].get("genus") in LEVELS["genus"] for answer in expected} == {True, False}


@pytest.mark.slow
def test_the_program_answers_as_fieldmark_does(finished_run, birds, tmp_path):
    pytest.importorskip("onnxruntime")
    bundle = fieldmark.export(finished_run, tmp_path / "bundle", batch=2, include=["enroll"], quiet=True)
    npm = shutil.which("npm") or pytest.skip("npm is not on this machine")
    installed = subprocess.run(
        [npm, "install", "--ignore-scripts", "--no-audit", "--no-fund", *PACKAGES],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    if installed.returncode:
        pytest.skip(f"npm could not install {', '.join(PACKAGES)}: {installed.stderr.strip().splitlines()[-1:]}")
    assert (bundle.path / "predict.mjs").read_bytes() == PROGRAM.read_bytes()
    files = [*sorted((bundle.path / "examples").glob("*.png")), *write_odd_images(tmp_path / "odd"), *sorted(birds.glob("test/*/*"))]
    missing = tmp_path / "missing.png"
    for each in (bundle, with_wall(bundle, tmp_path / "enrolled")):
        done = subprocess.run([node(), each.path / "predict.mjs", each.path, *files, missing], capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr
        found = [json.loads(line) for line in done.stdout.splitlines()]
        for ours, theirs in zip(each.predict(files), found, strict=False):
            same_answers(theirs, json.loads(answer_as_json(ours)))
        assert found[-1]["classes"] == [] and "no such file" in found[-1]["note"]
