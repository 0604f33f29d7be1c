from __future__ import annotations

from pathlib import Path

import pytest

from fieldmark.answering.images import find_images
from fieldmark.answering.patterns import matches
from fieldmark.core.errors import InputError

FILES = ["trip [2024]/a.jpg", "trip [2024]/b.JPG", "trip [2024]/notes.txt", "trip [2024]/raw.dat", "IMG [1].jpg", "IMG 1.jpg", "what?.png"]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [*FILES, "trip [2024]/.hidden/c.jpg", "trip [2024]/deep/er/d.jpg", "star*/e.jpg", "star2/f.jpg"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("trip [2024]/a.jpg", ["trip [2024]/a.jpg"]),
        ("trip [2024]/*.jpg", ["trip [2024]/a.jpg"]),
        ("trip [2024]/*", ["trip [2024]/a.jpg", "trip [2024]/b.JPG", "trip [2024]/deep"]),
        ("trip [2024]/*.dat", ["trip [2024]/raw.dat"]),
        ("trip*/**/*.jpg", ["trip [2024]/a.jpg", "trip [2024]/deep/er/d.jpg"]),
        ("trip [2024]/**", ["trip [2024]"]),
        ("*/er/*.jpg", []),
        ("**/er", ["trip [2024]/deep/er"]),
        ("IMG [1].jpg", ["IMG [1].jpg"]),
        ("IMG [0-9].jpg", ["IMG 1.jpg"]),
        ("IMG [1].*", ["IMG 1.jpg"]),
        ("trip [2024*/a.jpg", ["trip [2024]/a.jpg"]),
        ("*[2024]*/a.jpg", ["trip [2024]/a.jpg"]),
        ("what?.png", ["what?.png"]),
        ("star*", ["star*"]),
        ("star?", ["star*", "star2"]),
        ("trip [2024]/.hid*/*", ["trip [2024]/.hidden/c.jpg"]),
        ("nothing*", []),
        ("a\0b", []),
        ("x" * 300, []),
    ],
)
def test_names_are_literal_where_they_exist_and_patterns_elsewhere(here: Path, source: str, found: list[str]) -> None:
    assert [str(path) for path in matches(source)] == found
    absolute = matches(here / source)
    assert absolute == [here / path for path in found]


def test_no_image_twice(here: Path) -> None:
    (here / "trip [2024]" / "deep" / "up").symlink_to("..")
    (here / "other").symlink_to("star2")
    there = {"IMG 1.jpg", "IMG [1].jpg", "what?.png", "trip [2024]/a.jpg", "trip [2024]/b.JPG", "trip [2024]/deep/er/d.jpg"}
    assert sorted(str(path) for path in find_images("**/*")) == sorted(there | {"star*/e.jpg", "other/f.jpg"})
    assert [str(path) for path in matches("*/f.jpg")] == ["other/f.jpg"]


def test_a_home_folder_is_known(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(here))
    assert matches("~/star2/*.jpg") == [here / "star2" / "f.jpg"]
    (here / "~").mkdir()
    assert matches("~") == [Path("~")]


@pytest.mark.parametrize("source", ["", "  "])
def test_an_empty_source_is_not_this_folder(here: Path, source: str) -> None:
    with pytest.raises(InputError, match="empty"):
        find_images(["star2", source])
