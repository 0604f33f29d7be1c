from __future__ import annotations

from pathlib import Path

from fieldmark.datasets.layouts import read_dataset
from fieldmark.datasets.overview import overview


def test_classes_that_differ_only_in_capitals_or_blanks_are_noted_in_every_layout(tmp_path: Path) -> None:
    names = ["Robin", "robin", "Blue_Jay", "blue jay", "Wren", "Caf\u00e9", "Cafe\u0301 "]
    for name in names:
        (tmp_path / "folders" / name).mkdir(parents=True)
        (tmp_path / "folders" / name / "1.png").touch()
    (tmp_path / "table.csv").write_text("path,label\n" + "".join(f'"folders/{name}/1.png","{name}"\n' for name in names[:5]))
    folders, table = (overview(read_dataset(tmp_path / name)) for name in ("folders", "table.csv"))
    start = "classes that differ only in capitals, blanks or hyphens: 'Blue_Jay' and 'blue jay', "
    end = "'Robin' and 'robin'; are they one?"
    assert [note for note in folders.notes if "differ" in note] == [f"{start}'Cafe\u0301 ' and 'Caf\u00e9', {end}"]
    assert [note for note in table.notes if "differ" in note] == [f"{start}{end}"]
