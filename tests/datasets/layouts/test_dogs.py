"""Stanford Dogs: rows, boxes of several dogs, folders of its lists, and what is wrong in them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from mat_files import cells, put_mat
from miniatures import dogs, put
from miniatures.dogs import annotation

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset

CHIHUAHUA, SPANIEL = "n02085620-Chihuahua", "n02086646-Blenheim_spaniel"


def problems(data: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, "dogs")
    return "\n".join(map(str, caught.value.problems))


def put_train(data: Path, files: list[object], labels: list[object]) -> None:
    put_mat(data / "lists" / "train_list.mat", file_list=cells(files)[:, None], labels=np.array(labels)[:, None])


def test_rows_are_as_published(tmp_path: Path) -> None:
    dataset = read_dataset(dogs.write(tmp_path))
    assert dataset.boxes is not None
    rows = zip(dataset.paths, dataset.label_names(), dataset.splits, dataset.boxes.tolist(), strict=True)
    found = {path: (name, split, box) for path, name, split, box in rows}
    assert found[f"Images/{CHIHUAHUA}/n02085620_1000.jpg"] == ("Chihuahua", "train", [4, 6, 60, 48])
    assert found[f"Images/{CHIHUAHUA}/n02085620_1002.jpg"] == ("Chihuahua", "test", [4, 6, 60, 48])
    assert found["Images/n02098105-soft-coated_wheaten_terrier/n02098105_46001.jpg"][0] == "soft-coated wheaten terrier"
    assert found[f"Images/{SPANIEL}/n02086646_6001.jpg"] == ("Blenheim spaniel", "train", [0, 0, 64, 48])
    assert dataset.notes[1:] == (
        "its official splits are used: train, test",
        "1 images have several dogs; their box is around all of them",
    )


def test_lists_may_lie_in_the_folder_itself(tmp_path: Path) -> None:
    assert len(read_dataset(dogs.write(tmp_path, lists="."))) == 9


def test_without_annotations_there_are_no_boxes_and_a_note(tmp_path: Path) -> None:
    data = dogs.write(tmp_path)
    shutil.rmtree(data / "Annotation")
    dataset = read_dataset(data)
    assert dataset.boxes is None and len(dataset) == 9
    assert dataset.notes[-1] == "there are no boxes, for there is no Annotation folder"


def test_an_image_without_dogs_has_no_box(tmp_path: Path) -> None:
    data = dogs.write(tmp_path)
    put(data / "Annotation" / CHIHUAHUA / "n02085620_1000", annotation("Chihuahua"))
    dataset = read_dataset(data)
    assert dataset.boxes is not None
    assert np.isnan(dataset.boxes).all(axis=1).tolist() == [True] + [False] * 8


def test_wrong_annotations_are_named_with_file_and_line(tmp_path: Path) -> None:
    data = dogs.write(tmp_path)
    folder = data / "Annotation" / CHIHUAHUA
    (folder / "n02085620_1000").unlink()
    put(folder / "n02085620_1001", "<annotation>\n\t<object>\n</annotation>")
    put(folder / "n02085620_1002", annotation("Chihuahua", (5, 7, 60, 48), (9, 9, 8, 20)))
    found = problems(data).splitlines()
    assert found[0] == f"Annotation/{CHIHUAHUA}/n02085620_1000: it cannot be read (No such file or directory)"
    assert found[1].startswith(f"Annotation/{CHIHUAHUA}/n02085620_1001, line 3: it is not well-formed XML")
    assert found[2] == f"Annotation/{CHIHUAHUA}/n02085620_1002, object 2: the box from (8, 8) to (8, 20) is empty"
    assert len(found) == 3


def test_wrong_records_are_named_with_their_number(tmp_path: Path) -> None:
    data = dogs.write(tmp_path)
    shutil.rmtree(data / "Annotation")
    whole = f"{CHIHUAHUA}/n02085620_1000.jpg"
    files = [whole, 7.0, "a.jpg", "a/b/c.jpg", "a/.", "", "../x/y.jpg", "/etc/passwd", f"{SPANIEL}/a.jpg", f"{CHIHUAHUA}/b.jpg", whole]
    put_train(data, files, [1, 1, 1, 1, 1, 1, 1, 1, 1, 121, 1])
    shape = "should be text as in n02085620-Chihuahua/n02085620_7.jpg"
    assert problems(data).splitlines() == [
        f"lists/train_list.mat, record 2: the image is 7, and {shape}",
        f"lists/train_list.mat, record 3: the image is 'a.jpg', and {shape}",
        f"lists/train_list.mat, record 4: the image is 'a/b/c.jpg', and {shape}",
        f"lists/train_list.mat, record 5: the image is 'a/.', and {shape}",
        "lists/train_list.mat, record 6: '' is not a path",
        "lists/train_list.mat, record 7: the path '../x/y.jpg' leads out of the data's folder, which is refused",
        "lists/train_list.mat, record 8: the path '/etc/passwd' leads out of the data's folder, which is refused",
        f"lists/train_list.mat, record 9: label 1 is that of {SPANIEL} here, and of {CHIHUAHUA} in lists/train_list.mat, record 1",
        "lists/train_list.mat, record 10: label is '121', and should be a whole number from 1 to 120",
        f"lists/train_list.mat, record 11: the image 'Images/{whole}' is listed twice (also in lists/train_list.mat, record 1)",
    ]


def test_a_list_that_lacks_labels_is_named(tmp_path: Path) -> None:
    data = dogs.write(tmp_path)
    put_train(data, [f"{CHIHUAHUA}/n02085620_1000.jpg", f"{CHIHUAHUA}/n02085620_1001.jpg"], [1])
    assert "lists/train_list.mat: it lists 2 images and 1 labels" in problems(data)
