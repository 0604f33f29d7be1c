"""Stanford Cars as published, with the labels of test: three classes, two images each in train, one in test."""

from pathlib import Path

from mat_files import cells, put_mat, structs

from miniatures import Miniature, jpeg, put

CLASSES = ("AM General Hummer SUV 2000", "Acura TL Type-S 2008", "Ram C/V Cargo Van Minivan 2012")
LEVELS = {"make": ("AM General", "Acura", "Ram"), "type": ("SUV", "other", "Minivan")}
CORNERS = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")
# File, corners and class. The corners count from 1, and the last ones of an image, which is 64 × 48, are 64 and 48.
TRAIN = [(f"{number + 1:05d}.jpg", 1 + number, 3, 64, 48 - number, number % 3 + 1) for number in range(6)]
TEST = [(f"{number + 1:05d}.jpg", 5, 6 + number, 60 - number, 40, 3 - number) for number in range(3)]


def write_devkit(folder: Path) -> None:
    """The three files, in the published order of their fields: that of cars_train_annos.mat has the class before the file."""
    put_mat(folder / "cars_meta.mat", class_names=cells(CLASSES))
    train = structs((*CORNERS, "class", "fname"), [(*corners, label, file) for file, *corners, label in TRAIN])
    put_mat(folder / "cars_train_annos.mat", annotations=train)
    put_mat(folder / "cars_test_annos.mat", annotations=structs((*CORNERS, "fname"), [(*corners, file) for file, *corners, _ in TEST]))


def write_images(train: Path, test: Path) -> None:
    for seed, (folder, records) in enumerate(((train, TRAIN), (test, TEST))):
        for number, (file, *_) in enumerate(records):
            put(folder / file, jpeg(100 * seed + number))


def write(root: Path) -> Path:
    root = root / "stanford_cars"
    write_devkit(root / "devkit")
    with_labels = structs((*CORNERS, "class", "fname"), [(*corners, label, file) for file, *corners, label in TEST])
    put_mat(root / "cars_test_annos_withlabels.mat", annotations=with_labels)
    write_images(root / "cars_train", root / "cars_test")
    return root


MINIATURE = Miniature(
    layout="stanford-cars",
    write=write,
    class_names=CLASSES,
    counts={"train": 6, "test": 3},
    levels=LEVELS,
    boxes=True,
    groups=False,
    annotations=(
        "stanford_cars/devkit/cars_meta.mat",
        "stanford_cars/devkit/cars_train_annos.mat",
        "stanford_cars/cars_test_annos_withlabels.mat",
    ),
    marks=(
        "stanford_cars/devkit",
        "stanford_cars/devkit/cars_meta.mat",
        "stanford_cars/devkit/cars_train_annos.mat",
        "stanford_cars/cars_train",
        "stanford_cars/cars_test",
    ),
    text=False,
)
