"""CUB-200-2011 (Wah et al., 2011): 200 bird species, official train and test, a box for every image."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Box, Place, Row
from fieldmark.datasets.layouts.class_names import readable
from fieldmark.datasets.layouts.layout import Layout, Source, marks


@dataclass(frozen=True)
class Image:
    """What the tables say of one image; `label` is the id of its class, which stands at `labelled`."""

    place: Place
    path: str
    labelled: Place
    label: str
    split: str
    box: Box | None

    def row(self, notes: Annotations, index: Mapping[str, int]) -> Row | None:
        """None, and a note, where the class is not among those of `index`."""
        if self.label not in index:
            notes.wrong(self.labelled, f"there is no class {self.label!r} in classes.txt")
            return None
        return Row(self.place, self.path, index[self.label], self.split, self.box)


def read_images(notes: Annotations) -> list[Image]:
    """Read images.txt, image_class_labels.txt, train_test_split.txt and bounding_boxes.txt: left, top, width and height in pixels."""
    files = notes.keyed("images.txt", "image", "path", rest=True)
    labels = notes.keyed("image_class_labels.txt", "image", "class")
    splits = notes.keyed("train_test_split.txt", "image", "is train")
    boxes = notes.keyed("bounding_boxes.txt", "image", "left", "top", "width", "height")
    tables = {"class": labels, "split": splits, "box": boxes}
    for name, table in tables.items():
        for image, (place, _) in table.items():
            if image not in files:
                notes.wrong(place, f"a {name} of image {image}, which is not in images.txt")
    images = []
    for image, (place, (text,)) in files.items():
        path = notes.inner_path(place, text, "images")
        if missing := [name for name, table in tables.items() if image not in table]:
            notes.wrong(place, f"image {image} has no {' and no '.join(missing)}")
            continue
        labelled, (label,) = labels[image]
        split_place, (flag,) = splits[image]
        is_train = notes.integer(split_place, flag, "is train", 0, 1)
        box = notes.corner_box(*boxes[image])
        if path is not None and is_train is not None:
            images.append(Image(place, path, labelled, label, "train" if is_train else "test", box))
    return images


def read(source: Source) -> Dataset:
    """Read the tables and classes.txt.

    Class names lose their number and underscores: "001.Black_footed_Albatross" is "Black footed Albatross".
    """
    notes = Annotations(source.path)
    classes = notes.keyed("classes.txt", "class", "name", rest=True)
    images = read_images(notes)
    index = {key: position for position, key in enumerate(classes)}
    if empty := [key for key in classes if key not in {image.label for image in images}]:
        place, (name,) = classes[empty[0]]
        notes.wrong(place, f"class {name!r} has no images ({len(empty):,} classes have none); NABirds without its hierarchy.txt looks so")
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=readable([name.partition(".")[2] or name for _, (name,) in classes.values()]),
        rows=[row for image in images if (row := image.row(notes, index)) is not None],
        notes=["its official splits are used: train, test"],
    )


LAYOUT = Layout(
    name="cub",
    title="CUB-200-2011",
    recognise=marks("images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt", "images"),
    read=read,
    example="CUB_200_2011/",
)
