import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import coco

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return coco.write(tmp_path)


def edit(root: Path, split: str, change: Callable[[dict[str, Any]], object]) -> None:
    file = root / f"{split}2019.json"
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content))


def refusal(root: Path, layout: str = "auto") -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(root, layout)
    return str(caught.value)


def path_of(root: Path, split: str, position: int) -> str:
    return json.loads((root / f"{split}2019.json").read_text())["images"][position]["file_name"]


def test_rows_as_published(root: Path) -> None:
    dataset = read_dataset(root)
    row = dataset.paths.index(path_of(root, "train", 2))
    assert dataset.paths[row].startswith("train_val2019/Birds/3/")
    assert (dataset.label_names()[row], dataset.splits[row]) == ("Setophaga coronata", "train")
    assert dataset.splits[dataset.paths.index(path_of(root, "val", 2))] == "val"
    row = dataset.paths.index(path_of(root, "test", 2))
    assert (dataset.labels[row], dataset.splits[row]) == (-1, "unlabelled")
    assert dataset.notes == (
        "recognised as COCO JSON by train2019.json, val2019.json and test2019.json",
        "its official splits are used: train, val",
        "1 of 5 categories have no image in train and are left out",
    )


def test_test_may_have_labels(root: Path) -> None:
    train = json.loads((root / "train2019.json").read_text())

    def label(content: dict[str, Any]) -> None:
        content["categories"] = train["categories"]
        content["annotations"] = [{"id": 1, "image_id": content["images"][1]["id"], "category_id": 3}]

    edit(root, "test", label)
    dataset = read_dataset(root)
    row = dataset.paths.index(path_of(root, "test", 1))
    assert (dataset.label_names()[row], dataset.splits[row]) == ("Setophaga coronata", "test")
    assert len(dataset.rows("test")) == 1 and len(dataset.rows("unlabelled")) == 3


def test_train_alone_is_enough(root: Path) -> None:
    (root / "val2019.json").unlink()
    (root / "test2019.json").unlink()
    assert set(read_dataset(root).splits) == {"train"}


def test_boxes_are_left_top_width_height(root: Path) -> None:
    def add(content: dict[str, Any]) -> None:
        first, second = content["annotations"][:2]
        first["bbox"] = [3, 4.5, 10, 20]
        content["annotations"].append({**first, "id": 99, "bbox": [1, 8, 5, 30]})
        second["bbox"] = []

    edit(root, "train", add)
    dataset = read_dataset(root)
    assert dataset.boxes is not None
    assert dataset.boxes[dataset.paths.index(path_of(root, "train", 0))].tolist() == [1, 4.5, 13, 38]
    assert np.isnan(dataset.boxes[dataset.paths.index(path_of(root, "train", 1))]).all()


def test_files_in_a_folder_called_annotations(root: Path) -> None:
    whole = read_dataset(root)
    (root / "annotations").mkdir()
    for file in root.glob("*.json"):
        file.rename(root / "annotations" / file.name)
    for data in (root, root / "annotations"):
        dataset = read_dataset(data)
        assert (dataset.root, dataset.paths, dataset.name) == (root, whole.paths, "inat2019")
        assert dataset.images.read(dataset.paths[0])


@pytest.mark.parametrize("folder", ["images", "train2019", "train"])
def test_images_may_lie_in_a_folder_of_their_own(root: Path, folder: str) -> None:
    (root / "val2019.json").unlink()
    (root / "test2019.json").unlink()
    (root / "train_val2019").rename(root / "moved")
    (root / folder).mkdir()
    (root / "moved").rename(root / folder / "train_val2019")
    dataset = read_dataset(root)
    assert dataset.paths[0].startswith(f"{folder}/train_val2019/")
    assert dataset.images.read(dataset.paths[0])


def test_images_that_are_nowhere_are_not_missed_here(root: Path) -> None:
    (root / "train_val2019").rename(root / "elsewhere")
    assert len(read_dataset(root).rows("train")) == 8


def test_other_names_of_files(root: Path) -> None:
    for file, name in (("train2019", "train_mini"), ("val2019", "val"), ("test2019", "public_test")):
        (root / f"{file}.json").rename(root / f"{name}.json")
    assert len(read_dataset(root).rows("unlabelled")) == 4
    (root / "train.json").write_bytes((root / "train_mini.json").read_bytes())
    assert "train_mini.json: it is train, and so is train.json: keep one of them here" in refusal(root)


def test_files_of_other_kinds_are_passed_over(root: Path) -> None:
    (root / "train_options.json").write_text('{"epochs": 3}')
    (root / "val_list.json").write_text('["images"]')
    (root / "testing.json").mkdir()
    assert read_dataset(root).layout == "coco"
    for file in root.glob("*2019.json"):
        file.unlink()
    with pytest.raises(InputError, match="class"):
        read_dataset(root)


def test_classes_are_matched_by_name_and_in_the_order_of_train(root: Path) -> None:
    def renumber(content: dict[str, Any]) -> None:
        content["categories"].reverse()
        for record in content["categories"]:
            record["id"] = f"c{record['id']}"
        for record in content["annotations"]:
            record["category_id"] = f"c{record['category_id']}"

    whole = read_dataset(root)
    edit(root, "val", renumber)
    assert (read_dataset(root).labels == whole.labels).all()
    edit(root, "train", lambda content: content["categories"].reverse())
    assert read_dataset(root).class_names == whole.class_names[::-1]
    assert read_dataset(root).label_names() == whole.label_names()


def test_shared_names_are_told_apart_by_ids(root: Path) -> None:
    def rename(content: dict[str, Any]) -> None:
        content["categories"][3]["name"] = "Setophaga_virens"

    edit(root, "train", rename)
    edit(root, "val", rename)
    assert read_dataset(root).class_names[2:] == ("Setophaga virens (3)", "Setophaga virens (4)")


def test_levels_are_fields_that_all_classes_have_and_that_group_them(root: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        for number, record in enumerate(content["categories"]):
            record["genus"] = f"genus {number}"  # another one for every class
            record["kingdom"] = "Animalia"  # one and the same
        del content["categories"][0]["phylum"]
        content["categories"][1]["class"] = ""
        content["categories"][3]["supercategory"] = 3

    edit(root, "train", change)
    assert [level.name for level in read_dataset(root).levels] == ["family", "order"]


def test_a_genus_of_two_families_counts_as_two(root: Path) -> None:
    """Oenanthe is a genus of birds, and of plants too."""

    def rename(content: dict[str, Any]) -> None:
        for position in (0, 1, 3):
            content["categories"][position]["genus"] = "Oenanthe"

    edit(root, "train", rename)
    edit(root, "train", lambda content: content["categories"][3].update(family="Mimidae"))
    genus = read_dataset(root).levels[0]
    assert genus.of_classes() == ["Oenanthe (Mimidae)", "Oenanthe (Onagraceae)", "Oenanthe (Mimidae)", "Setophaga"]


def _set(key: str, position: int, **fields: Any) -> Callable[[dict[str, Any]], object]:
    return lambda content: content[key][position].update(fields)


@pytest.mark.parametrize(
    ("split", "change", "problem"),
    [
        (
            "train",
            lambda content: content["annotations"].pop(1),
            "train2019.json, images record 2: {path} has no annotation, which images of train need",
        ),
        (
            "val",
            lambda content: content["annotations"].pop(1),
            "val2019.json, images record 2: {path} has no annotation, which images of val need",
        ),
        (
            "train",
            lambda content: content["annotations"].append({"id": 99, "image_id": 2, "category_id": 3}),
            "annotations record 9: {path} shows Oenothera biennis and Setophaga coronata: this reader takes one object per image",
        ),
        (
            "val",
            _set("annotations", 1, category_id=2),
            "val2019.json, annotations record 2: val has images of Setophaga petechia, of which train has none",
        ),
        ("train", _set("annotations", 1, category_id=77), "train2019.json, annotations record 2: there is no category with the id 77"),
        ("train", _set("annotations", 1, image_id=77), "train2019.json, annotations record 2: there is no image with the id 77"),
        (
            "train",
            _set("annotations", 1, image_id=[77]),
            "train2019.json, annotations record 2: image_id is a list or an object, and should be a whole number or text",
        ),
        ("train", _set("annotations", 1, bbox=[1, 2, 3]), "train2019.json, annotations record 2: the box '1 2 3' should be four numbers"),
        (
            "train",
            _set("annotations", 1, bbox=[1, 2, 0, 3]),
            "train2019.json, annotations record 2: the box from (1, 2) to (1, 5) is empty",
        ),
        ("train", _set("annotations", 1, bbox=[1, 2, 10**400, 3]), "train2019.json, annotations record 2: the box"),
        ("train", _set("annotations", 1, bbox=[1, 2, "3", 3]), "train2019.json, annotations record 2: bbox should be four numbers"),
        (
            "train",
            _set("images", 1, file_name="../2.jpg"),
            "train2019.json, images record 2: the path '../2.jpg' leads out of the data's folder",
        ),
        (
            "train",
            _set("images", 1, file_name="/etc/passwd"),
            "train2019.json, images record 2: the path '/etc/passwd' leads out of the data's folder",
        ),
        ("train", _set("images", 1, file_name=None), "train2019.json, images record 2: file_name is missing, and should be text"),
        (
            "train",
            _set("images", 1, file_name="\ud800.jpg"),
            "train2019.json, images record 2: file_name is '\\ud800.jpg', and should be text",
        ),
        ("train", _set("images", 1, id=1), "train2019.json, images record 2: the id 1 has been used before"),
        ("train", _set("images", 1, id=True), "train2019.json, images record 2: id is True, and should be a whole number or text"),
        (
            "train",
            _set("categories", 1, id="\ud800"),
            "train2019.json, categories record 2: id is '\\ud800', and should be a whole number or text",
        ),
        ("train", _set("categories", 1, id=0), "train2019.json, categories record 2: the id 0 has been used before"),
        ("train", _set("categories", 1, name=" "), "train2019.json, categories record 2: name is ' ', and should be text"),
        ("train", lambda content: content["images"].insert(0, 3), "train2019.json, images record 1: it is 3, and should be an object"),
        ("train", lambda content: content.pop("categories"), "train2019.json: it should hold a list called categories"),
        ("test", lambda content: content.update(images={}), "test2019.json: it should hold a list called images"),
    ],
)
def test_what_is_wrong_is_named(root: Path, split: str, change: Callable[[dict[str, Any]], object], problem: str) -> None:
    path = path_of(root, split, 1)
    edit(root, split, change)
    assert problem.format(path=path) in refusal(root)


def test_a_class_that_train_lacks_is_named_once(root: Path) -> None:
    def relabel(content: dict[str, Any]) -> None:
        for record in content["annotations"]:
            record["category_id"] = 2

    edit(root, "val", relabel)
    assert refusal(root).count("Setophaga petechia") == 1


def test_an_image_in_two_splits_is_named(root: Path) -> None:
    path = path_of(root, "train", 0)
    edit(root, "val", _set("images", 0, file_name=path))
    assert f"the image {path!r} is listed twice" in refusal(root)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b'{"images": [\n{"id": 1,}]}', "train2019.json, line 2: it is not JSON"),
        (b'{"images":\n"\xff"}', "train2019.json, line 2: it is not UTF-8 text"),
        (b'{"images":' + b"[" * 100_000, "train2019.json: it is nested too deeply"),
        (b'{"images":' + b'{"images":' * 100_000, "train2019.json: it is nested too deeply"),
        (b'{"images": ' + b"9" * 5000 + b"}", "train2019.json: it holds a number that cannot be read"),
        (b"[1, 2]", "train2019.json: it should hold an object with names and values"),
        (b"", "train2019.json, line 1: it is not JSON"),
    ],
)
def test_what_is_no_json_is_named(root: Path, data: bytes, problem: str) -> None:
    (root / "train2019.json").write_bytes(data)
    assert problem in refusal(root, "coco")


def test_recognition_reads_the_first_bytes_only(root: Path) -> None:
    (root / "train2019.json").write_bytes(b'\xef\xbb\xbf\n {"images": [' + b"x" * 10_000)
    assert "train2019.json, line 2: it is not JSON" in refusal(root)


def test_missing_numbers_of_inaturalist_2021_are_read(root: Path) -> None:
    edit(root, "train", _set("images", 0, latitude=float("nan")))
    assert "NaN" in (root / "train2019.json").read_text()
    assert len(read_dataset(root).rows("train")) == 8


def test_nesting_that_json_still_reads_is_reported(root: Path) -> None:
    for depth in range(500, 1000, 7):
        text = (root / "val2019.json").read_text()
        (root / "train2019.json").write_text(text.replace('"images": [', '"images": [' + "[" * depth + "]" * depth + ",", 1))
        assert "train2019.json" in refusal(root, "coco")
