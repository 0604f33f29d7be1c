"""Oxford-IIIT Pets with four breeds, two images each in trainval and one in test, and the odd files of the published archives."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

# Breed → class, species, breed; capital letters are cats. The order is the published one.
_BREEDS = {"Abyssinian": (1, 1, 1), "american_bulldog": (2, 2, 1), "Bengal": (6, 1, 2), "german_shorthaired": (16, 2, 8)}
_LIST_HEAD = """\
#Image CLASS-ID SPECIES BREED ID
#ID: 1:37 Class ids
#SPECIES: 1:Cat 2:Dog
#BREED ID: 1-25:Cat 1:12:Dog
#All images with 1st letter as captial are cat images while
#images with small first letter are dog images
"""
_XML = """\
<annotation>
	<folder>OXIIIT</folder>
	<filename>{image}.jpg</filename>
	<source>
		<database>OXFORD-IIIT Pet Dataset</database>
		<annotation>OXIIIT</annotation>
		<image>flickr</image>
	</source>
	<size>
		<width>64</width>
		<height>48</height>
		<depth>3</depth>
	</size>
	<segmented>0</segmented>
	<object>
		<name>{animal}</name>
		<pose>Frontal</pose>
		<truncated>0</truncated>
		<occluded>0</occluded>
		<bndbox>
			<xmin>9</xmin>
			<ymin>5</ymin>
			<xmax>40</xmax>
			<ymax>{bottom}</ymax>
		</bndbox>
		<difficult>0</difficult>
	</object>
</annotation>
"""
_APPLE_DOUBLE = b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        "


def write(root: Path) -> Path:
    root = root / "oxford-iiit-pet"
    annotations = root / "annotations"
    lists: dict[str, list[str]] = {"trainval": [], "test": []}
    for label, (breed, (key, species, number)) in enumerate(_BREEDS.items()):
        for turn, split in enumerate(("trainval", "trainval", "test")):
            image = f"{breed}_{100 + turn}"
            put(root / "images" / f"{image}.jpg", jpeg(label * 3 + turn))
            lists[split].append(f"{image} {key} {species} {number}")
            if turn == 0:
                put(annotations / "xmls" / f"{image}.xml", _XML.format(image=image, animal=("cat", "dog")[species - 1], bottom=30 + label))
                put(annotations / "xmls" / f"._{image}.xml", _APPLE_DOUBLE)
            put(annotations / "trimaps" / f"._{image}.png", _APPLE_DOUBLE)
    for split, lines in lists.items():
        put(annotations / f"{split}.txt", "\n".join(lines) + "\n")
    put(annotations / "list.txt", _LIST_HEAD + "\n".join(lists["trainval"] + lists["test"]) + "\n")
    put(annotations / "README", "OXFORD-IIIT PET Dataset\n")
    put(annotations / "._README", _APPLE_DOUBLE)
    put(root / "images" / "Abyssinian_102.mat", b"MATLAB 5.0 MAT-file")
    return root


MINIATURE = Miniature(
    layout="pets",
    write=write,
    class_names=("Abyssinian", "american bulldog", "Bengal", "german shorthaired"),
    counts={"train": 8, "test": 4},
    levels={"species": ("cat", "dog", "cat", "dog")},
    boxes=True,
    groups=False,
    annotations=("oxford-iiit-pet/annotations/*.txt", "oxford-iiit-pet/annotations/xmls/[Aa]*.xml"),
    marks=("oxford-iiit-pet/annotations/trainval.txt", "oxford-iiit-pet/annotations/test.txt"),
)
