from __future__ import annotations

import threading
from pathlib import Path

import pytest

from fieldmark.answering.images import decoded_in_chunks, find_images, images_in
from fieldmark.core.errors import InputError


def test_a_pattern_that_matches_no_image_is_an_error(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.txt").write_text("no image")
    with pytest.raises(InputError, match=r"there are no images in .*\*"):
        find_images(tmp_path / "*")
    (tmp_path / "two" / "a.png").touch()
    assert list(find_images(tmp_path / "*")) == [tmp_path / "two" / "a.png"]


def test_files_and_bytes_come_in_the_order_of_the_sources(tmp_path: Path) -> None:
    for name in ("b.png", "a.png", "c.jpg"):
        (tmp_path / name).touch()
    first, second = b"first", b"second"
    folder = [tmp_path / name for name in ("a.png", "b.png", "c.jpg")]
    assert list(images_in([first, tmp_path, second, str(folder[1])])) == [first, *folder, second, folder[1]]
    assert list(images_in(first)) == [first] and list(images_in(tmp_path)) == folder
    with pytest.raises(InputError) as raised:
        images_in([first, tmp_path / "x", tmp_path / "y"])
    assert len(raised.value.problems) == 2
    with pytest.raises(InputError, match="no images are named"):
        images_in([])


def test_images_are_decoded_by_threads_at_most_two_chunks_ahead() -> None:
    started: list[int] = []
    threads: set[int] = set()

    def decode(number: int) -> int:
        threads.add(threading.get_ident())
        return -number

    def numbers():
        for number in range(25):
            started.append(number)
            yield number

    chunks = decoded_in_chunks(numbers(), decode, 4)
    assert next(chunks) == ([0, 1, 2, 3], [0, -1, -2, -3]) and len(started) == 8
    rest = list(chunks)
    assert [len(images) for images, _ in rest] == [4, 4, 4, 4, 4, 1]
    assert [number for images, _ in rest for number in images] == list(range(4, 25))
    assert threading.get_ident() not in threads
