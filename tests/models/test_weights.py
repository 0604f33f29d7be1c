import errno
import json

import pytest
import safetensors.torch
import timm
import torch

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import Model
from fieldmark.models.factory import build_model
from fieldmark.models.weights import load_weights, read_weights, save_weights

METADATA = {"class_names": ["été", "b"], "preprocess": {"size": 64}}


def build(name="test_efficientnet", num_classes=5, size=64, seed=0, weights="none"):
    return build_model(Model(name=name, weights=str(weights)), num_classes, size, seed)


def states(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "best.safetensors"
    model = build(seed=1).model
    save_weights(model, path, METADATA)
    return model, path


def test_what_is_saved_is_read_and_loaded(saved):
    model, path = saved
    tensors, metadata = read_weights(path)
    assert metadata == METADATA and equal(tensors, states(model))
    other = build(seed=2).model
    notes = load_weights(other, path)
    assert equal(states(other), states(model))
    assert notes == (f"weights: {path}", "its classifier of 5 classes is kept")


def test_equal_weights_give_equal_bytes_whatever_their_layout(saved, tmp_path):
    model, path = saved
    save_weights(model.to(memory_format=torch.channels_last), tmp_path / "again.safetensors", dict(reversed(METADATA.items())))
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_full_disk_leaves_the_old_file(saved, monkeypatch):
    model, path = saved
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", full)
    with pytest.raises(InputError, match="no space left"):
        save_weights(model, path, {})
    assert path.read_bytes() == before and [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_classifier_of_another_size_is_replaced_and_said_so(saved):
    _, path = saved
    built = build(num_classes=9, weights=path)
    assert built.notes == (f"weights: {path}", "its classifier of 5 classes is replaced by a fresh one of 9")
    assert torch.equal(built.model.head.weight, build(num_classes=9).model.head.weight)


@pytest.mark.parametrize("name", ["test_efficientnet", "resnetv2_18"])  # the second has a 1 x 1 convolution for a classifier
def test_a_file_of_timm_is_loaded_with_its_classifier(name, tmp_path):
    model = timm.create_model(name, num_classes=5).eval()
    safetensors.torch.save_file(model.state_dict(), tmp_path / "timm.safetensors")
    built = build(name, weights=tmp_path / "timm.safetensors")
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(built.model.eval()(images), model(images), rtol=1e-4, atol=1e-5)
    assert built.notes[1] == "its classifier of 5 classes is kept"


def test_a_file_without_a_classifier(tmp_path):
    model = timm.create_model("test_efficientnet", num_classes=0)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "backbone.safetensors")
    assert build(weights=tmp_path / "backbone.safetensors").notes[1] == "it has no classifier; a fresh one of 5 classes is added"


def test_a_transformers_positions_are_resampled_as_timm_does_it(tmp_path):
    model = timm.create_model("test_vit", img_size=160)
    safetensors.torch.save_file(model.state_dict(), tmp_path / "vit.safetensors")
    built = build("test_vit", size=96, weights=tmp_path / "vit.safetensors")
    overlay = {"file": str(tmp_path / "vit.safetensors")}
    expected = timm.create_model("test_vit", img_size=96, pretrained=True, pretrained_cfg_overlay=overlay).pos_embed
    torch.testing.assert_close(built.model.backbone.pos_embed, expected)
    assert built.notes[2] == "its position embedding is resampled from 10 x 10 to 6 x 6 patches"


def test_imagenet_weights_for_the_cars(mobilenet_weights):
    built = build("mobilenetv2_100", 196, weights=mobilenet_weights)
    tensors = safetensors.torch.load_file(mobilenet_weights)
    assert built.notes[1] == "its classifier of 1,000 classes is replaced by a fresh one of 196"
    assert torch.equal(built.model.backbone.conv_stem.weight, tensors["conv_stem.weight"])
    assert torch.equal(built.model.backbone.bn2.running_var, tensors["bn2.running_var"])
    assert built.model.head.weight.shape == (196, 1280)
    kept = build("mobilenetv2_100", 1000, weights=mobilenet_weights)
    assert torch.equal(kept.model.head.weight, tensors["classifier.weight"])


def test_a_file_of_another_architecture_is_refused_and_changes_nothing(tmp_path):
    safetensors.torch.save_file(timm.create_model("resnet10t").state_dict(), tmp_path / "resnet.safetensors")
    model = build().model
    before = states(model)
    with pytest.raises(InputError) as caught:
        load_weights(model, tmp_path / "resnet.safetensors")
    first, missing, unexpected, wrong = map(str, caught.value.problems)
    assert first == f"{tmp_path / 'resnet.safetensors'} does not hold the weights of test_efficientnet"
    there = set(timm.create_model("resnet10t").state_dict())
    absent = [key for key in before if key[9:] not in there and not key.startswith("head.") and not key.endswith("num_batches_tracked")]
    assert missing == f"{len(absent)} missing: {', '.join(absent[:10])}, ..."
    assert "unexpected: backbone." in unexpected and unexpected.endswith(", ...")
    assert wrong.startswith("4 of the wrong shape: backbone.bn1.weight ((64,) float32 instead of (24,) float32), ")
    assert equal(states(model), before)


def test_wrong_shapes_and_kinds_are_listed(saved):
    model, path = saved
    tensors = states(model)
    tensors["backbone.conv_stem.weight"] = torch.zeros(1, 3, 3, 3)
    tensors["backbone.bn1.weight"] = tensors["backbone.bn1.weight"].to(torch.int8)
    safetensors.torch.save_file(tensors, path)
    with pytest.raises(InputError) as caught:
        load_weights(model, path)
    (listed,) = map(str, caught.value.problems[1:])
    assert listed.startswith("2 of the wrong shape: backbone.conv_stem.weight ((1, 3, 3, 3) float32 instead of (")
    assert "int8 instead of" in listed


def test_half_precision_is_widened(saved):
    model, path = saved
    safetensors.torch.save_file({name: t.half() if t.is_floating_point() else t for name, t in states(model).items()}, path)
    load_weights(model, path)
    assert model.head.weight.dtype == torch.float32


def test_pickles_are_refused_unopened(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    for number, zipped in enumerate((True, False)):
        path = tmp_path / f"weights{number}.safetensors"
        torch.save({"trap": Trap()}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(InputError, match="is a pickle"):
            read_weights(path)
    assert not (tmp_path / "sprung").exists()


def test_a_file_that_begins_like_a_pickle_is_read(tmp_path):
    """The length of a safetensors header may begin with the byte that begins a pickle."""
    path = tmp_path / "a.safetensors"
    starts = set()
    for length in range(256):
        path.write_bytes(safetensors.torch.save({"x": torch.ones(2)}, {"fieldmark": json.dumps({"note": "n" * length})}))
        starts.add(path.read_bytes()[0])
        assert read_weights(path)[1] == {"note": "n" * length}
    assert 0x80 in starts


def test_damaged_files_are_refused(saved, tmp_path):
    _, path = saved
    whole = path.read_bytes()
    for damaged in (b"", b"nonsense", whole[:100], whole[:-1]):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="is not a complete safetensors file"):
            read_weights(path)
    safetensors.torch.save_file({"a": torch.zeros(1)}, path, {"fieldmark": "{"})
    with pytest.raises(InputError, match="is not a complete safetensors file"):
        read_weights(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(InputError, match=r"there is no weights file .*none\.st"):
        read_weights(tmp_path / "none.st")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_weights(tmp_path)


def test_files_from_elsewhere_have_no_metadata(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"source": "elsewhere", "n": json.dumps(3)})
    assert read_weights(tmp_path / "a.safetensors")[1] == {}
