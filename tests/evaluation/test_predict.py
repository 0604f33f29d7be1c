from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

import fieldmark
from fieldmark import api
from fieldmark.cli import main
from fieldmark.core.errors import InputError
from fieldmark.datasets import image_files
from fieldmark.evaluation.run import Run


def rows(table: Path) -> list[dict[str, str]]:
    with table.open(newline="", encoding="utf-8") as stream:
        return list(csv.DictReader(stream))


def test_predictions_come_one_by_one_and_the_table_with_the_last(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    answers = api.stream(finished_run.path, birds / "test", table, None, 2, quiet=True)
    first = next(answers)
    assert not table.exists()
    everything = [first, *answers]
    assert [answer.path for answer in everything] == [row["path"] for row in rows(table)]
    assert [answer.best for answer in everything] == [answer.best for answer in finished_run.predict(birds / "test", top=2)]


def test_with_a_table_everything_is_predicted_at_once(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    table, images = tmp_path / "answers.csv", sorted((birds / "test").rglob("*.png"))[:3]
    answers = fieldmark.predict(finished_run, images, csv=table, quiet=True)
    assert [row["path"] for row in rows(table)] == [str(image) for image in images]
    assert isinstance(answers, list) and [answer.path for answer in answers] == [str(image) for image in images]
    assert next(fieldmark.stream(finished_run, images, quiet=True)).best == answers[0].best


def test_a_table_that_is_not_finished_leaves_the_old_one(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    table = tmp_path / "answers.csv"
    table.write_text("mine")
    with pytest.raises(InputError, match="was not written by this command"):
        fieldmark.predict(finished_run.path, birds / "test", csv=table, quiet=True)
    fieldmark.predict(finished_run.path, birds / "test", csv=tmp_path / "other.csv", top=1, quiet=True)
    before = (tmp_path / "other.csv").read_text()
    answers = api.stream(finished_run.path, birds / "test", tmp_path / "other.csv", None, 2, quiet=True)
    next(answers)
    answers.close()
    assert (tmp_path / "other.csv").read_text() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["answers.csv", "other.csv"]


def test_what_cannot_be_predicted_is_said_at_once(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no file or folder .*nothing"):
        fieldmark.predict(finished_run.path, tmp_path / "nothing", quiet=True)
    (tmp_path / "boxes.csv").write_text("path,left,top,right,bottom\nnone.png,0,0,9,9\n")
    with pytest.raises(InputError, match="none of the images in"):
        fieldmark.predict(finished_run.path, birds / "test", boxes=tmp_path / "boxes.csv", quiet=True)


def test_images_without_a_box_or_an_answer_are_counted(
    finished_run: Run, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = sorted((birds / "test").rglob("*.png"))[:2]
    (tmp_path / "broken.png").write_bytes(b"")
    boxes = {str(first): (0.0, 0.0, 20.0, 20.0)}
    answers = list(fieldmark.predict(finished_run.path, [first, second, tmp_path / "broken.png"], boxes=boxes))
    assert [answer.best is None for answer in answers] == [False, False, True]
    said = capsys.readouterr().err
    assert "warning: " in said and "was trained on whole images" in said
    assert "1 of 3 images has no answer" in said and "said of 1 of 3 images: it has no box and was seen whole" in said
    list(fieldmark.predict(finished_run.path, [second], boxes=boxes))
    said = capsys.readouterr().err
    assert "the image: it has no box and was seen whole" in said and "1 image\n" in said and "of 1 image" not in said


def test_a_box_of_no_image_is_reported(finished_run: Run, birds: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second, *_ = sorted((birds / "test").rglob("*.png"))
    boxes = {str(first): (0, 0, 20, 20), str(second): (0, 0, 20, 20)}
    list(fieldmark.predict(finished_run.path, first, boxes=boxes))
    assert f"the box of {second} is of no image that was given" in capsys.readouterr().err
    with pytest.warns(UserWarning, match=f"the box of {second} is of no image"):
        finished_run.predict(first, boxes=boxes)


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_answered(
    finished_run: Run, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(birds / "test", tmp_path / "photos")
    locked = sorted((tmp_path / "photos").iterdir())[0]
    listed = image_files.list_folder

    def refusing(folder: str | Path) -> image_files.Listing:
        if Path(folder) == locked:
            raise PermissionError(13, "Permission denied", str(folder))
        return listed(folder)

    monkeypatch.setattr(image_files, "list_folder", refusing)
    with pytest.raises(SystemExit, match="1"):
        main(["predict", str(finished_run.path), str(tmp_path / "photos"), "--csv", str(tmp_path / "answers.csv")])
    assert f"fieldmark: {locked}: " in capsys.readouterr().err
    answered = {row["path"]: row["class_1"] != "" for row in rows(tmp_path / "answers.csv")}
    assert [path for path, is_answered in answered.items() if not is_answered] == [str(locked)] and len(answered) == 9


def test_a_run_is_a_path_where_one_is_named(finished_run: Run) -> None:
    recipe = fieldmark.load_recipe("default", [{"model.weights": finished_run}])
    assert recipe.model.weights == str(finished_run.path)


def test_a_file_that_is_named_and_cannot_be_read_ends_with_exit_code_1(
    finished_run: Run, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((birds / "test").rglob("*.png"))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "broken.png").write_bytes(b"")
    shutil.copy(image, tmp_path / "one.png")

    def predict(*sources: Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(finished_run.path), *map(str, sources)])
        return stop.value.code, *capsys.readouterr()

    code, out, err = predict(tmp_path / "notes.txt", image, tmp_path)
    assert code == 1 and out.count("\n") == 4
    assert err.splitlines()[-1] == f"fieldmark: {tmp_path / 'notes.txt'}: not an image in a format that can be read"
    code, _, err = predict(tmp_path)
    assert code == 0 and "passed over files that are not images: 1" in err and "1 of 2 images has no answer" in err


def test_it_ends_with_how_many_images_there_were_of_each_class(finished_run, birds, tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(finished_run.path), str(birds / "test"), "--csv", str(tmp_path / "answers.csv")])
    assert stop.value.code == 0
    with (tmp_path / "answers.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    said = capsys.readouterr().err.splitlines()
    assert all(row["unknown"] == "no" for row in rows) and "12 images" in said
    assert finished_run.decisions is not None and finished_run.decisions.record.n < 19
    assert finished_run.decisions.blindness in said
    counts = Counter(row["class_1"] for row in rows if row["unknown"] == "no")
    listed = {name.strip(): int(number) for name, _, number in (line.rpartition("│") for line in said) if number.strip().isdigit()}
    assert listed == counts and said[-1] == f"the answers are in {tmp_path / 'answers.csv'}"
