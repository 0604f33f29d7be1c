from __future__ import annotations

import os
from pathlib import Path

import pytest

from fieldmark.answering.images import find_images
from fieldmark.core.errors import InputError
from fieldmark.datasets.image_files import PassedOver, images_below
from fieldmark.datasets.layouts import read_dataset

LEFT_BY_SYSTEMS = [
    ".ipynb_checkpoints/1-checkpoint.jpg",
    ".thumbnails/1.png",
    "@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
    "__MACOSX/._1.jpg",
    "$RECYCLE.BIN/1.jpg",
    "._1.jpg",
    ".DS_Store",
    "Thumbs.db",
    "desktop.ini",
]


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """Two class folders with what systems and people leave in them; one class is a link, and links go round in circles."""
    store, root = tmp_path / "store", tmp_path / "photos"
    for name in ["wren/1.jpg", "wren/2.JPG", "wren/deep/3.JPEG", "wren/notes.txt", "wren/4", "wren/thumbs/1.jpg"]:
        _touch(root / name)
    for name in ["1.jpg", "b/2.png", *LEFT_BY_SYSTEMS]:
        _touch(store / "owl" / name)
    for name in LEFT_BY_SYSTEMS:
        _touch(root / "wren" / name)
    os.mkfifo(root / "wren" / "pipe.jpg")
    for link, target in [
        ("owl", "../store/owl"),
        ("wren/up", ".."),
        ("wren/deep/round", "../deep"),
        ("wren/again", "deep"),
        ("wren/5.jpg", "1.jpg"),
        ("wren/dead.jpg", "nowhere"),
    ]:
        (root / link).symlink_to(target)
    return root


def _touch(file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()


def _below(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in images_below(folder, PassedOver())]


def test_training_and_predicting_see_the_same_images(folders: Path) -> None:
    dataset = read_dataset(folders, "class-folders")
    expected = ["owl/1.jpg", "owl/b/2.png", "wren/1.jpg", "wren/2.JPG", "wren/5.jpg", "wren/again/3.JPEG"]
    assert _below(folders) == expected
    assert list(dataset.paths) == expected
    assert [str(path.relative_to(folders)) for path in find_images(folders)] == expected


def test_what_is_passed_over_is_counted_alike(folders: Path) -> None:
    passed_over = PassedOver()
    assert len(list(find_images(folders, passed_over))) == 6
    assert passed_over.notes() == [
        f"passed over files that are not images: 3 (first: {folders}/wren/4)",
        f"passed over folders of thumbnails: 1 (first: {folders}/wren/thumbs)",
        f"passed over links that lead back to a folder already read: 3 (first: {folders}/wren/again/round)",
        f"passed over links that lead nowhere: 1 (first: {folders}/wren/dead.jpg)",
    ]
    counts = [note.split(" (first")[0] for note in read_dataset(folders, "class-folders").notes if note.startswith("passed over")]
    assert counts == [note.split(" (first")[0] for note in passed_over.notes()]


def test_a_source_that_is_a_link_is_followed_and_a_link_out_of_it_and_back_ends(tmp_path: Path) -> None:
    _touch(tmp_path / "store" / "a" / "1.png")
    (tmp_path / "store" / "a" / "parent").symlink_to(tmp_path / "store")
    (tmp_path / "store" / "a" / "root").symlink_to("/")
    (tmp_path / "source").symlink_to("store/a")
    assert _below(tmp_path / "source") == ["1.png"]
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "link").symlink_to(tmp_path / "store" / "a")
    assert _below(tmp_path / "elsewhere") == ["link/1.png"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir(mode=0)
    with pytest.raises(InputError, match="secret cannot be read"):
        list(images_below(tmp_path, PassedOver()))


def test_a_folder_that_fails_to_be_listed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: str | Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr("os.scandir", refuse)
    with pytest.raises(InputError, match="Permission denied"):
        list(images_below(tmp_path, PassedOver()))
