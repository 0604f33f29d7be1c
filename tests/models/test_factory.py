import copy
import http.server
import threading
import time

import huggingface_hub.constants
import pytest
import safetensors.torch
import timm
import torch
import torchvision

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import Model
from fieldmark.models import hub
from fieldmark.models.cost import check_budget, parameters, summary
from fieldmark.models.factory import TORCHVISION, build_model, model_names
from fieldmark.models.weights import save_weights

SURVEY = {  # parameters with 200 classes
    "mobilenetv2_100": 2_480_072,
    "squeezenet1_1": 825_096,
    "shufflenet_v2_x1_0": 1_458_604,
    "densenet121": 7_158_856,
    "mobilenetv3_large_100": 4_458_232,
    "efficientnet_b0": 4_263_748,
    "efficientnet_b2": 7_982_794,
    "vgg11": 9_220_480 + 512 * 200 + 200,
}
SMALL = [
    "mobilenetv3_small_050",  # a layer between pooling and classifier
    "resnet10t",
    "test_efficientnet",
    "test_vit",  # a fixed image size
    "test_convnext",  # a normalisation between pooling and classifier
    "efficientvit_m0",  # a classifier with batch norm
    "efficientformerv2_s0",  # two classifiers
    "squeezenet1_1",
    "shufflenet_v2_x0_5",
    "small_cnn",
    "plain_cnn",
]


def build(name, num_classes=7, size=96, seed=0, **settings):
    return build_model(Model(name=name, **({"weights": "none"} | settings)), num_classes, size, seed)


def same(a, b):
    first, second = a.state_dict(), b.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("name", "count"), SURVEY.items())
def test_the_parameters_of_the_surveyed_backbones(name, count):
    with torch.device("meta"):
        model = build(name, 200, 64, pooling="average" if name == "vgg11" else "own").model
    assert parameters(model) == (count, count)
    check_budget(model, Model(max_parameters="10M").max_parameters, name)


@pytest.mark.parametrize("name", SMALL)
def test_every_architecture_keeps_the_contract(name):
    size = 224 if name.startswith("efficientformer") else 96
    model = build(name, 7, size, dropout=0.5).model
    images = torch.rand(2, 3, size, size)
    assert model.training and all(module.training for module in model.modules())
    logits, features = model.eval().forward_with_features(images)
    assert logits.shape == (2, 7) and features.shape == (2, model.num_features)
    torch.testing.assert_close(logits, features @ model.head.weight.T + model.head.bias)
    torch.testing.assert_close(model(images), logits)
    model.train()(images).sum().backward()
    assert [key for key, parameter in model.named_parameters() if parameter.grad is None] == []
    clone = copy.deepcopy(model).to(memory_format=torch.channels_last).eval()
    with torch.no_grad():
        torch.testing.assert_close(clone(images.to(memory_format=torch.channels_last)), model.eval()(images), rtol=1e-4, atol=1e-4)
    title, _, *rows = summary(model, size).splitlines()
    assert title.startswith(f"{name}, 7 classes") and rows[-1].split()[-2] == f"{parameters(model)[0]:,}"


@pytest.mark.parametrize("name", SMALL)
def test_every_architecture_is_saved_and_loaded_whole(name, tmp_path):
    size = 224 if name.startswith("efficientformer") else 96
    model = build(name, 7, size, seed=1).model
    assert same(model, build(name, 7, size, seed=1).model) and not same(model, build(name, 7, size, seed=2).model)
    save_weights(model, tmp_path / "model.safetensors", {})
    loaded = build(name, 7, size, seed=2, weights=str(tmp_path / "model.safetensors"))
    assert same(model, loaded.model) and loaded.notes[1] == "its classifier of 7 classes is kept"


@pytest.mark.parametrize("name", [name for name in SMALL if name not in TORCHVISION])
def test_parameters_keep_the_names_that_timm_gives_them(name):
    model = build(name, 7, 224).model
    options = {"img_size": 224} if name in ("test_vit", "efficientformerv2_s0") else {}
    expected = timm.create_model(name, num_classes=0, **options).state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in model.backbone.state_dict().items()} == {
        key: tuple(tensor.shape) for key, tensor in expected.items()
    }
    assert {key.partition(".")[0] for key in model.state_dict()} == {"backbone", "head"}


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_parameters_keep_the_names_that_torchvision_gives_them(name):
    expected = torchvision.models.get_model(name).state_dict()
    classifier = ("classifier.", "fc.")
    assert list(build(name).model.backbone.state_dict()) == [key for key in expected if not key.startswith(classifier)]


def test_the_seed_alone_decides_the_weights():
    torch.manual_seed(1)
    first = build("test_efficientnet", seed=3).model
    torch.manual_seed(2)
    before = torch.get_rng_state()
    assert same(first, build("test_efficientnet", seed=3).model)
    assert torch.equal(torch.get_rng_state(), before)
    other = build("test_efficientnet", seed=4).model
    assert not torch.equal(first.head.weight, other.head.weight)
    assert not torch.equal(first.backbone.conv_stem.weight, other.backbone.conv_stem.weight)


def test_the_probing_leaves_batch_statistics_as_they_were():
    state = build("test_efficientnet").model.state_dict()
    assert all(not tensor.any() for key, tensor in state.items() if key.endswith(("running_mean", "num_batches_tracked")))


def test_normalisation_is_that_of_the_weights():
    assert build("test_vit").mean == (0.5, 0.5, 0.5)
    assert build("resnet10t").std == (0.229, 0.224, 0.225)
    assert build("squeezenet1_1").mean == (0.485, 0.456, 0.406)


def test_random_weights_are_said_to_be_random():
    built = build("resnet10t")
    assert built.notes == ("weights: random",)
    assert built.architecture == built.model.architecture == "resnet10t"


@pytest.mark.parametrize("before", ["timm/", "hf-hub:timm/", "hf_hub:timm/", "https://huggingface.co/timm/"])
def test_names_of_the_hub_are_those_of_timm(before):
    assert Model(name=f"{before}resnet18.a1_in1k").name == "resnet18.a1_in1k"


@pytest.mark.parametrize("name", ["hf-hub:somebody/resnet18", "somebody/resnet18"])
def test_other_names_of_the_hub_are_answered_with_what_to_type(name):
    with pytest.raises(InputError, match=r"is not a network of timm[\s\S]*model\.name=ARCHITECTURE model\.weights=FILE"):
        build_model(Model(name=name, weights="none"), 3, 64, 0)


@pytest.mark.parametrize(("wrong", "right"), [("efficentnet_b0", "efficientnet_b0"), ("squeezenet1-1", "squeezenet1_1")])
def test_an_unknown_name_is_answered_with_near_ones(wrong, right):
    with pytest.raises(InputError, match=f"there is no model '{wrong}'; did you mean .*{right}"):
        build(wrong)


def test_an_unknown_tag_is_answered_with_the_tags_there_are():
    with pytest.raises(InputError, match=r"efficientnet_b0 has no weights tagged 'best'") as caught:
        build("efficientnet_b0.best")
    assert "efficientnet_b0.ra_in1k" in caught.value.hint


def test_stochastic_depth_is_used_or_refused():
    rates = [module.drop_prob for module in build("test_vit", drop_path=0.3).model.modules() if hasattr(module, "drop_prob")]
    assert max(rates) == pytest.approx(0.3)
    for name in ("ghostnet_050", "squeezenet1_1"):
        with pytest.raises(InputError, match=f"{name} has no stochastic depth, so 0.3 would have no effect"):
            build(name, drop_path=0.3)


def test_no_stochastic_depth_means_none_even_where_timm_has_some():
    assert any(getattr(module, "drop_prob", 0) for module in timm.create_model("fasternet_t1").modules())
    assert not any(getattr(module, "drop_prob", 0) for module in build("fasternet_t1").model.modules())


@pytest.mark.parametrize(("name", "size", "fitting"), [("test_vit", 100, "96, 128, 160"), ("squeezenet1_1", 16, "32, 224")])
def test_a_size_that_does_not_fit_is_answered_with_sizes_that_do(name, size, fitting):
    with pytest.raises(InputError, match=f"data.size: {name} cannot take {size} x {size}") as caught:
        build(name, size=size)
    assert caught.value.hint == f"Sizes that it accepts: {fitting}."
    assert build(name, size=int(fitting.partition(",")[0])).model


def test_names_are_found_by_pattern():
    assert model_names("squeezenet*") == ["squeezenet1_0", "squeezenet1_1"]
    assert "efficientnet_b0" in model_names() and model_names() == sorted(model_names())


# ---- pretrained weights -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def published(monkeypatch, tmp_path):
    """Stand-ins for the hub's files: weights as timm makes them, at its usual image size."""

    def publish(name):
        model = timm.create_model(name)
        safetensors.torch.save_file(model.state_dict(), tmp_path / "model.safetensors")
        monkeypatch.setattr(hub, "timm_file", lambda _: tmp_path / "model.safetensors")
        return model.eval()

    return publish


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet10t", "test_vit", "test_convnext", "resnetv2_18"])
def test_pretrained_weights_with_as_many_classes_give_timms_own_logits(name, published):
    model = published(name)
    size = model.pretrained_cfg["input_size"][-1]
    built = build(name, 1000, size, weights="pretrained")
    images = torch.rand(2, 3, size, size)
    with torch.no_grad():
        torch.testing.assert_close(built.model.eval()(images), model(images), rtol=1e-4, atol=1e-4)
    assert built.notes[1] == "its classifier of 1,000 classes is kept"
    assert built.notes[0].startswith(f"weights: {name}.") and built.notes[0].endswith("of the hub")


def test_pretrained_weights_with_other_classes_keep_the_backbone_only(published):
    model = published("resnet10t")
    built = build("resnet10t", 5, weights="pretrained")
    torch.testing.assert_close(built.model.backbone.layer4[0].conv1.weight, model.layer4[0].conv1.weight)
    assert torch.equal(built.model.head.weight, build("resnet10t", 5).model.head.weight)
    assert built.notes[1] == "its classifier of 1,000 classes is replaced by a fresh one of 5"
    assert built.licence == "apache-2.0" and build("resnet10t", 5).licence is None


def test_pretrained_weights_with_two_classifiers_say_that_they_are_replaced(published):
    published("efficientformerv2_s0")
    built = build("efficientformerv2_s0", 1000, 224, weights="pretrained")
    assert built.notes[1] == "its classifier is not one linear layer; a fresh one of 1,000 classes is added"


def test_a_transformers_pretrained_positions_are_resampled(published):
    published("test_vit")
    assert build("test_vit", 5, 96, weights="pretrained").model.backbone.pos_embed.shape == (1, 6 * 6 + 1, 64)


def test_torchvisions_pretrained_weights(monkeypatch):
    tensors = {name: torchvision.models.get_model(name).state_dict() for name in ("squeezenet1_1", "shufflenet_v2_x0_5")}
    monkeypatch.setattr(hub, "torchvision_tensors", tensors.__getitem__)
    squeezenet = build("squeezenet1_1", 1000, weights="pretrained")
    assert torch.equal(squeezenet.model.backbone.features[0].weight, tensors["squeezenet1_1"]["features.0.weight"])
    assert "not one linear layer" in squeezenet.notes[1]
    shufflenet = build("shufflenet_v2_x0_5", 1000, weights="pretrained")
    assert torch.equal(shufflenet.model.head.weight, tensors["shufflenet_v2_x0_5"]["fc.weight"])


@pytest.fixture
def empty_cache(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["resnet10t", "squeezenet1_1"])
@pytest.mark.parametrize("offline", [True, False])
def test_a_hub_out_of_reach_is_said_within_seconds(name, offline, empty_cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.value, "url", "http://127.0.0.1:9/weights.pth")
    start = time.monotonic()
    with pytest.raises(InputError) as caught:
        build(name, weights="pretrained")
    assert time.monotonic() - start < 5
    assert tuple(map(str, caught.value.problems)) == (f"no pretrained weights for {name}: the hub cannot be reached",)
    assert "model.weights=FILE" in caught.value.hint and "model.weights=none" in caught.value.hint


def test_cached_weights_need_no_hub(empty_cache, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    config = timm.get_pretrained_cfg("resnet10t")
    repository = empty_cache / f"models--{config.hf_hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    (repository / "snapshots" / ("0" * 40)).mkdir(parents=True)
    model = timm.create_model("resnet10t")
    safetensors.torch.save_file(model.state_dict(), repository / "snapshots" / ("0" * 40) / "model.safetensors")
    built = build("resnet10t", 5, weights="pretrained")
    assert torch.equal(built.model.backbone.conv1[0].weight, model.conv1[0].weight)
    assert built.notes[0] == "weights: resnet10t.c3_in1k of the hub"


@pytest.fixture
def small_hub(empty_cache, monkeypatch):
    """A hub on this machine that serves the files given to it by name."""
    files: dict[str, bytes] = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self):
            content = files.get(self.path.rpartition("/")[2])
            self.send_response(200 if content or self.path == "/" else 404)
            self.send_header("X-Repo-Commit", "1" * 40)
            self.send_header("ETag", '"1"')
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            return content or b""

        def do_GET(self):
            self.wfile.write(self.do_HEAD())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(
        huggingface_hub.constants,
        "HUGGINGFACE_CO_URL_TEMPLATE",
        f"http://127.0.0.1:{server.server_port}/{{repo_id}}/resolve/{{revision}}/{{filename}}",
    )
    yield files
    server.shutdown()
    server.server_close()


def test_weights_are_fetched_once(small_hub):
    model = timm.create_model("resnet10t")
    small_hub["model.safetensors"] = safetensors.torch.save(model.state_dict())
    assert torch.equal(build("resnet10t", 5, weights="pretrained").model.backbone.conv1[0].weight, model.conv1[0].weight)
    small_hub.clear()
    assert torch.equal(build("resnet10t", 5, weights="pretrained").model.backbone.conv1[0].weight, model.conv1[0].weight)


def test_a_pickle_on_the_hub_is_not_opened(small_hub):
    small_hub["pytorch_model.bin"] = b"not to be opened"
    with pytest.raises(InputError, match="resnet10t are published only as a pickle"):
        build("resnet10t", 5, weights="pretrained")


def test_a_damaged_cache_is_named(monkeypatch, tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"half a file")
    monkeypatch.setattr(hub, "timm_file", lambda _: tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="the pretrained weights of test_vit cannot be loaded") as caught:
        build("test_vit", weights="pretrained")
    assert caught.value.hint == f"Delete {tmp_path / 'model.safetensors'} to fetch them again."


def test_a_damaged_download_of_torchvision_is_said(empty_cache):
    (empty_cache / "checkpoints").mkdir()
    url = torchvision.models.get_model_weights("squeezenet1_1").DEFAULT.url
    (empty_cache / "checkpoints" / url.rpartition("/")[2]).write_bytes(b"half a file")
    with pytest.raises(InputError, match="no pretrained weights for squeezenet1_1: they could not be fetched or read"):
        build("squeezenet1_1", weights="pretrained")


def test_a_model_without_pretrained_weights_says_so():
    with pytest.raises(InputError, match="coatnet_pico_rw_224 has no pretrained weights"):
        build("coatnet_pico_rw_224", weights="pretrained")


def test_pickled_pretrained_weights_are_not_opened():
    with pytest.raises(InputError, match="gcvit_xxtiny are published only as a pickle"):
        build("gcvit_xxtiny", weights="pretrained")
