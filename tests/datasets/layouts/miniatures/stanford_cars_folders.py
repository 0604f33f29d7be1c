"""Stanford Cars in class folders beside tables, as Kaggle has it too. A folder's name has "-" where that of its class has "/"."""

from pathlib import Path

from miniatures import Miniature, jpeg, put
from miniatures.stanford_cars import CLASSES, LEVELS, TEST, TRAIN


def write(root: Path) -> Path:
    root = root / "archive"
    put(root / "names.csv", "".join(f"{name}\n" for name in CLASSES))
    for split, records in (("train", TRAIN), ("test", TEST)):
        put(root / f"anno_{split}.csv", "".join(",".join(map(str, record)) + "\n" for record in records))
        for number, (file, *_, label) in enumerate(records):
            folder = CLASSES[label - 1].replace("/", "-")
            put(root / "car_data" / "car_data" / split / folder / file, jpeg(100 * (split == "test") + number))
    return root


MINIATURE = Miniature(
    layout="stanford-cars",
    write=write,
    class_names=CLASSES,
    counts={"train": 6, "test": 3},
    levels=LEVELS,
    boxes=True,
    groups=False,
    annotations=("archive/*.csv",),
    marks=("archive/names.csv", "archive/anno_train.csv", "archive/anno_test.csv", "archive/car_data/car_data/train"),
)
