import json

import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.manifest import Manifest
from records import a_manifest


@pytest.fixture
def file(tmp_path):
    a_manifest().write(tmp_path / "manifest.json")
    return tmp_path / "manifest.json"


def change(file, **values) -> None:
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def test_what_is_written_is_read_again(file):
    manifest = a_manifest(status="failed", reason="no space", changed=a_manifest().created, levels={"genus": ["Alauda", "Anthus"]})
    manifest.write(file)
    assert Manifest.read(file) == manifest
    written = json.loads(file.read_text())
    assert written["schema"] == 1 and written["created"] == "2026-01-02T03:04:05+00:00" and written["class_names"] == ["lark", "pipit"]


def test_a_field_that_was_never_set_is_not_written(file):
    assert not {"recipe", "reason", "changed", "ensemble"} & set(json.loads(file.read_text()))
    Manifest.read(file).model_copy(update={"reason": None}).write(file)
    assert json.loads(file.read_text())["reason"] is None and "recipe" not in json.loads(file.read_text())


def test_a_field_is_found_by_its_name_in_the_file(file):
    manifest = Manifest.read(file)
    assert manifest["data"]["root"] == manifest.data.root
    with pytest.raises(KeyError, match="reason"):
        manifest["reason"]


def test_a_file_without_a_schema_number_is_of_schema_1_and_another_number_is_refused(file):
    values = json.loads(file.read_text())
    del values["schema"]
    file.write_text(json.dumps(values))
    assert Manifest.read(file) == a_manifest()
    change(file, schema=2, status="suspended")
    with pytest.raises(InputError, match=r"manifest\.json has schema 2, and this version of Fieldmark reads schema 1"):
        Manifest.read(file)


def test_what_a_newer_version_adds_is_read_over_and_kept(file):
    data = json.loads(file.read_text())["data"]
    change(file, commit="abc", data=data | {"revision": 3})
    Manifest.read(file).model_copy(update={"status": "failed"}).write(file)
    written = json.loads(file.read_text())
    assert (written["status"], written["commit"], written["data"]["revision"]) == ("failed", "abc", 3)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"status": "sleeping"}, "status should be 'running', 'finished', 'failed' or 'interrupted', not \"sleeping\""),
        ({"created": "yesterday"}, "created should be a valid datetime"),
        ({"data": {"name": "cars"}}, "data.root is missing; data.layout is missing"),
        ({"class_names": ["lark", 3]}, "class_names.1 should be a valid string, not 3"),
        ({"preprocess": None}, "preprocess should be an object, not null"),
        ({"fingerprint": None, "notes": 7}, "fingerprint should be a valid string, not null; notes should be a valid array, not 7"),
        ({"ensemble": {"method": "vote", "members": []}}, "ensemble.method should be 'mean', 'stack' or 'soup', not \"vote\""),
    ],
)
def test_an_error_names_the_file_and_every_field_at_fault(file, values, said):
    change(file, **values)
    with pytest.raises(InputError) as caught:
        Manifest.read(file)
    assert str(caught.value).startswith(f"{file} is damaged: {said}")
    assert caught.value.hint == "Restore it from a copy, or make the run again."


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "cannot be read"),
        (b"[" * 100_000, "cannot be read"),
        (b"\xff\xfe", "cannot be read"),
        (b"[1]", "does not hold"),
        (b"{}", "is damaged: status is missing; created is missing"),
    ],
)
def test_what_fieldmark_did_not_write_is_refused(file, content, said):
    file.write_bytes(content)
    with pytest.raises(InputError, match=f"manifest.json .*{said}"):
        Manifest.read(file)
    file.unlink()
    with pytest.raises(InputError, match=r"manifest\.json is missing"):
        Manifest.read(file)
