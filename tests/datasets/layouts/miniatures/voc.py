"""PASCAL VOC with three classes, and a test without annotations as VOC2007 was first published."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

XML = """\
<annotation>
	<folder>VOC2007</folder>
	<filename>{image}.jpg</filename>
	<size><width>64</width><height>48</height><depth>3</depth></size>
	<segmented>0</segmented>
{objects}</annotation>
"""
OBJECT = """\
	<object>
		<name>{name}</name>
		<difficult>0</difficult>
		<bndbox><xmin>{left}</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>
		<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>
	</object>
"""


def xml(image: str, *names: str) -> str:
    return XML.format(image=image, objects="".join(OBJECT.format(name=name, left=9 + number) for number, name in enumerate(names)))


def write(root: Path) -> Path:
    root = root / "VOC2007"
    lists: dict[str, list[str]] = {"train": [], "val": [], "trainval": [], "test": []}
    for label, name in enumerate(("bird", "cat", "aeroplane")):
        for turn, split in enumerate(("train", "train", "val", "test")):
            image = f"{4 * label + turn:06d}"
            put(root / f"JPEGImages/{image}.jpg", jpeg(4 * label + turn))
            if split != "test":
                put(root / f"Annotations/{image}.xml", xml(image, name, *[name] * turn))
                lists["trainval"].append(image)
            lists[split].append(image)
    for split, images in lists.items():
        put(root / f"ImageSets/Main/{split}.txt", "".join(f"{image}\n" for image in images))
        put(root / f"ImageSets/Main/bird_{split}.txt", "".join(f"{image} -1\n" for image in images))
        put(root / f"ImageSets/Segmentation/{split}.txt", "")
    return root


MINIATURE = Miniature(
    layout="voc",
    write=write,
    class_names=("aeroplane", "bird", "cat"),
    counts={"train": 6, "val": 3, "unlabelled": 3},
    levels={},
    boxes=True,
    groups=False,
    annotations=("VOC2007/Annotations/*.xml", "VOC2007/ImageSets/Main/[tv]*.txt"),
    marks=(),
)
