from __future__ import annotations

import tarfile
from pathlib import Path

import pytest
from miniatures import cifar10, put
from miniatures.cifar100 import cpickle

from fieldmark.core.errors import InputError
from fieldmark.datasets.layouts import LAYOUTS, read_dataset


def test_records_of_one_name_in_several_files_stay_apart(tmp_path: Path) -> None:
    dataset = read_dataset(cifar10.write(tmp_path))
    birds = [path for path, label in zip(dataset.paths, dataset.label_names(), strict=True) if label == "bird"]
    assert birds[:2] == ["data_batch_1#bird_s_000002.png", "data_batch_2#bird_s_000002.png"] and birds[5].startswith("test_batch#")
    later = LAYOUTS["cifar10"].images(dataset.root)
    assert len({later.read(path) for path in birds}) == 6
    assert all(later.read(path) == dataset.images.read(path) for path in birds)


def test_the_archive_as_downloaded(tmp_path: Path) -> None:
    folder = cifar10.write(tmp_path / "unpacked")
    with tarfile.open(tmp_path / "cifar-10-python.tar.gz", "w:gz") as tar:
        tar.add(folder, folder.name)
    archive = read_dataset(tmp_path / "cifar-10-python.tar.gz")
    assert archive.paths == read_dataset(folder).paths and archive.notes[0] == "recognised as CIFAR-10 by cifar-10-batches-py"


def test_counts_that_differ_and_a_missing_file_are_named(tmp_path: Path) -> None:
    folder = cifar10.write(tmp_path)
    (folder / "test_batch").unlink()
    with pytest.raises(InputError, match="test_batch"):
        read_dataset(folder)
    put(folder / "test_batch", cpickle({"labels": [0], "filenames": ["a.png"], "data": []}))
    with pytest.raises(InputError, match="test_batch: its data should be bytes"):
        read_dataset(folder)
