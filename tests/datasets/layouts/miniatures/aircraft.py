"""FGVC-Aircraft with four variants and two images each in train, one in val and one in test."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_VARIANTS = {
    "707-320": ("Boeing 707", "Boeing"),
    "737-200": ("Boeing 737", "Boeing"),
    "Challenger 600": ("Challenger 600", "Canadair"),
    "F/A-18": ("F/A-18", "McDonnell Douglas"),
}
_SPLITS = ("train", "train", "val", "test")


def write(root: Path) -> Path:
    data = root / "fgvc-aircraft-2013b" / "data"
    tables: dict[str, list[str]] = {"images_box": []}
    for turn, split in enumerate(_SPLITS):
        for label, (variant, (family, manufacturer)) in enumerate(_VARIANTS.items()):
            number = turn * len(_VARIANTS) + label
            image = f"{34309 + number * 123457:07d}"
            put(data / "images" / f"{image}.jpg", jpeg(number, 64, 68))
            tables["images_box"].append(f"{image} {1 + turn} {2 + label} 60 {44 - label}")
            for end in (split,) if split == "test" else (split, "trainval"):
                tables.setdefault(f"images_variant_{end}", []).append(f"{image} {variant}")
                tables.setdefault(f"images_family_{end}", []).append(f"{image} {family}")
                tables.setdefault(f"images_manufacturer_{end}", []).append(f"{image} {manufacturer}")
                tables.setdefault(f"images_{end}", []).append(image)
    tables["variants"] = list(_VARIANTS)
    tables["families"] = [family for family, _ in _VARIANTS.values()]
    tables["manufacturers"] = sorted({manufacturer for _, manufacturer in _VARIANTS.values()})
    for name, lines in tables.items():
        put(data / f"{name}.txt", "\n".join(lines) + "\n")
    put(data.parent / "README.md", "# FGVC-Aircraft\n")
    return data


MINIATURE = Miniature(
    layout="aircraft",
    write=write,
    class_names=tuple(_VARIANTS),
    counts={"train": 8, "val": 4, "test": 4},
    levels={
        "family": ("Boeing 707", "Boeing 737", "Challenger 600", "F/A-18"),
        "manufacturer": ("Boeing", "Boeing", "Canadair", "McDonnell Douglas"),
    },
    boxes=True,
    groups=False,
    annotations=tuple(
        f"fgvc-aircraft-2013b/data/{name}.txt"
        for name in (
            "images_box",
            "variants",
            "families",
            "manufacturers",
            *(f"images_{level}_{split}" for level in ("variant", "family", "manufacturer") for split in ("train", "val", "test")),
        )
    ),
    marks=tuple(
        f"fgvc-aircraft-2013b/data/{name}.txt" for name in ("images_variant_test", "images_box", "variants", "families", "manufacturers")
    ),
    banner=20,
)
