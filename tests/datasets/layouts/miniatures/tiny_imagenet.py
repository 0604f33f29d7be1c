"""Tiny ImageNet with three classes, two images each in train, one in val and two without labels in test."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_CLASSES = {"n02124075": "Egyptian cat", "n04067472": "reel", "n01443537": "goldfish, Carassius auratus"}


def write(root: Path) -> Path:
    root = root / "tiny-imagenet-200"
    val = []
    for label, wnid in enumerate(_CLASSES):
        boxes = []
        for turn in range(2):
            put(root / f"train/{wnid}/images/{wnid}_{turn}.JPEG", jpeg(3 * label + turn, 64, 64))
            boxes.append(f"{wnid}_{turn}.JPEG\t0\t{10 + turn}\t63\t58\n")
        put(root / f"train/{wnid}/{wnid}_boxes.txt", "".join(boxes))
        put(root / f"val/images/val_{label}.JPEG", jpeg(3 * label + 2, 64, 64))
        put(root / f"test/images/test_{label}.JPEG", jpeg(100 + label, 64, 64))
        val.append(f"val_{label}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    put(root / "val/val_annotations.txt", "".join(val))
    put(root / "wnids.txt", "\n".join(_CLASSES))
    put(root / "words.txt", "".join(f"{wnid}\t{words}\n" for wnid, words in {"n00001740": "entity", **_CLASSES}.items()))
    return root


MINIATURE = Miniature(
    layout="tiny-imagenet",
    write=write,
    class_names=("Egyptian cat", "reel", "goldfish"),
    counts={"train": 6, "val": 3, "unlabelled": 3},
    levels={},
    boxes=True,
    groups=False,
    annotations=("tiny-imagenet-200/val/val_annotations.txt", "tiny-imagenet-200/train/n*/n*_boxes.txt", "tiny-imagenet-200/wnids.txt"),
    marks=("tiny-imagenet-200/wnids.txt", "tiny-imagenet-200/val/val_annotations.txt"),
)
