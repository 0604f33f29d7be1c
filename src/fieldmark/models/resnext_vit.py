"""A ResNeXt whose last feature map goes through a vision transformer; registered with timm as `resnext101_32x8d_vit_tiny`.

The 2048 channels of each place of ResNeXt-101 32x8d's layer4 (Xie et al., CVPR 2017; 7 x 7 places at 224 pixels) are projected to a token
of 192 numbers; the blocks and the final norm of ViT-tiny (Dosovitskiy et al., ICLR 2021) work on these tokens, which are projected back and
added to the map; its average over the image goes to the classifier. The last projection starts at zero, so that at first the network
computes what the ResNeXt does: random projections would spoil features that are good already. There is no class token, because the average
represents the whole image. The transformer's position embedding is resampled to the grid of places.

Parameters keep the names that they have in timm's two networks, so that the weights of both fit.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from timm.layers.helpers import to_2tuple
from timm.layers.pos_embed import resample_abs_pos_embed
from timm.models import build_model_with_cfg, get_pretrained_cfg, register_model
from timm.models.resnet import Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from fieldmark.models import hub
from fieldmark.models.weights import read_weights

PARTS = {"resnext101_32x8d_vit_tiny": ("resnext101_32x8d", "vit_tiny_patch16_224")}
"""The convolutional network and the transformer whose pretrained weights an architecture starts from."""

default_cfgs = {
    "resnext101_32x8d_vit_tiny": {
        "url": "",
        "num_classes": 1000,
        "input_size": (3, 224, 224),
        "fixed_input_size": True,
        "pool_size": (7, 7),
        "mean": (0.485, 0.456, 0.406),
        "std": (0.229, 0.224, 0.225),
        "first_conv": "conv1",
        "classifier": "fc",
    }
}
_PATCH = 16
_REDUCTION = 32


class ResNextVit(ResNet):
    """float (B, 3, img_size, img_size) -> logits (B, num_classes), or pooled features (B, 2048) if num_classes is 0.

    Args:
        layers: number of blocks in each stage of the ResNeXt.
        depth: number of blocks of the transformer.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        layers: Sequence[int] = (3, 4, 23, 3),
        depth: int = 12,
        drop_path_rate: float = 0.0,
        **options: Any,
    ):
        block: Any = Bottleneck  # timm's annotation asks for an instance
        super().__init__(block, tuple(layers), cardinality=32, base_width=8, drop_path_rate=drop_path_rate, **options)
        height, width = to_2tuple(img_size)
        self.grid_size = (-(-height // _REDUCTION), -(-width // _REDUCTION))
        vit = VisionTransformer(
            img_size=(self.grid_size[0] * _PATCH, self.grid_size[1] * _PATCH),
            patch_size=_PATCH,
            embed_dim=192,
            depth=depth,
            num_heads=3,
            num_classes=0,
            class_token=False,
            global_pool="",
            drop_path_rate=drop_path_rate,
        )
        self.to_tokens = nn.Linear(self.num_features, vit.embed_dim)
        self.pos_embed, self.blocks, self.norm = vit.pos_embed, vit.blocks, vit.norm
        self.from_tokens = nn.Linear(vit.embed_dim, self.num_features)
        nn.init.zeros_(self.from_tokens.weight)
        nn.init.zeros_(self.from_tokens.bias)

    def forward_features(self, x: Tensor) -> Tensor:
        x = super().forward_features(x)
        tokens = self.to_tokens(x.flatten(2).transpose(1, 2)) + self.pos_embed
        tokens = self.norm(self.blocks(tokens))
        return x + self.from_tokens(tokens).transpose(1, 2).unflatten(2, self.grid_size)


def pretrained_tensors(name: str, backbone: ResNextVit) -> tuple[dict[str, Tensor], str]:
    """Tensors of both parts from the hub under the network's names, including ResNeXt's classifier, and their origin.

    The projections are the backbone's own. Raises InputError if the weights cannot be obtained.
    """
    resnext, vit = (read_weights(hub.timm_file(part))[0] for part in PARTS[name])
    position = vit["pos_embed"]
    side = round((position.shape[1] - 1) ** 0.5)
    position = resample_abs_pos_embed(position[:, 1:], list(backbone.grid_size), [side, side], num_prefix_tokens=0)
    tensors = {
        **{each: tensor for each, tensor in backbone.state_dict().items() if each.startswith(("to_tokens.", "from_tokens."))},
        **{each: tensor for each, tensor in vit.items() if each.startswith(("blocks.", "norm."))},
        "pos_embed": position,
        **resnext,
    }
    tags = [f"{part}.{config.tag}" for part in PARTS[name] if (config := get_pretrained_cfg(part)) is not None]
    return tensors, f"{' and '.join(tags)} of the hub"


@register_model
def resnext101_32x8d_vit_tiny(pretrained: bool = False, **options: Any) -> ResNextVit:
    model: ResNextVit = build_model_with_cfg(ResNextVit, "resnext101_32x8d_vit_tiny", pretrained, **options)
    return model
