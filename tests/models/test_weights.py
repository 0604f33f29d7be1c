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


def build(name="test_efficientnet", num_classes=5, size=64, seed=0, weights="none", class_names=()):
    return build_model(Model(name=name, weights=str(weights)), num_classes, size, seed, class_names)


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
    assert first == f"{tmp_path / 'resnet.safetensors'} does not hold the weights of test_efficientnet: 0 of 73 tensors match"
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
        with pytest.raises(InputError, match=r"objects of Python as well as tensors \(\S+open\)[\s\S]*weights_only=False"):
            build(weights=path)
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
    with pytest.raises(InputError, match=r"there is no weights file timm/resnet18[\s\S]*chosen by model\.name"):
        build(weights="timm/resnet18.a1_in1k")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_weights(tmp_path)
    with pytest.raises(InputError, match="is a folder, and neither a run nor one of the hub"):
        build(weights=tmp_path)


def test_files_from_elsewhere_have_no_metadata(tmp_path):
    safetensors.torch.save_file({"a": torch.zeros(1)}, tmp_path / "a.safetensors", {"source": "elsewhere", "n": json.dumps(3)})
    assert read_weights(tmp_path / "a.safetensors")[1] == {}


# ---- weights of other tools -------------------------------------------------------------------------------------------------------


def backbone_is(model, tensors) -> bool:
    return all(torch.equal(tensor, tensors[name]) for name, tensor in model.backbone.state_dict().items())


@pytest.fixture(scope="module")
def native():
    return timm.create_model("test_efficientnet", num_classes=7).state_dict()


@pytest.mark.parametrize(
    ("prefix", "said"),
    [
        ("module.", "taken out of the names of its tensors: module"),
        ("model.", "its tensors are those whose names begin with model., which is taken off"),
        ("_orig_mod.", "taken out of the names of its tensors: _orig_mod"),
        ("backbone.", "begin with backbone."),
        ("student.backbone.", "begin with student.backbone."),
        ("encoder.", "begin with encoder."),
        ("anything.at.all.", "begin with anything.at.all."),
        ("model._orig_mod.module.", "begin with model."),
    ],
)
def test_what_other_tools_put_before_names_is_taken_off_and_said(prefix, said, native, tmp_path):
    safetensors.torch.save_file({prefix + name: tensor for name, tensor in native.items()}, tmp_path / "w.safetensors")
    built = build(weights=tmp_path / "w.safetensors")
    assert backbone_is(built.model, native)
    assert any(said in note for note in built.notes), built.notes
    assert built.notes[-1] == "its classifier of 7 classes is replaced by a fresh one of 5"
    kept = build(num_classes=7, weights=tmp_path / "w.safetensors").model
    assert torch.equal(kept.head.weight, native["classifier.weight"])


@pytest.mark.parametrize(
    "wrap",
    [
        lambda tensors: tensors,
        lambda tensors: {"state_dict": tensors, "epoch": 3, "best": 0.5},
        lambda tensors: {"model": {f"module.{name}": tensor for name, tensor in tensors.items()}, "optimizer": {"state": {0: {"m": 1}}}},
        lambda tensors: [{"net": {"state_dict": tensors}}],
    ],
)
@pytest.mark.parametrize("zipped", [True, False])
def test_checkpoints_of_pytorch_are_read(wrap, zipped, native, tmp_path):
    torch.save(wrap(dict(native)), tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    assert backbone_is(build(weights=tmp_path / "w.pth").model, native)


def test_averaged_weights_are_preferred_and_the_others_named(native, tmp_path):
    averaged = {name: tensor + 1 for name, tensor in native.items()}
    torch.save({"model": dict(native), "model_ema": averaged}, tmp_path / "w.pt")
    built = build(weights=tmp_path / "w.pt")
    assert backbone_is(built.model, averaged)
    assert any("begin with model_ema." in note for note in built.notes)
    assert any(note.startswith(f"{len(native)} tensors outside of it are left out: model.") for note in built.notes)


def test_heads_for_other_purposes_are_left_out(native, tmp_path):
    more = {"queue": torch.zeros(3, 3), "projector.0.weight": torch.zeros(4, 4), "loss.weight": torch.zeros(2)}
    torch.save({"state_dict": {f"encoder_q.{name}": tensor for name, tensor in native.items()} | more}, tmp_path / "w.ckpt")
    built = build(weights=tmp_path / "w.ckpt")
    assert backbone_is(built.model, native)
    assert "3 tensors outside of it are left out: state_dict.queue, state_dict.projector.0.weight, state_dict.loss.weight" in built.notes


def test_a_few_tensors_may_be_missing_and_are_named(native, tmp_path):
    some = {name: tensor for name, tensor in native.items() if not name.startswith("conv_stem")} | {"mean": torch.zeros(3)}
    safetensors.torch.save_file(some, tmp_path / "w.safetensors")
    built = build(weights=tmp_path / "w.safetensors")
    assert built.notes[-3:] == (
        "72 of 73 tensors of test_efficientnet match:",
        "  1 missing: backbone.conv_stem.weight",
        "  1 unexpected: backbone.mean",
    )
    assert torch.equal(built.model.backbone.conv_stem.weight, build().model.backbone.conv_stem.weight)
    assert torch.equal(built.model.backbone.bn1.running_var, native["bn1.running_var"])


def test_too_few_are_refused_and_so_is_a_deeper_network(native, tmp_path):
    half = dict(list(native.items())[: len(native) // 2])
    safetensors.torch.save_file(half, tmp_path / "half.safetensors")
    with pytest.raises(InputError, match=r"test_efficientnet: \d+ of 73 tensors match[\s\S]*missing"):
        build(weights=tmp_path / "half.safetensors")
    for stored, wanted in (("resnet34", "resnet18"), ("resnet18", "resnet34")):
        safetensors.torch.save_file(timm.create_model(stored).state_dict(), tmp_path / "w.safetensors")
        with pytest.raises(InputError, match=f"does not hold the weights of {wanted}"):
            build(wanted, weights=tmp_path / "w.safetensors")


def test_own_files_must_be_complete(saved):
    model, path = saved
    for lost in ("backbone.bn1.weight", "head.bias"):
        safetensors.torch.save_file({name: tensor for name, tensor in states(model).items() if name != lost}, path)
        with pytest.raises(InputError, match=f"1 missing: {lost}"):
            load_weights(build().model, path)


def test_names_of_another_library_are_recognised(tmp_path):
    from torchvision.models import mobilenet_v2

    torch.save(mobilenet_v2(weights=None).state_dict(), tmp_path / "mobilenet_v2.pth")
    with pytest.raises(InputError, match=r"The file has torchvision's names[\s\S]*model\.weights=pretrained"):
        build("mobilenetv2_100", weights=tmp_path / "mobilenet_v2.pth")


def test_the_architecture_that_a_file_names_is_the_remedy(saved, tmp_path):
    model, path = saved
    save_weights(model, path, METADATA | {"architecture": "test_efficientnet"})
    for classes in ((), ("b", "c", "d", "e", "f")):
        with pytest.raises(InputError, match=r"set model\.name=test_efficientnet"):
            build("test_resnet", weights=path, class_names=classes)


def test_what_is_no_checkpoint_is_refused(tmp_path):
    path = tmp_path / "w.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Linear(2, 2), torch.zeros(1, 2)), path)
    with pytest.raises(InputError, match="is a TorchScript program"):
        build(weights=path)
    torch.save({"epoch": 3}, path)
    with pytest.raises(InputError, match="holds no tensors"):
        build(weights=path)
    torch.save({"a": torch.zeros(1000)}, path)
    whole = path.read_bytes()
    for damaged in (whole[:-300], whole[:50], b"\x80\x02nonsense", b"PK\x03\x04"):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match=r"is not a complete|holds more than tensors"):
            build(weights=path)


# ---- classifiers by the names of their classes ------------------------------------------------------------------------------------


@pytest.fixture
def named_birds(tmp_path):
    """Weights of a classifier of Finch, Robin and Wren."""
    model = build(num_classes=3, seed=1).model
    save_weights(model, tmp_path / "w.safetensors", {"class_names": ["Finch", "Robin", "Wren"]})
    return model, tmp_path / "w.safetensors"


def rows_of(model):
    return torch.cat([model.head.weight, model.head.bias[:, None]], 1)


def test_the_same_classes_keep_their_rows_in_the_new_order(named_birds):
    model, path = named_birds
    same = build(num_classes=3, weights=path, class_names=("Finch", "Robin", "Wren"))
    assert torch.equal(rows_of(same.model), rows_of(model)) and same.notes[-1] == "its classifier of 3 classes is kept"
    turned = build(num_classes=3, weights=path, class_names=("Wren", "Finch", "Robin"))
    assert torch.equal(rows_of(turned.model), rows_of(model)[[2, 0, 1]])
    assert turned.notes[-1] == "its classifier is matched by the names of the classes: kept for 3"


def test_new_classes_begin_afresh_and_old_ones_are_left_out(named_birds):
    model, path = named_birds
    built = build(num_classes=4, weights=path, class_names=("Dunnock", "Finch", "Owl", "Wren"))
    fresh = rows_of(build(num_classes=4).model)
    assert torch.equal(rows_of(built.model), torch.stack([fresh[0], rows_of(model)[0], fresh[2], rows_of(model)[2]]))
    assert built.notes[-1] == (
        "its classifier is matched by the names of the classes: kept for 2, fresh for 2 (Dunnock, Owl); 1 of its own left out (Robin)"
    )


def test_other_classes_get_a_fresh_classifier(named_birds):
    _, path = named_birds
    built = build(num_classes=3, weights=path, class_names=("Bunting", "Quail", "Yellowhammer"))
    assert torch.equal(rows_of(built.model), rows_of(build(num_classes=3).model))
    assert built.notes[-1] == "its classifier is of 3 other classes (Finch, Robin, Wren) and is replaced by a fresh one of 3"


def test_classes_that_a_file_does_not_name(native, tmp_path):
    safetensors.torch.save_file(native, tmp_path / "w.safetensors")
    built = build(num_classes=7, weights=tmp_path / "w.safetensors", class_names=tuple("abcdefg"))
    assert built.notes[-1] == "its classifier of 7 classes is kept; the file does not say which classes they are"
