"""A Hugging Face image folder: a metadata file next to the images of each split, which test has without labels."""

import json
from pathlib import Path

from miniatures import Miniature, jpeg, put

_SPECIES = ("Finch", "Wren", "Robin")


def write(root: Path) -> Path:
    root = root / "birds_hub"
    for split, per_class in (("train", 2), ("validation", 1), ("test", 1)):
        lines = []
        for label, species in enumerate(_SPECIES):
            for turn in range(per_class):
                put(root / split / f"{label}{turn}.jpg", jpeg(100 * len(split) + 10 * label + turn))
                record = {"file_name": f"{label}{turn}.jpg", "caption": f"a {species}", "objects": {"bbox": [[1, 2, 3, 4]]}}
                lines.append(json.dumps(record if split == "test" else {**record, "label": species}))
        put(root / split / "metadata.jsonl", "".join(f"{line}\n" for line in lines))
    put(root / "README.md", "---\nlicense: mit\n---\n")
    return root


MINIATURE = Miniature(
    layout="table",
    write=write,
    class_names=("Finch", "Robin", "Wren"),
    counts={"train": 6, "val": 3, "unlabelled": 3},
    levels={},
    boxes=False,
    groups=False,
    annotations=("birds_hub/*/metadata.jsonl",),
    marks=(),
)
