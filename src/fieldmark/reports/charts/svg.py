"""SVG files of matplotlib as elements of a page, which give them its own colours."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

_LEGIBLE = 10
"""Height of the smallest text on a page, in pixels."""


def page_element(drawn: str, colours: Mapping[str, str], description: str) -> str:
    """An SVG file that matplotlib wrote as an <svg> element, smaller, and without anything that would affect the rest of the page.

    colours: what replaces each colour (#rrggbb) of the file. A colour that is not among them raises KeyError: it could not be seen on
    every page.
    description: the drawing in words, for those who do not see it

    A group with an identifier of its own (`set_gid`) has that as its class.
    """
    root = ElementTree.fromstring(drawn)
    for parent in root.iter():
        for child in [each for each in parent if each.find("{*}style") is not None]:
            parent.remove(child)  # it would apply to the whole page
    used = {reference for element in root.iter() for reference in _references(element)}
    for element in root.iter():
        element.tag = _local(element.tag)
        element.tail = None
        element.text = element.text if element.tag == "text" else None
        element.attrib = {_local(name): value for name, value in element.items()}
        if "style" in element.attrib:
            element.attrib["style"] = _recoloured(element.attrib["style"], colours)
        if "d" in element.attrib:
            element.attrib["d"] = compact(element.attrib["d"])
        if element.get("id") not in used:
            name = element.attrib.pop("id", "")
            if element.tag == "g" and not name.rpartition("_")[2].isdigit():  # not one of those that matplotlib numbers
                element.attrib |= {"class": name} if name else {}
    root.attrib = {"viewBox": root.attrib["viewBox"], "style": _legible(root), "role": "img", "aria-label": description}
    return ElementTree.tostring(root, encoding="unicode")


def _legible(root: Element) -> str:
    """A least width at which the smallest text can be read; on a narrower screen the drawing scrolls in its box."""
    styles = (dict(part.strip().partition(": ")[::2] for part in each.get("style", "").split(";")) for each in root.iter("text"))
    sizes = [float(style["font-size"].removesuffix("px")) for style in styles if "font-size" in style]
    width = float(root.attrib["viewBox"].split()[2])
    return f"min-width: {width * _LEGIBLE / min(sizes):.0f}px" if sizes else ""


def _local(name: str) -> str:
    """Without its namespace, as HTML has it."""
    return name.rpartition("}")[2]


def _references(element: Element) -> list[str]:
    """The identifiers that an element refers to, as href="#name" or url(#name)."""
    linked = [value for name, value in element.items() if _local(name) == "href"]
    clipped = [value.removeprefix("url(").removesuffix(")") for value in element.attrib.values() if value.startswith("url(")]
    return [value.removeprefix("#") for value in linked + clipped]


def _recoloured(style: str, colours: Mapping[str, str]) -> str:
    pairs = [part.strip().partition(": ") for part in style.split(";") if part.strip()]
    kept = [(name, value) for name, _, value in pairs if name != "font-family"]  # letters are those of the page
    return "; ".join(f"{name}: {colours[value] if value.startswith('#') else value}" for name, value in kept)


def compact(path: str) -> str:
    """The same path in a fraction of the text, to a hundredth of a point. Commands and numbers are parted by white space."""
    parts: list[str] = []
    at = ["", ""]
    tokens = path.split()
    starts = [place for place, token in enumerate(tokens) if token.isalpha()]
    for start, end in pairwise([*starts, len(tokens)]):
        command, to = tokens[start], [f"{float(number):.2f}".rstrip("0").rstrip(".") for number in tokens[start + 1 : end]]
        if command == "L" and to[1] == at[1]:
            parts.append(f"H{to[0]}")
        elif command == "L" and to[0] == at[0]:
            parts.append(f"V{to[1]}")
        else:
            parts.append(command + " ".join(to))
        at = to[-2:] or ["", ""]
    return "".join(parts)
