"""A benchmark with a list of paths and numbers for each split, and the names of the numbers."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_NAMES = ("Laysan_Albatross", "Cedar Waxwing", "House Wren")


def write(root: Path) -> Path:
    root = root / "benchmark"
    lists: dict[str, list[str]] = {"train": [], "val": [], "test": []}
    for label in range(3):
        for turn, split in enumerate(("train", "train", "val", "test")):
            path = f"images/{label}/photo {turn}.jpg"
            put(root / path, jpeg(4 * label + turn))
            lists[split].append(f"{path} {label}")
    for split, lines in lists.items():
        put(root / f"{split}.txt", "".join(f"{line}\n" for line in lines))
    put(root / "classes.txt", "".join(f"{name}\n" for name in _NAMES))
    put(root / "README.txt", "A benchmark.\n")
    return root


MINIATURE = Miniature(
    layout="path-lists",
    write=write,
    class_names=("Laysan Albatross", "Cedar Waxwing", "House Wren"),
    counts={"train": 6, "val": 3, "test": 3},
    levels={},
    boxes=False,
    groups=False,
    annotations=("benchmark/t*.txt", "benchmark/val.txt"),
    marks=(),
)
