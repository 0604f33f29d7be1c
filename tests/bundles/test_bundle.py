import json
import shutil
from pathlib import Path

import pytest

import fieldmark
from fieldmark.bundles.record import BundleRecord
from fieldmark.core.errors import InputError


@pytest.fixture(scope="session")
def bundle(finished_run, tmp_path_factory):
    return fieldmark.export(finished_run, tmp_path_factory.mktemp("bundles") / "torch", format="torch", quiet=True)


@pytest.fixture
def copy(bundle, tmp_path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "copy"))


def files_of(path: Path) -> list[Path]:
    return sorted(each for each in path.rglob("*") if each.is_file())


def test_every_kind_of_damage_to_every_file_is_refused(copy):
    for file in files_of(copy):
        whole = file.read_bytes()
        middle = len(whole) // 2
        kinds = {
            "cut": whole[:-3],
            "empty": b"",
            "a byte": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
            "longer": whole + b"\n ",
        }
        for kind, content in kinds.items():
            if file.name == "bundle.json" and kind == "longer":
                continue  # blanks after JSON say nothing else
            file.write_bytes(content)
            with pytest.raises(InputError) as error:
                fieldmark.load_bundle(copy)
            assert file.name in str(error.value), (file.name, kind)
        file.unlink()
        with pytest.raises(InputError, match=file.name):
            fieldmark.load_bundle(copy)
        file.write_bytes(whole)
    fieldmark.load_bundle(copy)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"class_names": ["a", "b", "c"]}, "bundle.json was changed after it was written"),
        ({"schema": 2}, "A newer version of Fieldmark wrote it"),
        ({"schema": 0}, "Copy the bundle again"),
        ({"format": "tflite"}, "bundle.json is damaged: format"),
        ({"graph": {"files": {"1": "../secret"}, "layout": "NCHW", "outputs": ["logits", "features"], "width": 3}}, "is damaged"),
    ],
)
def test_a_record_that_was_changed_is_refused(copy, change, said):
    record = copy / "bundle.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | change))
    with pytest.raises(InputError, match=said):
        fieldmark.load_bundle(copy)


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "a/../../b", "", "a\\..\\b"])
def test_names_that_lead_out_of_the_folder_are_refused(copy, name):
    values = json.loads((copy / "bundle.json").read_text())
    values["files"][name] = "0" * 64
    (copy / "bundle.json").write_text(json.dumps(values))
    with pytest.raises(InputError, match="is not a file of the bundle"):
        fieldmark.load_bundle(copy)


def test_a_record_that_is_signed_again_must_still_fit_together(copy):
    record = BundleRecord.read(copy / "bundle.json")
    fewer = record.model_copy(update={"class_names": record.class_names[:2]}).digested()
    fewer.write(copy / "bundle.json")
    with pytest.raises(InputError, match="decisions of another network"):
        _ = fieldmark.load_bundle(copy).decisions


def test_what_is_no_bundle_is_said_with_the_command_that_makes_one(tmp_path, finished_run, copy):
    with pytest.raises(InputError, match=r"is not a bundle: it has no bundle.json\nfieldmark export RUN --out"):
        fieldmark.load_bundle(tmp_path / "nothing")
    with pytest.raises(InputError, match="is not a bundle"):
        fieldmark.load_bundle(finished_run.path)
    with pytest.raises(InputError, match="is a bundle, and this needs the run"):
        fieldmark.resume(copy)
    with pytest.raises(InputError, match="number of threads must be at least 1"):
        fieldmark.load_bundle(copy, threads=0)


def test_files_of_the_user_in_it_are_left_alone(copy, birds):
    (copy / "notes.txt").write_text("mine")
    answers = fieldmark.predict(copy, birds / "test", quiet=True)
    assert len(answers) == 12 and all(answer.classes for answer in answers)
    assert "Bundle(" in repr(fieldmark.load_bundle(copy)) and (copy / "notes.txt").read_text() == "mine"
