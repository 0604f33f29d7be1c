import json
import subprocess
import sys
from pathlib import Path

import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.files import whole_file, write_json, write_text
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.run_folder import RunFolder, new_run_path, read_json_lines
from records import a_manifest


def make(path):
    with RunFolder.create(path) as folder:
        folder.write_recipe(load_recipe("default"))
        folder.write_manifest(a_manifest(status="running"))
        write_text(folder.split_file, "")
    return RunFolder.open(path)


def test_a_run_folder_appears_whole(tmp_path):
    folder = make(tmp_path / "run")
    assert folder.recipe() == load_recipe("default")
    assert sorted(entry.name for entry in folder.path.iterdir()) == [
        "checkpoints",
        "figures",
        "manifest.json",
        "predictions",
        "recipe.yaml",
        "split.parquet",
    ]


def test_a_part_of_a_run_names_the_run(tmp_path):
    folder = make(tmp_path / "run")
    for part, kind in ((folder.recipe_file, "file"), (folder.checkpoints, "folder")):
        with pytest.raises(InputError) as error:
            RunFolder.open(part)
        assert str(error.value) == f"{part} is a {kind} of the run {folder.path}: give {folder.path}"
    (tmp_path / "loose.pt").touch()
    for path, wanted in (
        ("loose.pt", "is not a run folder: it is a file"),
        ("gone", "there is no run folder"),
        ("run/gone", "there is no"),
    ):
        with pytest.raises(InputError, match=wanted):
            RunFolder.open(tmp_path / path)


def test_a_failure_while_making_it_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), RunFolder.create(tmp_path / "run") as folder:
        folder.write_recipe(load_recipe("default"))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_touched(tmp_path):
    make(tmp_path / "run")
    with pytest.raises(InputError, match="already holds a run"), RunFolder.create(tmp_path / "run"):
        pass
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_text("mine")
    with pytest.raises(InputError, match="already exists and is not empty"), RunFolder.create(tmp_path / "photos"):
        pass
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError), RunFolder.create(tmp_path / "file"):
        pass
    assert (tmp_path / "photos" / "a.jpg").read_text() == "mine" and (tmp_path / "file").read_text() == "mine"
    (tmp_path / "empty").mkdir()
    make(tmp_path / "empty")


HOLD = """
import sys, time
from fieldmark.core.run_folder import RunFolder
with RunFolder.open(sys.argv[1]).locked():
    print("locked", flush=True)
    time.sleep(60)
"""


def test_one_writer_at_a_time_and_a_dead_writer_holds_nothing(tmp_path):
    folder = make(tmp_path / "run")
    other = subprocess.Popen([sys.executable, "-c", HOLD, str(folder.path)], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "locked\n"
    with pytest.raises(InputError, match="being written by another process"), folder.locked():
        pass
    other.kill()
    other.wait()
    with folder.locked():
        pass


def test_not_a_run(tmp_path):
    with pytest.raises(InputError, match="there is no run folder"):
        RunFolder.open(tmp_path / "nothing")
    with pytest.raises(InputError, match=r"is not a run folder: it has no recipe.yaml"):
        RunFolder.open(tmp_path)
    folder = make(tmp_path / "run")
    folder.manifest_file.write_text("{")
    with pytest.raises(InputError, match="cannot be read"):
        folder.manifest()
    with pytest.raises(InputError, match="not finished"):
        folder.summary()


def test_new_names_are_free(tmp_path):
    assert new_run_path(tmp_path, "birds").name == "birds"
    (tmp_path / "birds").mkdir()
    assert new_run_path(tmp_path, "birds").name == "birds-2"


def test_a_line_cut_short_is_left_out(tmp_path):
    (tmp_path / "m.jsonl").write_text('{"a": 1}\n{"a": 2}\n{"a"')
    assert read_json_lines(tmp_path / "m.jsonl") == [{"a": 1}, {"a": 2}]
    assert read_json_lines(tmp_path / "none.jsonl") == []


def test_files_are_written_whole_or_not_at_all(tmp_path):
    write_json(tmp_path / "a.json", {"x": 1})
    with pytest.raises(RuntimeError), whole_file(tmp_path / "a.json") as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]
    write_json(tmp_path / "a.json", {"x": [float("inf"), 1.5], "y": float("nan")})
    assert json.loads((tmp_path / "a.json").read_text()) == {"x": [None, 1.5], "y": None}
    with pytest.raises(InputError, match="no space left"), whole_file(tmp_path / "a.json"):
        raise OSError(28, "No space left on device")


def test_the_nearest_run_is_proposed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "my first").mkdir(parents=True)
    (tmp_path / "runs" / "my first" / "manifest.json").touch()
    monkeypatch.chdir(tmp_path)
    for wrong, hint in (("runs/my frist", "Did you mean 'runs/my first'?"), ("runs/zzz", None), ("nowhere/first", None)):
        with pytest.raises(InputError, match="there is no run folder") as error:
            RunFolder.open(wrong)
        assert error.value.hint == hint


def test_the_folder_of_a_study_is_no_run(tmp_path):
    (tmp_path / "study.json").write_text("{}")
    with pytest.raises(InputError, match=rf"is the folder of a study, and not a run\n.*fieldmark study table {tmp_path}"):
        RunFolder.open(tmp_path)
