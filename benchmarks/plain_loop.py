"""The plain training loop that Fieldmark has to beat: one file, written by hand, with nothing of Fieldmark in it.

MobileNetV2 on a folder of train/<class>/ and test/<class>/: uint8 images in memory, flip and shift on the batch, bfloat16 autocast,
channels-last, label smoothing 0.1, SGD with Nesterov momentum 0.9 and weight decay 5e-5 on a one-cycle schedule. It trains on all of train
and looks at test once, after the last epoch.

    python benchmarks/plain_loop.py DATA --weights mobilenetv2_100.safetensors --size 160 --epochs 12 --batch 64 --lr 0.1
    python benchmarks/plain_loop.py DATA --weights mobilenetv2_100.safetensors --steps 20

The second form trains only 20 steps on as many images as they need and does not test, for interleaved comparisons of speed. The last line
is JSON: seconds (decoding, training and testing together), images_per_second (training steps alone, the first one, which warms up, left
out) and test_top1 (per cent; null after --steps).
"""

from __future__ import annotations

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHIFT = 0.1  # largest shift, as a share of the side


def list_images(folder: Path, classes: list[str]) -> tuple[list[Path], Tensor]:
    files = [(file, label) for label, name in enumerate(classes) for file in sorted((folder / name).glob("*"))]
    return [file for file, _ in files], torch.tensor([label for _, label in files])


def decode(files: list[Path], size: int) -> Tensor:
    """uint8 (n, 3, size, size)."""
    pixels = torch.empty(len(files), 3, size, size, dtype=torch.uint8)

    def one(index: int) -> None:
        with Image.open(files[index]) as image:
            small = image.convert("RGB").resize((size, size), Image.Resampling.BILINEAR)
        pixels[index] = torch.from_numpy(np.array(small)).permute(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        list(pool.map(one, range(len(files))))
    return pixels


def prepare(pixels: Tensor, device: torch.device) -> Tensor:
    mean, std = (torch.tensor(values, device=device).view(1, 3, 1, 1) * 255 for values in (MEAN, STD))
    pixels = pixels.to(device, non_blocking=True).contiguous(memory_format=torch.channels_last)
    return (pixels.float() - mean) / std


def flip_and_shift(pixels: Tensor) -> Tensor:
    """Flip half of the batch and move every image by up to SHIFT of its side; the edge is repeated."""
    n, _, size, _ = pixels.shape
    reach = round(SHIFT * size)
    steps = torch.arange(size)
    rows = (steps + torch.randint(-reach, reach + 1, (n, 1))).clamp(0, size - 1)
    columns = (steps + torch.randint(-reach, reach + 1, (n, 1))).clamp(0, size - 1)
    columns = torch.where(torch.rand(n, 1) < 0.5, columns, columns.flip(1))
    pixels = pixels.gather(2, rows[:, None, :, None].expand(pixels.shape))
    return pixels.gather(3, columns[:, None, None, :].expand(pixels.shape))


def build(weights: Path, classes: int, device: torch.device) -> nn.Module:
    model: Any = timm.create_model("mobilenetv2_100")
    model.load_state_dict(load_file(weights))
    model.reset_classifier(classes)
    return model.to(device, memory_format=torch.channels_last)


@torch.inference_mode()
def top1(model: nn.Module, pixels: Tensor, labels: Tensor, device: torch.device) -> float:
    model.eval()
    right = 0
    for batch, target in zip(pixels.split(128), labels.split(128), strict=True):
        with torch.autocast(device.type, torch.bfloat16):
            right += int((model(prepare(batch, device)).argmax(1).cpu() == target).sum())
    return 100 * right / len(labels)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--weights", type=Path, required=True, help="mobilenetv2_100 as a safetensors file with timm's names")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--steps", type=int, help="train this many steps only (at most an epoch), and do not test")
    args = parser.parse_args()
    if args.steps is not None and args.steps < 2:
        parser.error("--steps must be at least 2: the first one warms up")

    start = time.perf_counter()
    torch.manual_seed(0)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    classes = sorted(folder.name for folder in (args.data / "train").iterdir() if folder.is_dir())
    files, labels = list_images(args.data / "train", classes)
    if args.steps:
        kept = torch.randperm(len(files))[: args.steps * args.batch]
        files, labels = [files[index] for index in kept.tolist()], labels[kept]
    pixels = decode(files, args.size)
    print(f"{len(files)} images of {len(classes)} classes decoded in {time.perf_counter() - start:.1f} s")

    model = build(args.weights, len(classes), device)
    epochs, steps = (1 if args.steps else args.epochs), len(files) // args.batch
    optimiser = torch.optim.SGD(model.parameters(), lr=args.lr, momentum=0.9, nesterov=True, weight_decay=5e-5)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, args.lr, total_steps=epochs * steps, cycle_momentum=False)

    model.train()
    began = 0.0
    for epoch in range(epochs):
        losses = torch.zeros((), device=device)
        for rows in torch.randperm(len(files)).split(args.batch)[:steps]:
            batch = prepare(flip_and_shift(pixels[rows]), device)
            with torch.autocast(device.type, torch.bfloat16):
                loss = F.cross_entropy(model(batch), labels[rows].to(device), label_smoothing=0.1)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses += loss.detach()
            if not began:
                losses.item()  # waits for the device
                began = time.perf_counter()
        mean_loss = losses.item() / steps
        images_per_second = ((epoch + 1) * steps - 1) * args.batch / (time.perf_counter() - began)
        print(f"epoch {epoch + 1} of {epochs}: loss {mean_loss:.3f}, {images_per_second:.1f} images/s", flush=True)

    test_top1 = None
    if not args.steps:
        test_files, test_labels = list_images(args.data / "test", classes)
        test_top1 = round(top1(model, decode(test_files, args.size), test_labels, device), 2)
    seconds = round(time.perf_counter() - start, 1)
    print(json.dumps({"seconds": seconds, "images_per_second": round(images_per_second, 1), "test_top1": test_top1}))


if __name__ == "__main__":
    main()
