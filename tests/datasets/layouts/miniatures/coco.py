"""iNaturalist 2019 with four species and one that has no images: two images each in train, one in val and, unlabelled, in test."""

import hashlib
import json
from pathlib import Path
from typing import Any

from miniatures import Miniature, jpeg, put

_RANKS = ("supercategory", "kingdom", "phylum", "class", "order", "family", "genus")
_SPECIES = {
    "Toxostoma redivivum": ("Birds", "Animalia", "Chordata", "Aves", "Passeriformes", "Mimidae", "Toxostoma"),
    "Oenothera biennis": ("Plants", "Plantae", "Tracheophyta", "Magnoliopsida", "Myrtales", "Onagraceae", "Oenothera"),
    "Setophaga petechia": ("Birds", "Animalia", "Chordata", "Aves", "Passeriformes", "Parulidae", "Setophaga"),
    "Setophaga coronata": ("Birds", "Animalia", "Chordata", "Aves", "Passeriformes", "Parulidae", "Setophaga"),
    "Setophaga virens": ("Birds", "Animalia", "Chordata", "Aves", "Passeriformes", "Parulidae", "Setophaga"),
}
_WITHOUT_IMAGES = 2


def write(root: Path) -> Path:
    root = root / "inat2019"
    categories = [{"id": key, "name": name, **dict(zip(_RANKS, ranks, strict=True))} for key, (name, ranks) in enumerate(_SPECIES.items())]
    number = 0
    for split, per_class in (("train", 2), ("val", 1), ("test", 1)):
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for _ in range(per_class):
            for category in (category for category in categories if category["id"] != _WITHOUT_IMAGES):
                number += 1
                file = f"{hashlib.md5(bytes([number])).hexdigest()}.jpg"
                folder = "test2019" if split == "test" else f"train_val2019/{category['supercategory']}/{category['id']}"
                put(root / folder / file, jpeg(number))
                images.append(
                    {
                        "id": number,
                        "width": 64,
                        "height": 48,
                        "file_name": f"{folder}/{file}",
                        "license": 3,
                        "rights_holder": "a. naturalist",
                    }
                )
                annotations.append({"id": number, "image_id": number, "category_id": category["id"]})
        content: dict[str, Any] = {
            "info": {"description": "iNaturalist 2019", "year": 2019, "version": "1.0", "contributor": "", "date_created": "2019-03-01"},
            "licenses": [{"id": 3, "name": "Attribution-NonCommercial License", "url": "http://creativecommons.org/licenses/by-nc/4.0/"}],
            "images": images,
        }
        if split != "test":
            content |= {"categories": categories, "annotations": annotations}
        put(root / f"{split}2019.json", json.dumps(content))
    return root


MINIATURE = Miniature(
    layout="coco",
    write=write,
    class_names=("Toxostoma redivivum", "Oenothera biennis", "Setophaga coronata", "Setophaga virens"),
    counts={"train": 8, "val": 4, "unlabelled": 4},
    levels={
        "genus": ("Toxostoma", "Oenothera", "Setophaga", "Setophaga"),
        "family": ("Mimidae", "Onagraceae", "Parulidae", "Parulidae"),
        "order": ("Passeriformes", "Myrtales", "Passeriformes", "Passeriformes"),
        "class": ("Aves", "Magnoliopsida", "Aves", "Aves"),
        "phylum": ("Chordata", "Tracheophyta", "Chordata", "Chordata"),
        "kingdom": ("Animalia", "Plantae", "Animalia", "Animalia"),
        "supercategory": ("Birds", "Plants", "Birds", "Birds"),
    },
    boxes=False,
    groups=False,
    annotations=("inat2019/*.json",),
    marks=("inat2019/train*.json",),
)
