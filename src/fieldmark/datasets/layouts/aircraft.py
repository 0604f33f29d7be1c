"""FGVC-Aircraft (Maji et al., 2013): 100 aircraft variants in families and manufacturers, official train, val and test, boxes."""

from __future__ import annotations

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row
from fieldmark.datasets.layouts.layout import Layout, Source, marks

_LEVELS = {"family": "families.txt", "manufacturer": "manufacturers.txt"}
_BANNER = 20


def read(source: Source) -> Dataset:
    """Read the folder that holds images_variant_train.txt, which is data/ in the published archive.

    Variants are the classes. Of train, val and trainval, which is the first two together, either train and val or trainval is enough.
    Corners of boxes count from 1 and are inclusive. The copyright banner is the bottom 20 rows of every image.
    """
    notes = Annotations(source.path)
    split_of = {"train": "train", "val": "val", "test": "test"}
    halves = all((source.path / f"images_variant_{name}.txt").exists() for name in ("train", "val"))
    if not halves and (source.path / "images_variant_trainval.txt").exists():
        split_of = {"trainval": "train", "test": "test"}
    variants = _names(notes, "variants.txt")
    boxes = notes.keyed("images_box.txt", "image", "left", "top", "right", "bottom")

    index = {variant: position for position, variant in enumerate(variants)}
    variant_of: dict[str, str] = {}
    rows = []
    for name, split in split_of.items():
        for image, (place, (variant,)) in notes.keyed(f"images_variant_{name}.txt", "image", "variant", rest=True).items():
            path = notes.inner_path(place, f"{image}.jpg", "images")
            if variant not in variants:
                notes.wrong(place, f"there is no variant {variant!r} in variants.txt")
            if image not in boxes:
                notes.wrong(place, f"image {image} has no box in images_box.txt")
            if path is not None and variant in variants and image in boxes:
                variant_of[image] = variant
                rows.append(Row(place, path, index[variant], split, notes.pixel_box(*boxes[image])))
    levels = {level: _parents(notes, level, list(split_of), variants, variant_of) for level in _LEVELS}
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=list(variants),
        rows=rows,
        levels=levels,
        banner=_BANNER,
        notes=[f"its official splits are used: {', '.join(split_of)}"],
    )


def _names(notes: Annotations, file: str) -> dict[str, Place]:
    """The names in a file, one a line, and their places."""
    names: dict[str, Place] = {}
    for line in notes.lines(file):
        name = line.text.strip()
        if name in names:
            notes.wrong(line.place, f"{name!r} is also in line {names[name].line}")
        names.setdefault(name, line.place)
    return names


def _parents(notes: Annotations, level: str, file_ends: list[str], variants: dict[str, Place], variant_of: dict[str, str]) -> list[str]:
    """The family (or manufacturer) of each variant, which is that of all its images."""
    known = _names(notes, _LEVELS[level])
    parents: dict[str, tuple[str, Place]] = {}
    for end in file_ends:
        for image, (place, (parent,)) in notes.keyed(f"images_{level}_{end}.txt", "image", level, rest=True).items():
            if parent not in known:
                notes.wrong(place, f"there is no {level} {parent!r} in {_LEVELS[level]}")
            elif image in variant_of:
                first, first_place = parents.setdefault(variant_of[image], (parent, place))
                if first != parent:
                    notes.wrong(place, f"the {level} of {variant_of[image]} is {parent} here, and {first} in {first_place}")
    for variant, place in variants.items():
        if variant not in parents:
            notes.wrong(place, f"no image in images_{level}_{'|'.join(file_ends)}.txt gives {variant} a {level}")
    return [parents[variant][0] if variant in parents else "" for variant in variants]


LAYOUT = Layout(
    name="aircraft",
    title="FGVC-Aircraft",
    recognise=marks(
        "images_variant_train.txt|images_variant_trainval.txt",
        "images_variant_test.txt",
        "images_box.txt",
        "variants.txt",
        "families.txt",
        "manufacturers.txt",
        "images",
    ),
    read=read,
    example="fgvc-aircraft-2013b/",
)
