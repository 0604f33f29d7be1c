"""Objects in the XML files of PASCAL VOC (Everingham et al., 2010), one file per picture, a form that ImageNet and others use as well."""

from __future__ import annotations

from xml.etree import ElementTree

from fieldmark.data.layouts.annotations import Annotations, Box, Place

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def objects(annotations: Annotations, file: str) -> list[tuple[str, Box]] | None:
    """Name and box of every object, in the order of the file. What is wrong is noted, and gives None.

    Corners in the file count from 1 and are inclusive.
    """
    root = _root(annotations, file)
    if root is None:
        return None
    found = []
    elements = root.findall("object")
    for number, element in enumerate(elements, 1):
        place = Place(file, number, "object")
        corners = [element.findtext(f"bndbox/{corner}", "").strip() for corner in _CORNERS]
        if box := annotations.pixel_box(place, corners):
            found.append((element.findtext("name", "").strip(), box))
    return found if len(found) == len(elements) else None


def _root(annotations: Annotations, file: str) -> ElementTree.Element | None:
    """The element <annotation>. A document type is refused, for it may declare entities that multiply to gigabytes."""
    data = annotations.bytes(file)
    if data is None:
        return None
    try:
        text = data.decode("utf-8-sig")  # text, unlike bytes, cannot name an encoding that hides the document type
        root = None if "<!DOCTYPE" in text else ElementTree.fromstring(text)
    except UnicodeDecodeError as error:
        annotations.wrong(Place(file, data.count(b"\n", 0, error.start) + 1), "it is not UTF-8 text")
        return None
    except ElementTree.ParseError as error:
        annotations.wrong(Place(file, error.position[0]), f"it is not well-formed XML ({error})")
        return None
    if root is None:
        annotations.wrong(Place(file), "it declares a document type, which is refused")
    elif root.tag != "annotation":
        annotations.wrong(Place(file), f"it holds {_short(root.tag)} where VOC has an element called annotation")
        root = None
    return root


def _short(text: str) -> str:
    return repr(text if len(text) <= 100 else f"{text[:100]}…")
