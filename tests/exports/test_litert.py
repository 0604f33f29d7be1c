import errno
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fieldmark
from fieldmark.bundles.litert_graph import open_litert
from fieldmark.bundles.parity import Parity
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.recipe.model import Model
from fieldmark.exports import cures as chain
from fieldmark.exports import litert_int8
from fieldmark.exports.exporter import Cures, Source
from fieldmark.exports.litert import LiteRtExporter
from fieldmark.exports.litert_int8 import Graph
from fieldmark.exports.network import DeployedEnsemble, DeployedNetwork
from fieldmark.models.factory import build_model
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Stack

pytest.importorskip("litert_torch")
pytest.importorskip("ai_edge_quantizer")


def source_of(work: Path, *names: str, size: int = 32, combination=None) -> Source:
    """Networks with random weights, and images of noise."""
    seen = Preprocess(size, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    built = [build_model(Model(name=name, weights="none"), 4, size, seed=seed).model for seed, name in enumerate(names)]
    members = [DeployedNetwork(model, seen).eval() for model in built]
    network = members[0] if combination is None else DeployedEnsemble(members, combination).eval()
    images = np.random.default_rng(0).integers(0, 256, (12, 3, size, size), np.uint8)
    work.mkdir(exist_ok=True)
    return Source(None, network, work, Console(quiet=True), lambda n: images[:n])


def outputs_of(path: Path, source: Source, batch: int = 1) -> list[np.ndarray]:
    run = open_litert(path, SimpleNamespace(graph=SimpleNamespace(outputs=source.network.outputs)), 1)
    images = np.ascontiguousarray(source.calibration.transpose(0, 2, 3, 1))
    parts = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


@torch.no_grad()
def expected_of(source: Source) -> list[np.ndarray]:
    return [output.numpy() for output in source.network(torch.from_numpy(source.calibration))]


def layers_in_int8(path: Path) -> int:
    return sum(node.in_int8 and node.multiplications > 0 for node in Graph.read(path).nodes)


def layers_of(source: Source) -> int:
    return sum(isinstance(each, (torch.nn.Conv2d, torch.nn.Linear)) for each in source.network.modules())


def quantised(source: Source, folder: Path, cures: Cures = Cures(), batch: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    (name,) = LiteRtExporter().quantise(source, batch, folder, cures)
    return folder / name


@pytest.fixture(scope="module")
def float_bundle(finished_run, tmp_path_factory):
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "float", format="litert", batch=(1, 4), quiet=True)


@pytest.fixture(scope="module")
def int8_bundle(finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "int8"
    return fieldmark.export(finished_run, out, format="litert", int8=True, max_loss=25, max_changed=25, quiet=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small network whose work folder keeps its graph."""
    return source_of(tmp_path_factory.mktemp("source") / "work", "test_efficientnet")


def test_a_bundle_answers_as_its_run_does(float_bundle, finished_run, birds):
    ours, theirs = finished_run.predict(birds / "test"), float_bundle.predict(birds / "test")
    assert [answer.classes for answer in theirs] == [answer.classes for answer in ours]
    for run, bundle in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(bundle.probabilities, run.probabilities, atol=1e-4)
    record = float_bundle.record
    assert record.graph.files == {"1": "model-1.tflite", "4": "model-4.tflite"} and record.graph.layout == "NHWC"
    assert {"ai-edge-litert", "litert-torch"} <= record.versions.keys()
    assert "(batch, height, width, 3)" in (float_bundle.path / "README.md").read_text()


def test_an_int8_bundle_answers_nearly_as_its_run_does(int8_bundle, float_bundle, finished_run, birds):
    parity = Parity.read(int8_bundle.path / "parity.json")
    assert parity.agreement.equal >= 0.75 * parity.agreement.n and parity.attempts[-1].reason == ""
    quantisation = int8_bundle.record.quantisation
    assert quantisation.tool == "ai-edge-quantizer" and quantisation.images == len(finished_run.predictions("train"))
    pixels = np.stack([finished_run.preprocess.pixels(path) for path in sorted(birds.glob("train/*/*.png"))[:9]])
    for ours, theirs in zip(float_bundle.session.outputs(pixels), int8_bundle.session.outputs(pixels), strict=True):
        assert 0 < np.abs(ours - theirs).mean() < 0.2 * ours.std()
    sizes = [(bundle.path / "model-1.tflite").stat().st_size for bundle in (int8_bundle, float_bundle)]
    assert sizes[0] < sizes[1] / 2


def test_two_exports_of_a_run_are_alike(int8_bundle, finished_run, tmp_path):
    limits = {"max_loss": 25, "max_changed": 25}
    again = fieldmark.export(finished_run, tmp_path / "again", format="litert", int8=True, quiet=True, **limits)
    assert again.record.files["model-1.tflite"] == int8_bundle.record.files["model-1.tflite"]
    assert os.fsencode(tmp_path) not in (again.path / "model-1.tflite").read_bytes()


def test_a_collapsed_int8_graph_leaves_no_bundle(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(Source, "calibration", property(lambda source: np.zeros((4, 3, 32, 32), np.uint8)))
    monkeypatch.setattr(chain, "in_order", lambda known, has: iter([lambda cures: Cures(percentile=True)]))
    with pytest.raises(CheckFailed, match=r"no bundle was written: in litert int8.*% of the answers changed") as failed:
        fieldmark.export(finished_run, tmp_path / "bundle", format="litert", int8=True, quiet=True)
    assert failed.value.exit_code == 1 and os.listdir(tmp_path) == []


def test_nothing_of_its_tools_reaches_the_console(finished_run, tmp_path, capfd):
    fieldmark.export(finished_run, tmp_path / "bundle", format="litert", int8=True, max_loss=25, max_changed=25)
    out, err = capfd.readouterr()
    lines = ("calibrating", "litert int8 for 1 image", "batch 1: ", "5 images of val ", "the bundle is ", "correcting biases")
    assert out == "" and all(line.startswith(lines) for line in err.splitlines()), err


def test_an_ensemble_is_one_graph_whose_combination_is_float(tmp_path):
    stack = Stack((0, 1), np.eye(4, 8, dtype=np.float32), np.ones(4))
    source = source_of(tmp_path / "work", "test_efficientnet", "test_resnet", combination=stack)
    (name,) = LiteRtExporter().write(source, 3, tmp_path)
    assert name == "model-3.tflite"
    for found, expected in zip(outputs_of(tmp_path / name, source, 3), expected_of(source), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    path = quantised(source, tmp_path, batch=3)
    for found, expected in zip(outputs_of(path, source, 3), expected_of(source), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.2 * expected.std())
    in_float = [node.name for node in Graph.read(path).nodes if node.multiplications and not node.in_int8]
    assert layers_in_int8(path) > 20 and len(in_float) == 1


def test_a_transformer(tmp_path):
    source = source_of(tmp_path / "work", "vit_tiny_patch16_224")
    source.network.model.backbone.blocks = source.network.model.backbone.blocks[:2]
    for write, tolerance in ((LiteRtExporter().write, 1e-4), (lambda *given: LiteRtExporter().quantise(*given, Cures()), 0.2)):
        (name,) = write(source, 1, tmp_path)
        for found, expected in zip(outputs_of(tmp_path / name, source), expected_of(source), strict=True):
            np.testing.assert_allclose(found, expected, atol=tolerance * expected.std())
    assert Graph.read(tmp_path / name).share_in_int8 > 0.98 and not LiteRtExporter().has(source, "squeeze-excite")


def test_what_is_left_in_float_is_float(tmp_path):
    source = source_of(tmp_path / "work", "mobilenetv3_small_050", size=64)
    everything = layers_in_int8(quantised(source, tmp_path / "all"))
    rest = layers_in_int8(quantised(source, tmp_path / "some", Cures(in_float=("squeeze-excite", "stem", "head"))))
    squeezes = 2 * sum(type(each).__name__ == "SqueezeExcite" for each in source.network.modules())
    assert everything == layers_of(source) and squeezes > 0 and everything - rest == squeezes + 2
    assert all(LiteRtExporter().has(source, part) for part in chain._PARTS)


def test_outputs_and_normalised_pixels_are_not_rounded(source, tmp_path):
    graph = Graph.read(quantised(source, tmp_path))
    makers = {index: node for node in graph.nodes for index in node.outputs}
    for name in ("logits", "features", "map"):
        kinds, node = [], makers[graph.results[name]]
        while node.kind not in ("DEQUANTIZE", "CONV_2D"):
            kinds.append(node.kind)
            node = makers[node.inputs[0]]
        assert node.kind == "DEQUANTIZE" and kinds
    first = next(node for node in graph.nodes if node.kind == "QUANTIZE")
    before = [node.kind for node in graph.nodes[: graph.nodes.index(first)]]
    assert "MUL" in before and "CONV_2D" not in before


def test_percentile_ranges_leave_the_most_extreme_values_out(source, tmp_path, monkeypatch):
    monkeypatch.setattr(litert_int8, "_OUTSIDE", 1e-3)
    plain, cured = quantised(source, tmp_path / "plain"), quantised(source, tmp_path / "cured", Cures(percentile=True))
    extremes, percentiles = (json.loads((source.work / f"litert-1-{name}.json").read_text()) for name in ("extremes", "percentiles"))
    assert extremes.keys() == percentiles.keys()
    assert all(low <= lower <= higher <= high for (low, high), (lower, higher) in zip(extremes.values(), percentiles.values(), strict=True))
    assert extremes != percentiles and plain.read_bytes() != cured.read_bytes()


def test_calibrated_ranges_are_those_of_all_images(source, tmp_path):
    quantised(source, tmp_path)
    convolution = source.network.model.backbone.conv_stem
    seen = []
    with torch.no_grad(), convolution.register_forward_pre_hook(lambda module, given: seen.append(given[0])):
        source.network(torch.from_numpy(source.calibration))
    found = json.loads((source.work / "litert-1-extremes.json").read_text()).values()
    low, high = float(seen[0].min()), float(seen[0].max())
    assert any(each == pytest.approx((low, high), abs=1e-5) for each in found)


def test_what_it_cannot_express_is_said(tmp_path):
    source = source_of(tmp_path / "work", "test_efficientnet")
    source.network.model.backbone.conv_head = torch.nn.Sequential(source.network.model.backbone.conv_head, Special())
    with pytest.raises(InputError, match=r"LiteRT cannot express this network: it has no operator for aten\.special_bessel_j0"):
        LiteRtExporter().write(source, 1, tmp_path)


class Special(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(x)


def test_a_full_disk_is_an_error_of_the_machine(source, tmp_path, monkeypatch):
    def fails(path, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(Path, "write_bytes", fails)
    with pytest.raises(OSError, match="No space left on device"):
        quantised(source, tmp_path)


def test_the_process_is_left_as_it_was(tmp_path):
    source = source_of(tmp_path / "work", "test_resnet")
    before = dict(os.environ), logging.root.level, logging.root.handlers[:]
    LiteRtExporter().write(source, 1, tmp_path)
    assert (dict(os.environ), logging.root.level, logging.root.handlers[:]) == before
