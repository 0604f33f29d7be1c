import csv
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fieldmark
from fieldmark.cli import main


def run(*arguments) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code


def test_importing_the_command_line_imports_nothing_heavy():
    heavy = ("torch", "timm", "numpy", "pydantic", "pyarrow", "matplotlib", "PIL", "rich.progress")
    code = f"import sys, fieldmark.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_help_names_every_command(capsys):
    assert run("--help") == 0
    printed = capsys.readouterr().out
    for command in ("demo", "birds", "train", "resume", "evaluate", "predict", "report", "models", "recipes", "fields", "cache"):
        assert command in printed
        assert run(command, "--help") == 0


def test_version(capsys):
    import fieldmark

    assert run("--version") == 0
    assert capsys.readouterr().out.strip() == fieldmark.__version__


def test_fields(capsys):
    from fieldmark.core.recipe.fields import fields

    assert run("fields", "--json") == 0
    assert len(json.loads(capsys.readouterr().out)) == len(fields())
    assert run("fields", "optim") == 0
    assert "optim.momentum (sgd)" in capsys.readouterr().out
    assert run("fields", "--schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "Fieldmark recipe"
    assert run("fields", "nothing") == 2


def test_recipes(capsys):
    assert run("recipes") == 0
    assert "default" in capsys.readouterr().out
    assert run("recipes", "default") == 0
    assert capsys.readouterr().out.startswith("# default: ")
    assert run("recipes", "nothing") == 2


def test_models(capsys):
    assert run("models") == 0
    assert "efficientnet_b0" in capsys.readouterr().out
    assert run("models", "mobilenetv2*", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert any(model["name"] == "mobilenetv2_100" and model["parameters"] == 3_504_872 for model in listed)
    assert run("models", "no_such_model") == 2


def test_train_prints_its_answer_as_json(birds, tiny, tmp_path, capsys):
    assert run("train", birds, *tiny(), "--out", tmp_path / "run", "--quiet", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["run"] == str(tmp_path / "run") and answer["test"]["n"] == 12


def test_training_ends_with_a_report_that_can_be_written_again(birds, tiny, tmp_path, capsys):
    assert run("train", birds, *tiny(), "--out", tmp_path / "run") == 0
    assert f"the report is {tmp_path / 'run' / 'report.html'}" in capsys.readouterr().err.splitlines()[-1]
    assert run("report", tmp_path / "run", "--out", tmp_path / "mine.html") == 0
    said = capsys.readouterr().err
    assert "writing the report: " in said and said.endswith(f"the report is {tmp_path / 'mine.html'}\n")
    fieldmark.report(tmp_path / "run", out=tmp_path / "mine.html", quiet=True)
    assert capsys.readouterr().err == ""
    assert (tmp_path / "mine.html").read_bytes() == (tmp_path / "run" / "report.html").read_bytes()
    assert run("report", tmp_path / "run", "--out", tmp_path / "none" / "mine.html") == 2
    assert run("report", tmp_path) == 2


def test_evaluate_agrees_with_the_summary(finished_run, capsys):
    assert run("evaluate", finished_run.path, "--json", "--quiet") == 0
    figures = json.loads(capsys.readouterr().out)
    for name, value in finished_run.summary.test.model_dump().items():
        assert figures[name] == pytest.approx(value, abs=1e-4)


def test_evaluate_other_data_matches_classes_by_name(finished_run, birds, tmp_path, capsys):
    """Two of three classes, so that folder order and class order differ."""
    for name in finished_run.class_names[1:]:
        (tmp_path / "some" / name).mkdir(parents=True)
        for file in (birds / "test" / name).iterdir():
            (tmp_path / "some" / name / file.name).symlink_to(file)
    shutil.copytree(finished_run.path, tmp_path / "run")
    assert run("evaluate", tmp_path / "run", "--data", tmp_path / "some", "--json", "--quiet") == 0
    figures = json.loads(capsys.readouterr().out)
    from fieldmark.scoring.predictions import Predictions

    own = Predictions.load(finished_run.folder.predictions / "test.npz")
    kept = own.labels > 0
    assert figures["n"] == kept.sum() and figures["split"] == "all"
    assert figures["top1"] == pytest.approx(100 * (own.logits.argmax(1) == own.labels)[kept].mean())


def test_predict_writes_a_row_for_every_file(finished_run, birds, tmp_path, capsys):
    image = next((birds / "test").rglob("*.png"))
    (tmp_path / "photos" / ".hidden").mkdir(parents=True)
    (tmp_path / "photos" / "ünï cödé,1.png").write_bytes(image.read_bytes())
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "photos" / "notes.txt").write_text("not an image")
    (tmp_path / "photos" / ".hidden" / "x.png").write_bytes(image.read_bytes())
    table = tmp_path / "answers.csv"
    assert (
        run("predict", finished_run.path, tmp_path / "photos", birds / "test" / "*" / "*.png", "--csv", table, "--top", "2", "--quiet") == 0
    )
    with table.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["path", "unknown", "class_1", "probability_1", "class_2", "probability_2", "among", "note"]
    assert len(rows) == 14
    broken = next(row for row in rows if row["path"].endswith("broken.jpg"))
    assert broken["class_1"] == broken["unknown"] == broken["among"] == "" and broken["note"]
    for row in rows:
        if row is not broken:
            assert row["class_1"] in finished_run.class_names and row["unknown"] in ("yes", "no") and not row["note"]
            assert row["among"].split("; ")[0] == row["class_1"]
            assert 1 >= float(row["probability_1"]) >= float(row["probability_2"]) >= 0
    alike = [row for row in rows if row["path"] == str(image) or "cödé" in row["path"]]
    assert len(alike) == 2 and alike[0]["class_1"] == alike[1]["class_1"]
    assert float(alike[0]["probability_1"]) == pytest.approx(float(alike[1]["probability_1"]), abs=1e-4)


def test_predict_agrees_with_the_evaluation(finished_run, birds):
    from fieldmark.scoring.predictions import Predictions

    own = Predictions.load(finished_run.folder.predictions / "test.npz")
    answers = finished_run.predict([birds / path for path in own.ids], top=3)
    for row, answer in enumerate(answers):
        expected = dict(zip(own.class_names, finished_run.probabilities(own.logits)[row], strict=True))
        assert answer.best == max(expected, key=expected.__getitem__)
        for name, probability in zip(answer.classes, answer.probabilities, strict=True):
            assert probability == pytest.approx(expected[name], abs=1e-4)


def test_predict_to_the_terminal_and_as_json(finished_run, birds, capsys):
    file = next((birds / "test").rglob("*.png"))
    assert run("predict", finished_run.path, file) == 0
    assert str(file) in capsys.readouterr().out
    assert run("predict", finished_run.path, file, "--json") == 0
    line = json.loads(capsys.readouterr().out)
    assert list(line) == ["path", "unknown", "classes", "among", "coarser", "note"]
    assert line["classes"][0]["class"] == line["among"][0] in finished_run.class_names and line["coarser"] == {}


def test_a_failed_table_leaves_the_old_one(finished_run, birds, tmp_path):
    table = tmp_path / "answers.csv"
    table.write_text("mine")
    assert run("predict", finished_run.path, tmp_path / "none.png", "--csv", table) == 2
    assert run("predict", finished_run.path, birds, "--top", "0", "--csv", table) == 2
    assert table.read_text() == "mine" and [path.name for path in tmp_path.iterdir()] == ["answers.csv"]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_thousand_files_predict_in_bounded_memory(finished_run, birds, tmp_path):
    files = sorted((birds / "test").rglob("*.png"))
    folder = tmp_path / "many"
    folder.mkdir()
    for index in range(100_000):
        (folder / f"{index:06d}.png").symlink_to(files[index % len(files)])
    code = (
        "import resource, sys\n"
        "from fieldmark.cli import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)"
    )

    def peak(source: Path) -> int:
        arguments = ["predict", str(finished_run.path), str(source), "--csv", str(tmp_path / "t.csv"), "--quiet"]
        done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
        return int(done.stderr.strip().splitlines()[-1])

    few = tmp_path / "few"
    few.mkdir()
    for index in range(2000):
        (few / f"{index:06d}.png").symlink_to(files[index % len(files)])
    assert peak(folder) - peak(few) < 60_000  # KiB
    with (tmp_path / "t.csv").open() as stream:
        assert sum(1 for _ in stream) == 2001


def test_answers_go_to_standard_output_also_beside_a_progress_bar(finished_run, birds, tmp_path):
    """Standard error on a terminal, standard output in a file."""
    import pty

    master, terminal = pty.openpty()
    file = next((birds / "test").rglob("*.png"))
    with (tmp_path / "answers.jsonl").open("wb") as output:
        command = [sys.executable, "-m", "fieldmark", "predict", str(finished_run.path), str(file), "--json"]
        process = subprocess.Popen(command, stdout=output, stderr=terminal)
        assert process.wait(60) == 0
    os.close(terminal)
    os.close(master)
    assert json.loads((tmp_path / "answers.jsonl").read_text())["path"] == str(file)


def test_evaluate_prints_the_split_that_was_asked_for(finished_run, tmp_path, capsys):
    copy = shutil.copytree(finished_run.path, tmp_path / "run")  # it gets another table of answers
    assert run("evaluate", copy, "--split", "train") == 0
    printed = capsys.readouterr().err
    (header,), (images,) = (re.findall(form, printed, re.MULTILINE) for form in (r"^ .*┃ *(\w+)\s*$", r"^images .*│ *(\d+)\s*$"))
    assert (header, images) == ("train", "43")


@pytest.mark.parametrize("given", ["csv is a folder", "empty folder", "out under a file"])
def test_places_that_cannot_be_used_are_said_before_the_work(given, finished_run, birds, tiny, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "empty").mkdir()
    if given == "csv is a folder":
        code = run("predict", finished_run.path, birds, "--csv", tmp_path)
    elif given == "empty folder":
        code = run("predict", finished_run.path, tmp_path / "empty")
    else:
        code = run("train", birds, *tiny(), "--out", tmp_path / "file" / "run")
    assert code == 2 and "fieldmark: " in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file"]


def test_file_names_that_are_not_utf_8(finished_run, birds, tmp_path):
    name = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(name, "wb") as stream:
        stream.write(next((birds / "test").rglob("*.png")).read_bytes())
    assert run("predict", finished_run.path, tmp_path, "--csv", tmp_path / "t.csv", "--quiet") == 0
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as stream:
        (row,) = csv.DictReader(stream)
    assert row["class_1"] and "caf" in row["path"]


def test_closing_the_pipe_is_not_a_crash():
    process = subprocess.Popen([sys.executable, "-m", "fieldmark", "fields"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.wait(60) in (0, 1)
    assert b"Traceback" not in process.stderr.read()


def test_tensorboard_events_are_written(birds, tiny, tmp_path):
    assert run("train", birds, *tiny("train.tensorboard=true"), "--out", tmp_path / "run", "--quiet") == 0
    assert [path for path in (tmp_path / "run" / "tensorboard").iterdir() if "tfevents" in path.name]


def test_cache_lists_and_clears(birds, tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    assert run("train", birds, *tiny(), "--out", tmp_path / "run", "--quiet") == 0
    assert run("cache") == 0
    assert str(tmp_path / "cache") in capsys.readouterr().out
    assert run("cache", "--clear") == 0
    assert "freed" in capsys.readouterr().out
    assert not list((tmp_path / "cache").rglob("pixels.u8"))


def test_demo_ends_with_the_answer_the_report_and_what_to_type_next(few_built_in_birds, tiny, tmp_path, capsys):
    assert run("demo", *tiny(), "--out", tmp_path / "demo") == 0
    printed = capsys.readouterr().err
    answer = json.loads((tmp_path / "demo" / "summary.json").read_text())["test"]["top1"]
    assert f"{answer:.1f} % of 12 images" in printed and "guessing gets 33.3 %" in printed
    assert (tmp_path / "demo" / "report.html").is_file() and "report.html" in printed
    command = next(line for line in printed.splitlines() if line.startswith("  fieldmark predict"))
    assert run(*shlex.split(command, comments=True)[1:], "--quiet") == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_the_demo_learns_the_birds(tmp_path, monkeypatch):
    """As `make demo` runs it, drawing included."""
    monkeypatch.setenv("FIELDMARK_CACHE", str(tmp_path / "cache"))
    assert run("demo", "--out", tmp_path / "demo", "--quiet") == 0
    assert json.loads((tmp_path / "demo" / "summary.json").read_text())["test"]["top1"] >= 95


def test_birds_are_drawn_into_a_new_folder(tmp_path, capsys):
    assert run("birds", tmp_path / "drawn", "--species", 2, "--per-class", 5, "--size", 40) == 0
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["birds.csv", "species.jpg", "test", "train", "unseen", "val"]
    assert run("birds", tmp_path / "drawn") == 2
    assert "already exists" in capsys.readouterr().err


def test_explain_writes_a_page_and_says_where(finished_run, birds, tmp_path, capsys):
    image = sorted((birds / "test").rglob("*.png"))[0]
    assert run("explain", finished_run.path, image, "--out", tmp_path / "why", "--method", "layer-cam") == 0
    printed = capsys.readouterr().err
    assert (
        "the page is" in printed and "deleting what the maps mark" in printed and "points over 1 image: no significant evidence" in printed
    )
    assert sorted(file.name for file in (tmp_path / "why").iterdir())[1:] == ["explain.html", "explain.json"]
    assert json.loads((tmp_path / "why" / "explain.json").read_text())["method"] == "layer-cam"
    assert run("explain", finished_run.path, tmp_path / "nothing.png", "--out", tmp_path / "other") == 2
    assert not (tmp_path / "other").exists()


def test_report_of_several_runs_needs_a_name_and_the_same_images(finished_run, tmp_path, capsys):
    shutil.copytree(finished_run.path, tmp_path / "again")
    before = sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*"))
    assert run("report", finished_run.path, tmp_path / "again") == 2
    assert "--out" in capsys.readouterr().err
    assert run("report") == 2
    assert "fieldmark report runs/mine" in capsys.readouterr().err
    assert sorted(file.relative_to(tmp_path) for file in tmp_path.rglob("*")) == before
    assert run("report", finished_run.path, tmp_path / "again", "--out", tmp_path / "both.html") == 0
    assert "No significant difference" in (tmp_path / "both.html").read_text(encoding="utf-8")


def test_evaluate_all_corruptions_prints_a_table_and_writes_the_report_again(finished_run, tmp_path, capsys):
    shutil.copytree(finished_run.path, tmp_path / "run")
    assert run("evaluate", tmp_path / "run", "--corrupt", "all:2") == 0
    printed = capsys.readouterr().err
    assert "severity 2" in printed and "gaussian-noise" in printed
    measured = json.loads((tmp_path / "run" / "robustness.json").read_text())
    assert measured.pop("schema") == 1 and len(measured["corruptions"]) == 14
    assert json.loads((tmp_path / "run" / "evaluation.json").read_text())["robustness"] == measured
    assert "gaussian-noise" in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert run("evaluate", tmp_path / "run", "--corrupt", "all:2", "--json", "--quiet") == 0
    assert json.loads(capsys.readouterr().out) == measured


@pytest.mark.parametrize("more", [("--crop", "none"), ("--data", "elsewhere"), ("--split", "val"), ("--unknown", ".")])
def test_what_is_measured_on_its_own_takes_no_other_options(more, finished_run, capsys):
    assert run("evaluate", finished_run.path, "--corrupt", "all:2", *more) == 2
    assert "on their own" in capsys.readouterr().err
