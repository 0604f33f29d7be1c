"""CUB-200-2011 with three classes and two images each in train and in test."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross", "107.Common_Raven")


def write(root: Path) -> Path:
    root = root / "CUB_200_2011"
    tables: dict[str, list[str]] = {name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")}
    number = 0
    for label, name in enumerate(_CLASSES, 1):
        for image in range(4):
            number += 1
            file = f"{name}/{name[4:]}_{image:04d}_{1000 + number}.jpg"
            put(root / "images" / file, jpeg(number))
            tables["images"].append(f"{number} {file}")
            tables["image_class_labels"].append(f"{number} {label}")
            tables["train_test_split"].append(f"{number} {int(image < 2)}")
            tables["bounding_boxes"].append(f"{number} {4.0 + image} 6.0 40.0 {30.0 - image}")
    for name, lines in tables.items():
        put(root / f"{name}.txt", "\n".join(lines) + "\n")
    put(root / "classes.txt", "".join(f"{label} {name}\n" for label, name in enumerate(_CLASSES, 1)))
    return root


MINIATURE = Miniature(
    layout="cub",
    write=write,
    class_names=("Black footed Albatross", "Laysan Albatross", "Common Raven"),
    counts={"train": 6, "test": 6},
    levels={},
    boxes=True,
    groups=False,
    annotations=("CUB_200_2011/*.txt",),
    marks=tuple(f"CUB_200_2011/{name}.txt" for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "classes")),
)
