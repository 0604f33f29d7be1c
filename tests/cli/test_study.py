"""`fieldmark study`: what it prints and how it ends. What it trains is tested in tests/studies."""

import json

import pytest
from synthetic import ladder, synthetic_study

from fieldmark.cli import main
from fieldmark.core.presets import STUDIES


def run(*arguments, code=0):
    with pytest.raises(SystemExit) as stop:
        main(["study", *map(str, arguments)])
    assert stop.value.code == code


def test_studies_are_listed_and_printed(capsys):
    run("list")
    listed = capsys.readouterr().out
    assert all(name in listed for name in STUDIES.names())
    run("list", "noise-floor")
    assert capsys.readouterr().out == STUDIES.text("noise-floor")


def test_table_is_said_and_written(tmp_path, capsys):
    folder = synthetic_study(tmp_path / "study", ladder(2), (60, 75, 80)).folder
    run("table", folder)
    said = capsys.readouterr().err
    assert "over base" in said and "study.html" in said
    run("table", folder, "--json")
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((folder / "table.json").read_text()) and captured.err == ""


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (("table", "nowhere"), "nowhere is not the folder of a study"),
        (("run", "noise-floor", "--out", "x"), "study run: DATA is missing"),
        (("run", "noise-floor", "train.epochs=3", "--out", "x"), "a study needs data"),
        (("run", "noise-flor", "birds", "--out", "x"), "did you mean noise-floor?"),
        (("run", "noise-floor", "birds", "--out", "x", "--jobs", "0"), "--jobs"),
        (("run", "noise-floor", "birds", "--out", "x", "--seeds", "0"), "--seeds: expected at least 1, got 0"),
        (("run", "noise-floor", "birds", "birds", "--out", "x"), "birds is given twice"),
        (("run", "noise-floor", "birds", "train.epoch=3", "--out", "x"), "train.epoch: there is no such key"),
        (("run", "tune", "birds", "--out", "x", "--quick"), "study tune has no section quick, which --quick needs"),
        (("search", "noise-floor", "birds", "--out", "x", "--trials", "3"), "has no section search"),
        (("search", "tune", "birds", "--out", "x"), "no search budget: give --trials or --hours"),
    ],
)
def test_what_cannot_be_used_is_said(arguments, wanted, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    run(*arguments, code=2)
    said = capsys.readouterr().err
    assert wanted in said and "Traceback" not in said
    assert list(tmp_path.iterdir()) == []
