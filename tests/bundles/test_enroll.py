import filecmp
import json
import re

import numpy as np
import pytest
from PIL import Image

import fieldmark
from fieldmark.bundles.enrolment import Enrolment
from fieldmark.cli import main
from fieldmark.core.errors import CheckFailed, InputError


@pytest.fixture(scope="session")
def bundle(finished_run, tmp_path_factory):
    out = tmp_path_factory.mktemp("enrol") / "bundle"
    return fieldmark.export(finished_run, out, format="torch", include=["enroll"], quiet=True)


@pytest.fixture(scope="session")
def flags(tmp_path_factory):
    """Photos of striped flags, which no network of birds has seen."""
    folder = tmp_path_factory.mktemp("photos") / "flags"
    folder.mkdir()
    random = np.random.default_rng(0)
    for place in range(8):
        pixels = np.full((64, 64, 3), (250.0, 30.0, 20.0))
        pixels[:, 24:40] = [20, 20, 250]
        Image.fromarray(np.clip(pixels + random.normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)).save(folder / f"{place}.png")
    return folder


@pytest.fixture(scope="session")
def enrolled(bundle, flags, tmp_path_factory):
    photos = sorted(flags.iterdir())[:5]
    return fieldmark.enroll(bundle, "Flag", photos, tmp_path_factory.mktemp("enrolled") / "new", quiet=True)


def features(bundle, images) -> np.ndarray:
    return np.concatenate([outputs[1] / np.linalg.norm(outputs[1]) for _, outputs in map(bundle.answerer.networks.one, images)])


def ran(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(each) for each in arguments])
    return int(stop.value.code)


def test_a_class_is_enrolled_from_photos(bundle, enrolled, flags, birds):
    new = enrolled.bundle
    assert new.class_names == (*bundle.class_names, "Flag") and enrolled.photos == 5 and new.record.enrolled[0].photos == 5
    rest = sorted(flags.iterdir())[5:]
    for answer in new.predict(rest):
        assert answer.best == "Flag" and not answer.unknown and "Flag" in answer.among
    assert not any(answer.best == "Flag" for answer in new.predict(birds / "test"))
    assert all(answer.best != "Flag" for answer in bundle.predict(rest))


def test_the_effect_on_trained_classes_is_measured(bundle, enrolled, finished_run):
    loss, val = enrolled.loss, finished_run.in_float32()
    saved = finished_run.predictions("val").labelled()
    assert loss.n == len(saved)
    assert loss.run == pytest.approx(100 * (bundle.enrolment.known.logits.argmax(1) == saved.labels).mean()) and val.class_names
    head = enrolled.bundle.session.head
    assert loss.bundle == pytest.approx(100 * (head(bundle.enrolment.known.features)[0].argmax(1) == saved.labels).mean(), abs=2.0)


def test_a_bundle_with_enrolled_classes_is_one_like_any_other(enrolled, birds, tmp_path):
    new = fieldmark.load_bundle(enrolled.bundle.path)
    expected = json.loads((new.path / "examples" / "expected.json").read_text())
    for name, each in expected.items():
        answer = new.predict(new.path / "examples" / name)[0]
        assert list(answer.classes[:5]) == each["classes"] and answer.unknown == each["unknown"]
        assert len(each["logits"]) == len(new.class_names)
    readme = (new.path / "README.md").read_text()
    assert "- Flag: 5 photos" in readme and readme.index("Enrolled classes") < readme.index("## Python")
    page = fieldmark.explain(new, sorted((birds / "test").rglob("*.png"))[0], tmp_path / "out", quiet=True).page.read_text()
    assert "cannot explain classes that were enrolled" in page
    assert fieldmark.evaluate(new, data=birds, quiet=True).metrics.top1 >= 0


def test_how_sure_a_bundle_was_of_val_is_known_from_what_it_enrols_by(bundle, enrolled, finished_run):
    val = finished_run.predictions("val")
    assert bundle.on_val.confidence == pytest.approx(bundle.probabilities(val.logits).max(axis=1).mean(), abs=1e-4)
    new = enrolled.bundle
    logits = new.session.head(bundle.enrolment.known.features)[0]
    assert new.on_val.confidence == pytest.approx(new.probabilities(logits).max(axis=1).mean(), abs=1e-6)


def test_without_its_last_enrolled_class_a_bundle_is_what_it_was(bundle, enrolled, tmp_path):
    removed = fieldmark.remove_enrolled(enrolled.bundle, "Flag", tmp_path / "old", quiet=True)
    names = sorted(path.relative_to(bundle.path).as_posix() for path in bundle.path.rglob("*") if path.is_file())
    assert sorted(path.relative_to(tmp_path / "old").as_posix() for path in (tmp_path / "old").rglob("*") if path.is_file()) == names
    same, _, _ = filecmp.cmpfiles(bundle.path, tmp_path / "old", names, shallow=False)
    assert set(names) - set(same) <= {"enrolment.safetensors", "bundle.json", "examples/expected.json"}
    assert removed.bundle.record.model_copy(update={"files": {}, "digest": ""}) == bundle.record.model_copy(
        update={"files": {}, "digest": ""}
    )
    assert (tmp_path / "old/examples/expected.json").read_text() == (bundle.path / "examples/expected.json").read_text()
    assert removed.photos == 0 and removed.loss.points == 0


def test_the_explanation_of_an_enrolled_class_has_no_training_images(finished_run, flags, birds, tmp_path):
    parts = ("export", finished_run.path, "--format", "torch", "--with", "enroll,neighbours", "--out", tmp_path / "both")
    assert ran(*parts, "--quiet") == 0
    found = fieldmark.enroll(tmp_path / "both", "Flag", flags, tmp_path / "new", quiet=True)
    images = [sorted(flags.iterdir())[0], sorted((birds / "test").rglob("*.png"))[0]]
    figures = json.loads(fieldmark.explain(found.bundle, images, tmp_path / "out", quiet=True).figures.read_text())["images"]
    assert figures[0]["answer"] == "Flag" and figures[0]["nearest"] == []
    assert figures[1]["answer"] in finished_run.class_names and len(figures[1]["nearest"]) == 4


def test_more_photos_and_more_classes_are_added(enrolled, flags, tmp_path):
    photos = sorted(flags.iterdir())
    more = fieldmark.enroll(enrolled.bundle, "Flag", photos, tmp_path / "more", quiet=True)
    assert more.photos == 8 and more.notes == ("5 copies were left out",) and more.bundle.class_names == enrolled.bundle.class_names
    grey = [np.full((50, 50, 3), value, np.uint8) for value in (120, 125, 130, 135)]
    both = fieldmark.enroll(more.bundle, "Wall", grey, tmp_path / "both", quiet=True)
    assert [each.name for each in both.bundle.record.enrolled] == ["Flag", "Wall"]
    assert both.bundle.record.enrolled[0].added == enrolled.bundle.record.enrolled[0].added
    assert both.bundle.predict(photos[6])[0].best == "Flag" and both.bundle.predict(grey[0])[0].best == "Wall"
    one = fieldmark.remove_enrolled(both.bundle, "Flag", tmp_path / "one", quiet=True)
    assert [each.name for each in one.bundle.record.enrolled] == ["Wall"] and one.bundle.predict(grey[0])[0].best == "Wall"


def test_boxes_are_found_however_paths_are_written(bundle, flags, tmp_path, monkeypatch):
    photos = sorted(flags.iterdir())[:3]
    monkeypatch.chdir(flags)
    found = fieldmark.enroll(bundle, "Flag", photos, tmp_path / "out", boxes={each.name: (0, 0, 32, 64) for each in photos}, quiet=True)
    cropped = [bundle.answerer.networks.one(each, (0, 0, 32, 64))[1][1] for each in photos]
    whole = features(bundle, photos)
    enrolled = found.bundle.enrolment.enrolled[0].features
    assert enrolled == pytest.approx(np.concatenate([each / np.linalg.norm(each) for each in cropped]), abs=1e-5)
    assert np.abs(enrolled - whole).max() > 1e-3


def test_photos_with_nothing_in_common_are_refused(bundle, birds, tmp_path):
    known, names = bundle.enrolment.known, bundle.class_names
    of_classes = [sorted((birds / "train" / name).iterdir()) for name in names]
    mixed = min((list(each) for each in zip(*of_classes, strict=False)), key=lambda each: known.agreement(features(bundle, each)).mean())
    assert known.disagree(features(bundle, mixed))
    with pytest.raises(CheckFailed, match=f"the {len(mixed)} photos of Thing have less in common"):
        fieldmark.enroll(bundle, "Thing", mixed, tmp_path / "out", quiet=True)
    assert not list(tmp_path.iterdir())


def test_a_photo_with_nothing_in_common_with_the_others_is_named(bundle, flags, birds, tmp_path):
    known, photos = bundle.enrolment.known, sorted(flags.iterdir())
    others = sorted((birds / "train").rglob("*.png"))
    stray = min(others[::5], key=lambda each: known.agreement(features(bundle, [*photos, each]))[-1])
    assert known.agreement(features(bundle, [*photos, stray]))[-1] < 0
    found = fieldmark.enroll(bundle, "Flag", [*photos, stray], tmp_path / "out", quiet=True)
    assert found.notes == (f"{stray} has nothing in common with the other photos: is it of Flag?",)


def test_photos_of_a_trained_class_are_refused_with_its_name(bundle, birds, tmp_path):
    name = bundle.class_names[0]
    with pytest.raises(CheckFailed, match=f"cannot tell .* photos of Newcomer from {re.escape(name)}"):
        fieldmark.enroll(bundle, "Newcomer", birds / "train" / name, tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists() and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "said"),
    [("", "not a name"), (" Wren", "not a name"), ("a\nb", "not a name")],
)
def test_names_that_are_none_are_refused(bundle, flags, tmp_path, name, said):
    with pytest.raises(InputError, match=said):
        fieldmark.enroll(bundle, name, flags, tmp_path / "out", quiet=True)


def test_what_cannot_be_enrolled_is_said(bundle, enrolled, finished_run, flags, tmp_path):
    def refused(match, *args, **keys):
        with pytest.raises(InputError, match=match):
            fieldmark.enroll(*args, quiet=True, **keys)

    out = tmp_path / "out"
    refused("was trained on", bundle, bundle.class_names[1], flags, out)
    refused("is a run, and classes are enrolled in bundles", finished_run.path, "Flag", flags, out)
    refused("is a photo of Flag already", enrolled.bundle, "Other", flags, out)
    refused("parents are names by the name of the level, not 3", bundle, "Flag", flags, out, parents={"family": 3})
    refused("there is no level 'family'", bundle, "Flag", flags, out, parents={"family": "x"})
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no image")
    refused("broken.jpg", bundle, "Flag", broken, out)
    refused("already exists", bundle, "Flag", flags, bundle.path)
    with pytest.raises(InputError, match=r"no class .Flig. was enrolled.*Flag"):
        fieldmark.remove_enrolled(enrolled.bundle, "Flig", out, quiet=True)
    with pytest.raises(InputError, match="was trained, not enrolled"):
        fieldmark.remove_enrolled(enrolled.bundle, bundle.class_names[0], out, quiet=True)
    assert not out.exists()


def test_a_bundle_that_was_exported_without_says_how(finished_run, flags, tmp_path):
    plain = fieldmark.export(finished_run, tmp_path / "plain", format="torch", quiet=True)
    with pytest.raises(InputError, match="exported without --with enroll") as error:
        fieldmark.enroll(plain, "Flag", flags, tmp_path / "out", quiet=True)
    assert "Export its run again with --with enroll" in str(error.value.hint)


def test_what_is_kept_is_read_as_it_was_written(enrolled, tmp_path):
    kept = enrolled.bundle.enrolment
    kept.save(tmp_path / "file")
    again = Enrolment.load(tmp_path / "file")
    for name in ("means", "counts", "covariance", "features", "labels", "logits"):
        assert np.array_equal(getattr(again.known, name), getattr(kept.known, name)), name
    assert (again.known.within, again.known.beyond) == (kept.known.within, kept.known.beyond)
    assert [(each.name, each.hashes) for each in again.enrolled] == [(each.name, each.hashes) for each in kept.enrolled]
    assert np.array_equal(again.enrolled[0].features, kept.enrolled[0].features)


def test_the_command_enrols_lists_and_removes(bundle, flags, tmp_path, capsys):
    assert ran("enroll", bundle.path, "Flag", flags, "--out", tmp_path / "new") == 0
    assert "Flag is enrolled from 8 photos" in capsys.readouterr().err
    assert ran("enroll", tmp_path / "new", "--list") == 0
    assert "Flag: 8 photos" in "".join(capsys.readouterr())
    assert ran("enroll", tmp_path / "new", "Flag", "--remove", "--out", tmp_path / "old") == 0
    assert "Flag was removed" in capsys.readouterr().err
    assert ran("enroll", bundle.path, "--list") == 0
    assert "no class was enrolled" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "the name of the class is missing"),
        (["Flag"], "no photos of Flag are named"),
        (["Flag", "x.png"], "--out, the folder of the new bundle, is missing"),
        (["Flag", "x.png", "--remove", "--out", "o"], "--remove takes the name of a class, and no images"),
        (["Flag", "--list"], "takes nothing but the bundle"),
    ],
)
def test_wrong_uses_of_the_command_are_named(bundle, given, said, capsys):
    assert ran("enroll", bundle.path, *given) == 2
    assert said in capsys.readouterr().err
