"""NABirds (Van Horn et al., 2015): 555 plumages of 404 bird species with a taxonomy, official train and test, a box for every image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts.annotations import Annotations, Place
from fieldmark.datasets.layouts.class_names import unique_names
from fieldmark.datasets.layouts.cub import read_images
from fieldmark.datasets.layouts.layout import Layout, Source, marks

_RANKS = ("species", "family", "order")
_DEEPEST = 20

Table = Mapping[str, tuple[Place, list[str]]]


def read(source: Source) -> Dataset:
    """Read the tables that CUB-200-2011 has too, and hierarchy.txt.

    classes.txt names the inner nodes of the hierarchy as well; those with images are the classes, in the order of that file. Names that
    several of them share are told apart by their ids.

    Levels are counted from the classes upwards: the parent of a class is its species and the parent of that its family, but only families
    of songbirds have an order above them. A class with fewer ancestors than there are levels has its last ancestor below the root in those
    that remain. In a hierarchy of another depth than the published one, levels are called "level 1" (the coarsest), "level 2", ….
    """
    notes = Annotations(source.path)
    nodes = notes.keyed("classes.txt", "class", "name", rest=True)
    parents = notes.keyed("hierarchy.txt", "class", "parent")
    images = read_images(notes)
    with_images = {image.label for image in images}
    classes = [node for node in nodes if node in with_images]
    index = {key: position for position, key in enumerate(classes)}
    rows = [row for image in images if (row := image.row(notes, index)) is not None]
    lineages = _lineages(notes, nodes, parents)
    notes.check()
    return notes.dataset(
        layout=LAYOUT.name,
        class_names=_names(nodes, classes),
        rows=rows,
        levels=_levels(nodes, [lineages[key] for key in classes]),
        notes=["its official splits are used: train, test"],
    )


def _names(nodes: Table, keys: Sequence[str]) -> list[str]:
    """A name for each key, alike for the same key and for no others."""
    names = unique_names({key: " ".join(nodes[key][1][0].split()) for key in keys})
    return [names[key] for key in keys]


def _lineages(notes: Annotations, nodes: Table, parents: Table) -> dict[str, list[str]]:
    """For each node itself and its ancestors below the root, upwards. The root has itself."""
    roots = [key for key in nodes if key not in parents]
    for key in roots[1:]:
        notes.wrong(nodes[key][0], f"class {key} has no parent in hierarchy.txt; only one class may be the root, and class {roots[0]} is")
    for child, (place, (parent,)) in parents.items():
        for key in (child, parent):
            if key not in nodes:
                notes.wrong(place, f"there is no class {key!r} in classes.txt")
    lineages = {}
    for key in nodes:
        lineage = [key]
        while lineage[-1] in parents:
            place, (parent,) = parents[lineage[-1]]
            if parent == key:
                notes.wrong(parents[key][0], f"class {key} is an ancestor of itself")
            elif len(lineage) > _DEEPEST:
                notes.wrong(place, f"it is more than {_DEEPEST} levels above class {key}")
            if parent == key or parent in lineage or len(lineage) > _DEEPEST:
                break
            lineage.append(parent)
        lineages[key] = lineage[:-1] or lineage
    return lineages


def _levels(nodes: Table, lineages: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """For each level, from fine to coarse, the name of every class's ancestor."""
    depth = max(map(len, lineages), default=0)
    ancestors = [[lineage[min(height, len(lineage) - 1)] for lineage in lineages] for height in range(1, depth)]
    names = _RANKS if len(ancestors) == len(_RANKS) else [f"level {number}" for number in range(len(ancestors), 0, -1)]
    return {name: _names(nodes, keys) for name, keys in zip(names, ancestors, strict=True)}


LAYOUT = Layout(
    name="nabirds",
    title="NABirds",
    recognise=marks(
        "images.txt", "image_class_labels.txt", "train_test_split.txt", "bounding_boxes.txt", "classes.txt", "hierarchy.txt", "images"
    ),
    read=read,
    example="nabirds/",
)
