import pytest

from fieldmark.core.manifest import Origin
from fieldmark.reports.provenance import training_command
from records import a_manifest


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("birds", "birds"),
        ("hf:somebody/finches", "hf:somebody/finches"),
        ("photos", "{root}"),
        ("photos/list.csv", "{root}/list.csv"),
        ("photos/list that went.csv", "{root}"),
    ],
)
def test_the_command_names_the_data_wherever_it_is_typed(tmp_path, given, said):
    (tmp_path / "list.csv").write_text("path,label\n")
    manifest = a_manifest(given=given, data=Origin(name="photos", root=str(tmp_path), layout="table"))
    assert training_command(manifest) == f"fieldmark train {said.format(root=tmp_path)} --recipe recipe.yaml"
