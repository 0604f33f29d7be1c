"""Evaluating other data than a run's own: what it has learnt from them, what their classes are called, where the predictions are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.cli import main
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.evaluation.evaluate import evaluate_run
from fieldmark.evaluation.run import Run
from fieldmark.evaluation.submission import submit_run
from fieldmark.scoring.predictions import Predictions
from runs import train

QUIET = Console(quiet=True)


@pytest.fixture
def run(finished_run: Run, tmp_path: Path) -> Run:
    return Run.load(shutil.copytree(finished_run.path, tmp_path / "run"))


def test_images_that_were_trained_on_are_counted_and_left_out(run: Run, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    """All of a run's own images as other data: what is left is its test, with the figures of its test."""
    mixed = tmp_path / "mixed"
    for file in birds.rglob("*.png"):
        (mixed / file.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, mixed / file.parent.name / f"{file.parent.parent.name} {file.name}")
    found = evaluate_run(run, mixed, "test", QUIET)
    summary = run.summary
    assert (found.split, found.metrics.n, found.in_train, found.in_val) == ("all", 60, summary.dataset.train, summary.dataset.val)
    assert found.unseen is not None and found.unseen.n == summary.test.n == 12
    assert (found.unseen.top1, found.unseen.nll) == (summary.test.top1, pytest.approx(summary.test.nll))
    assert found.to_dict()["unseen"]["top1"] == summary.test.top1
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", str(run.path), "--data", str(mixed)])
    said = " ".join(capsys.readouterr().err.split())
    assert (
        f"{summary.dataset.train} of the 60 images were trained on, and {summary.dataset.val} were of the run's val, byte for byte" in said
    )
    assert "the column 'all, unseen' leaves them out" in said
    assert "all, unseen" in said and f"fieldmark evaluate {run.path} --moved-to {mixed}" in said


def test_only_images_that_were_trained_on_leave_nothing_and_others_need_no_caution(run: Run, birds: Path, tmp_path: Path) -> None:
    memory = evaluate_run(run, birds / "train", "test", QUIET)
    assert memory.unseen is None and memory.in_train + memory.in_val == memory.metrics.n and not memory.moved
    for path in shutil.copytree(birds / "test", tmp_path / "new").rglob("*.png"):
        Image.fromarray(np.array(Image.open(path)) ^ 1).save(path)
    new = evaluate_run(run, tmp_path / "new", "test", QUIET)
    assert (new.in_train, new.in_val, new.unseen, new.moved) == (0, 0, None, False)
    assert evaluate_run(run, None, "test", QUIET).to_dict().keys().isdisjoint({"unseen", "in_train"})


def test_two_sources_of_one_name_keep_their_predictions(run: Run, birds: Path, tmp_path: Path) -> None:
    one, other = (Path(shutil.copytree(birds / split, tmp_path / site / "photos")) for site, split in (("A", "train"), ("B", "test")))
    names = [evaluate_run(run, data, "test", QUIET).predictions for data in (one, other, one, str(other))]
    assert [path.name for path in names] == ["photos-all.npz", "photos-2-all.npz"] * 2
    assert [len(Predictions.load(path)) for path in names[:2]] == [48, 12]
    assert json.loads(run.folder.sources_file.read_text())["sources"] == {"photos": str(one), "photos-2": str(other)}
    run.folder.sources_file.unlink()
    assert evaluate_run(run, other, "test", QUIET).predictions.name == "photos-3-all.npz", "what an earlier version saved is kept as well"


def numbered(root: Path, names: list[str], start: int = 0) -> Path:
    """Class folders of eight images each, whose colour is the number of their class."""
    random = np.random.default_rng(start)
    for name in names:
        (root / name).mkdir(parents=True)
        for image in range(8):
            noise = random.integers(0, 20, (32, 32, 3)) + 15 * int(float(name))
            Image.fromarray(noise.astype(np.uint8)).save(root / name / f"{image}.png")
    return root


@pytest.fixture(scope="module")
def counted(tiny: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on twelve classes that are numbers, one of them with a zero in front."""
    root = tmp_path_factory.mktemp("numbers")
    return train(numbered(root / "data", [*"0123456", "07", "8", "9", "10", "11"]), *tiny(), out=root / "run")


def test_numbers_are_classes_in_their_own_order(counted: Run) -> None:
    assert counted.class_names == ("0", "1", "2", "3", "4", "5", "6", "07", "8", "9", "10", "11")


@pytest.mark.parametrize("names", [["7", "10"], ["007", "010", "000"], ["7.0", "10.0"]])
def test_numbers_are_matched_by_value_whatever_else_is_there(counted: Run, tmp_path: Path, names: list[str]) -> None:
    evaluated = evaluate_run(counted, numbered(tmp_path / "others", names, 1), "test", QUIET)
    labels = Predictions.load(evaluated.predictions).labels
    assert sorted(set(labels.tolist())) == sorted(int(float(name)) for name in names)


def test_a_class_that_is_there_twice_or_unknown_is_refused(counted: Run, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"several classes that .* knows as one, '07': 07, 7"):
        evaluate_run(counted, numbered(tmp_path / "twice", ["7", "07"]), "test", QUIET)
    with pytest.raises(InputError, match=r"a class that .* was not trained on: 12\nIts classes are 0, 1,"):
        evaluate_run(counted, numbered(tmp_path / "more", ["7", "12"]), "test", QUIET)


@pytest.fixture(scope="module")
def tabled(birds: Path, tiny: Callable[..., list[str]], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run on a table whose columns nobody could guess."""
    root = tmp_path_factory.mktemp("tabled")
    table(root / "train.csv", birds, "photo_ref,taxon", sorted(birds.glob("train/*/*.png"))[::2])
    return train(root / "train.csv", *tiny("data.columns=path=photo_ref,label=taxon", "train.epochs=1"), out=root / "run")


def table(file: Path, birds: Path, header: str, images: list[Path], label: Callable[[Path], str] = lambda path: path.parent.name) -> Path:
    """A table of these images, which are linked beside it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if not (file.parent / "img").exists():
        (file.parent / "img").symlink_to(birds)
    columns = header.count(",") + 1
    rows = [",".join([f"img/{path.relative_to(birds)}", label(path)][:columns]) for path in images]
    file.write_text("\n".join([header, *rows]))
    return file


def test_the_columns_of_the_run_are_remembered_where_a_table_has_them(tabled: Run, birds: Path, tmp_path: Path) -> None:
    images = sorted(birds.glob("test/*/*.png"))
    for name, header, settings in (
        ("same", "photo_ref,taxon", ()),
        ("common", "path,label", ()),
        ("given", "photo_ref,said", ("data.columns=label=said",)),
    ):
        found = evaluate_run(tabled, table(tmp_path / f"{name}.csv", birds, header, images), "test", QUIET, settings=settings)
        assert (found.split, found.metrics.n) == ("all", 12)
    with pytest.raises(SystemExit, match="0"):
        main(["evaluate", str(tabled.path), "--data", str(tmp_path / "given.csv"), "data.columns=label=said", "--quiet"])
    unlabelled = table(tmp_path / "ids.csv", birds, "photo_ref", images[:3])
    submitted = fieldmark.submit(tabled.path, tmp_path / "out.csv", data=unlabelled, settings=["data.columns=path=photo_ref"])
    assert submitted.unanswered == 0
    one = table(tmp_path / "one.csv", birds, "photo_ref,taxon", [path for path in images if path.parent == images[0].parent])
    assert evaluate_run(tabled, one, "test", QUIET).metrics.n == 4, "a single class"
    with pytest.raises(InputError, match="no column"):
        evaluate_run(tabled, one, "test", QUIET, settings=["data.columns=label=species"])
    for setting in ("data.size=64", "train.epochs=2", "data.taxonomy=none"):
        with pytest.raises(InputError, match=r"settings can only say how they are read\nThe keys for that are data.layout, data.columns"):
            evaluate_run(tabled, one, "test", QUIET, settings=[setting])
    with pytest.raises(InputError, match="Add --data DATA"):
        evaluate_run(tabled, None, "test", QUIET, settings=["data.columns=label=species"])


def test_images_without_labels_are_answered_and_not_evaluated(tabled: Run, birds: Path, tmp_path: Path) -> None:
    new = table(tmp_path / "new" / "new.csv", birds, "photo_ref", sorted(birds.glob("test/*/*.png")))
    with pytest.raises(InputError, match=f"no readable images with labels\n.*fieldmark submit {tabled.path} answers.csv --data {new}"):
        evaluate_run(tabled, new, "test", QUIET)
    done = submit_run(tabled, tmp_path / "answers.csv", new, "id=path,label=class", QUIET)
    assert done.unanswered == 0 and len(done.file.read_text().splitlines()) == 13
    with pytest.raises(InputError, match="has no column of paths and none of labels"):
        train(new, out=tmp_path / "never")


def test_folders_need_no_train_no_second_class_and_no_classes(run: Run, birds: Path, tmp_path: Path) -> None:
    held = shutil.copytree(birds / "test", tmp_path / "held" / "test")
    one = next(held.iterdir())
    for data, split, count in ((held.parent, "test", 12), (shutil.copytree(one, tmp_path / "one" / one.name).parent, "all", 4)):
        found = evaluate_run(run, data, "test", QUIET)
        assert (found.split, found.metrics.n) == (split, count)
        with pytest.raises(InputError, match=r"but no train|has one class only"):
            train(data, out=tmp_path / "never")
    shutil.copytree(birds / "train", held.parent / "val")
    assert evaluate_run(run, held.parent, "val", QUIET).metrics.n == 48
    loose = shutil.copytree(one, tmp_path / "loose")
    with pytest.raises(InputError, match=rf"no readable images with labels\n.*fieldmark submit {run.path} answers.csv --data {loose}"):
        evaluate_run(run, loose, "test", QUIET)
    assert submit_run(run, tmp_path / "answers.csv", loose, "id=path,label=class", QUIET).unanswered == 0
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no images in"):
        evaluate_run(run, tmp_path / "empty", "test", QUIET)


def test_names_that_are_spelt_a_little_otherwise_are_proposed_and_what_can_be_done_is_said(run: Run, birds: Path, tmp_path: Path) -> None:
    for folder in sorted((birds / "test").iterdir()):
        shutil.copytree(folder, tmp_path / "later" / folder.name.lower().replace(" ", "_"))
    with pytest.raises(InputError) as caught:
        evaluate_run(run, tmp_path / "later", "test", QUIET)
    assert all(f"{name.lower().replace(' ', '_')} (did you mean {name!r}?)" in str(caught.value) for name in run.class_names)
    assert f"fieldmark evaluate {run.path} --unknown FOLDER" in str(caught.value)
    assert f"train again with model.weights={run.path}" in str(caught.value)


def test_a_question_is_answered_by_the_command_that_asked_it(run: Run, birds: Path, tmp_path: Path) -> None:
    for number, folder in enumerate(sorted((birds / "test").iterdir())):
        shutil.copytree(folder, tmp_path / "later" / f"genus{number % 2}" / folder.name)
    with pytest.raises(InputError) as caught:
        fieldmark.evaluate(run, data=tmp_path / "later", crop="none", quiet=True)
    evaluate = f"fieldmark evaluate {run.path} --crop none --data {tmp_path / 'later'} data.class_depth=2"
    assert evaluate in str(caught.value) and "fieldmark train" not in str(caught.value)
    with pytest.raises(InputError, match=f"fieldmark submit {run.path} out.csv --data {tmp_path / 'later'} data.class_depth=2"):
        fieldmark.submit(run, "out.csv", data=tmp_path / "later", quiet=True)
    with pytest.raises(InputError, match=f"fieldmark layouts {tmp_path / 'later'} data.class_depth=2"):
        fieldmark.describe_dataset(tmp_path / "later")
    with pytest.raises(InputError, match=f"fieldmark train {tmp_path / 'later'} data.class_depth=2"):
        fieldmark.read_dataset(tmp_path / "later")


def test_both_crops_of_data_without_boxes_are_refused_before_anything_is_predicted(run: Run, birds: Path) -> None:
    before = sorted(run.folder.predictions.iterdir())
    with pytest.raises(InputError, match="has no boxes to crop to"):
        fieldmark.evaluate(run, crop="both", quiet=True)
    assert sorted(run.folder.predictions.iterdir()) == before
