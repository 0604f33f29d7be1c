"""What is handed in of data that have images without a label in test and in train."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import pytest

from fieldmark.cli.entry import main
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.submission import submit_run

QUIET = Console(quiet=True)


@pytest.fixture
def run(finished_run: Run, tmp_path: Path) -> Run:
    return Run.load(shutil.copytree(finished_run.path, tmp_path / "run"))


def numbered(root: Path, birds: Path, *folders: str) -> Path:
    """A table of the images 1 to 4 of train, of which 2 and 3 have no label, and the images 1 to 3 of each of these folders."""
    labels = [file.parent.name for file in sorted(birds.glob("train/*/*.png"))[:4]]
    for folder, count in (("train", 4), *((folder, 3) for folder in folders)):
        (root / folder).mkdir(parents=True)
        for number, file in enumerate(sorted(birds.glob("test/*/*.png"))[:count], 1):
            shutil.copy(file, root / folder / f"{number}.png")
    rows = [f"{number},{label if number in (1, 4) else ''}" for number, label in enumerate(labels, 1)]
    (root / "train.csv").write_text("\n".join(["id,label", *rows, ""]))
    return root / "train.csv"


def test_training_images_without_a_label_are_not_handed_in(run: Run, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = numbered(tmp_path / "data", birds, "test")
    sample = table.with_name("sample_submission.csv")
    sample.write_text("id,label\n3,x\n1,x\n2,x\n")
    with pytest.raises(SystemExit, match="0"):
        main(["submit", str(run.path), str(tmp_path / "out.csv"), "--data", str(table)])
    said = " ".join(capsys.readouterr().err.split())
    assert "the predictions of 3 images in test are in" in said
    assert "are those of training: 2 images in train" in said
    assert f"--like {sample} takes its ids and columns" in said
    assert [row[0] for row in csv.reader((tmp_path / "out.csv").open())] == ["id", "1", "2", "3"]
    found = submit_run(run, tmp_path / "like.csv", table, None, QUIET, sample)
    assert (found.folders, found.blank, found.samples) == ((("test", 3),), (("train", 2),), ())
    assert [row[0] for row in csv.reader((tmp_path / "like.csv").open())] == ["id", "3", "1", "2"]


def test_they_are_where_nothing_else_is_without_a_label(run: Run, birds: Path, tmp_path: Path) -> None:
    found = submit_run(run, tmp_path / "out.csv", numbered(tmp_path / "data", birds), None, QUIET)
    assert (found.folders, found.blank) == ((("train", 2),), ())


def test_an_id_is_that_of_one_image(run: Run, birds: Path, tmp_path: Path) -> None:
    table = numbered(tmp_path / "data", birds, "test", "test_images")
    with pytest.raises(InputError) as caught:
        submit_run(run, tmp_path / "out.csv", table, None, QUIET)
    said = str(caught.value)
    assert "3 ids would each be those of several images, such as test/1.png, test_images/1.png" in said
    assert "lie in test/ (3); test_images/ (3)" in said and "--data DATA/FOLDER" in said and "--like SAMPLE" in said
    assert not (tmp_path / "out.csv").exists()
    found = submit_run(run, tmp_path / "out.csv", table, "file=path,id=stem,label=class", QUIET)
    assert sum(count for _, count in found.folders) == 6


@pytest.mark.parametrize("name", ["answers.xlsx", "answers.json", "answers.csv.gz"])
def test_a_file_of_another_kind_is_refused(run: Run, birds: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"a submission is a CSV file, and {name} is called another kind"):
        submit_run(run, tmp_path / name, birds, None, QUIET)
