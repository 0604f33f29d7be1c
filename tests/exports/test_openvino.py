import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import fieldmark
from fieldmark.bundles.openvino_graph import open_openvino
from fieldmark.bundles.parity import Parity
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.recipe.model import Model
from fieldmark.exports import cures as chain
from fieldmark.exports.exporter import Cures, Source
from fieldmark.exports.network import DeployedEnsemble, DeployedNetwork
from fieldmark.exports.openvino import OpenVinoExporter
from fieldmark.models.factory import build_model
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Stack

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")


def source_of(work: Path, *names: str, size: int = 32, combination=None) -> Source:
    """Networks with random weights, and images of noise."""
    seen = Preprocess(size, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    built = [build_model(Model(name=name, weights="none"), 4, size, seed=seed).model for seed, name in enumerate(names)]
    members = [DeployedNetwork(model, seen).eval() for model in built]
    network = members[0] if combination is None else DeployedEnsemble(members, combination).eval()
    images = np.random.default_rng(0).integers(0, 256, (12, 3, size, size), np.uint8)
    work.mkdir(exist_ok=True)
    return Source(None, network, work, Console(quiet=True), lambda n: images[:n])


def outputs_of(folder: Path, names: list[str], source: Source, batch: int = 1) -> list[np.ndarray]:
    graph = SimpleNamespace(outputs=source.network.outputs, settings=dict(OpenVinoExporter.settings))
    run = open_openvino(folder / names[0], SimpleNamespace(graph=graph), 1)
    images = source.calibration
    parts = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


@torch.no_grad()
def expected_of(source: Source) -> list[np.ndarray]:
    return [output.numpy() for output in source.network(torch.from_numpy(source.calibration))]


def in_int8(path: Path) -> set[str]:
    """The layers of a graph whose weights are int8, without the suffix that they got in quantisation."""
    graph = openvino.Core().read_model(path)
    found = set()
    for each in graph.get_ordered_ops():
        if each.get_type_name() in ("Convolution", "GroupConvolution", "MatMul"):
            weights = each.input_value(1).get_node()
            while weights.get_type_name() != "Constant" and weights.get_input_size():
                weights = weights.input_value(0).get_node()
            if weights.get_element_type() == openvino.Type.i8:
                found.add(each.get_friendly_name())
    return found


def constants_of(path: Path, kind) -> list[np.ndarray]:
    graph = openvino.Core().read_model(path)
    return [each.data for each in graph.get_ordered_ops() if each.get_type_name() == "Constant" and each.get_element_type() == kind]


@pytest.fixture(scope="module")
def float_bundle(finished_run, tmp_path_factory):
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "float", format="openvino", batch=(1, 4), quiet=True)


@pytest.fixture(scope="module")
def int8_bundle(finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("bundles") / "int8"
    return fieldmark.export(finished_run, out, format="openvino", int8=True, max_loss=25, max_changed=25, quiet=True)


def test_a_bundle_answers_as_its_run_does(float_bundle, finished_run, birds):
    ours, theirs = finished_run.predict(birds / "test"), float_bundle.predict(birds / "test")
    assert [answer.classes for answer in theirs] == [answer.classes for answer in ours]
    for run, bundle in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(bundle.probabilities, run.probabilities, atol=1e-4)
    record = float_bundle.record
    assert record.graph.files == {"1": "model-1.xml", "4": "model-4.xml"} and {"model-1.bin", "model-4.bin"} <= set(record.files)
    assert record.graph.settings == {"INFERENCE_PRECISION_HINT": "f32"} and "openvino" in record.versions


def test_weights_are_kept_in_float32(float_bundle):
    assert constants_of(float_bundle.path / "model-1.xml", openvino.Type.f16) == []


def test_an_int8_bundle_answers_nearly_as_its_run_does(int8_bundle, float_bundle, finished_run, birds):
    parity = Parity.read(int8_bundle.path / "parity.json")
    assert parity.agreement.equal >= 0.75 * parity.agreement.n and parity.attempts[-1].reason == ""
    quantisation = int8_bundle.record.quantisation
    assert quantisation.tool == "NNCF" and quantisation.images == len(finished_run.predictions("train"))
    pixels = np.stack([finished_run.preprocess.pixels(path) for path in sorted(birds.glob("train/*/*.png"))[:9]])
    for ours, theirs in zip(float_bundle.session.outputs(pixels), int8_bundle.session.outputs(pixels), strict=True):
        assert 0 < np.abs(ours - theirs).mean() < 0.2 * ours.std()
    sizes = [(bundle.path / "model-1.bin").stat().st_size for bundle in (int8_bundle, float_bundle)]
    assert sizes[0] < sizes[1] / 2


def test_two_exports_of_a_run_are_alike(int8_bundle, finished_run, tmp_path):
    limits = {"max_loss": 25, "max_changed": 25}
    again = fieldmark.export(finished_run, tmp_path / "again", format="openvino", int8=True, quiet=True, **limits)
    assert again.record.files["model-1.xml"] == int8_bundle.record.files["model-1.xml"]
    assert again.record.files["model-1.bin"] == int8_bundle.record.files["model-1.bin"]
    assert str(tmp_path) not in (again.path / "model-1.xml").read_text()


def test_a_collapsed_int8_graph_leaves_no_bundle(finished_run, tmp_path, monkeypatch):
    monkeypatch.setattr(Source, "calibration", property(lambda source: np.zeros((4, 3, 32, 32), np.uint8)))
    tried = [lambda cures: Cures(percentile=True)]
    monkeypatch.setattr(chain, "in_order", lambda known, has: iter(tried))
    with pytest.raises(CheckFailed, match=r"no bundle was written: in openvino int8.*% of the answers changed") as failed:
        fieldmark.export(finished_run, tmp_path / "bundle", format="openvino", int8=True, quiet=True)
    assert failed.value.exit_code == 1 and os.listdir(tmp_path) == []


def test_nothing_of_its_tools_reaches_the_console(finished_run, tmp_path, capfd):
    fieldmark.export(finished_run, tmp_path / "bundle", format="openvino", int8=True, max_loss=25, max_changed=25)
    out, err = capfd.readouterr()
    lines = ("openvino int8 for 1 image", "batch 1: ", "5 images of val ", "the bundle is ", "correcting biases")
    assert out == "" and all(line.startswith(lines) for line in err.splitlines()), err


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small network whose work folder keeps its graph."""
    return source_of(tmp_path_factory.mktemp("source") / "work", "test_efficientnet")


def quantised(source: Source, folder: Path, cures: Cures = Cures()) -> Path:
    folder.mkdir(exist_ok=True)
    name, _ = OpenVinoExporter().quantise(source, 1, folder, cures)
    return folder / name


def test_an_ensemble_is_one_graph_whose_combination_is_float(tmp_path):
    stack = Stack((0, 1), np.eye(4, 8, dtype=np.float32), np.ones(4))
    source = source_of(tmp_path / "work", "test_efficientnet", "test_resnet", combination=stack)
    exporter = OpenVinoExporter()
    names = exporter.write(source, 3, tmp_path)
    assert names == ["model-3.xml", "model-3.bin"]
    for found, expected in zip(outputs_of(tmp_path, names, source, 3), expected_of(source), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    exporter.quantise(source, 3, tmp_path, Cures())
    for found, expected in zip(outputs_of(tmp_path, names, source, 3), expected_of(source), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.2 * expected.std())
    layers = {type(layer) for layer in source.network.combination.modules()}
    assert torch.nn.Linear in layers and len(in_int8(tmp_path / names[0])) == layers_of(source) - 1


def layers_of(source: Source) -> int:
    return sum(isinstance(each, (torch.nn.Conv2d, torch.nn.Linear)) for each in source.network.modules())


def test_a_transformer(tmp_path):
    source = source_of(tmp_path / "work", "test_vit", size=160)
    exporter = OpenVinoExporter()
    for write, tolerance in ((exporter.write, 1e-5), (lambda *given: exporter.quantise(*given, Cures()), 0.2)):
        names = write(source, 1, tmp_path)
        for found, expected in zip(outputs_of(tmp_path, names, source), expected_of(source), strict=True):
            np.testing.assert_allclose(found, expected, atol=tolerance * expected.std())
    assert in_int8(tmp_path / names[0]) and not exporter.has(source, "squeeze-excite")


def test_what_is_left_in_float_is_float(tmp_path):
    source = source_of(tmp_path / "work", "mobilenetv3_small_050", size=64)
    everything = in_int8(quantised(source, tmp_path / "all"))
    rest = in_int8(quantised(source, tmp_path / "some", Cures(in_float=("squeeze-excite", "stem", "head"))))
    squeezes = 2 * sum(type(each).__name__ == "SqueezeExcite" for each in source.network.modules())
    assert len(everything) == layers_of(source)
    assert squeezes > 0 and len(everything - rest) == squeezes + 2 and all(OpenVinoExporter().has(source, part) for part in chain._PARTS)


def test_the_map_and_the_features_are_not_rounded(source, tmp_path):
    graph = openvino.Core().read_model(quantised(source, tmp_path))
    for name in ("features", "map"):
        node = graph.output(name).get_node().input_value(0).get_node()
        before = []
        while node.get_type_name() not in ("Convolution", "GroupConvolution"):
            before.append(node.get_type_name())
            node = node.input_value(0).get_node()
        assert "FakeQuantize" not in before and len(before) > 1


def test_what_each_cure_changes(source, tmp_path, monkeypatch):
    plain, narrow = quantised(source, tmp_path / "plain"), quantised(source, tmp_path / "narrow", Cures(seven_bits=True))
    weights = constants_of(plain, openvino.Type.i8)
    assert max(np.abs(each).max() for each in weights) == 127
    shared = [each for each in constants_of(narrow, openvino.Type.i8) if each.ndim < 5]  # a depthwise sum has nine products
    assert max(np.abs(each).max() for each in shared) in (63, 64)
    assert "histogram" in quantised(source, tmp_path / "percentile", Cures(percentile=True)).read_text()
    assert "histogram" not in plain.read_text() and "'disable_bias_correction': True" in plain.read_text()
    monkeypatch.setattr("fieldmark.exports.openvino.multiplies_int8", lambda: False)
    first, *others = constants_of(quantised(source, tmp_path / "old"), openvino.Type.i8)
    assert np.abs(first).max() in (63, 64) and max(np.abs(each).max() for each in others) == 127


def test_what_it_cannot_express_is_said(source, tmp_path, monkeypatch):
    (tmp_path / "openvino-1.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"OpenVINO cannot express this network: \S"):
        OpenVinoExporter().write(replace(source, work=tmp_path), 1, tmp_path)


def test_a_full_disk_is_an_error_of_the_machine(source, tmp_path, monkeypatch):
    def fails(*given, **settings):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", fails)
    with pytest.raises(OSError, match="No space left on device"):
        OpenVinoExporter().write(source, 1, tmp_path)
