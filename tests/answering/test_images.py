from __future__ import annotations

import threading
from itertools import count, islice
from pathlib import Path

import pytest

from fieldmark.answering.images import decoded_in_chunks, find_images, images_in, streamed_images
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


def test_a_stream_draws_each_source_when_it_is_its_turn(tmp_path: Path) -> None:
    for name in ("b.png", "a.png"):
        (tmp_path / name).touch()
    folder = [tmp_path / "a.png", tmp_path / "b.png"]
    drawn: list[object] = []

    def endless():
        for number in count():
            drawn.append(number)
            yield (str(tmp_path), b"bytes", tmp_path / "missing.png", str(tmp_path / "b*"), 7)[number]

    stream = streamed_images(endless())
    assert next(stream) == folder[0] and drawn == [0]
    assert list(islice(stream, 4)) == [folder[1], b"bytes", tmp_path / "missing.png", folder[1]]
    with pytest.raises(InputError, match=r"image 5 is 7 \(int\)"):
        next(stream)
    assert list(streamed_images(str(folder[0]))) == [folder[0]] and list(streamed_images([])) == []
    with pytest.raises(InputError, match="is empty"):
        list(streamed_images(["", tmp_path]))


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


def test_the_nearest_path_is_proposed_as_it_is_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "new photos").mkdir()
    (tmp_path / "new photos" / "first.jpg").touch()
    monkeypatch.chdir(tmp_path)
    for wrong, near in (("new photosx", "'new photos'"), ("new photos/frist.jpg", "'new photos/first.jpg'")):
        with pytest.raises(InputError, match="there is no file or folder") as error:
            find_images(wrong)
        assert error.value.hint == f"Did you mean {near}?"
    with pytest.raises(InputError) as error:
        find_images("zzz")
    assert error.value.hint is None
