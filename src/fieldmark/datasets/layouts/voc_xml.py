"""Objects and boxes in the XML files of PASCAL VOC (Everingham et al., 2010), one per image, which ImageNet and others use as well."""

from __future__ import annotations

from xml.etree import ElementTree

from fieldmark.datasets.layouts.annotations import Annotations, Box, Place
from fieldmark.datasets.layouts.class_names import is_name
from fieldmark.datasets.layouts.several_objects import Object

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def object_boxes(notes: Annotations, file: str) -> list[Box] | None:
    """The box of every object, in the order of the file. What is wrong is noted, and gives None.

    Corners in the file count from 1 and are inclusive.
    """
    root = _root(notes, file)
    if root is None:
        return None
    boxes = []
    elements = root.findall("object")
    for number, element in enumerate(elements, 1):
        place = Place(file, number, "object")
        corners = [element.findtext(f"bndbox/{corner}", "").strip() for corner in _CORNERS]
        if box := notes.pixel_box(place, corners):
            boxes.append(box)
    return boxes if len(boxes) == len(elements) else None


def objects(notes: Annotations, file: str) -> tuple[Object, ...]:
    """Every object with its name, in the order of the file. What is wrong is noted, but for a box that is empty or none: it is left out."""
    root = _root(notes, file)
    found = []
    for number, element in enumerate([] if root is None else root.findall("object"), 1):
        place = Place(file, number, "object")
        name = " ".join(element.findtext("name", "").split())
        if not is_name(name):
            notes.wrong(place, f"its name is {name!r:.100}, and should be that of a class")
            continue
        corners = [element.findtext(f"bndbox/{corner}", "").strip() for corner in _CORNERS]
        box = Annotations(notes.root).pixel_box(place, corners) if any(corners) else None
        found.append(Object(name, box, place if box is None and any(corners) else None))
    return tuple(found)


def _root(notes: Annotations, file: str) -> ElementTree.Element | None:
    """The element <annotation>. A document type is refused, for it may declare entities that multiply to gigabytes."""
    text = notes.text(file)  # text, unlike bytes, cannot name an encoding that hides the document type
    if text is None:
        return None
    if "<!DOCTYPE" in text:
        notes.wrong(Place(file), "it declares a document type, which is refused")
        return None
    try:
        root = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        notes.wrong(Place(file, error.position[0]), f"it is not well-formed XML ({error})")
        return None
    if root.tag != "annotation":
        notes.wrong(Place(file), f"it holds {root.tag!r:.100} instead of the element called annotation that VOC has")
        return None
    return root
