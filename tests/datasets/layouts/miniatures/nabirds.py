"""NABirds with five classes, of which two are plumages of one species, and three images each."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

# Published ids are these; songbirds have an order ("Perching Birds") above their family, others have not.
_NODES = {
    "0": "Birds",
    "9": "Caracaras and Falcons",
    "21": "Woodpeckers",
    "22": "Perching Birds",
    "46": "Emberizidae (Sparrows, Longspurs, Towhees)",
    "124": "Red-naped Sapsucker",
    "176": "Peregrine Falcon",
    "233": "Dark-eyed Junco",
    "364": "Peregrine Falcon (Adult )",
    "555": "Red-naped Sapsucker",
    "663": "Peregrine Falcon (Immature)",
    "810": "Dark-eyed Junco (Slate-colored)",
    "811": "Dark-eyed Junco (White-winged)",
}
_PARENTS = {
    "9": "0",
    "21": "0",
    "22": "0",
    "46": "22",
    "124": "21",
    "176": "9",
    "233": "46",
    "364": "176",
    "555": "124",
    "663": "176",
    "810": "233",
    "811": "233",
}
_CLASSES = ("364", "555", "663", "810", "811")


def write(root: Path) -> Path:
    root = root / "nabirds"
    tables: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "sizes", "photographers")
    }
    number = 0
    for turn in range(3):
        for label in _CLASSES:
            number += 1
            image = f"{number:08x}-21dc-4d0c-bfe1-4cae3c85c829"
            file = f"{int(label):04d}/{image.replace('-', '')}.jpg"
            put(root / "images" / file, jpeg(number))
            tables["images"].append(f"{image} {file}")
            tables["image_class_labels"].append(f"{image} {label}")
            tables["train_test_split"].append(f"{image} {int(turn < 2)}")
            tables["bounding_boxes"].append(f"{image} {4 + turn} 6 40 {30 - turn}")
            tables["sizes"].append(f"{image} 64 48")
            tables["photographers"].append(f"{image} Ann O. Nymous")
    for name, lines in tables.items():
        put(root / f"{name}.txt", "\n".join(lines) + "\n")
    put(root / "classes.txt", "".join(f"{key} {name}\n" for key, name in _NODES.items()))
    put(root / "hierarchy.txt", "".join(f"{child} {parent}\n" for child, parent in _PARENTS.items()))
    put(root / "parts/parts.txt", "0 bill\n1 crown\n")
    return root


_JUNCO = "Dark-eyed Junco"
_FALCON = "Peregrine Falcon"
_SPARROWS = "Emberizidae (Sparrows, Longspurs, Towhees)"

MINIATURE = Miniature(
    layout="nabirds",
    write=write,
    class_names=(
        "Peregrine Falcon (Adult )",
        "Red-naped Sapsucker",
        "Peregrine Falcon (Immature)",
        "Dark-eyed Junco (Slate-colored)",
        "Dark-eyed Junco (White-winged)",
    ),
    counts={"train": 10, "test": 5},
    levels={
        "species": (_FALCON, "Red-naped Sapsucker", _FALCON, _JUNCO, _JUNCO),
        "family": ("Caracaras and Falcons", "Woodpeckers", "Caracaras and Falcons", _SPARROWS, _SPARROWS),
        "order": ("Caracaras and Falcons", "Woodpeckers", "Caracaras and Falcons", "Perching Birds", "Perching Birds"),
    },
    boxes=True,
    groups=False,
    annotations=tuple(
        f"nabirds/{name}.txt" for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "classes", "hierarchy")
    ),
    marks=tuple(
        f"nabirds/{name}.txt" for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "classes", "hierarchy")
    ),
)
