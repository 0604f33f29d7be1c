"""Heat maps against what is known of the network: closed forms, planted objects, and the model as it was."""

import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.model import ActivatedLogits, HiddenHead, LinearHead, Model
from fieldmark.evaluation.explanation import _is_channels_last, _rolled_out, default_method, heat_maps
from fieldmark.evaluation.heat_map_methods import METHODS
from fieldmark.evaluation.inference import Normalisation
from fieldmark.models.execution import Execution
from fieldmark.models.factory import Classifier, NativeHead, build_model

FLOAT32 = Execution(torch.device("cpu"), "float32", "contiguous")
BFLOAT16 = Execution(torch.device("cpu"), "bfloat16", "channels-last")
PLAIN = Normalisation((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
CAMS = METHODS[:3]

CONVOLUTIONAL = [
    ("mobilenetv2_100", 64, "own"),
    ("mobilenetv2_100", 32, "own"),  # the last map is a single place
    ("efficientnet_b0", 64, "own"),
    ("resnet18", 64, "own"),
    ("small_cnn", 32, "own"),
    ("plain_cnn", 32, "own"),
    ("squeezenet1_1", 64, "own"),
    ("shufflenet_v2_x0_5", 64, "own"),
    ("convnext_atto", 64, "own"),
    ("swin_tiny_patch4_window7_224", 64, "own"),
    ("vgg11", 64, "average"),
    ("vgg11", 32, "own"),
    ("pvt_v2_b0", 64, "own"),
    ("densenet121", 64, "own"),
]
HEADS = {
    "linear": LinearHead(),
    "hidden": HiddenHead(width=16, activation="relu", dropout=0.5),
    "activated-logits": ActivatedLogits(activation="leaky-relu", dropout=0.5),
}


def built(name, size, pooling="own", head=HEADS["linear"], execution=FLOAT32) -> Classifier:
    settings = Model(name=name, weights="none", pooling=pooling, head=head, dropout=0.3)
    return execution.prepare(build_model(settings, 5, size, 0).model).eval()


def images(count, size, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, size, size), np.uint8)


def maps_of(model, pixels, classes, method="grad-cam", execution=FLOAT32):
    return heat_maps(model, pixels, np.array(classes), PLAIN, execution, method)


def scaled(maps: torch.Tensor, size: int) -> np.ndarray:
    """Enlarged to the images' size and divided by the largest value, in plain NumPy terms."""
    fine = F.interpolate(maps[:, None], (size, size), mode="bilinear", align_corners=False)[:, 0].numpy()
    largest = fine.max(axis=(1, 2), keepdims=True)
    assert largest.any()
    return fine / np.where(largest > 0, largest, 1)


def tiny(convolution: nn.Module, classes=2) -> Classifier:
    """Convolution, ReLU, average, linear head."""
    backbone = nn.Sequential(convolution, nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return Classifier(
        "tiny", backbone, convolution.out_channels, 0.0, nn.Linear(convolution.out_channels, classes), NativeHead(frozenset(), None)
    )


@pytest.mark.parametrize("execution", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16 channels-last"])
def test_behind_an_average_and_a_linear_head_grad_cam_is_cam(execution):
    """The class-weighted sum of the channels (Zhou et al., CVPR 2016), here of timm's own feature map."""
    model = built("resnet18", 96, execution=execution)
    pixels, classes = images(11, 96), np.arange(11) % 5
    with torch.no_grad():
        features = model.backbone.forward_features(torch.from_numpy(pixels).float() / 255)
        expected = torch.einsum("nchw,nc->nhw", features, model.head.weight[classes]).relu()
    np.testing.assert_allclose(maps_of(model, pixels, classes, execution=execution), scaled(expected, 96), atol=1e-4)


def test_all_methods_on_a_map_of_one_convolution():
    """Features A and gradients w / 9 of each place are known in closed form."""
    torch.manual_seed(0)
    model = tiny(nn.Conv2d(3, 6, 4, stride=4))
    pixels = images(3, 12)
    with torch.no_grad():
        features = model.backbone[:2](torch.from_numpy(pixels).float() / 255)
    gradients = (model.head.weight[1] / 9).detach().view(1, 6, 1, 1).expand_as(features).clone()
    second, third = gradients**2, gradients**3
    alpha = second / (2 * second + features.sum((2, 3), keepdim=True) * third)
    expected = {
        "grad-cam": (gradients.mean((2, 3), keepdim=True) * features).sum(1).relu(),
        "grad-cam++": ((alpha * gradients.relu()).sum((2, 3), keepdim=True) * features).sum(1).relu(),
        "layer-cam": (gradients.relu() * features).sum(1).relu(),
    }
    for method, coarse in expected.items():
        np.testing.assert_allclose(maps_of(model, pixels, [1, 1, 1], method), scaled(coarse, 12), atol=1e-5, err_msg=method)


def test_gradients_that_differ_from_place_to_place():
    """Behind a pooling that weighs places the gradient is that weight: LayerCAM keeps it place by place, Grad-CAM averages it away."""
    weights = torch.tensor([[1.0, 2.0], [-3.0, 4.0]])

    class Weighing(nn.Module):
        def forward(self, x):
            return (x * weights).sum((2, 3))

    model = tiny(nn.Conv2d(3, 1, 4, stride=4))
    model.backbone[2] = Weighing()
    with torch.no_grad():
        nn.init.ones_(model.backbone[0].weight)
        nn.init.ones_(model.head.weight)
    pixels = images(1, 8)
    with torch.no_grad():
        features = model.backbone[:2](torch.from_numpy(pixels).float() / 255)
    positive = weights.clamp(min=0)
    share = 1 / (2 + features.sum() * positive)
    for method, coarse in (
        ("grad-cam", features[:, 0]),
        ("layer-cam", positive * features[:, 0]),
        ("grad-cam++", (share * positive).sum() * features[:, 0]),
    ):
        np.testing.assert_allclose(maps_of(model, pixels, [0], method), scaled(coarse, 8), atol=1e-5, err_msg=method)


@pytest.mark.parametrize("method", CAMS)
def test_a_planted_square_is_found(method):
    """Class 0 is decided by red and class 1 by blue; each image has a square of both."""
    model = tiny(nn.Conv2d(3, 2, 4, stride=4))
    with torch.no_grad():
        model.backbone[0].weight.copy_(torch.tensor([[1.0, -1, -1], [-1, -1, 1]])[:, :, None, None].expand(2, 3, 4, 4))
        model.backbone[0].bias.zero_()
        model.head.weight.copy_(torch.eye(2))
    pixels = np.full((2, 3, 48, 48), 120, np.uint8)
    pixels[:, :, 8:20, 4:16] = np.array([250, 5, 5], np.uint8)[:, None, None]
    pixels[:, :, 28:40, 32:44] = np.array([5, 5, 250], np.uint8)[:, None, None]
    red, blue = maps_of(model, pixels, [0, 1], method)
    assert red[6:22, 2:18].sum() > 0.99 * red.sum() and red.max() == 1 and red[12, 10] > 0.999
    assert blue[26:42, 30:46].sum() > 0.99 * blue.sum() and blue.max() == 1 and blue[34, 38] > 0.999


@pytest.mark.parametrize(
    ("name", "size", "pooling", "head"),
    [
        *((*network, "linear") for network in CONVOLUTIONAL),
        *((*network, head) for network in (CONVOLUTIONAL[0], CONVOLUTIONAL[9]) for head in ("hidden", "activated-logits")),
    ],
)
def test_every_architecture_and_head_has_maps(name, size, pooling, head):
    model = built(name, size, pooling, HEADS[head])
    assert default_method(model) == "grad-cam"
    with torch.no_grad():
        model.head.weight[2].copy_(-model.head.weight[1])  # what does not speak for the one speaks for the other
    pixels = images(1, size).repeat(3, axis=0)
    for method in CAMS:
        maps = maps_of(model, pixels, [0, 1, 2], method)
        assert maps.shape == (3, size, size) and maps.dtype == np.float32
        assert np.isfinite(maps).all() and maps.min() >= 0
        assert set(maps.max(axis=(1, 2)).tolist()) <= {0, 1} and maps.any()
    with pytest.raises(InputError, match="Choose grad-cam"):
        maps_of(model, pixels, [0, 1, 2], "rollout")


def test_a_map_depends_on_its_own_image_alone():
    model = built("resnet18", 96)
    pixels, classes = images(10, 96), np.arange(10) % 5
    together = maps_of(model, pixels, classes)
    alone = np.concatenate([maps_of(model, pixels[[row]], classes[[row]]) for row in range(10)])
    np.testing.assert_allclose(together, alone, atol=1e-4)


def test_swins_map_has_its_channels_last():
    model = built("swin_tiny_patch4_window7_224", 64)
    with torch.no_grad():
        features = model.backbone.forward_features(torch.from_numpy(images(2, 64)).float() / 255)
        assert _is_channels_last(features, model.backbone)
        expected = torch.einsum("nhwc,nc->nhw", features, model.head.weight[[3, 4]]).relu()
    np.testing.assert_allclose(maps_of(model, images(2, 64), [3, 4]), scaled(expected, 64), atol=1e-4)


def test_what_is_added_after_the_last_module_counts():
    """As in resnext101_32x8d_vit_tiny: the map that the pooling gets comes out of no module."""

    class Doubled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool = nn.Conv2d(3, 2, 4, stride=4), nn.AdaptiveAvgPool2d(1)

        def forward(self, x):
            x = self.conv(x)
            return self.pool(x + x.flip(3)).flatten(1)

    torch.manual_seed(0)
    model = Classifier("doubled", Doubled(), 2, 0.0, nn.Linear(2, 2), NativeHead(frozenset(), None))
    maps = maps_of(model, images(1, 16), [0])
    np.testing.assert_allclose(maps, maps[:, :, ::-1], atol=1e-6)


def test_a_logit_that_is_out_has_an_empty_map():
    model = built("small_cnn", 32, head=ActivatedLogits(activation="relu", dropout=0.0))
    with torch.no_grad():
        model.head.bias.copy_(torch.tensor([-100.0, 100, 0, 0, 0]))
    out, on = maps_of(model, images(2, 32), [0, 1])
    assert not out.any() and on.max() in (0, 1)


def test_numbers_that_are_not_finite_give_an_empty_map():
    model = built("small_cnn", 32)
    with torch.no_grad():
        model.head.weight.fill_(torch.nan)
    assert not maps_of(model, images(1, 32), [0]).any()


def by_hand(matrices: list[np.ndarray]) -> np.ndarray:
    """Roll-out of (N, N) matrices, the first block's first."""
    flow = np.eye(len(matrices[0]))
    for matrix in matrices:
        step = matrix + np.eye(len(matrix))
        flow = (step / step.sum(axis=1, keepdims=True)) @ flow
    return flow


class GivenAttention(nn.Module):
    """Attention that does not look at its input: (heads, N, N) in every image."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix, self.fused_attn, self.attn_drop = torch.tensor(matrix, dtype=torch.float32), True, nn.Dropout(0.9)

    def forward(self, x):
        attention = self.attn_drop(self.matrix.expand(len(x), -1, -1, -1)).mean(1) if not self.fused_attn else self.matrix.mean(0)
        return attention @ x


class GivenTransformer(nn.Module):
    """Patches of 4 pixels; `prefix` tokens before them."""

    def __init__(self, matrices, prefix, global_pool):
        super().__init__()
        self.blocks = nn.Sequential(*map(GivenAttention, matrices))
        self.num_prefix_tokens, self.global_pool = prefix, global_pool

    def forward(self, x):
        tokens = F.pad(F.avg_pool2d(x, 4).flatten(2).transpose(1, 2), (0, 0, self.num_prefix_tokens, 0))
        tokens = self.blocks(tokens)
        return tokens[:, 0] if self.global_pool == "token" else tokens[:, self.num_prefix_tokens :].mean(1)


@pytest.mark.parametrize(("prefix", "pool"), [(1, "token"), (3, "token"), (3, "avg"), (0, "avg")])
def test_rollout_of_two_blocks_made_by_hand(prefix, pool):
    matrices = np.random.default_rng(1).dirichlet(np.full(prefix + 4, 0.3), size=(2, 2, prefix + 4))
    model = Classifier("given", GivenTransformer(matrices, prefix, pool), 3, 0.0, nn.Linear(3, 2), NativeHead(frozenset(), None))
    assert default_method(model) == "rollout"
    flow = by_hand([matrix.mean(axis=0) for matrix in matrices])
    expected = (flow[0] if pool == "token" else flow[prefix:].mean(axis=0))[prefix:].reshape(2, 2)
    found = _rolled_out(model.eval(), torch.zeros(2, 3, 8, 8)).numpy()
    np.testing.assert_allclose(found, [expected, expected], atol=1e-6)
    maps = maps_of(model, images(2, 8), [0, 1], "rollout")
    np.testing.assert_allclose(maps, scaled(torch.tensor(np.array([expected, expected])), 8), atol=1e-5)


@pytest.mark.parametrize(
    "name", ["test_vit", "deit_tiny_patch16_224", "deit_tiny_distilled_patch16_224", "eva02_tiny_patch14_224", "test_vit3"]
)
def test_rollout_of_timms_transformers(name):
    size = 160 if name.startswith("test_") else 224
    model = built(name, size)
    assert default_method(model) == "rollout"
    one, other = (maps_of(model, images(1, size), [label], "rollout") for label in (0, 1))
    np.testing.assert_array_equal(one, other)
    assert one.shape == (1, size, size) and one.max() == 1 and 0 <= one.min() < 1
    for method in CAMS:
        with pytest.raises(InputError, match="Choose rollout"):
            maps_of(model, images(1, size), [0], method)


def test_rollout_in_bfloat16_is_computed_in_float32():
    model = built("test_vit", 160)
    expected = maps_of(model, images(2, 160), [0, 1], "rollout")
    model = BFLOAT16.prepare(model)
    with BFLOAT16.autocast():
        found = maps_of(model, images(2, 160), [0, 1], "rollout", BFLOAT16)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_under_average_pooling_the_class_token_is_not_read():
    own, average = built("test_vit", 160), built("test_vit", 160, "average")
    average.backbone.blocks.load_state_dict(own.backbone.blocks.state_dict())
    assert not np.allclose(*(maps_of(model, images(1, 160), [0], "rollout") for model in (own, average)), atol=1e-3)


@pytest.mark.parametrize("name", ["mixer_s32_224", "xcit_nano_12_p16_224", "cait_xxs24_224"])
def test_a_network_that_has_neither_says_so(name):
    model = built(name, 224)
    assert default_method(model) == "grad-cam"
    with pytest.raises(InputError, match="No heat map can be made"):
        maps_of(model, images(1, 224), [0])


@pytest.mark.parametrize("fails", [False, True], ids=["after maps", "after an exception"])
@pytest.mark.parametrize(("name", "size", "method"), [("test_efficientnet", 64, "grad-cam++"), ("test_vit", 160, "rollout")])
def test_the_model_is_left_as_it_was(name, size, method, fails, monkeypatch):
    model = built(name, size).train()
    for index, (parameter, module) in enumerate(zip(model.parameters(), model.modules(), strict=False)):
        parameter.requires_grad_(index % 2 == 0)
        module.training = index % 3 == 0
    parameters = list(model.parameters())
    parameters[0].grad = torch.ones_like(parameters[0])
    parameters[1].grad = None
    before, state = snapshot(model), copy.deepcopy(model.state_dict())
    if fails:
        monkeypatch.setattr(model.head, "forward", lambda _: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            maps_of(model, images(2, size), [0, 1], method)
        monkeypatch.undo()
    else:
        maps_of(model, images(2, size), [0, 1], method)
    assert snapshot(model) == before
    assert parameters[0].grad is not None and bool((parameters[0].grad == 1).all())
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())


def snapshot(model):
    modules = [
        (
            module.training,
            getattr(module, "fused_attn", None),
            len(module._forward_hooks),
            len(module._forward_pre_hooks),
            list(vars(module)),
        )
        for module in model.modules()
    ]
    return modules, [(parameter.requires_grad, parameter.grad is None) for parameter in model.parameters()], torch.is_grad_enabled()


def test_frozen_parameters_and_a_caller_without_gradients_change_nothing():
    model = built("test_efficientnet", 64)
    expected = maps_of(model, images(2, 64), [0, 1])
    model.requires_grad_(False)
    with torch.no_grad():
        np.testing.assert_array_equal(maps_of(model, images(2, 64), [0, 1]), expected)


@pytest.mark.filterwarnings("error")
def test_pixels_and_classes_may_be_read_only_and_of_any_integers():
    model, pixels, classes = built("small_cnn", 32), images(2, 32), np.array([3, 1], np.int32)
    expected = maps_of(model, pixels, [3, 1])
    pixels.flags.writeable = classes.flags.writeable = False
    np.testing.assert_array_equal(heat_maps(model, pixels, classes, PLAIN, FLOAT32, "grad-cam"), expected)


def test_no_images_and_what_does_not_fit():
    model = built("small_cnn", 32)
    assert maps_of(model, images(0, 32), np.zeros(0, np.int64)).shape == (0, 32, 32)
    with pytest.raises(InputError, match=r"no method 'cam' .*\n.*layer-cam"):
        maps_of(model, images(1, 32), [0], "cam")
    with pytest.raises(ValueError, match="1 images and 2 classes"):
        maps_of(model, images(1, 32), [0, 1])
