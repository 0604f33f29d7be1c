"""A CSV beside a folder of images, with all columns that a table can have."""

from pathlib import Path

from miniatures import Miniature, jpeg, put

_SPECIES = (("Cone, cloth of gold", "Conus", "Conidae"), ("Geography cone", "Conus", "Conidae"), ("Tiger cowrie", "Cypraea", "Cypraeidae"))
_SPLITS = ("train", "train", "Validation", "test")


def write(root: Path) -> Path:
    root = root / "shells"
    lines = ["File Name,Species,Split,Genus,family,x,y,w,h,Specimen,Remarks"]
    for number, (species, genus, family) in enumerate(_SPECIES):
        for image, split in enumerate(_SPLITS):
            file = f"images/{number}/{image}.jpg"
            put(root / file, jpeg(4 * number + image))
            lines.append(
                f'{file},"{species}",{split},{genus},{family},{3 + image},4,{30.5 + number},25,S{number}{image // 2},"seen, ""dry"""'
            )
    put(root / "images/unknown.jpg", jpeg(100))
    lines.append("images/unknown.jpg,,test,,,,,,,,")
    put(root / "shells.csv", "\ufeff" + "\r\n".join(lines) + "\r\n")
    return root


MINIATURE = Miniature(
    layout="table",
    write=write,
    class_names=("Cone, cloth of gold", "Geography cone", "Tiger cowrie"),
    counts={"train": 6, "val": 3, "test": 3, "unlabelled": 1},
    levels={"genus": ("Conus", "Conus", "Cypraea"), "family": ("Conidae", "Conidae", "Cypraeidae")},
    boxes=True,
    groups=True,
    annotations=("shells/*.csv",),
    marks=(),
)
