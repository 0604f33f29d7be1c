"""Write the table behind `fieldmark models`: build each model, count its parameters and multiply-accumulates.

python benchmarks/catalog.py            # minutes; needs no network
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

from fieldmark.core.files import write_text
from fieldmark.core.recipe.model import Model
from fieldmark.models.catalog import ModelInfo
from fieldmark.models.cost import macs, parameters
from fieldmark.models.factory import build_model, describe

TABLE = Path(__file__).resolve().parents[1] / "src" / "fieldmark" / "models" / "catalog.json"

LINES = {
    "squeezenet1_0": "fire modules; very small weights (2016)",
    "squeezenet1_1": "SqueezeNet at 2.4 times less work (2016)",
    "shufflenet_v2_x0_5": "channel shuffles; for weak processors (2018)",
    "shufflenet_v2_x1_0": "channel shuffles; fast on phones (2018)",
    "shufflenet_v2_x1_5": "wider ShuffleNet V2",
    "shufflenet_v2_x2_0": "widest ShuffleNet V2",
    "mobilenetv2_050": "inverted residuals, half width",
    "mobilenetv2_100": "inverted residuals; quantises well (2018)",
    "mobilenetv2_140": "wider MobileNetV2",
    "mobilenetv3_small_050": "MobileNetV3 at half width; very little work",
    "mobilenetv3_small_100": "searched for phones; little work (2019)",
    "mobilenetv3_large_100": "searched for phones (2019)",
    "mobilenetv4_conv_small": "convolutions only; fast on many accelerators (2024)",
    "mobilenetv4_conv_medium": "convolutions only, mid-size (2024)",
    "lcnet_100": "made for Intel processors (PP-LCNet, 2021)",
    "ghostnet_100": "cheap ghost features (2020)",
    "mnasnet_100": "searched by measured latency (2018)",
    "hardcorenas_a": "searched under a hard latency limit (2021)",
    "tinynet_a": "EfficientNet shrunk in all dimensions (2020)",
    "tf_efficientnet_lite0": "EfficientNet without squeeze-and-excitation; quantises well",
    "efficientnet_lite0": "EfficientNet without squeeze-and-excitation",
    "efficientnet_b0": "strong for its size; the default (2019)",
    "efficientnet_b1": "EfficientNet scaled one step",
    "efficientnet_b2": "EfficientNet scaled two steps; under 10 M with 200 classes",
    "efficientnet_b3": "EfficientNet scaled three steps",
    "tf_efficientnetv2_b0": "EfficientNetV2: faster to train (2021)",
    "tf_efficientnetv2_b2": "EfficientNetV2 scaled two steps",
    "efficientnetv2_rw_t": "EfficientNetV2, tiny",
    "regnety_002": "designed design space, 200 M multiply-accumulates (2020)",
    "regnety_008": "designed design space, 800 M multiply-accumulates",
    "regnety_016": "designed design space, 1.6 G multiply-accumulates",
    "rexnet_100": "wider bottlenecks; strong for its size (2020)",
    "rexnet_130": "wider ReXNet",
    "mobileone_s0": "one branch after reparameterisation (2022)",
    "mobileone_s1": "one branch after reparameterisation",
    "fastvit_t8": "hybrid, reparameterised, low latency (2023)",
    "fastvit_t12": "hybrid, reparameterised",
    "repvit_m0_9": "convolutions arranged as in a vision transformer (2023)",
    "repvit_m1_1": "larger RepViT",
    "mobilevit_xs": "convolutions and attention for phones (2021)",
    "mobilevitv2_100": "MobileViT with linear attention (2022)",
    "edgenext_small": "convolutions and channel attention (2022)",
    "efficientformerv2_s0": "transformer as fast as MobileNet (2022)",
    "efficientformerv2_s1": "larger EfficientFormerV2",
    "efficientvit_b0": "linear attention at several scales (2022)",
    "efficientvit_b1": "larger EfficientViT",
    "tiny_vit_5m_224": "distilled small transformer (2022)",
    "tiny_vit_11m_224": "larger TinyViT",
    "levit_128s": "transformer made for speed (2021)",
    "convnext_atto": "smallest ConvNeXt (2022)",
    "convnext_femto": "small ConvNeXt",
    "convnext_tiny": "the usual ConvNeXt (2022)",
    "convnextv2_atto": "ConvNeXt V2, pretrained with masks (2023)",
    "convnextv2_nano": "ConvNeXt V2, mid-size",
    "hgnetv2_b0": "PP-HGNetV2; fast on GPUs",
    "hgnetv2_b1": "larger PP-HGNetV2",
    "starnet_s1": "element-wise products in place of width (2024)",
    "densenet121": "every layer sees all before it (2016)",
    "plain_cnn": "our own: pairs of 3 x 3 convolutions and pooling; for small images, from scratch",
    "small_cnn": "our own: a small residual network; fast on a CPU, from scratch",
    "resnet18": "the classic, small (2015)",
    "resnet34": "the classic, mid-size",
    "resnet50": "the classic (2015)",
    "resnext50_32x4d": "ResNet with grouped convolutions (2016)",
    "resnext101_32x8d": "large ResNeXt (2016)",
    "resnext101_32x8d_vit_tiny": "our own: ResNeXt-101, then the blocks of a tiny vision transformer",
    "seresnet50": "ResNet with squeeze-and-excitation (2017)",
    "vgg11": "large and slow; for comparison (2014)",
    "vit_tiny_patch16_224": "plain vision transformer, tiny",
    "vit_small_patch16_224": "plain vision transformer, small",
    "deit_tiny_patch16_224": "vision transformer trained on ImageNet alone (2020)",
    "deit3_small_patch16_224": "vision transformer, revised training (2022)",
    "vit_small_patch14_reg4_dinov2": "self-supervised features, strong for fine detail (2023)",
    "swin_tiny_patch4_window7_224": "attention in shifted windows (2021)",
}


def measure(name: str) -> ModelInfo:
    size, pretrained = describe(name)
    model = build_model(Model(name=name, weights="none"), num_classes=1000, size=size, seed=0).model
    return ModelInfo(name, parameters(model)[0], macs(model, size), size, pretrained, LINES[name])


def main() -> None:
    rows = []
    for name in LINES:
        rows.append(measure(name))
        print(name, *rows[-1].figures(), sep="\t", flush=True)
    rows.sort(key=lambda row: (row.parameters, row.name))
    write_text(TABLE, "[\n" + ",\n".join("  " + json.dumps(asdict(row)) for row in rows) + "\n]\n")


if __name__ == "__main__":
    main()
