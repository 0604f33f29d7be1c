"""What every format that a tool exports to, and quantises, has to do."""

import os

import numpy as np
import pytest

import fieldmark
from fieldmark.bundles.parity import Parity
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.exports import cures as chain
from fieldmark.exports.exporter import Cures, Source
from fieldmark.exports.exporters import exporter_of

LENIENT = {"int8": True, "max_loss": 25, "max_changed": 25}
FORMATS = {
    "openvino": ("xml", "bin", "NCHW", {"openvino"}, "NNCF"),
    "litert": ("tflite", "tflite", "NHWC", {"ai-edge-litert", "litert-torch"}, "ai-edge-quantizer"),
    "executorch": ("pte", "pte", "NCHW", {"executorch", "torch"}, "XNNPACKQuantizer"),
}
"""By format: the endings of the graph and of the file with its weights, the layout, packages that are recorded, and the tool."""


@pytest.fixture(scope="module", params=FORMATS)
def format(request):
    try:
        exporter_of(request.param).require()
    except InputError as error:
        pytest.skip(str(error))
    return request.param


@pytest.fixture(scope="module")
def float_bundle(format, finished_run, tmp_path_factory):
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "float", format=format, batch=(1, 4), quiet=True)


@pytest.fixture(scope="module")
def int8_bundle(format, finished_run, tmp_path_factory):
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "int8", format=format, quiet=True, **LENIENT)


def test_a_bundle_answers_as_its_run_does(format, float_bundle, finished_run, birds):
    ours, theirs = finished_run.predict(birds / "test"), float_bundle.predict(birds / "test")
    assert [answer.classes for answer in theirs] == [answer.classes for answer in ours]
    for run, bundle in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(bundle.probabilities, run.probabilities, atol=1e-4)
    graph, weights, layout, packages, _ = FORMATS[format]
    record = float_bundle.record
    assert record.graph.files == {batch: f"model-{batch}.{graph}" for batch in ("1", "4")} and record.graph.layout == layout
    assert {f"model-{batch}.{weights}" for batch in ("1", "4")} <= set(record.files) and packages <= record.versions.keys()
    shape = "(batch, 3, height, width)" if layout == "NCHW" else "(batch, height, width, 3)"
    assert shape in (float_bundle.path / "README.md").read_text()


def test_an_int8_bundle_answers_nearly_as_its_run_does(format, int8_bundle, float_bundle, finished_run, birds):
    parity = Parity.read(int8_bundle.path / "parity.json")
    assert parity.agreement.equal >= 0.75 * parity.agreement.n and parity.attempts[-1].reason == ""
    _, weights, _, _, tool = FORMATS[format]
    quantisation = int8_bundle.record.quantisation
    assert quantisation.tool == tool and quantisation.images == len(finished_run.predictions("train"))
    pixels = np.stack([finished_run.preprocess.pixels(path) for path in sorted(birds.glob("train/*/*.png"))[:9]])
    for ours, theirs in zip(float_bundle.session.outputs(pixels), int8_bundle.session.outputs(pixels), strict=True):
        assert 0 < np.abs(ours - theirs).mean() < 0.2 * ours.std()
    sizes = [(bundle.path / f"model-1.{weights}").stat().st_size for bundle in (int8_bundle, float_bundle)]
    assert sizes[0] < sizes[1] / 2


def test_two_exports_of_a_run_are_alike(format, int8_bundle, finished_run, tmp_path):
    again = fieldmark.export(finished_run, tmp_path / "again", format=format, quiet=True, **LENIENT)
    for name in {f"model-1.{ending}" for ending in FORMATS[format][:2]}:
        assert again.record.files[name] == int8_bundle.record.files[name]
        assert os.fsencode(tmp_path) not in (again.path / name).read_bytes()


def test_a_collapsed_int8_graph_leaves_no_bundle(format, finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(Source, "calibration", property(lambda source: np.zeros((4, 3, 32, 32), np.uint8)))
    monkeypatch.setattr(chain, "in_order", lambda known, has: iter([lambda cures: Cures(percentile=True)]))
    with pytest.raises(CheckFailed, match=rf"no bundle was written: in {format} int8.*% of the answers changed") as failed:
        fieldmark.export(finished_run, tmp_path / "bundle", format=format, int8=True, quiet=True)
    assert failed.value.exit_code == 1 and os.listdir(tmp_path) == []


def test_nothing_of_its_tools_reaches_the_console(format, finished_run, tmp_path, capfd):
    fieldmark.export(finished_run, tmp_path / "bundle", format=format, **LENIENT)
    out, err = capfd.readouterr()
    lines = (f"{format} int8 for 1 image", "batch 1: ", "5 images of val ", "the bundle is ", "correcting biases")
    if format != "openvino":
        lines += ("calibrating",)
    assert out == "" and all(line.startswith(lines) for line in err.splitlines()), err
