from pathlib import Path

import numpy as np
import pytest
import torch

import fieldmark
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import Model
from fieldmark.exports.exporter import Cures
from fieldmark.exports.network import Deployed, DeployedEnsemble, DeployedNetwork
from fieldmark.exports.onnx import write_onnx
from fieldmark.exports.onnx_int8 import prepare, quantise
from fieldmark.exports.onnx_structure import Structure
from fieldmark.models.factory import build_model
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.scoring.combination import Mean

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def network(name: str = "test_efficientnet", size: int = 32, seed: int = 0, **changed) -> DeployedNetwork:
    """With statistics of batch norm as after training, so that activations have the size that they have there."""
    model = build_model(Model.model_validate({"name": name, "weights": "none"} | changed), 5, size, seed=seed).model
    generator = torch.Generator().manual_seed(seed)
    model.train()
    with torch.no_grad():
        for _ in range(4):
            model(torch.randn(16, 3, size, size, generator=generator))
    return DeployedNetwork(model.eval(), Preprocess(size, "squash", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3))).eval()


def pixels(n: int, size: int = 32) -> np.ndarray:
    """Smooth, as photographs are."""
    coarse = np.random.default_rng(0).integers(0, 256, (n, 3, 4, 4)).astype(np.uint8)
    return np.ascontiguousarray(coarse.repeat(size // 4, axis=2).repeat(size // 4, axis=3))


def outputs(path, images, batch: int = 1) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    parts = [session.run(None, {"images": images[start : start + batch]}) for start in range(0, len(images), batch)]
    return [np.concatenate(each) for each in zip(*parts, strict=True)]


def parameters(structure: Structure, names: set[str]) -> set[str]:
    """Names of the weights of the nodes."""
    return {node.input[1] for node in structure.nodes if node.name in names and node.op_type in ("Conv", "Gemm")}


FEW = ["test_efficientnet", "test_vit", "squeezenet1_1"]
MANY = [
    "small_cnn",
    "plain_cnn",
    "shufflenet_v2_x0_5",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "resnet50",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "resnext101_32x8d_vit_tiny",
]


@pytest.mark.parametrize("name", [*FEW, *(pytest.param(each, marks=pytest.mark.slow) for each in MANY)])
def test_networks_answer_alike_in_onnx_runtime(name, tmp_path):
    size = 160 if name == "test_vit" else 64
    exported = network(name, size)
    write_onnx(exported, 2, tmp_path / "model.onnx")
    images = pixels(2, size)
    with torch.no_grad():
        expected = exported(torch.from_numpy(images))
    found = outputs(tmp_path / "model.onnx", images, batch=2)
    assert len(found) == len(expected) == len(exported.outputs)
    for ours, theirs in zip(expected, found, strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4 * float(ours.abs().max()), rtol=1e-3)


def test_an_ensemble_is_one_graph(tmp_path):
    both: Deployed = DeployedEnsemble([network(seed=seed) for seed in (0, 1)], Mean("probabilities", np.array([0.3, 0.7]))).eval()
    write_onnx(both, 1, tmp_path / "model.onnx")
    images = pixels(3)
    with torch.no_grad():
        logits, features = both(torch.from_numpy(images))
    found = outputs(tmp_path / "model.onnx", images)
    np.testing.assert_allclose(found[0], logits.numpy(), atol=1e-4)
    np.testing.assert_allclose(found[1], features.numpy(), atol=1e-4)


def test_equal_networks_make_equal_bytes_that_say_nothing_of_this_machine(tmp_path):
    for name in ("first", "second"):
        write_onnx(network(), 1, tmp_path / name)
    content = (tmp_path / "first").read_bytes()
    assert content == (tmp_path / "second").read_bytes()
    assert b".py" not in content and str(fieldmark.__file__).encode() not in content


def test_an_operator_that_onnx_lacks_is_named(tmp_path):
    class Singular(torch.nn.Module):
        def forward(self, images):
            return torch.linalg.svdvals(images.mean(1)).repeat(1, 8)

    exported = network()
    exported.model.backbone, exported.has_map = Singular(), False
    with pytest.raises(InputError, match=r"ONNX cannot express this network: it has no operator for aten\._linalg_svd") as refused:
        write_onnx(exported, 1, tmp_path / "model.onnx")
    assert refused.value.exit_code == 2 and not list(tmp_path.iterdir())


def test_a_network_that_depends_on_what_it_sees_is_refused(tmp_path):
    class Undecided(torch.nn.Module):
        def forward(self, images):
            return (images if images.sum() > 0 else -images).mean(1).reshape(1, -1)[:, :256]

    exported = network()
    exported.model.backbone, exported.has_map = Undecided(), False
    with pytest.raises(InputError, match=r"ONNX cannot express this network: .*data-dependent"):
        write_onnx(exported, 1, tmp_path / "model.onnx")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A network with gates and a class-activation map, prepared for 1 and for 3 images: (network, folder)."""
    folder, exported = tmp_path_factory.mktemp("onnx"), network(size=64)
    for batch in (1, 3):
        write_onnx(exported, batch, folder / "model.onnx")
        prepare(folder / "model.onnx", folder / f"{batch}.onnx")
    return exported, folder


@pytest.fixture
def quantised(prepared, tmp_path):
    """Makes int8 graphs of it."""

    def make(batch: int = 1, images: np.ndarray | None = None, **cures) -> Path:
        path = tmp_path / f"{batch}-{len(list(tmp_path.iterdir()))}.onnx"
        quantise(prepared[1] / f"{batch}.onnx", pixels(16, 64) if images is None else images, batch, Cures(**cures), tmp_path, path)
        return path

    return make


def check_parts(prepared: Path, head: set[str]) -> None:
    structure = Structure(onnx.load(prepared))
    weights = parameters(structure, {node.name for node in structure.nodes})
    assert parameters(structure, structure.part("stem")) == {"model.backbone.conv_stem.weight"}
    assert parameters(structure, structure.part("head")) == head
    gates = {name for name in weights if ".se." in name}
    assert gates and parameters(structure, structure.part("squeeze-excite")) == gates
    assert parameters(structure, structure.quantised()) == weights


def test_the_parts_of_a_network_are_found_by_what_they_do(prepared):
    check_parts(prepared[1] / "1.onnx", {"model.head.weight"})


@pytest.mark.slow
def test_a_head_begins_where_the_map_is_pooled(tmp_path):
    write_onnx(network("mobilenetv3_small_050", 64), 1, tmp_path / "model.onnx")
    prepare(tmp_path / "model.onnx", tmp_path / "prepared.onnx")
    check_parts(tmp_path / "prepared.onnx", {"model.backbone.conv_head.weight", "model.head.weight"})


def test_prepared_graphs_return_what_they_returned(prepared):
    exported, folder = prepared
    images = pixels(3, 64)
    with torch.no_grad():
        expected = exported(torch.from_numpy(images))
    for ours, theirs in zip(expected, outputs(folder / "3.onnx", images, 3), strict=True):
        np.testing.assert_allclose(theirs, ours.numpy(), atol=1e-4)


def test_int8_is_near_float32_and_the_same_for_any_number_of_images(prepared, quantised, capfd):
    images, one, three = pixels(16, 64), quantised(1), quantised(3)
    assert capfd.readouterr() == ("", "")
    assert one.read_bytes() == quantised(1).read_bytes()
    assert one.stat().st_size < 0.5 * (prepared[1] / "1.onnx").stat().st_size
    expected, found = outputs(prepared[1] / "1.onnx", images), outputs(one, images)
    for ours, theirs in zip(expected[:2], found[:2], strict=True):
        assert np.sqrt(((theirs - ours) ** 2).mean()) < 0.2 * ours.std()
    np.testing.assert_allclose(outputs(three, images[:15], 3)[0], found[0][:15], atol=1e-5)


def test_what_is_decided_with_is_not_rounded(prepared, quantised):
    """Outputs of int8 would have at most 256 values, and the map would not be that of the logits."""
    logits, features, maps = outputs(quantised(), pixels(16, 64))
    assert len(np.unique(logits)) == logits.size and len(np.unique(features)) > 256
    head, best = prepared[0].model.head, logits.argmax(1)
    np.testing.assert_allclose(maps.mean((1, 2)), (head.weight.detach().numpy()[best] * features).sum(1), rtol=1e-4, atol=1e-5)


def weights_of(path) -> dict[str, np.ndarray]:
    """The int8 weights by the name of their node."""
    graph = onnx.load(path).graph
    stored = {each.name: each for each in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    found = {node.name: makers[node.input[1]].input[0] for node in graph.node if node.op_type == "Conv" and node.input[1] in makers}
    return {node: onnx.numpy_helper.to_array(stored[name]) for node, name in found.items()}


def test_weights_are_of_8_bits_per_channel_or_of_7(quantised):
    eight = weights_of(quantised())
    assert len(eight) > 10
    assert all(each.dtype == np.int8 and set(np.abs(each.reshape(len(each), -1)).max(axis=1)) <= {0, 127} for each in eight.values())
    seven = weights_of(quantised(seven_bits=True))
    assert all(np.abs(each).max() == 64 for each in seven.values())


def test_parts_stay_in_float32(prepared, quantised):
    structure = Structure(onnx.load(prepared[1] / "1.onnx"))
    left_out = weights_of(quantised()).keys() - weights_of(quantised(in_float=("squeeze-excite", "stem"))).keys()
    weighed = {node.name for node in structure.nodes if node.op_type == "Conv"}
    assert left_out == (structure.part("stem") | structure.part("squeeze-excite")) & weighed != set()


def test_percentile_ranges_leave_rare_extremes_out(quantised):
    """The step of the normalised image is that of its range."""

    def step(path) -> float:
        graph = onnx.load(path).graph
        first = next(node for node in graph.node if node.op_type == "QuantizeLinear")
        return float(onnx.numpy_helper.to_array(next(each for each in graph.initializer if each.name == first.input[1])))

    images = np.full((128, 3, 64, 64), 120, np.uint8)
    images[0, 0, 0, 0] = 255
    assert step(quantised(images=images, percentile=True)) < 0.9 * step(quantised(images=images))


def test_a_bundle_for_onnx_answers_as_its_run_does(finished_run, birds, tmp_path):
    bundle = fieldmark.export(finished_run, tmp_path / "bundle", batch=(1, 4), quiet=True)
    assert sorted(bundle.record.graph.files.values()) == ["model-1.onnx", "model-4.onnx"]
    run, answers = finished_run.predict(birds / "test"), bundle.predict(birds / "test")
    assert [answer.classes for answer in answers] == [answer.classes for answer in run]
    assert [(answer.unknown, answer.among) for answer in answers] == [(answer.unknown, answer.among) for answer in run]


def test_a_bundle_in_int8_says_how_it_was_made(finished_run, tmp_path):
    bundle = fieldmark.export(finished_run, tmp_path / "bundle", int8=True, max_loss=100, max_changed=100, quiet=True)
    assert bundle.record.precision == "int8" and bundle.record.quantisation.tool == "ONNX Runtime"
    assert bundle.record.quantisation.images == 43 and bundle.record.quantisation.cures == ()
