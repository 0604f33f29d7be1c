"""PASCAL VOC (Everingham et al., 2010): the classes and boxes of objects in an XML file for each image, lists of images for the splits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from fieldmark.core.errors import InputError
from fieldmark.core.names import in_order, shown
from fieldmark.datasets.dataset import SPLITS, Dataset
from fieldmark.datasets.image_files import list_folder
from fieldmark.datasets.layouts.annotations import Annotations, Place
from fieldmark.datasets.layouts.layout import Evidence, Layout, Source
from fieldmark.datasets.layouts.location import folders
from fieldmark.datasets.layouts.several_objects import Marked, remarks, settle
from fieldmark.datasets.layouts.split_names import SPLIT_NAMES
from fieldmark.datasets.layouts.voc_xml import objects

_LISTS = "ImageSets/Main"
_IMAGES = ("JPEGImages", "images", "Images", "imgs")
_ANNOTATIONS = ("Annotations", "annotations", "xmls")

_Listed = tuple[Place, str, str | None, str]
"""Where an image was listed, its path, its XML file if it has one, and its split."""


def read(source: Source) -> Dataset:
    """Read Annotations/*.xml with the images in JPEGImages and the lists in ImageSets/Main, or XML files next to their images.

    Images are of the splits that train.txt, val.txt and test.txt list; trainval.txt is train where there is no train.txt. Without lists
    they are of the splits that their folders are named after, or else all of train. The label of an image is the name of its objects; if
    these have several, `data.several_objects` says what happens. An image without an object, or without an XML file, is unlabelled. A
    box that is empty, or is none, is left out.
    """
    notes = Annotations(source.path)
    listed = list(_listed(notes))
    if not listed:
        raise InputError(f"{shown(source.path)} holds no XML files of PASCAL VOC", hint="They lie in Annotations, or next to the images.")
    images = [Marked(place, path, split, objects(notes, xml) if xml else ()) for place, path, xml, split in listed]
    notes.check()
    said = list(remarks(images, source.several_objects))
    images = settle(images, source.several_objects)
    names = in_order({each.objects[0].name for each in images if each.objects})
    index = {name: position for position, name in enumerate(names)}
    splits = [split for split in SPLITS if any(each.split == split for each in images)]
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=names,
        rows=[each.row(index) for each in images],
        notes=[f"its official splits are used: {', '.join(splits)}" if len(splits) > 1 else f"all of it is {splits[0]}", *said],
    )


def _listed(notes: Annotations) -> Iterator[_Listed]:
    root = notes.root
    if (annotations := _annotations(root)) is None:
        for folder, split in _folders_of_both(root):
            yield from _in_folder(folder, folder, root, split)
        return
    images = next((name for name in _IMAGES if (root / name).is_dir()), "")
    files = {split: f"{_LISTS}/{split}.txt" for split in ("train", "trainval", "val", "test")}
    lists = {split: file for split, file in files.items() if (root / file).is_file()}
    if "train" in lists or "val" in lists:
        lists.pop("trainval", None)
    if not lists:
        yield from _in_folder(images, annotations, root, "train")
        return
    by_stem, xml_files = _by_stem(root / images), _xml_files(root / annotations)
    for name, file in lists.items():
        for line in notes.lines(file):
            image = line.text.split()[0]
            path = notes.inner_path(line.place, by_stem.get(image, f"{image}.jpg"), images)
            if path is not None:
                xml = f"{annotations}/{image}.xml" if f"{image}.xml" in xml_files else None
                yield line.place, path, xml, "train" if name == "trainval" else name


def _in_folder(images: str, annotations: str, root: Path, split: str) -> Iterator[_Listed]:
    """The images of one folder, with the XML files of the same names in one."""
    by_stem, xml_files = _by_stem(root / images), _xml_files(root / annotations)
    for stem in sorted({*by_stem, *(os.path.splitext(name)[0] for name in xml_files)}):
        xml = str(PurePosixPath(annotations, f"{stem}.xml")) if f"{stem}.xml" in xml_files else None
        path = str(PurePosixPath(images, by_stem.get(stem, f"{stem}.jpg")))
        yield Place(xml or path), path, xml, split


def _by_stem(folder: Path) -> dict[str, str]:
    """The names of the images in a folder by what they are without their endings."""
    try:
        return {os.path.splitext(name)[0]: name for name in list_folder(folder).images}
    except OSError:
        return {}


def _xml_files(folder: Path) -> set[str]:
    return {file.name for file in folder.glob("*.xml") if not file.name.startswith(".")}


def _annotations(root: Path) -> str | None:
    return next((name for name in _ANNOTATIONS if _holds_voc(root / name)), None)


def _folders_of_both(root: Path) -> list[tuple[str, str]]:
    """Folders that hold images and their XML files, with their splits: those of the splits, or else the root."""
    named = [folder for folder in folders(root) if folder.name.lower() in SPLIT_NAMES]
    found = [(folder.name, SPLIT_NAMES[folder.name.lower()]) for folder in named if _holds_voc(folder)]
    return found or ([("", "train")] if _holds_voc(root) else [])


def _holds_voc(folder: Path) -> bool:
    """Whether the first XML file in a folder has annotations of VOC's form."""
    first = next((file for file in folder.glob("*.xml") if not file.name.startswith(".")), None)
    try:
        return first is not None and b"<annotation" in first.read_bytes()[:4096]
    except OSError:
        return False


def _recognise(path: Path) -> Evidence | None:
    if not path.is_dir():
        return None
    if annotations := _annotations(path):
        found = [f"{annotations}/*.xml", *(name for name in _IMAGES if (path / name).is_dir())]
        return Evidence(tuple(found), () if len(found) > 1 else ("JPEGImages",))
    both = [str(PurePosixPath(folder, "*.xml")) for folder, _ in _folders_of_both(path)]
    return Evidence(tuple(both)) if both else None


LAYOUT = Layout(
    name="voc",
    title="PASCAL VOC",
    recognise=_recognise,
    read=read,
    example="VOC2012/",
    settings=("several_objects",),
)
