"""Class folders under train, val and test, with spaces and accents in their names, and one folder deeper."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_CLASSES = ("Grünfink", "barn owl", "シジュウカラ")


def write(root: Path) -> Path:
    root = root / "garden birds"
    for split, images in (("train", 3), ("val", 1), ("test", 2)):
        for label, name in enumerate(_CLASSES):
            for image in range(images):
                folder = "2019, spring/" if image == 2 else ""
                put(root / split / name / f"{folder}photo {image}.jpg", jpeg(100 * len(split) + 10 * label + image))
    return root


MINIATURE = Miniature(
    layout="class-folders",
    write=write,
    class_names=("Grünfink", "barn owl", "シジュウカラ"),
    counts={"train": 9, "val": 3, "test": 6},
    levels={},
    boxes=False,
    groups=False,
    annotations=(),
    marks=(),
)
