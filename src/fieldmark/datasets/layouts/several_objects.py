"""The one label of an image in which objects are marked; what happens if they are of several classes, or there is none."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from fieldmark.core.errors import InputError
from fieldmark.core.names import shown, some
from fieldmark.core.recipe.data import SeveralObjects
from fieldmark.datasets.dataset import UNLABELLED
from fieldmark.datasets.layouts.annotations import Box, Place, Row, enclosing


@dataclass(frozen=True)
class Object:
    """An object of a class. `no_box` is where its box was read, if that is empty or none."""

    name: str
    box: Box | None = None
    no_box: Place | None = None

    @property
    def area(self) -> float:
        return 0.0 if self.box is None else (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


@dataclass(frozen=True)
class Marked:
    """An image, and the objects that are marked in it."""

    place: Place
    path: str
    split: str
    objects: tuple[Object, ...]

    def row(self, index: Mapping[str, int]) -> Row:
        """With the label of its objects, which are of one class, and the box around all of them; unlabelled without any."""
        if not self.objects:
            return Row(self.place, self.path, None, UNLABELLED)
        box = enclosing([each.box for each in self.objects if each.box])
        return Row(self.place, self.path, index[self.objects[0].name], self.split, box)


def settle(images: Sequence[Marked], several_objects: SeveralObjects) -> list[Marked]:
    """The images with objects of one class each, or none. Raises InputError for images that show several, if that is to be asked."""
    several = _several(images)
    if several and several_objects == "ask":
        first = several[0]
        names = list(dict.fromkeys(each.name for each in first.objects))
        raise InputError(
            f"{first.place}: {shown(first.path)} shows {some(names)}: {len(several):,} of {len(images):,} images show several classes",
            hint="Say what their label is: data.several_objects=largest, that of the largest box, with its box; or "
            "data.several_objects=leave-out.",
        )
    paths = {each.path for each in several}
    if several_objects == "leave-out":
        return [each for each in images if each.path not in paths]
    return [replace(each, objects=(max(each.objects, key=lambda one: one.area),)) if each.path in paths else each for each in images]


def remarks(images: Sequence[Marked], several_objects: SeveralObjects) -> Iterator[str]:
    """What is to be said of the images, before `settle`."""
    if several := _several(images):
        said = "are left out" if several_objects == "leave-out" else "have the label of their largest box"
        yield f"images that show several classes {said}: {len(several):,} (first: {shown(several[0].path)})"
    labelled = {each.split for each in images if each.objects}
    for split in sorted(labelled):
        without = [each.path for each in images if each.split == split and not each.objects]
        if without:
            yield f"images of {split} that show no object are unlabelled: {len(without):,} (first: {shown(without[0])})"
    if no_boxes := [str(each.no_box) for image in images for each in image.objects if each.no_box]:
        yield f"boxes that are empty, or none, are left out, and data.crop=box leaves these images whole: {some(no_boxes, 20)}"


def _several(images: Sequence[Marked]) -> list[Marked]:
    return [each for each in images if len(each.objects) > 1 and len({one.name for one in each.objects}) > 1]
