import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from miniatures import coco, jpeg, put

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.data import Data
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.loading import find_data


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
        ("train", _set("annotations", 1, category_id=77), "train2019.json, annotations record 2: there is no category with the id 77"),
        ("train", _set("annotations", 1, image_id=77), "train2019.json, annotations record 2: there is no image with the id 77"),
        (
            "train",
            _set("annotations", 1, image_id=[77]),
            "train2019.json, annotations record 2: image_id is a list or an object, and should be a whole number or text",
        ),
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


def test_a_class_that_train_lacks_is_refused_where_train_is_used(root: Path) -> None:
    """All splits can be drawn anew, so it is the reader's business only to have the class."""
    edit(root, "val", _set("annotations", 1, category_id=2))
    dataset = read_dataset(root)
    assert dataset.class_names[-1] == "Setophaga petechia" and dataset.levels[0].of_classes()[-1] == "Setophaga"
    with pytest.raises(InputError, match=r"val has 1 images of 'Setophaga petechia', and train has none\n.*data\.splits=own"):
        find_data(root, Data(), Console(quiet=True))


def test_images_without_an_object_are_unlabelled(root: Path) -> None:
    path = path_of(root, "train", 1)
    edit(root, "train", lambda content: content["annotations"].pop(1))
    edit(root, "val", lambda content: content["annotations"][1].update(iscrowd=1))
    dataset = read_dataset(root)
    assert dataset.splits[dataset.paths.index(path)] == "unlabelled" and len(dataset.rows("unlabelled")) == 6
    assert f"images of train that show no object are unlabelled: 1 (first: {path})" in dataset.notes
    assert any(note.startswith("images of val that show no object are unlabelled: 1") for note in dataset.notes)


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 0, 3], [1, 2, 10**400, 3], [1, 2, "3", 3], {"x": 1}, [1, 2, float("nan"), 3]])
def test_boxes_that_are_none_are_left_out(root: Path, box: object) -> None:
    path = path_of(root, "train", 1)
    edit(root, "train", lambda content: content["annotations"][0].update(bbox=[1, 2, 3, 4]))
    edit(root, "train", lambda content: content["annotations"][1].update(bbox=box))
    dataset = read_dataset(root)
    assert dataset.boxes is not None and len(dataset.rows("train")) == 8
    assert np.isnan(dataset.boxes[dataset.paths.index(path)]).all() and (~np.isnan(dataset.boxes)).all(axis=1).sum() == 1
    note = "boxes that are empty, or none, are left out, and data.crop=box leaves these images whole: train2019.json, annotations record 2"
    assert note in dataset.notes


def test_images_that_show_several_classes(root: Path) -> None:
    path = path_of(root, "train", 1)

    def add(content: dict[str, Any]) -> None:
        content["annotations"][1]["bbox"] = [0, 0, 5, 5]
        content["annotations"].append({"id": 99, "image_id": 2, "category_id": 3, "bbox": [1, 1, 6, 6]})

    edit(root, "train", add)
    message = refusal(root)
    assert f"images record 2: {path} shows Oenothera biennis, Setophaga coronata: 1 of 16 images" in message
    assert "data.several_objects=largest" in message and "data.several_objects=leave-out" in message
    dataset = read_dataset(root, several_objects="largest")
    row = dataset.paths.index(path)
    assert dataset.boxes is not None
    assert (dataset.label_names()[row], dataset.boxes[row].tolist()) == ("Setophaga coronata", [1, 1, 7, 7])
    assert f"images that show several classes have the label of their largest box: 1 (first: {path})" in dataset.notes
    assert path not in read_dataset(root, several_objects="leave-out").paths


def coco_file(file: Path, folder: Path, names: list[str], **changes: Any) -> None:
    """Two images of each of three classes in a folder, and their file, with a background category as Roboflow adds it."""
    categories = [{"id": 0, "name": "birds", "supercategory": "none"}]
    categories += [{"id": number, "name": name, "supercategory": "birds"} for number, name in enumerate(("Finch", "Wren", "Robin"), 1)]
    images = [{"id": number, "file_name": name, "width": 64, "height": 48} for number, name in enumerate(names)]
    objects = [{"id": number, "image_id": number, "category_id": 1 + number % 3, "bbox": [1, 2, 3, 4]} for number in range(len(names))]
    for number, name in enumerate(names):
        put(folder / name.replace("\\", "/").rpartition("/")[2], jpeg(number))
    put(file, json.dumps({"images": images, "categories": categories, "annotations": objects, **changes}))


NAMES = [f"{number}.jpg" for number in range(6)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({f"{split}/_annotations.coco.json": split for split in ("train", "valid", "test")}, {"train": 6, "val": 6, "test": 6}),
        ({f"annotations/instances_{split}2017.json": f"{split}2017" for split in ("train", "val")}, {"train": 6, "val": 6}),
        ({f"annotations/instances_{split}2017.json": f"images/{split}2017" for split in ("train", "val")}, {"train": 6, "val": 6}),
        ({"annotations/instances_default.json": "images"}, {"train": 6}),
        ({"annotations/instances_Train.json": "images/Train"}, {"train": 6}),
        ({"result.json": "images"}, {"train": 6}),
        ({"labels.json": "data"}, {"train": 6}),
        ({"_annotations.coco.json": "."}, {"train": 6}),
        ({"annotations.json": "somewhere/deeper"}, {"train": 6}),
        ({"train.json": "images/train", "test.json": "images/test"}, {"train": 6, "test": 6}),
    ],
)
def test_as_tools_export_it(tmp_path: Path, files: dict[str, str], expected: dict[str, int]) -> None:
    root = tmp_path / "set"
    for file, folder in files.items():
        coco_file(root / file, root / folder, NAMES)
    dataset = read_dataset(root)
    assert (dataset.layout, dataset.root, dataset.class_names) == ("coco", root, ("Finch", "Wren", "Robin"))
    assert {split: len(dataset.rows(split)) for split in expected} == expected and len(dataset) == sum(expected.values())
    assert dataset.levels == () and "1 of 4 categories have no image in train and are left out" in dataset.notes
    assert all(dataset.images.read(path) for path in dataset.paths)
    alone = read_dataset(root / next(iter(files)))
    assert len(alone) == 6 and alone.images.read(alone.paths[0]) == jpeg(0)


def test_boxes_that_are_shares_are_left_out(tmp_path: Path) -> None:
    objects = [{"id": number, "image_id": number, "category_id": 1 + number % 3, "bbox": [0.1, 0.2, 0.3, 0.4]} for number in range(6)]
    coco_file(tmp_path / "train.json", tmp_path / "images", NAMES, annotations=objects)
    dataset = read_dataset(tmp_path)
    assert dataset.boxes is None and any("as shares of the image and not in pixels: they are left out" in note for note in dataset.notes)


def test_the_images_of_test_without_annotations(tmp_path: Path) -> None:
    coco_file(tmp_path / "annotations/instances_train2017.json", tmp_path / "train2017", NAMES)
    for part in ("test", "test-dev"):
        names = [f"t{name}" for name in NAMES]
        coco_file(tmp_path / f"annotations/image_info_{part}2017.json", tmp_path / "test2017", names, annotations=[])
    assert read_dataset(tmp_path).splits.tolist() == ["unlabelled"] * 6 + ["train"] * 6


def test_other_annotations_of_ms_coco_are_passed_over(tmp_path: Path) -> None:
    for kind in ("instances", "captions", "person_keypoints"):
        coco_file(tmp_path / f"annotations/{kind}_train2017.json", tmp_path / "train2017", NAMES)
    assert read_dataset(tmp_path).notes[0] == "recognised as COCO JSON by annotations/instances_train2017.json"
    (tmp_path / "annotations/instances_train2017.json").unlink()
    assert "it is train, and so is annotations/captions_train2017.json: keep one of them here, or give one as DATA" in refusal(tmp_path)


@pytest.mark.parametrize("prefix", ["/data/upload/1/", "../../files/", "C:\\photos\\", "images\\", "https://x.y/z/"])
def test_names_of_another_machine_are_looked_up(tmp_path: Path, prefix: str) -> None:
    coco_file(tmp_path / "result.json", tmp_path / "images", [f"{prefix}{name}" for name in NAMES])
    assert read_dataset(tmp_path).paths[0] == "images/0.jpg"


def test_json_that_is_no_coco_leaves_class_folders(tmp_path: Path) -> None:
    put(tmp_path / "info.json", '{"info": {}, "images": 3, "licenses": []}')
    put(tmp_path / "train/labels.json", '{"annotations": "none"}')
    for split in ("train", "test"):
        for name in ("Finch", "Wren"):
            put(tmp_path / split / name / "1.jpg", jpeg(1))
    assert read_dataset(tmp_path).layout == "class-folders"


def test_a_hundred_thousand_annotations_take_seconds(tmp_path: Path) -> None:
    count = 100_000
    names = [f"{number}.jpg" for number in range(count)]
    objects = [{"id": number, "image_id": number, "category_id": number % 2, "bbox": [1, 2, 3, 4]} for number in range(count)]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    categories = [{"id": number, "name": f"class {number}"} for number in range(2)]
    put(tmp_path / "train.json", json.dumps({"images": images, "categories": categories, "annotations": objects}))
    put(tmp_path / "images/deeper/0.jpg", jpeg(1))
    start = time.process_time()
    assert len(read_dataset(tmp_path)) == count
    assert time.process_time() - start < 8


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
