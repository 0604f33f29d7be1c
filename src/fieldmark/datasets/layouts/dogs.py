"""Stanford Dogs (Khosla et al., 2011): 120 breeds of ImageNet's dogs, official train and test, boxes."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place, Row, enclosing
from fieldmark.datasets.layouts.class_names import readable
from fieldmark.datasets.layouts.layout import Layout, Source, marks
from fieldmark.datasets.layouts.matlab import load_mat
from fieldmark.datasets.layouts.voc_xml import object_boxes

_CLASSES = 120


def read(source: Source) -> Dataset:
    """Read train_list.mat and test_list.mat, which lie in the folder itself or in lists/, and the boxes in Annotation/.

    Class names lose their WordNet id and underscores: "n02086646-Blenheim_spaniel" is "Blenheim spaniel". The box of an image with
    several dogs, which are of one breed, is around all of them.
    """
    notes = Annotations(source.path)
    with_boxes = (source.path / "Annotation").is_dir()
    folders: dict[int, tuple[str, Place]] = {}
    images = []
    several = 0
    for split in ("train", "test"):
        file = _list_file(source.path, split)
        columns = load_mat(notes, file, "file_list", "labels")
        if len(columns["file_list"]) != len(columns["labels"]):
            notes.wrong(Place(file), f"it lists {len(columns['file_list']):,} images and {len(columns['labels']):,} labels")
        for number, (text, value) in enumerate(zip(columns["file_list"], columns["labels"], strict=False), 1):
            place = Place(file, number, "record")
            label = notes.integer(place, str(value), "label", 1, _CLASSES)
            image = _image(notes, place, text)
            if image is None or label is None:
                continue
            folder = image.parent.name
            first, first_place = folders.setdefault(label, (folder, place))
            if folder != first:
                notes.wrong(place, f"label {label} is that of {folder} here, and of {first} in {first_place}")
            boxes = object_boxes(notes, f"Annotation/{folder}/{image.stem}") if with_boxes else None
            several += len(boxes or ()) > 1
            images.append((place, str(image), label, split, enclosing(boxes or ())))

    index = {label: position for position, label in enumerate(sorted(folders))}
    remarks = ["its official splits are used: train, test"]
    if not with_boxes:
        remarks.append("there are no boxes, for there is no Annotation folder")
    elif several:
        remarks.append(f"{several:,} images have several dogs; their box is around all of them")
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=readable([folder.partition("-")[2] or folder for folder in (folders[label][0] for label in index)]),
        rows=[Row(place, path, index[label], split, box) for place, path, label, split, box in images],
        notes=remarks,
    )


def _list_file(root: Path, split: str) -> str:
    files = f"{split}_list.mat", f"lists/{split}_list.mat"
    return next((file for file in files if (root / file).exists()), files[0])


def _image(notes: Annotations, place: Place, text: object) -> PurePosixPath | None:
    path = notes.inner_path(place, text, "Images") if isinstance(text, str) else ""
    if path is None:
        return None
    image = PurePosixPath(path)
    if len(image.parts) != 3:
        notes.wrong(place, f"the image is {text!r:.100}, and should be text as in n02085620-Chihuahua/n02085620_7.jpg")
        return None
    return image


LAYOUT = Layout(
    name="dogs",
    title="Stanford Dogs",
    recognise=marks("train_list.mat|lists/train_list.mat", "test_list.mat|lists/test_list.mat", "Images"),
    read=read,
    example="stanford_dogs/",
)
