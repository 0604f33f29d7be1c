"""What a folder is taken for, and what is said where it cannot be told."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from miniatures import aircraft, cub, jpeg, pets, put, webdataset

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import read_dataset


def error_of(data: Path, layout: str = "auto") -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, layout)
    return str(caught.value)


def class_folders(root: Path) -> Path:
    for number in range(4):
        put(root / ("finch" if number % 2 else "wren") / f"{number}.jpg", jpeg(number))
    return root


def test_several_datasets_in_one_folder(tmp_path: Path) -> None:
    for miniature in (cub.MINIATURE, pets.MINIATURE):
        miniature.write(tmp_path)
    message = error_of(tmp_path)
    assert "holds 2 datasets: CUB_200_2011 (CUB-200-2011)" in message and "Give one of them" in message


def test_what_lies_beside_the_one_dataset_is_said(tmp_path: Path) -> None:
    cub.MINIATURE.write(tmp_path)
    class_folders(tmp_path / "segmentations")
    assert "in CUB_200_2011; passed over beside it: segmentations" in read_dataset(tmp_path).notes[0]


def test_a_folder_of_a_dataset_names_the_folder_above(tmp_path: Path) -> None:
    data = cub.MINIATURE.write(tmp_path)
    message = error_of(data / "images")
    assert "is a part of CUB-200-2011" in message and f"Give {data}." in message
    assert len(read_dataset(data / "images", "class-folders").class_names) == 3


def test_tables_and_shards_do_not_claim_the_folders_beside_them(tmp_path: Path) -> None:
    webdataset.MINIATURE.write(tmp_path / "shards")
    for file in (tmp_path / "shards").rglob("*.tar"):
        shutil.copy(file, tmp_path)
    put(tmp_path / "list.csv", "path,label\nphotos/wren/0.jpg,wren\n")
    assert read_dataset(class_folders(tmp_path / "photos")).class_names == ("finch", "wren")


@pytest.mark.parametrize("left", ["__MACOSX", "@eaDir", "lost+found", ".git"])
def test_what_systems_leave_behind_is_no_class(tmp_path: Path, left: str) -> None:
    put(class_folders(tmp_path) / left / "._x.jpg", b"\0\5\26\7")
    assert read_dataset(tmp_path).class_names == ("finch", "wren")


def test_a_folder_with_an_archive_says_to_unpack_it(tmp_path: Path) -> None:
    put(tmp_path / "photos.zip", b"PK\3\4")
    assert "but archives: photos.zip" in error_of(tmp_path) and "Unpack" in error_of(tmp_path)


def test_boxes_that_are_shares_of_the_image(tmp_path: Path) -> None:
    put(tmp_path / "list.csv", "path,label,x1,y1,x2,y2\na.jpg,wren,0.1,0.1,0.9,0.8\nb.jpg,finch,0,0,1,1\n")
    message = error_of(tmp_path / "list.csv")
    assert "lie between 0 and 1" in message and "in pixels" in message
    put(tmp_path / "list.csv", "path,label,x1,y1,x2,y2\na.jpg,wren,0.1,0.1,0.9,0.8\nb.jpg,finch,0,0,1,9\n")
    assert len(read_dataset(tmp_path / "list.csv")) == 2


def test_tables_of_images_that_are_not_listed(tmp_path: Path) -> None:
    data = cub.MINIATURE.write(tmp_path)
    lines = (data / "images.txt").read_text().splitlines(keepends=True)
    (data / "images.txt").write_text("".join(lines[:-1]))
    message = error_of(data)
    for file, what in (("image_class_labels", "class"), ("train_test_split", "split"), ("bounding_boxes", "box")):
        assert f"{file}.txt, line 12: a {what} of image 12, which is not in images.txt" in message


def test_a_gap_in_the_numbers_of_shards(tmp_path: Path) -> None:
    data = webdataset.MINIATURE.write(tmp_path)
    shards = sorted(data.rglob("*train*.tar"))
    assert len(shards) > 1
    shards[-1].rename(shards[-1].with_name(shards[-1].name.replace("000001", "000003")))
    assert "train-000001.tar" in error_of(data) and "train-000002.tar" in error_of(data)
    shards[0].unlink()
    assert any("begin with" in note and "train-000003.tar" in note for note in read_dataset(data).notes)


def test_a_half_dataset_inside_a_folder(tmp_path: Path) -> None:
    data = aircraft.MINIATURE.write(tmp_path)
    next(data.rglob("images_family_train.txt")).unlink()
    assert "images_family" in error_of(tmp_path)


def test_a_table_in_one_class_folder_is_not_the_dataset(tmp_path: Path) -> None:
    put(class_folders(tmp_path) / "wren" / "list.csv", "path,label\n0.jpg,male\n2.jpg,female\n")
    message = error_of(tmp_path)
    assert "list.csv in wren may list images, and finch beside it hold images as well" in message and "data.class_depth=1" in message


def test_a_table_in_a_folder_without_images_lists_those_beside_it(tmp_path: Path) -> None:
    put(tmp_path / "photos" / "0.jpg", jpeg(0))
    put(tmp_path / "photos" / "1.jpg", jpeg(1))
    put(tmp_path / "docs" / "labels.csv", "file,species\n0.jpg,wren\n1.jpg,finch\n")
    message = error_of(tmp_path)
    assert f"{tmp_path}/docs/labels.csv data.images={tmp_path}" in message and "2 classes: finch, wren" in message
