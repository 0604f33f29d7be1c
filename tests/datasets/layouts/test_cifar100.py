from __future__ import annotations

import io
import tarfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from miniatures import cifar100, cifar100_archive, put
from miniatures.cifar100 import batch, cpickle

from fieldmark.core.errors import InputError
from fieldmark.datasets.images import Stamp
from fieldmark.datasets.layouts import LAYOUTS, read_dataset
from fieldmark.runtime.decode import UnreadableImage, decode

NAMES = [f"{number}.png" for number in range(6)]
FINE = [0, 1, 2, 0, 1, 2]


def change(root: Path, split: str = "train", **changed: object) -> Path:
    """The miniature with other fields in one of its files."""
    folder = cifar100.write(root)
    put(folder / split, cpickle(batch(FINE, NAMES, "training batch 1 of 1", 0) | changed))
    return folder


def error_of(data: Path, layout: str = "cifar100") -> str:
    with pytest.raises(InputError) as caught:
        read_dataset(data, layout)
    return str(caught.value)


def test_labels_and_pixels_of_known_records(tmp_path: Path) -> None:
    planes = np.zeros((6, 3, 32, 32), np.uint8)
    planes[4, :, 2, 5] = (10, 20, 30)  # of record 4 the pixel in row 2, column 5
    dataset = read_dataset(change(tmp_path, data=planes.reshape(6, 3072)))
    row = dataset.paths.index("train#4.png")
    assert dataset.label_names()[row] == "aquarium fish" and dataset.splits[row] == "train"
    pixels = decode(dataset.images.read("train#4.png"))
    assert pixels.shape == (32, 32, 3) and pixels[2, 5].tolist() == [10, 20, 30] and pixels.sum() == 60
    assert dataset.images.stamp("train#4.png") == Stamp.of(dataset.root / "train")
    assert dataset.name == "cifar-100-python"


def test_names_that_several_records_have_stay_apart(tmp_path: Path) -> None:
    dataset = read_dataset(change(tmp_path, filenames=["a.png", "b#1.png", "a.png", "c.png", "d.png", "e.png"]))
    train = [path for path in dataset.paths if path.startswith("train")]
    assert train == ["train#a (1).png", "train#a (3).png", "train#b%231.png", "train#c.png", "train#d.png", "train#e.png"]
    first, third = (dataset.images.read(path) for path in train[:2])
    assert first != third and first == LAYOUTS["cifar100"].images(dataset.root).read("train#a (1).png")


def test_the_archive_gives_the_same_as_the_folder(tmp_path: Path) -> None:
    archive = read_dataset(cifar100_archive.write(tmp_path))
    folder = read_dataset(tmp_path / "unpacked" / "cifar-100-python")
    assert archive.root.is_file() and archive.notes[0] == "recognised as CIFAR-100 by cifar-100-python"
    assert archive.paths == folder.paths and archive.labels.tolist() == folder.labels.tolist()
    assert all(archive.images.read(path) == folder.images.read(path) for path in folder.paths)


def test_many_threads_read_at_once(tmp_path: Path) -> None:
    dataset = read_dataset(cifar100.write(tmp_path))
    later = LAYOUTS["cifar100"].images(dataset.root)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(later.read, dataset.paths * 8)) == [dataset.images.read(path) for path in dataset.paths * 8]


def test_images_that_are_not_there(tmp_path: Path) -> None:
    folder = cifar100.write(tmp_path)
    images = LAYOUTS["cifar100"].images(folder)
    for path in ("train#nothing.png", "meta#a.png", "../train#a.png", "train"):
        with pytest.raises(UnreadableImage):
            images.read(path)
    (folder / "test").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    with pytest.raises(UnreadableImage, match=r"calls os\.system, which is not data"):
        images.read("test#a.png")


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"coarse_labels": [1, 0, 1, 0, 0, 1]}, "record 4: apple is of the superclass fish here, and of fruit_and_vegetables in t"),
        ({"fine_labels": [0, 1, 2, 0, 1, 3]}, "train, record 6: fine_labels is 3, and should be from 0 to 2"),
        ({"coarse_labels": [1, 0, 1, 1, 0, 2]}, "train, record 6: coarse_labels is 2, and should be from 0 to 1"),
        ({"fine_labels": [0, 1, 2]}, "it holds 6 images, but 6 filenames, 3 fine_labels, 6 coarse_labels"),
        ({"fine_labels": ["0"] * 6}, "its fine_labels should be a list of whole numbers"),
        ({"filenames": [0] * 6}, "its filenames should be a list of names"),
        ({"filenames": ["../a.png", *NAMES[1:]]}, "train, record 1: the path '../a.png' leads out of the data's folder"),
        ({"data": np.zeros((6, 3071), np.uint8)}, "its data should be bytes, 3,072 for each image"),
        ({"data": np.zeros((6, 3072), np.float32)}, "its data should be bytes"),
        ({"data": None}, "its data should be bytes"),
    ],
)
def test_what_is_wrong_is_named_with_its_record(tmp_path: Path, changed: dict[str, object], reason: str) -> None:
    assert reason in error_of(change(tmp_path, **changed))


def test_a_class_without_images_has_no_superclass(tmp_path: Path) -> None:
    folder = change(tmp_path, fine_labels=[0, 1] * 3, coarse_labels=[1, 0] * 3)
    put(folder / "test", cpickle(batch([0, 1] * 3, NAMES, "testing batch 1 of 1", 0)))
    assert "meta: pear has no images in train and test" in error_of(folder)


def test_a_planted_call_is_refused_and_not_made(tmp_path: Path) -> None:
    folder, marker = cifar100.write(tmp_path), tmp_path / "marker"
    (folder / "meta").write_bytes(b"\x80\x02cposix\nsystem\n(U" + bytes([len(f"touch {marker}")]) + f"touch {marker}".encode() + b"tR.")
    assert "meta: it calls posix.system, which is not data" in error_of(folder) and not marker.exists()


def repack(root: Path, *members: tuple[tarfile.TarInfo, bytes], without: str = "") -> Path:
    """The archive with further members in front."""
    archive = cifar100_archive.write(root)
    with tarfile.open(archive) as tar:
        old = [(member, tar.extractfile(member).read() if member.isreg() else b"") for member in tar if member.name != without]  # type: ignore[union-attr]
    with tarfile.open(archive, "w:gz") as tar:
        for member, data in [*members, *old]:
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return archive


def link(name: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return member


def test_hostile_archives(tmp_path: Path) -> None:
    evil = tarfile.TarInfo("../../evil")
    assert "member 1: the path '../../evil' leads out" in error_of(repack(tmp_path / "a", (evil, b"x")))
    assert "cifar-100-python/train is there twice" in error_of(repack(tmp_path / "b", (link("cifar-100-python/train"), b"")))
    assert "it holds no cifar-100-python/meta" in error_of(repack(tmp_path / "c", without="cifar-100-python/meta"))
    cut = cifar100_archive.write(tmp_path / "d")
    cut.write_bytes(cut.read_bytes()[:-2000])
    message = error_of(cut)
    assert "cifar-100-python.tar.gz: it " in message and "download it again" in message and "meta" not in message
