"""Stanford Cars with all images in car_ims and one table, cars_annos.mat, for both splits."""

from pathlib import Path

from mat_files import cells, put_mat, structs

from miniatures import Miniature, jpeg, put
from miniatures.stanford_cars import CLASSES, CORNERS, LEVELS, TEST, TRAIN


def write(root: Path) -> Path:
    root = root / "cars"
    records = []
    for number, (_, *corners, label) in enumerate((*TRAIN, *TEST), 1):
        path = f"car_ims/{number:06d}.jpg"
        put(root / path, jpeg(number))
        records.append((path, *corners, label, int(number > len(TRAIN))))
    table = structs(("relative_im_path", *CORNERS, "class", "test"), records)
    put_mat(root / "cars_annos.mat", annotations=table, class_names=cells(CLASSES))
    return root


MINIATURE = Miniature(
    layout="stanford-cars",
    write=write,
    class_names=CLASSES,
    counts={"train": 6, "test": 3},
    levels=LEVELS,
    boxes=True,
    groups=False,
    annotations=("cars/cars_annos.mat",),
    marks=("cars/car_ims",),
    text=False,
)
