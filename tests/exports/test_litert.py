import errno
import json
import logging
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sources import expected_of, layers_of, source_of

from fieldmark.bundles.litert_graph import open_litert
from fieldmark.core.errors import InputError
from fieldmark.exports import cures as chain
from fieldmark.exports import litert_int8
from fieldmark.exports.exporter import Cures, Source
from fieldmark.exports.litert import LiteRtExporter
from fieldmark.exports.litert_int8 import Graph
from fieldmark.scoring.combination import Stack

pytest.importorskip("litert_torch")
pytest.importorskip("ai_edge_quantizer")


def outputs_of(path: Path, source: Source, batch: int = 1) -> list[np.ndarray]:
    run = open_litert(path, SimpleNamespace(graph=SimpleNamespace(outputs=source.network.outputs)), 1)
    images = np.ascontiguousarray(source.calibration.transpose(0, 2, 3, 1))
    parts = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def layers_in_int8(path: Path) -> int:
    return sum(node.in_int8 and node.multiplications > 0 for node in Graph.read(path).nodes)


def quantised(source: Source, folder: Path, cures: Cures = Cures(), batch: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    (name,) = LiteRtExporter().quantise(source, batch, folder, cures)
    return folder / name


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small network whose work folder keeps its graph."""
    return source_of(tmp_path_factory.mktemp("source") / "work", "test_efficientnet")


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
