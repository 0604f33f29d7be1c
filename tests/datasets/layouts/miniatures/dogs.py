"""Stanford Dogs with three breeds, two images each in train and one in test. One image has two dogs, the second of them larger."""

from pathlib import Path

import numpy as np
from mat_files import cells, put_mat

from miniatures import Miniature, jpeg, put

BREEDS = {"n02085620-Chihuahua": 1, "n02086646-Blenheim_spaniel": 6, "n02098105-soft-coated_wheaten_terrier": 46}
_OBJECT = """\
	<object>
		<name>{breed}</name>
		<pose>Unspecified</pose>
		<truncated>0</truncated>
		<difficult>0</difficult>
		<bndbox>
			<xmin>{xmin}</xmin>
			<ymin>{ymin}</ymin>
			<xmax>{xmax}</xmax>
			<ymax>{ymax}</ymax>
		</bndbox>
	</object>
"""
# The published files have these placeholders in place of folder and name of some images.
_ANNOTATION = """\
<annotation>
	<folder>%s</folder>
	<filename>%s</filename>
	<source>
		<database>ImageNet database</database>
	</source>
	<size>
		<width>64</width>
		<height>48</height>
		<depth>3</depth>
	</size>
	<segment>0</segment>
{objects}</annotation>"""


def annotation(breed: str, *boxes: tuple[int, int, int, int]) -> str:
    objects = (_OBJECT.format(breed=breed, xmin=box[0], ymin=box[1], xmax=box[2], ymax=box[3]) for box in boxes)
    return _ANNOTATION.format(objects="".join(objects))


def write(root: Path, lists: str = "lists") -> Path:
    root = root / "stanford_dogs"
    images: dict[str, list[tuple[str, int]]] = {"train": [], "test": []}
    for folder, label in BREEDS.items():
        synset, _, breed = folder.partition("-")
        for number in range(3):
            name = f"{folder}/{synset}_{1000 * label + number}"
            put(root / "Images" / f"{name}.jpg", jpeg(10 * label + number))
            boxes = (
                [(1, 2 + number, 20, 30), (4, 0, 64, 48)] if folder == "n02086646-Blenheim_spaniel" and number == 1 else [(5, 7, 60, 48)]
            )
            put(root / "Annotation" / name, annotation(breed, *boxes))
            images["train" if number < 2 else "test"].append((name, label))
    for split, listed in (("train", images["train"]), ("test", images["test"]), ("file", images["train"] + images["test"])):
        put_mat(
            root / lists / ("file_list.mat" if split == "file" else f"{split}_list.mat"),
            file_list=cells([f"{name}.jpg" for name, _ in listed])[:, None],
            annotation_list=cells([name for name, _ in listed])[:, None],
            labels=np.array([[float(label)] for _, label in listed]),
        )
    return root


MINIATURE = Miniature(
    layout="dogs",
    write=write,
    class_names=("Chihuahua", "Blenheim spaniel", "soft-coated wheaten terrier"),
    counts={"train": 6, "test": 3},
    levels={},
    boxes=True,
    groups=False,
    annotations=("stanford_dogs/lists/t*_list.mat", "stanford_dogs/Annotation/*/*"),
    marks=("stanford_dogs/lists/train_list.mat", "stanford_dogs/lists/test_list.mat", "stanford_dogs/Images"),
    text=False,
)
