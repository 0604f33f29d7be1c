"""Food-101 with three dishes, two images each in train and one in test."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_DISHES = {"apple_pie": "Apple pie", "baby_back_ribs": "Baby back ribs", "creme_brulee": "Creme brulee"}


def write(root: Path) -> Path:
    root = root / "food-101"
    lists: dict[str, dict[str, list[str]]] = {"train": {}, "test": {}}
    for label, dish in enumerate(_DISHES):
        for turn, split in enumerate(("train", "train", "test")):
            image = f"{dish}/{1005649 + 10 * label + turn}"
            put(root / "images" / f"{image}.jpg", jpeg(3 * label + turn))
            lists[split].setdefault(dish, []).append(image)
    for split, images in lists.items():
        put(root / "meta" / f"{split}.txt", "".join(f"{image}\n" for listed in images.values() for image in listed))
    put(root / "meta/classes.txt", "".join(f"{dish}\n" for dish in _DISHES))
    put(root / "meta/labels.txt", "".join(f"{name}\n" for name in _DISHES.values()))
    put(root / "README.txt", "The Food-101 data set\n")
    put(root / "license_agreement.txt", "LICENSE AGREEMENT\n")
    return root


MINIATURE = Miniature(
    layout="food101",
    write=write,
    class_names=("Apple pie", "Baby back ribs", "Creme brulee"),
    counts={"train": 6, "test": 3},
    levels={},
    boxes=False,
    groups=False,
    annotations=("food-101/meta/t*.txt", "food-101/meta/classes.txt"),
    marks=("food-101/meta/train.txt", "food-101/meta/test.txt", "food-101/images"),
)
