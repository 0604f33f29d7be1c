"""Training by boxes, levels, folds, views and normalisations; evaluating, predicting and handing in what comes of it."""

import base64
import csv
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import fieldmark
from fieldmark.cli import main
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import load_recipe
from fieldmark.datasets.content import file_hash, scan
from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.loading import find_data, load_data
from fieldmark.datasets.recorded_images import RecordedImages
from fieldmark.evaluation.evaluate import evaluate_run
from fieldmark.evaluation.submission import submit_run
from fieldmark.reports.gallery import thumbnail
from fieldmark.runtime.preprocess import square
from fieldmark.scoring.predictions import Predictions
from fieldmark.training.train import resume_run, train_run
from runs import train


@pytest.fixture(scope="module")
def boxed(tmp_path_factory) -> Path:
    """Six drawn species of two genera, with their table of boxes: 72, 12 and 24 images of 48 pixels."""
    from fieldmark.datasets.birds.folder import write_birds

    root = tmp_path_factory.mktemp("data") / "boxed"
    write_birds(root, species=6, per_class=18, size=48, seed=2)
    return root


@pytest.fixture(scope="module")
def box_run(boxed, tiny, tmp_path_factory):
    settings = tiny("data.crop=box", "data.crop.margin=0.1", "data.crop.jitter=0.1")
    return fieldmark.train(boxed, *settings, out=tmp_path_factory.mktemp("runs") / "box", quiet=True)


def loaded(data, *settings: str):
    return load_data(find_data(data, load_recipe("default", settings).data, Console(quiet=True)), Console(quiet=True))


def test_copies_are_drawn_into_one_split_and_settings_of_train_still_apply(tmp_path):
    for label, name in enumerate(("finch", "wren")):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("RGB", (8, 8), (number, label, 0)).save(tmp_path / name / f"{number}.png")
            for copy in range(3):
                shutil.copy(tmp_path / name / f"{number}.png", tmp_path / name / f"{number} copy {copy}.png")
    few = ("data.subset.name=per-class", "data.subset.count=5")
    for settings in ((), ("data.folds=3", "data.fold=1"), few, ("data.label_noise=uniform",)):
        data = loaded(tmp_path, *settings)
        by_split = {split: {data.content.hashes[row] for row in data.rows(split)} for split in ("train", "val", "test")}
        assert len(by_split["test"]) == 3 and by_split["val"]
        assert sum(map(len, by_split.values())) == len(set().union(*by_split.values()))
        for row in data.rows("train", "val", "test")[::7]:
            assert data.content.hashes[row] == file_hash((tmp_path / data.dataset.paths[row]).read_bytes())
    assert len(loaded(tmp_path, *few).rows("train")) == 10


def boxes_table(boxed: Path, path: Path) -> Path:
    """The test images' boxes, with absolute paths."""
    rows = [row for row in csv.DictReader((boxed / "birds.csv").open()) if row["split"] == "test"]
    with path.open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["path", "left", "top", "width", "height"])
        table.writerows([boxed / row["path"], row["left"], row["top"], row["width"], row["height"]] for row in rows)
    return path


def test_a_crop_to_boxes_is_what_evaluation_sees(boxed, box_run):
    dataset = read_dataset(boxed)
    rows = dataset.rows("test")
    assert box_run.preprocess.margin == 0.1
    stored = pq.read_table(box_run.folder.split_file).to_pydict()
    np.testing.assert_array_equal(np.array([stored[edge] for edge in ("left", "top", "right", "bottom")], np.float32).T, dataset.boxes)
    left, top, right, bottom = dataset.boxes[rows[0]].astype(float)
    side_x, side_y = 0.1 * (right - left), 0.1 * (bottom - top)
    region = np.clip([left - side_x, top - side_y, right + side_x, bottom + side_y], 0, 48)
    data = dataset.images.read(dataset.paths[rows[0]])
    expected = square(data, 32, "squash", region=region.tolist())
    assert (box_run.preprocess.pixels(data, box=[left, top, right, bottom]) == expected).all()


def test_prediction_with_boxes_equals_evaluation_with_boxes(boxed, box_run, tmp_path):
    predictions = Predictions.load(box_run.folder.predictions / "test.npz")
    from fieldmark.datasets.boxes_file import read_boxes

    boxes = read_boxes(boxes_table(boxed, tmp_path / "boxes.csv"))
    answers = box_run.predict([boxed / path for path in predictions.ids.tolist()], top=1, boxes=boxes)
    expected = box_run.probabilities(predictions.logits).max(axis=1)
    np.testing.assert_allclose([answer.probabilities[0] for answer in answers], expected, atol=1e-5)
    assert not any(answer.note for answer in answers)


def test_a_run_on_boxes_warns_of_whole_images(boxed, box_run, finished_run, tmp_path, capsys):
    image = next((boxed / "test").rglob("*.png"))
    with pytest.warns(UserWarning, match="trained on images cropped to boxes"):
        box_run.predict(image)
    with pytest.warns(UserWarning, match="trained on whole images"):
        finished_run.predict(image, boxes={str(image): (1, 1, 20, 20)})
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(box_run.path), str(image)])
    assert stop.value.code == 0 and "warning: " in capsys.readouterr().err
    table = boxes_table(boxed, tmp_path / "boxes.csv")
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(box_run.path), str(boxed / "test"), str(next((boxed / "val").rglob("*.png"))), "--boxes", str(table)])
    seen = capsys.readouterr()
    assert stop.value.code == 0 and "1 of 25 images: it has no box" in seen.err and "warning" not in seen.err
    assert seen.out.count("it has no box and was seen whole") == 1


def test_evaluation_reports_whole_images_and_boxes(box_run, capsys):
    whole, boxes = (evaluate_run(box_run, None, "test", Console(quiet=True), crop) for crop in ("none", "box"))
    assert boxes.metrics.top1 == box_run.summary.test.top1 and boxes.metrics.nll == box_run.summary.test.nll
    assert whole.metrics.nll != boxes.metrics.nll and whole.predictions.name == "test-crop-none.npz"
    with pytest.raises(SystemExit):
        main(["evaluate", str(box_run.path), "--crop", "both", "--json"])
    both = json.loads(capsys.readouterr().out)
    assert both["none"]["nll"] == whole.metrics.nll and both["box"]["nll"] == boxes.metrics.nll
    with pytest.raises(SystemExit):
        main(["evaluate", str(box_run.path), "--crop", "both"])
    printed = capsys.readouterr().err
    assert "test, whole" in printed and "test, boxes" in printed


def test_a_run_on_boxes_is_resumed_as_it_was(boxed, box_run, tmp_path):
    path = tmp_path / "copy"
    shutil.copytree(box_run.path, path)
    manifest = json.loads((path / "manifest.json").read_text())
    (path / "manifest.json").write_text(json.dumps(manifest | {"status": "interrupted"}))
    assert resume_run(path, Console(quiet=True)).summary.test == box_run.summary.test


def test_boxes_are_needed_to_crop_to_them(birds, finished_run):
    with pytest.raises(InputError, match=r"data\.crop=box has no effect: the data have no boxes"):
        loaded(birds, "data.crop=box")
    with pytest.raises(InputError, match="has no boxes to crop to"):
        evaluate_run(finished_run, None, "test", Console(quiet=True), "box")


def test_a_box_outside_its_image_is_set_aside(boxed, tmp_path):
    shutil.copytree(boxed, tmp_path / "copy")
    lines = (tmp_path / "copy" / "birds.csv").read_text().splitlines()
    fields = lines[1].split(",")
    fields[6:8] = ["600", "600"]
    (tmp_path / "copy" / "birds.csv").write_text("\n".join([lines[0], ",".join(fields), *lines[2:]]))
    data = loaded(tmp_path / "copy", "data.crop=box")
    assert data.content.problems == {data.dataset.paths.index(fields[0]): "its box holds less than a pixel of it"}
    assert loaded(tmp_path / "copy").content.problems == {}


def test_a_level_becomes_the_classes(boxed, tiny, tmp_path):
    run = train(boxed, *tiny("data.level=genus"), out=tmp_path / "run")
    assert len(run.class_names) == 2 and run.summary.dataset.classes == 2
    assert evaluate_run(run, boxed, "test", Console(quiet=True)).metrics.top1 == run.summary.test.top1
    with pytest.raises(InputError, match="no level called 'family'\nIts levels are genus"):
        loaded(boxed, "data.level=family")


def test_the_taxonomy_is_kept_in_the_run(boxed, box_run, tmp_path):
    levels = json.loads((box_run.path / "manifest.json").read_text())["levels"]
    dataset = read_dataset(boxed)
    assert levels == {"genus": dataset.levels[0].of_classes()}
    file = tmp_path / "taxonomy.csv"
    sizes = [f"{name},{'small' if index < 2 else 'large'}\n" for index, name in enumerate(dataset.class_names)]
    file.write_text("class,size\n" + "".join(sizes))
    assert [level.name for level in loaded(boxed, f"data.taxonomy={file}").dataset.levels] == ["size"]
    assert loaded(boxed, "data.taxonomy=none").dataset.levels == ()


def test_individuals_never_straddle_splits_of_our_own(boxed):
    data = loaded(boxed, "data.splits=own", "data.val_fraction=0.2").dataset
    assert len(set(data.splits)) == 3
    for group in set(data.groups.tolist()):
        assert len(set(data.splits[data.groups == group])) == 1
    assert set(data.splits.tolist()) == {"train", "val", "test"}


def test_folds_and_views(boxed):
    folds = [loaded(boxed, "data.splits=own", "data.folds=3", f"data.fold={fold}").dataset for fold in range(3)]
    vals = [{fold.paths[row] for row in fold.rows("val")} for fold in folds]
    assert len(set.union(*vals)) == sum(map(len, vals))
    assert len({frozenset(fold.paths[row] for row in fold.rows("test")) for fold in folds}) == 1
    few = loaded(boxed, "data.subset=per-class", "data.subset.count=2").dataset
    assert len(few.rows("train")) == 12 and len(few.rows("test")) == 24
    for wrong in ("data.fold=1", "data.folds=3 data.fold=3"):
        with pytest.raises(InputError, match=r"data\.fold"):
            load_recipe("default", wrong.split())
    with pytest.raises(InputError, match=r"data\.val_fraction=0.3 has no effect: data\.folds says"):
        loaded(boxed, "data.splits=own", "data.folds=3", "data.val_fraction=0.3")


def test_wrong_labels_are_trained_on_and_the_true_ones_stored(boxed, tiny, tmp_path):
    run = train(boxed, *tiny("data.label_noise=siblings", "data.label_noise.share=0.5"), out=tmp_path / "run")
    stored = pq.read_table(run.folder.split_file).to_pydict()
    wrong = [split for label, true, split in zip(stored["label"], stored["true_label"], stored["split"], strict=True) if label != true]
    assert set(wrong) == {"train"} and len(wrong) == round(0.5 * stored["split"].count("train"))


@pytest.mark.parametrize("normalise", ["imagenet", "unit", "measured"])
def test_normalisations(boxed, tiny, tmp_path, normalise):
    run = train(boxed, *tiny(f"data.normalise={normalise}"), out=tmp_path / "run")
    mean, std = run.preprocess.mean, run.preprocess.std
    if normalise == "unit":
        assert (mean, std) == ((0, 0, 0), (1, 1, 1))
    elif normalise == "imagenet":
        assert (mean, std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    else:
        dataset = read_dataset(boxed)
        files = [dataset.root / dataset.paths[row] for row in dataset.rows("train")]
        pixels = np.stack([np.asarray(Image.open(file).convert("RGB"), np.float64) / 255 for file in files])
        np.testing.assert_allclose(mean, pixels.mean(axis=(0, 1, 2)), atol=1e-6)
        np.testing.assert_allclose(std, pixels.std(axis=(0, 1, 2)), atol=1e-6)


def test_corrupted_images(boxed, box_run, tiny, tmp_path):
    clean, foggy, foggier = (evaluate_run(box_run, None, "test", Console(quiet=True), None, name) for name in ("none", "fog:1", "fog:5"))
    assert len({clean.metrics.nll, foggy.metrics.nll, foggier.metrics.nll}) == 3 and foggy.predictions.name == "test-fog-1.npz"
    assert evaluate_run(box_run, None, "test", Console(quiet=True), None, "fog:5").metrics.nll == foggier.metrics.nll
    run = train(boxed, *tiny("data.corrupt=fog:5"), out=tmp_path / "run")
    plain = train(boxed, *tiny(), out=tmp_path / "plain")
    assert run.summary.test != plain.summary.test
    as_trained, as_they_are = (evaluate_run(run, None, "test", Console(quiet=True), None, name) for name in (None, "none"))
    assert as_trained.metrics.nll == pytest.approx(run.summary.test.nll)
    assert as_they_are.metrics.nll != as_trained.metrics.nll
    assert as_they_are.predictions.name == "test-none.npz"
    with pytest.raises(InputError, match="fog"):
        train_run(boxed, load_recipe("default", tiny("data.corrupt=fogg:5")), tmp_path / "wrong", Console(quiet=True))


@pytest.fixture(scope="module")
def competition(boxed, tmp_path_factory) -> Path:
    """train and val in class folders, test without labels, one of its images broken."""
    root = tmp_path_factory.mktemp("data") / "competition"
    for split in ("train", "val"):
        shutil.copytree(boxed / split, root / split)
    (root / "test").mkdir()
    for number, file in enumerate(sorted((boxed / "test").rglob("*.png"))):
        shutil.copy(file, root / "test" / f"{number:03d}.png")
    (root / "test" / "005.png").write_bytes(b"broken")
    return root


def test_unlabelled_images_are_handed_in(competition, tiny, tmp_path, capsys, monkeypatch):
    run = train(competition, *tiny("data.max_unreadable=0.1"), out=tmp_path / "run")
    assert run.summary.dataset.test == 11  # drawn from train, whose labels are known
    for last, code in (("=probabilities", 2), ("all=probabilities", 0)):
        with pytest.raises(SystemExit) as stop:
            columns = f"Id=name,Category=index,p=probability,{last}"
            main(["submit", str(run.path), str(tmp_path / "answers.csv"), "--columns", columns])
        assert stop.value.code == code
    assert "1 of the images could not be read or have no finite probabilities" in capsys.readouterr().err
    header, *rows = list(csv.reader((tmp_path / "answers.csv").open()))
    assert header == ["Id", "Category", "p", *run.class_names]
    assert [row[0] for row in rows] == [f"{number:03d}.png" for number in range(24)]
    assert rows[5][1:] == [""] * 8
    answers = run.predict([competition / "test" / row[0] for row in rows], top=1)
    for row, answer in zip(rows, answers, strict=True):
        if answer.classes:
            assert run.class_names[int(row[1])] == answer.best
            assert float(row[2]) == pytest.approx(answer.probabilities[0], abs=1e-5) == max(map(float, row[3:]))
    saved = Predictions.load(run.folder.predictions / "unlabelled.npz")
    assert len(saved) == 23 and (saved.labels == -1).all()
    assert submit_run(run, tmp_path / "default.csv", competition, "id=stem,label=class", Console(quiet=True)).unanswered == 1
    assert (tmp_path / "default.csv").read_text().splitlines()[:2] == ["id,label", f"000,{answers[0].best}"]
    sample = tmp_path / "sample_submission.csv"
    sample.write_text("".join(f"{line}\n" for line in (",".join(["id", *reversed(run.class_names)]), "007,1,0,0,0,0,0", "005,1,0,0,0,0,0")))
    with pytest.raises(SystemExit) as stop:  # next to the data, in the order of the sample
        main(["submit", str(run.path), str(competition / "answers.csv"), "--like", str(sample)])
    assert stop.value.code == 0 and "22 unlabelled images are not in the sample" in capsys.readouterr().err
    header, asked, unread = csv.reader((competition / "answers.csv").open())
    assert header == ["id", *reversed(run.class_names)] and asked == ["007", *reversed(rows[7][3:])] and unread == ["005", *[""] * 6]
    (competition / "answers.csv").unlink()
    with pytest.raises(InputError, match="`fieldmark submit` predicts"):
        evaluate_run(run, None, "unlabelled", Console(quiet=True))
    saved.logits[0] = np.nan
    monkeypatch.setattr(type(run), "predict_rows", lambda *_: saved)
    columns = "id=stem,label=class,n=number,p=probability,all=probabilities"
    assert submit_run(run, tmp_path / "broken.csv", None, columns, Console(quiet=True)).unanswered == 2
    _, first, *others = csv.reader((tmp_path / "broken.csv").open())
    assert first == ["000", *[""] * 9]
    assert [row[0] for row in others if "" in row] == ["005"] and not any("nan" in row for row in others)


def test_what_cannot_be_handed_in(finished_run, birds, tmp_path):
    console = Console(quiet=True)
    for columns, message in {
        "id": "should be HEADER=WHAT",
        "id=stm": "there is no 'stm'; did you mean stem",
        "a=class,b": "'b' should be HEADER=WHAT",
    }.items():
        with pytest.raises(InputError, match=message):
            submit_run(finished_run, tmp_path / "a.csv", None, columns, console)
    with pytest.raises(InputError, match="has no unlabelled images"):
        submit_run(finished_run, tmp_path / "a.csv", None, "id=stem", console)
    with pytest.raises(InputError, match="there is no folder"):
        submit_run(finished_run, tmp_path / "none" / "a.csv", None, "id=stem", console)
    assert not (tmp_path / "a.csv").exists()


def test_images_inside_larger_files_are_trained_on(boxed, tiny, tmp_path):
    """The same images as class folders and as tar shards give the same run."""
    import tarfile

    shards = tmp_path / "shards"
    shards.mkdir()
    for split in ("train", "val", "test"):
        with tarfile.open(shards / f"{split}-000000.tar", "w") as tar:
            for number, file in enumerate(sorted((boxed / split).rglob("*.png"))):
                label = tmp_path / "label.cls"
                label.write_text(file.parent.name)
                tar.add(file, f"{number:06d}.png")
                tar.add(label, f"{number:06d}.cls")
    run = fieldmark.train(shards, *tiny(), out=tmp_path / "run", quiet=True)
    assert run.folder.manifest().data.layout == "webdataset"
    assert evaluate_run(run, None, "test", Console(quiet=True)).metrics.nll == run.summary.test.nll
    assert evaluate_run(run, boxed, "test", Console(quiet=True)).metrics.top1 == run.summary.test.top1
    assert "data:image/jpeg" in run.folder.report_file.read_text()
    dataset = read_dataset(shards)
    content = scan(dataset)
    assert not content.problems and set(content.widths) == {48}


def test_a_class_that_train_lacks_is_named(boxed, tmp_path):
    rows = list(csv.reader((boxed / "birds.csv").open()))
    shutil.copytree(boxed, tmp_path / "data")
    species = rows[0].index("species")
    first = rows[1][species]
    kept = [row for row in rows if row[species] != first or row[1] != "train"]
    with (tmp_path / "data" / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows(kept)
    with pytest.raises(InputError, match=rf"val has 2 images of '{first}', and train has none(.|\n)*test has 4 images"):
        loaded(tmp_path / "data" / "table.csv")
    assert len(loaded(tmp_path / "data" / "table.csv", "data.splits=own").dataset.class_names) == 6


def test_the_report_of_a_run_on_boxes_shows_them(boxed, box_run):
    dataset = read_dataset(boxed)
    path, box = dataset.paths[0], tuple(dataset.boxes[0].tolist())
    hashes = dict(zip(dataset.paths, scan(dataset).hashes, strict=True))
    boxes = {each: tuple(edges) for each, edges in zip(dataset.paths, dataset.boxes.tolist(), strict=True)}
    whole, recorded = RecordedImages(dataset.images, hashes, {}), RecordedImages(dataset.images, hashes, boxes)

    def pixels(uri: str) -> np.ndarray:
        return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))), int)

    plain, drawn = pixels(thumbnail(whole, path)), pixels(thumbnail(recorded, path))
    changed = np.abs(plain - drawn).max(axis=2) > 60
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    assert abs(columns[0] - box[0]) <= 2 and abs(rows[0] - box[1]) <= 2
    assert abs(columns[-1] + 1 - box[2]) <= 2 and abs(rows[-1] + 1 - box[3]) <= 2
    report = box_run.folder.report_file.read_text()
    shown = Predictions.load(box_run.folder.predictions / "test.npz").ids.tolist()
    uris = {thumbnail(recorded, each) for each in shown}
    assert sum(uri in report for uri in uris) >= 12


def test_nothing_of_the_users_is_overwritten(competition, boxed, box_run, tiny, tmp_path, capsys):
    run = train(competition, *tiny("data.max_unreadable=0.1", "train.epochs=1"), out=tmp_path / "run")
    image = tmp_path / "photo.png"
    shutil.copy(next((boxed / "test").rglob("*.png")), image)
    before = image.read_bytes()
    (tmp_path / "labels.csv").write_text("id,species\n1,Wren\n")
    for name in ("sample.csv", "train.csv"):
        (competition / name).write_text("id,label\n000,x\n")
    table = boxes_table(boxed, tmp_path / "boxes.csv")
    text = table.read_text()
    for command in (
        ["predict", run.path, image, "--csv", image],
        ["predict", box_run.path, image, "--boxes", table, "--csv", table],
        ["submit", run.path, table],
        ["submit", run.path, tmp_path / "labels.csv"],
        ["submit", run.path, competition / "sample.csv", "--like", competition / "sample.csv"],
        ["submit", run.path, competition / "train.csv"],
        ["report", run.path, "--out", image],
    ):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in command])
        assert stop.value.code == 2
        said = capsys.readouterr().err
        assert "was not written by this command" in said or "a file of the data" in said or "the sample submission itself" in said
    assert (tmp_path / "labels.csv").read_text() == "id,species\n1,Wren\n"
    assert image.read_bytes() == before and table.read_text() == text
    for name in ("sample.csv", "train.csv"):
        assert (competition / name).read_text() == "id,label\n000,x\n"
        (competition / name).unlink()
    for _ in range(2):  # what was written before is written anew
        with pytest.raises(SystemExit) as stop:
            main(["predict", str(run.path), str(image), "--csv", str(tmp_path / "answers.csv"), "--quiet"])
        assert stop.value.code == 0
        submit_run(run, tmp_path / "handed_in.csv", None, "id=stem,label=class", Console(quiet=True))
        fieldmark.report(run.path, out=tmp_path / "report.html")


def test_boxes_of_images_that_are_not_there(boxed, box_run, tmp_path, capsys):
    table = tmp_path / "boxes.csv"
    table.write_text("path,left,top,right,bottom\n000-0.png,1,1,20,20\n")
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(box_run.path), str(boxed / "test"), "--boxes", str(table)])
    said = capsys.readouterr().err
    assert stop.value.code == 2 and "none of the images in" in said and "relative to the table's folder" in said
