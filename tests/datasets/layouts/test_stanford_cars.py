"""Stanford Cars: exact rows of each packaging, and what is wrong in them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from mat_files import cells, put_mat, structs
from miniatures import put, stanford_cars, stanford_cars_folders, stanford_cars_kaggle, stanford_cars_table
from miniatures.stanford_cars import CLASSES, CORNERS, TEST, TRAIN, write_devkit

from fieldmark.core.errors import InputError
from fieldmark.datasets.dataset import Dataset
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.layouts.stanford_cars import LAYOUT

DEVKIT = Path(__file__).parents[3].parent / "shared" / "data" / "cars-devkit"


def row(dataset: Dataset, path: str) -> tuple[str, str, list[float]]:
    index = dataset.paths.index(path)
    assert dataset.boxes is not None
    return dataset.splits[index], dataset.label_names()[index], dataset.boxes[index].tolist()


def problems(data: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, "stanford-cars")
    return "\n".join(map(str, caught.value.problems))


@pytest.mark.parametrize(
    ("write", "train", "test"),
    [
        (stanford_cars.write, "cars_train/00002.jpg", "cars_test/00001.jpg"),
        (stanford_cars_table.write, "car_ims/000002.jpg", "car_ims/000007.jpg"),
        (
            stanford_cars_folders.write,
            "car_data/car_data/train/Acura TL Type-S 2008/00002.jpg",
            "car_data/car_data/test/Ram C-V Cargo Van Minivan 2012/00001.jpg",
        ),
    ],
    ids=["devkit", "one table", "class folders"],
)
def test_rows_of_each_packaging(tmp_path: Path, write: Callable[[Path], Path], train: str, test: str) -> None:
    dataset = read_dataset(write(tmp_path))
    assert row(dataset, train) == ("train", "Acura TL Type-S 2008", [1, 2, 64, 47])
    assert row(dataset, test) == ("test", "Ram C/V Cargo Van Minivan 2012", [4, 5, 60, 40])
    assert dataset.notes[1:] == ("its official splits are used: train, test",)


def test_test_without_labels_has_boxes_and_a_note(tmp_path: Path) -> None:
    dataset = read_dataset(stanford_cars_kaggle.write(tmp_path))
    assert row(dataset, "cars_train/cars_train/00006.jpg") == ("train", "Ram C/V Cargo Van Minivan 2012", [5, 2, 64, 43])
    assert row(dataset, "cars_test/cars_test/00003.jpg") == ("unlabelled", "", [4, 7, 58, 40])
    assert "test has no labels without cars_test_annos_withlabels.mat" in dataset.notes[-1]


@pytest.mark.parametrize("name", ["devkit/cars_test_annos_withlabels.mat", "cars_test_annos_withlabels (1).mat"])
def test_labels_of_test_may_lie_elsewhere(tmp_path: Path, name: str) -> None:
    data = stanford_cars.write(tmp_path)
    (data / "cars_test_annos_withlabels.mat").rename(data / name)
    assert row(read_dataset(data), "cars_test/00001.jpg")[:2] == ("test", "Ram C/V Cargo Van Minivan 2012")


def test_annotation_files_alone_are_read_as_published(tmp_path: Path) -> None:
    write_devkit(tmp_path / "cars-devkit")
    dataset = read_dataset(tmp_path / "cars-devkit")
    assert dataset.paths[0] == "cars_test/00001.jpg" and dataset.paths[-1] == "cars_train/00006.jpg"
    assert row(dataset, "cars_train/00001.jpg") == ("train", "AM General Hummer SUV 2000", [0, 2, 64, 48])


@pytest.mark.skipif(not DEVKIT.is_dir(), reason="the published devkit is not there")
def test_the_published_devkit() -> None:
    dataset = read_dataset(DEVKIT)
    assert (len(dataset.class_names), len(dataset.rows("train")), len(dataset.rows("unlabelled"))) == (196, 8144, 8041)
    assert set(dataset.labels[dataset.rows("train")].tolist()) == set(range(196))
    assert row(dataset, "cars_train/00001.jpg") == ("train", "Audi TTS Coupe 2012", [38, 115, 569, 375])
    assert row(dataset, "cars_test/00001.jpg") == ("unlabelled", "", [29, 51, 246, 147])
    assert [(level.name, len(level.names)) for level in dataset.levels] == [("make", 49), ("type", 10)]


def test_class_folders_may_lie_one_folder_less_deep(tmp_path: Path) -> None:
    data = stanford_cars_folders.write(tmp_path)
    (data / "car_data" / "car_data").rename(data / "inner")
    (data / "car_data").rmdir()
    (data / "inner").rename(data / "car_data")
    assert row(read_dataset(data), "car_data/train/Acura TL Type-S 2008/00002.jpg")[0] == "train"


def test_one_record_is_read(tmp_path: Path) -> None:
    data = stanford_cars.write(tmp_path)
    file, *corners, label = TRAIN[0]
    put_mat(data / "devkit" / "cars_train_annos.mat", annotations=structs((*CORNERS, "class", "fname"), [(*corners, label, file)]))
    dataset = read_dataset(data)
    assert len(dataset.rows("train")) == 1 and len(dataset.rows("test")) == len(TEST)


def test_names_that_are_no_cars_have_no_levels(tmp_path: Path) -> None:
    data = stanford_cars.write(tmp_path)
    put_mat(data / "devkit" / "cars_meta.mat", class_names=cells(["one", "two", "three"]))
    assert read_dataset(data).levels == ()


def test_what_is_downloaded_in_part_is_named(tmp_path: Path) -> None:
    data = stanford_cars.write(tmp_path)
    shutil.rmtree(data / "cars_train")
    (data / "devkit" / "cars_train_annos.mat").unlink()
    with pytest.raises(InputError) as caught:
        read_dataset(data)
    assert "looks like Stanford Cars" in str(caught.value)
    assert "lacks devkit/cars_train_annos.mat and cars_train/*.jpg or cars_train/cars_train/*.jpg" in str(caught.value)


def test_annotation_files_alone_must_be_whole(tmp_path: Path) -> None:
    write_devkit(tmp_path / "cars-devkit")
    (tmp_path / "cars-devkit" / "cars_train_annos.mat").unlink()
    with pytest.raises(InputError, match=r"but lacks cars_train_annos\.mat\n"):
        read_dataset(tmp_path / "cars-devkit")


def test_the_devkit_within_the_published_folder_is_not_the_dataset(tmp_path: Path) -> None:
    data = stanford_cars.write(tmp_path)
    with pytest.raises(InputError, match=r"but lacks cars_train/\*\.jpg"):
        read_dataset(data / "devkit")
    shutil.rmtree(data / "cars_train")
    with pytest.raises(InputError, match=r"but lacks cars_train/\*\.jpg"):
        read_dataset(data)


def test_other_folders_leave_no_mark(tmp_path: Path) -> None:
    put(tmp_path / "train" / "cars_train" / "a.jpg", b"")
    put(tmp_path / "devkit" / "readme.txt", b"")
    assert LAYOUT.recognise(tmp_path) is None
    assert LAYOUT.recognise(put(tmp_path / "file", b"")) is None


def test_a_folder_with_everything_is_read_from_its_devkit(tmp_path: Path) -> None:
    data = stanford_cars.write(tmp_path)
    table = stanford_cars_table.write(tmp_path)
    for entry in table.iterdir():
        entry.rename(data / entry.name)
    assert len(read_dataset(data)) == 9


WHOLE = [*TRAIN[0][1:5], 1, "00001.jpg"]


@pytest.mark.parametrize(
    ("field", "value", "problem"),
    [
        ("class", 0, "class is '0', and should be a whole number from 1 to 3"),
        ("class", 4, "class is '4', and should be a whole number from 1 to 3"),
        ("class", 1.5, "class is '1.5', and should be a whole number from 1 to 3"),
        ("class", float("nan"), "class is 'nan', and should be a whole number from 1 to 3"),
        ("class", "2", "class is '2', and should be a number"),
        ("bbox_x1", "39", "bbox_x1 is '39', and should be a number"),
        ("bbox_x1", [1.0, 2.0], "bbox_x1 is [1, 2], and should be a number"),
        ("bbox_x2", float("inf"), "is empty"),
        ("bbox_x2", -5, "is empty"),
        ("fname", 7, "fname is 7, and should be text"),
        ("fname", structs(("x",), [(1,)]), "fname is [{'x': 1}], and should be text"),
        ("fname", cells(["a.jpg", "b.jpg"]), "fname is ['a.jpg', 'b.jpg'], and should be text"),
        ("fname", "../../00002.jpg", "leads out of the data's folder"),
        ("fname", "/etc/passwd", "leads out of the data's folder"),
        ("fname", "00001.jpg", "is listed twice"),
    ],
)
def test_wrong_records_are_named_with_their_number(tmp_path: Path, field: str, value: object, problem: str) -> None:
    data = stanford_cars.write(tmp_path)
    fields = (*CORNERS, "class", "fname")
    record = [value if name == field else whole for name, whole in zip(fields, [*WHOLE[:5], "00002.jpg"], strict=True)]
    put_mat(data / "devkit" / "cars_train_annos.mat", annotations=structs(fields, [WHOLE, record]))
    found = problems(data)
    assert found.startswith("devkit/cars_train_annos.mat, record 2: ") and problem in found and "\n" not in found


def test_wrong_variables_are_named(tmp_path: Path) -> None:
    data = stanford_cars.write(tmp_path)
    train = data / "devkit" / "cars_train_annos.mat"
    put_mat(train, annotations=structs((*CORNERS, "fname"), [(1, 1, 9, 9, "a.jpg")]))
    assert "record 1: it should have the fields bbox_x1, bbox_y1, bbox_x2, bbox_y2, class, fname" in problems(data)
    put_mat(train, annotations=cells(["a", "b"]))
    assert "record 2: it should have the fields" in problems(data)
    put_mat(train, other=cells(["a", "b"]))
    assert "devkit/cars_train_annos.mat: it holds no annotations" in problems(data)
    put_mat(data / "devkit" / "cars_meta.mat", class_names=cells(["Acura", 3.0, ""]))
    assert problems(data).splitlines() == [
        "devkit/cars_meta.mat, record 2: the name of a class is 3, and should be text",
        "devkit/cars_meta.mat, record 3: the name of a class is '', and should be text",
    ]


def test_the_flag_of_test_is_zero_or_one(tmp_path: Path) -> None:
    data = stanford_cars_table.write(tmp_path)
    table = structs(("relative_im_path", *CORNERS, "class", "test"), [("car_ims/000001.jpg", *WHOLE[:5], 2)])
    put_mat(data / "cars_annos.mat", annotations=table, class_names=cells(CLASSES))
    assert problems(data) == "cars_annos.mat, record 1: test is '2', and should be a whole number from 0 to 1"


def test_wrong_lines_of_tables_beside_class_folders_are_named(tmp_path: Path) -> None:
    data = stanford_cars_folders.write(tmp_path)
    put(data / "anno_test.csv", "00001.jpg,1,1,9,9\n00002.jpg,1,1,9,9,4\n../00003.jpg,1,1,9,9,1\n\n00004.jpg,a,1,9,9,1\n")
    assert problems(data).splitlines() == [
        "anno_test.csv, line 1: 5 fields instead of 6: file, x1, y1, x2, y2, class",
        "anno_test.csv, line 2: class is '4', and should be a whole number from 1 to 3",
        "anno_test.csv, line 3: the path 'AM General Hummer SUV 2000/../00003.jpg' leads out of the data's folder, which is refused",
        "anno_test.csv, line 5: the box 'a 1 9 9' should be four numbers",
    ]
    put(data / "names.csv", f"{CLASSES[0]}\n\n{CLASSES[1]}\n{CLASSES[2]}\n\n")
    assert problems(data).startswith("names.csv, line 3: there is an empty line before it")
    put(data / "names.csv", f"..\n{CLASSES[1]}\n{CLASSES[2]}\n")
    assert "anno_train.csv, line 1: the path '../00001.jpg' leads out of the data's folder" in problems(data)
