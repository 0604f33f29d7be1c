"""Stanford Cars as Kaggle packs it, each folder within one of its name, without the labels of test."""

from pathlib import Path

from miniatures import Miniature
from miniatures.stanford_cars import CLASSES, LEVELS, write_devkit, write_images


def write(root: Path) -> Path:
    root = root / "archive"
    write_devkit(root / "car_devkit" / "devkit")
    write_images(root / "cars_train" / "cars_train", root / "cars_test" / "cars_test")
    return root


MINIATURE = Miniature(
    layout="stanford-cars",
    write=write,
    class_names=CLASSES,
    counts={"train": 6, "unlabelled": 3},
    levels=LEVELS,
    boxes=True,
    groups=False,
    annotations=("archive/car_devkit/devkit/*.mat",),
    marks=(
        "archive/car_devkit/devkit/cars_meta.mat",
        "archive/car_devkit/devkit/cars_train_annos.mat",
        "archive/car_devkit/devkit/cars_test_annos.mat",
        "archive/cars_train",
        "archive/cars_test",
    ),
    text=False,
)
