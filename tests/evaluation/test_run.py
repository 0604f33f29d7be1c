import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.cli import main
from fieldmark.core.errors import InputError
from fieldmark.core.files import write_json
from fieldmark.evaluation import inference
from fieldmark.evaluation.assessment import assess
from fieldmark.evaluation.run import Run
from fieldmark.scoring.decisions import Decisions, DecisionsRecord
from fieldmark.scoring.rejection_scores import OF_LOGITS, fit_score, load_score

PARENTS = {"genus": ["wide", "narrow", "wide"], "size": ["small", "small", "large"]}


@pytest.fixture(scope="module")
def deciding(finished_run: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run with levels, and with decisions by which sets differ in size, and back-off answers classes, parents and nothing.

    Thresholds lie between what two images of test have, so that rounding does not move an image across.
    """
    folder = tmp_path_factory.mktemp("runs") / "deciding"
    shutil.copytree(finished_run.path, folder)
    run = Run.load(folder)
    manifest = json.loads(run.folder.manifest_file.read_text(encoding="utf-8"))
    write_json(run.folder.manifest_file, manifest | {"levels": PARENTS})
    assert run.decisions is not None
    record = run.decisions.record.model_dump(by_alias=True) | {"scaling": "temperature", "vector": None, "temperature": 0.3}
    probabilities = Decisions(DecisionsRecord.model_validate(record), 3).probabilities(saved(run))
    ordered = -np.sort(-probabilities, axis=1).astype(np.float64)
    best, two = np.sort(ordered[:, 0]), np.sort(ordered[:, :2].sum(axis=1))
    quantiles = {"quantile": two[3:5].sum() / 2, "class_quantiles": [None, best[2:4].sum() / 2, None]}
    record["sets"] |= {"method": "aps", "penalty": 0.0, "k_reg": 1} | quantiles
    record["backoff"] = {
        "genus": {
            "precision": 0.9,
            "species_threshold": best[7:9].sum() / 2,
            "parent_threshold": best[3:5].sum() / 2,
            "parents": [1, 0, 1],
        },
        "size": {"precision": 0.9, "species_threshold": None, "parent_threshold": None, "parents": [1, 1, 0]},
    }
    write_json(run.folder.calibration_file, record)
    return Run.load(folder)


def saved(run: Run) -> np.ndarray:
    """Logits of test."""
    test = run.predictions("test")
    assert test is not None
    return test.logits


def images(run: Run, birds: Path) -> list[Path]:
    """Those of test, in the order in which they were saved."""
    test = run.predictions("test")
    assert test is not None
    return [birds / each for each in test.ids.tolist()]


def test_a_link_that_leads_nowhere_is_answered_with_the_reason(finished_run, tmp_path):
    (tmp_path / "broken.png").symlink_to(tmp_path / "gone.png")
    for source in (tmp_path / "broken.png", tmp_path / "*.png"):
        (answer,) = finished_run.predict(source)
        assert answer.best is None and "No such file" in answer.note


def test_the_bytes_of_images_are_answered_as_their_files(deciding: Run, birds: Path) -> None:
    files = images(deciding, birds)[:5]
    from_files, from_bytes = deciding.predict(files), deciding.predict([file.read_bytes() for file in files])
    for one, other in zip(from_files, from_bytes, strict=True):
        assert other.path == "" and (one.classes, one.note, one.unknown, one.among) == (
            other.classes,
            other.note,
            other.unknown,
            other.among,
        )
        np.testing.assert_array_equal(one.probabilities, other.probabilities)
    assert deciding.predict(files[0].read_bytes())[0].classes == from_files[0].classes


def test_sets_are_those_of_the_assessment(deciding: Run, birds: Path) -> None:
    """Each counted class by class from saved logits."""
    assert deciding.decisions is not None
    rule, names = deciding.decisions.sets, deciding.class_names
    logits = saved(deciding).astype(np.float64) / 0.3
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = []
    for probabilities in (exponentials / exponentials.sum(axis=1, keepdims=True)).tolist():
        above, among = 0.0, []
        for index in sorted(range(3), key=lambda index: -probabilities[index]):
            own = rule.class_quantiles[index]
            if above <= (rule.quantile if own is None else own):
                among.append(names[index])
            above += probabilities[index]
        expected.append(tuple(among))
    answers = deciding.predict(images(deciding, birds), top=1)
    assert [answer.among for answer in answers] == expected
    assert len({len(answer.among) for answer in answers}) > 1
    assert all(answer.among[0] == answer.best for answer in answers)
    found = assess(deciding)
    assert found.sets is not None and found.decisions is not None
    held = [{names[index] for index in np.flatnonzero(row)} for row in found.decisions.sets.sets(found.probabilities)]
    assert held == [set(answer.among) for answer in answers]
    covered = [names[label] in answer.among for label, answer in zip(found.test.labels, answers, strict=True)]
    assert np.mean(covered) == pytest.approx(found.sets.coverage)


def test_what_is_answered_at_a_coarser_level_is_what_the_assessment_counts(deciding: Run, birds: Path) -> None:
    assert deciding.decisions is not None
    rule, names = deciding.decisions.backoff["genus"], deciding.class_names
    expected = []
    for probabilities in deciding.probabilities(saved(deciding)).astype(float):
        of_parent = {
            parent: sum(probability for probability, own in zip(probabilities, PARENTS["genus"], strict=True) if own == parent)
            for parent in ("wide", "narrow")
        }
        parent = max(of_parent, key=of_parent.__getitem__)
        if probabilities.max() >= rule.species_threshold:
            expected.append(names[probabilities.argmax()])
        else:
            expected.append(parent if of_parent[parent] >= rule.parent_threshold else "")
    answers = deciding.predict(images(deciding, birds), top=1)
    assert [dict(answer.coarser) for answer in answers] == [{"genus": each, "size": ""} for each in expected]
    found = assess(deciding).backoff["genus"]
    assert found.species.n == sum(each in names for each in expected) > 0
    assert found.parent.n == sum(each in PARENTS["genus"] for each in expected) > 0
    assert found.unanswered == expected.count("")


def test_a_run_without_decisions_says_only_the_classes(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    shutil.copytree(finished_run.path, tmp_path / "run")
    bare = Run.load(tmp_path / "run")
    bare.folder.calibration_file.unlink()
    for answer in bare.predict(images(bare, birds)[:2]):
        assert answer.best in bare.class_names and answer.unknown is None and answer.among == () and answer.coarser == {}


def test_unknown_images_are_told_without_the_predictions_of_train_or_from_them_alone(
    finished_run: Run, birds: Path, tmp_path: Path
) -> None:
    """A run of an older version has no rejection.safetensors: its score is fitted when it answers, and is the same."""
    shutil.copytree(finished_run.path, tmp_path / "run")
    run = Run.load(tmp_path / "run")
    assert run.decisions is not None and run.decisions.score not in OF_LOGITS
    test, train = run.predictions("test"), run.folder.predictions / "train.npz"
    assert test is not None
    score = load_score(run.folder.rejection_file, run.decisions.score)(test.logits, test.features)
    np.testing.assert_array_equal(fit_score(run.decisions.score, run.predictions("train"))(test.logits, test.features), score)
    expected = [answer.unknown for answer in run.predict(images(run, birds))]
    run.folder.rejection_file.rename(tmp_path / "kept")
    assert [answer.unknown for answer in Run.load(run.path).predict(images(run, birds))] == expected
    train.unlink()
    with pytest.raises(InputError, match="needs the predictions of train, and these are missing"):
        Run.load(run.path).predict(images(run, birds))
    (tmp_path / "kept").rename(run.folder.rejection_file)
    assert [answer.unknown for answer in Run.load(run.path).predict(images(run, birds))] == expected
    fit_score("msp", None).save(run.folder.rejection_file)
    with pytest.raises(InputError, match="holds the score msp, and calibration"):
        Run.load(run.path).predict(images(run, birds))


def test_a_run_whose_training_was_stopped_says_so_before_it_answers(
    finished_run: Run, birds: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "my run"
    shutil.copytree(finished_run.path, folder)
    (folder / "calibration.json").unlink()
    stopped = Run.load(folder)
    stopped.folder.set_status("interrupted")
    image = images(stopped, birds)[0]
    said = rf"not finished \(interrupted\): these answers .* are not calibrated; `fieldmark resume '{folder}'`"
    with pytest.warns(UserWarning, match=said):
        stopped.predict(image)
    for command in (["predict", str(folder), str(image)], ["explain", str(folder), str(image), "--out", str(tmp_path / "explained")]):
        with pytest.raises(SystemExit) as stop:
            main(command)
        assert stop.value.code == 0 and re.search(f"^warning: .*{said}", capsys.readouterr().err)
    assert "not finished (interrupted)" in (tmp_path / "explained" / "explain.html").read_text(encoding="utf-8")
    stopped.folder.set_status("finished")
    list(fieldmark.predict(folder, image))
    assert "warning" not in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_answer_that_is_not_a_number_names_nothing(
    deciding: Run, birds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: float
) -> None:
    original = inference.logits_and_features

    def broken(*arguments):
        logits, features = original(*arguments)
        logits[1, 0] = wrong
        return logits, features

    files = images(deciding, birds)[:3]
    sound = deciding.predict(files)
    monkeypatch.setattr(inference, "logits_and_features", broken)
    one, none, other = deciding.predict(files)
    assert none.path == str(files[1]) and none.note == "the answer is not a number"
    assert none.best is None and none.classes == () and none.probabilities.shape == (0,)
    assert none.unknown is None and none.among == () and none.coarser == {}
    for answer, before in ((one, sound[0]), (other, sound[2])):
        assert (answer.path, answer.classes, answer.among, answer.note) == (before.path, before.classes, before.among, "")
    with pytest.raises(SystemExit) as stop:
        main(["predict", str(deciding.path), *map(str, files), "--json", "--csv", str(tmp_path / "t.csv")])
    assert stop.value.code == 1  # a file that was named itself has no answer
    printed = capsys.readouterr()
    lines = [json.loads(line, parse_constant=pytest.fail) for line in printed.out.splitlines()]
    assert [len(line["classes"]) for line in lines] == [3, 0, 3] and "1 of 3 images has no answer; its row says why" in printed.err
    assert [tuple(line["among"]) for line in lines] == [answer.among for answer in (one, none, other)]
    assert [line["coarser"] for line in lines] == [answer.coarser for answer in (one, none, other)]
    rows = (tmp_path / "t.csv").read_text(encoding="utf-8").splitlines()
    assert rows[0].endswith(",probability_3,among,coarser_genus,coarser_size,note")
    assert rows[2] == f"{files[1]}{',' * 11}the answer is not a number"


def test_a_run_says_what_it_is(finished_run: Run, tmp_path: Path) -> None:
    top1 = finished_run.summary.test.top1
    assert repr(finished_run).startswith(
        f"Run('{finished_run.path}', {finished_run.recipe.model.name}, {len(finished_run.class_names)} classes"
    )
    assert repr(finished_run).endswith(f", finished, {top1:.1f} % right on test)")
    copy = Run.load(shutil.copytree(finished_run.path, tmp_path / "copy"))
    copy.folder.summary_file.unlink()
    copy.folder.manifest_file.write_text("{")
    assert repr(copy) == f"Run('{copy.path}')"


def test_images_in_memory_have_the_answers_of_their_files(finished_run: Run, birds: Path, tmp_path: Path) -> None:
    file = next((birds / "test").rglob("*.png"))
    picture = Image.open(file)
    (expected,) = finished_run.predict(file)
    answers = finished_run.predict([picture, np.asarray(picture), file.read_bytes(), file.open("rb"), file])
    assert [answer.path for answer in answers] == ["", "", "", "", str(file)]
    for answer in answers:
        assert answer.classes == expected.classes and answer.unknown == expected.unknown
        np.testing.assert_allclose(answer.probabilities, expected.probabilities, atol=1e-6)
    streamed = list(finished_run.stream([str(file), picture, np.asarray(picture), tmp_path / "missing.png"]))
    assert [answer.path for answer in streamed] == [str(file), "", "", str(tmp_path / "missing.png")]
    assert [answer.best for answer in streamed] == [*[expected.best] * 3, None] and "No such file" in streamed[3].note
    assert finished_run.predict(picture)[0].best == finished_run.predict(np.asarray(picture))[0].best == expected.best
    with pytest.raises(InputError, match="image 1 is an array of float"):
        finished_run.predict(np.asarray(picture) / 255)
    explained = fieldmark.explain(finished_run, [np.asarray(picture), file], tmp_path / "explained")
    figures = json.loads(explained.figures.read_text(encoding="utf-8"))["images"]
    assert [each["path"] for each in figures] == ["image 1", str(file)]
    assert figures[0]["answer"] == figures[1]["answer"] == expected.best
