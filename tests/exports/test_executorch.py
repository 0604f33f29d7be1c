import errno
import hashlib
import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sources import expected_of, layers_of, source_of

import fieldmark
from fieldmark.core.errors import InputError
from fieldmark.exports import cures as chain
from fieldmark.exports.executorch import ExecuTorchExporter, open_executorch
from fieldmark.exports.exporter import Cures, Source
from fieldmark.exports.network import DeployedEnsemble
from fieldmark.scoring.combination import Stack

executorch = pytest.importorskip("executorch")
try:
    ExecuTorchExporter().require()
except InputError as error:
    pytest.skip(str(error), allow_module_level=True)


def opened(path: Path, source: Source, batch: int = 1, threads: int = 1):
    graph = SimpleNamespace(outputs=source.network.outputs, by_batch={batch: path.name})
    return open_executorch(path, SimpleNamespace(graph=graph, preprocess=SimpleNamespace(size=source.network.size)), threads)


def outputs_of(path: Path, source: Source, batch: int = 1) -> list[np.ndarray]:
    run, images = opened(path, source, batch), source.calibration
    parts = [run(images[start : start + batch]) for start in range(0, len(images), batch)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def layers_in_int8(source: Source, cures: Cures = Cures()) -> int:
    """Convolutions and matrices whose weights are rounded."""
    from fieldmark.exports.executorch_int8 import quantised

    example = torch.zeros(1, 3, source.network.size, source.network.size, dtype=torch.uint8)
    model = quantised(source.network, example, source.calibration, cures, isinstance(source.network, DeployedEnsemble))
    layers = [node for node in model.graph.nodes if str(node.target) in ("aten.conv2d.default", "aten.linear.default")]
    return sum("dequantize_per_channel" in str(node.args[1].target) for node in layers)


def quantised(source: Source, folder: Path, cures: Cures = Cures(), batch: int = 1) -> Path:
    folder.mkdir(exist_ok=True)
    (name,) = ExecuTorchExporter().quantise(source, batch, folder, cures)
    return folder / name


@pytest.fixture(scope="module")
def float_bundle(finished_run, tmp_path_factory):
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "float", format="executorch", batch=(1, 4), quiet=True)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A small network whose work folder keeps its graph."""
    return source_of(tmp_path_factory.mktemp("source") / "work", "test_efficientnet")


def test_an_ensemble_is_one_graph_whose_combination_is_float(tmp_path):
    stack = Stack((0, 1), np.eye(4, 8, dtype=np.float32), np.ones(4))
    source = source_of(tmp_path / "work", "test_efficientnet", "test_resnet", combination=stack)
    (name,) = ExecuTorchExporter().write(source, 3, tmp_path)
    assert name == "model-3.pte"
    for found, expected in zip(outputs_of(tmp_path / name, source, 3), expected_of(source), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    path = quantised(source, tmp_path, batch=3)
    for found, expected in zip(outputs_of(path, source, 3), expected_of(source), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.2 * expected.std())
    assert layers_in_int8(source) == layers_of(source) - 1


def test_a_transformer(tmp_path):
    source = source_of(tmp_path / "work", "vit_tiny_patch16_224")
    source.network.model.backbone.blocks = source.network.model.backbone.blocks[:2]
    for write, tolerance in ((ExecuTorchExporter().write, 1e-4), (lambda *given: ExecuTorchExporter().quantise(*given, Cures()), 0.2)):
        (name,) = write(source, 1, tmp_path)
        for found, expected in zip(outputs_of(tmp_path / name, source), expected_of(source), strict=True):
            np.testing.assert_allclose(found, expected, atol=tolerance * expected.std())
    assert layers_in_int8(source) == layers_of(source) and not ExecuTorchExporter().has(source, "squeeze-excite")


def test_what_is_left_in_float_is_float(tmp_path):
    source = source_of(tmp_path / "work", "mobilenetv3_small_050", size=64)
    everything = layers_in_int8(source)
    rest = layers_in_int8(source, Cures(in_float=("squeeze-excite", "stem", "head")))
    squeezes = 2 * sum(type(each).__name__ == "SqueezeExcite" for each in source.network.modules())
    assert everything == layers_of(source) and squeezes > 0 and everything - rest == squeezes + 2
    assert all(ExecuTorchExporter().has(source, part) for part in chain._PARTS)


def test_percentile_ranges_are_others(source, tmp_path):
    plain, cured = quantised(source, tmp_path / "plain"), quantised(source, tmp_path / "cured", Cures(percentile=True))
    assert plain.read_bytes() != cured.read_bytes()
    for found, expected in zip(outputs_of(cured, source), expected_of(source), strict=True):
        np.testing.assert_allclose(found, expected, atol=0.5 * expected.std())


def test_a_result_with_several_takers_is_right_in_each(tmp_path):
    """The last feature map is pooled and is what the class-activation map is of."""
    source = source_of(tmp_path / "work", "mobilenetv2_050", size=64)
    _, features, _ = outputs_of(quantised(source, tmp_path), source)
    expected = expected_of(source)[1]
    assert np.corrcoef(features.ravel(), expected.ravel())[0, 1] > 0.9


@pytest.mark.parametrize(("name", "activation"), [("mobilenetv2_050", "hardtanh"), ("test_resnet", "relu")])
def test_what_a_convolution_computes_before_its_activation_is_not_rounded(name, activation, tmp_path):
    from fieldmark.exports.executorch_int8 import quantised

    source = source_of(tmp_path / "work", name)
    model = quantised(source.network, torch.zeros(1, 3, 32, 32, dtype=torch.uint8), source.calibration, Cures(), False)
    before = [str(node.args[0].target) for node in model.graph.nodes if str(node.target).startswith(f"aten.{activation}")]
    after = [str(next(iter(node.users)).target) for node in model.graph.nodes if str(node.target).startswith(f"aten.{activation}")]
    assert len(before) > 5 and "quantized_decomposed.quantize_per_tensor.default" in after
    assert set(before) <= {"aten.conv2d.default", "aten.add.Tensor", "aten.add_.Tensor"}


def test_what_it_cannot_express_is_said(tmp_path):
    source = source_of(tmp_path / "work", "test_efficientnet")
    source.network.model.backbone.conv_head = torch.nn.Sequential(source.network.model.backbone.conv_head, Special())
    with pytest.raises(InputError, match=r"ExecuTorch cannot express this network: it has no operator for aten.*special_bessel_j0"):
        ExecuTorchExporter().write(source, 1, tmp_path)


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
    ExecuTorchExporter().write(source, 1, tmp_path)
    assert (dict(os.environ), logging.root.level, logging.root.handlers[:]) == before


def test_programs_with_different_threads_take_turns(source, tmp_path):
    (name,) = ExecuTorchExporter().write(source, 1, tmp_path)
    one, two = (opened(tmp_path / name, source, threads=threads) for threads in (1, 2))
    first = one(source.calibration[:1])
    kept = [each.copy() for each in first]
    for run in (two, one, two):
        for found, expected in zip(run(source.calibration[:1]), kept, strict=True):
            np.testing.assert_allclose(found, expected, atol=1e-5)
    one(source.calibration[1:2])
    assert all(np.array_equal(before, after) for before, after in zip(kept, first, strict=True))


@pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="threads are counted as Linux has them")
@pytest.mark.parametrize("threads", [1, 3])
def test_it_computes_with_the_threads_that_were_asked_for(source, threads, tmp_path):
    (name,) = ExecuTorchExporter().write(source, 1, tmp_path)
    opened(tmp_path / name, source, threads=2)
    before = set(os.listdir("/proc/self/task"))
    opened(tmp_path / name, source, threads=threads)
    assert len(set(os.listdir("/proc/self/task"))) - len(before) == threads - 2


ANSWER = """
import hashlib, sys
import numpy as np
import fieldmark

bundle = fieldmark.load_bundle(sys.argv[1], threads=2)
pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
print(hashlib.sha256(b"".join(each.tobytes() for each in bundle.session.outputs(pixels))).hexdigest())
"""


def test_answers_are_byte_equal_across_processes(float_bundle):
    command = [sys.executable, "-c", ANSWER, str(float_bundle.path)]
    done = subprocess.run(command, capture_output=True, text=True)
    pixels = np.random.default_rng(0).integers(0, 256, (5, 3, 32, 32), np.uint8)
    here = fieldmark.load_bundle(float_bundle.path, threads=2).session.outputs(pixels)
    digest = hashlib.sha256(b"".join(each.tobytes() for each in here)).hexdigest()
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{digest}\n", "")


@pytest.mark.parametrize("content", [b"", b"nothing"])
def test_a_graph_that_cannot_be_run_is_named(source, content, tmp_path):
    path = tmp_path / "model-1.pte"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"ExecuTorch cannot run .*model-1.pte: \S"):
        opened(path, source)
