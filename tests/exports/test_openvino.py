from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sources import expected_of, layers_of, source_of

import fieldmark
from fieldmark.bundles.openvino_graph import open_openvino
from fieldmark.core.errors import InputError
from fieldmark.exports import cures as chain
from fieldmark.exports.exporter import Cures, Source
from fieldmark.exports.openvino import OpenVinoExporter
from fieldmark.scoring.combination import Stack

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")


def outputs_of(folder: Path, names: list[str], source: Source, batch: int = 1) -> list[np.ndarray]:
    graph = SimpleNamespace(outputs=source.network.outputs, settings=dict(OpenVinoExporter.settings))
    run = open_openvino(folder / names[0], SimpleNamespace(graph=graph), 1)
    images = source.calibration
    parts = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


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


def test_it_is_told_to_compute_in_float32(float_bundle):
    assert float_bundle.record.graph.settings == {"INFERENCE_PRECISION_HINT": "f32"}


def test_weights_are_kept_in_float32(float_bundle):
    assert constants_of(float_bundle.path / "model-1.xml", openvino.Type.f16) == []


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
