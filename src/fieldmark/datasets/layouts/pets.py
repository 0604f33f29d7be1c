"""Oxford-IIIT Pets (Parkhi et al., 2012): 37 breeds of cats and dogs, official trainval and test, boxes of some heads."""

from __future__ import annotations

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row, enclosing
from fieldmark.datasets.layouts.layout import Layout, Source, marks
from fieldmark.datasets.layouts.voc_xml import object_boxes

_SPLITS = {"annotations/trainval.txt": "train", "annotations/test.txt": "test"}
_SPECIES = ("cat", "dog")


def read(source: Source) -> Dataset:
    """Read annotations/trainval.txt, which is train, annotations/test.txt, and the boxes in annotations/xmls.

    Classes are in the order of their ids, and get their names from those of the images: "american_bulldog_100" is an "american bulldog".
    A box is that of a head, of all heads if there are several; most images of test have none.
    """
    notes = Annotations(source.path)
    with_box = {file.name for file in source.path.glob("annotations/xmls/*.xml")}
    classes: dict[int, tuple[tuple[str, str], Place]] = {}
    images = []
    for file, split in _SPLITS.items():
        for place, (image, number, species_number, _) in notes.fields(file, "image", "class", "species", "breed"):
            path = notes.inner_path(place, f"{image}.jpg", "images")
            key = notes.integer(place, number, "class", 1, 10_000)
            species = notes.integer(place, species_number, "species", 1, len(_SPECIES))
            if path is None or key is None or species is None:
                continue
            breed = image.rpartition("_")[0].replace("_", " "), _SPECIES[species - 1]
            first, first_place = classes.setdefault(key, (breed, place))
            if not breed[0]:
                notes.wrong(place, f"{image!r} should be a breed and a number, as in Abyssinian_100")
            elif breed != first:
                notes.wrong(place, f"class {key} is {' and a '.join(breed)} here, and {' and a '.join(first)} in {first_place}")
            xml = f"{image}.xml"
            heads = object_boxes(notes, f"annotations/xmls/{xml}") if xml in with_box else None
            images.append((place, path, key, split, enclosing(heads or ())))

    index = {key: position for position, key in enumerate(sorted(classes))}
    breeds = [classes[key][0] for key in index]
    heads_known = sum(box is not None for *_, box in images)
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=[name for name, _ in breeds],
        rows=[Row(place, path, index[key], split, box) for place, path, key, split, box in images],
        levels={"species": [species for _, species in breeds]},
        notes=[
            "its official splits are used: trainval, test",
            f"boxes are those of heads, which {heads_known:,} of {len(images):,} images have",
        ],
    )


LAYOUT = Layout(
    name="pets",
    title="Oxford-IIIT Pets",
    recognise=marks(
        "annotations/trainval.txt", "annotations/test.txt", "annotations/list.txt|annotations/trimaps|annotations/xmls", "images"
    ),
    read=read,
    example="oxford-iiit-pet/",
)
