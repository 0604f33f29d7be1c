import errno
import hashlib
import json
import math
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file

import fieldmark
from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError, Interrupted, TrainingFailed
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.reports.changes import point_to_data
from fieldmark.scoring.predictions import Predictions
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.setup import restore
from runs import resume, train

QUIET = Console(quiet=True)
TIMINGS = {"seconds", "images_per_second"}


def untimed(rows):
    return [{name: value for name, value in row.items() if name not in TIMINGS} for row in rows]


def fingerprint(folder: RunFolder) -> dict[str, object]:
    """Everything that two identical runs share: all but timings."""
    state, _ = Checkpoints(folder.checkpoints, 2).newest()
    weights = {name: hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest() for name, tensor in state["model"].items()}
    return {
        "best": hashlib.sha256(folder.best_weights.read_bytes()).hexdigest(),
        "last": weights,
        "metrics": untimed(read_json_lines(folder.metrics_file)),
        "steps": untimed(read_json_lines(folder.steps_file)),
        "predictions": [
            hashlib.sha256((folder.predictions / f"{split}.npz").read_bytes()).hexdigest() for split in ("train", "val", "test")
        ],
        "recipe": folder.recipe_file.read_text(),
        "test": folder.summary().test,
    }


def test_the_run_folder_holds_what_it_promises(finished_run):
    folder = finished_run.folder
    assert sorted(str(path.relative_to(folder.path)) for path in folder.path.rglob("*") if path.is_file()) == [
        ".lock",
        "architecture.txt",
        "calibration.json",
        "checkpoints/best.safetensors",
        "checkpoints/step-00000005.pt",
        "checkpoints/step-00000010.pt",
        "classes.csv",
        "confusion.csv",
        "evaluation.json",
        "figures/confusion.png",
        "figures/curves.png",
        "figures/reliability.png",
        "figures/risk-coverage.png",
        "manifest.json",
        "metrics.jsonl",
        "predictions/test.csv",
        "predictions/test.npz",
        "predictions/train.npz",
        "predictions/val.npz",
        "recipe.yaml",
        "rejection.safetensors",
        "report.html",
        "split.parquet",
        "steps.jsonl",
        "summary.json",
        "train.log",
    ]
    summary = folder.summary()
    assert summary.dataset.model_dump() == {"name": "birds3", "classes": 3, "train": 43, "val": 5, "test": 12}
    assert summary.model.name == "test_efficientnet" and summary.model.macs > 0
    assert summary.training.epochs == 2 and summary.training.steps == 10 and summary.training.samples_seen == 80
    for split in ("val", "test"):
        metrics = summary.of(split)
        assert all(metrics.has(name) for name in ("n", "top1", "top5", "macro_f1", "nll", "ece", "ece_calibrated"))
        assert metrics.top1_low <= metrics.top1 <= metrics.top1_high
    assert folder.manifest().status == "finished"
    log = folder.log_file.read_text()
    for phase in (
        "predicting val",
        "predicting train",
        "fitting what the run decides with",
        "predicting test",
        "figures and their intervals",
    ):
        assert re.search(rf"^{phase}.*: \d.* s$", log, re.MULTILINE), phase
    assert re.search(r"^trained in \d.* s, seeing 80 images over all epochs; everything is in ", log, re.MULTILINE)
    rows = read_json_lines(folder.metrics_file)
    assert [row["epoch"] for row in rows] == [1, 2] and all(math.isfinite(row["train_loss"]) for row in rows)
    assert [row["step"] for row in read_json_lines(folder.steps_file)] == [2, 4, 6, 8, 10]


def test_whoever_may_read_one_file_of_a_run_may_read_all(finished_run):
    files = [path for path in finished_run.folder.path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode for path in files} == {finished_run.folder.recipe_file.stat().st_mode}


def test_classes_that_the_augmentation_erases_are_named_before_the_first_epoch_and_in_the_report(tiny, tmp_path):
    from PIL import Image

    random = np.random.default_rng(0)
    for number in range(60):
        picture = np.full((24, 24, 3), random.integers(150, 256, 3), np.uint8)
        row = random.integers(6, 17)
        picture[row, 4:20] = 40
        picture[row - 3 : row + 4, 15:19] = 40
        for name, pixels in (("left", picture[:, ::-1]), ("right", picture)):
            (tmp_path / "arrows" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels + np.uint8(number)).save(tmp_path / "arrows" / name / f"{number}.png")
    run = fieldmark.train(tmp_path / "arrows", *tiny("train.epochs=1"), out=tmp_path / "run", quiet=True)
    (caution,) = run.folder.manifest().cautions
    assert "left and right. augment.flip=0 leaves it out." in caution
    log = run.folder.log_file.read_text()
    assert log.index(f"caution: {caution}") < log.index("after each epoch")
    assert caution in run.folder.report_file.read_text()
    still = train(tmp_path / "arrows", *tiny("train.epochs=1", "augment.flip=0"), out=tmp_path / "still")
    assert still.folder.manifest().cautions == ()


def test_what_the_report_cautions_about_the_data_was_said_before_the_first_epoch(finished_run):
    log = finished_run.folder.log_file.read_text()
    cautions = [line.removeprefix("caution: ") for line in log.splitlines() if line.startswith("caution: ")]
    few_in_val, few_in_test = cautions
    assert few_in_val.startswith("Val has 5 images, 1.7 a class on average: few to choose the best epoch by, ")
    assert few_in_test == "3 classes of 3 have fewer than 10 images in test, so figures of a single class are imprecise."
    assert log.index("caution: ") < log.index("after each epoch")
    assert all(caution in finished_run.folder.report_file.read_text() for caution in cautions)


def test_the_answer_is_what_the_saved_predictions_say(finished_run):
    folder = finished_run.folder
    for split in ("val", "test"):
        predictions = Predictions.load(folder.predictions / f"{split}.npz")
        assert folder.summary().of(split).top1 == pytest.approx(100 * (predictions.logits.argmax(1) == predictions.labels).mean())
    best = max(read_json_lines(folder.metrics_file), key=lambda row: row["val_top1"])
    assert folder.summary().val.top1 == pytest.approx(best["val_top1"])
    assert folder.summary().training.best_epoch == best["epoch"]


def test_the_split_table_names_every_image_once(finished_run, birds):
    table = pq.read_table(finished_run.folder.split_file).to_pydict()
    files = sorted(str(path.relative_to(birds)) for path in birds.rglob("*.png"))
    assert sorted(table["path"]) == files
    for path, digest in zip(table["path"], table["hash"], strict=True):
        assert hashlib.blake2b((birds / path).read_bytes(), digest_size=16).hexdigest() == digest
    assert all((split == "test") == path.startswith("test/") for path, split in zip(table["path"], table["split"], strict=True))


def test_the_same_recipe_gives_the_same_run(finished_run, birds, tmp_path):
    again = train(birds, recipe=finished_run.folder.recipe_file, out=tmp_path / "again")
    assert fingerprint(again.folder) == fingerprint(finished_run.folder)


def test_golden_losses(finished_run):
    """Losses of the tiny run as they were when this test was written; kernels of other processors may differ in the last digits."""
    losses = [row["loss"] for row in read_json_lines(finished_run.folder.steps_file)]
    assert losses == pytest.approx(GOLDEN, rel=2e-2)


GOLDEN = [1.1338, 1.3659, 1.1549, 2.1619, 1.5374]


def test_training_learns(birds, tiny, tmp_path):
    run = train(birds, *tiny("train.epochs=12", "augment.crop=none", "optim.lr=0.05"), out=tmp_path / "run")
    rows = read_json_lines(run.folder.metrics_file)
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]


def run_in_process(arguments: list[str], environment: dict[str, str] | None = None) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-m", "fieldmark", *arguments],
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_random_moments_and_resumed_equals_never_killed(birds, tiny, tmp_path):
    """kill -9 at random moments, several times in one run, checkpoints within epochs as well."""
    settings = tiny("train.epochs=6", "train.checkpoint_minutes=0.001", "model.dropout=0.2", "augment.brightness=0.3", "train.refit=true")
    whole = train(birds, *settings, out=tmp_path / "whole")
    killed = tmp_path / "killed"
    moments = random.Random(0)
    kills = 0
    command = ["train", str(birds), *settings, "--out", str(killed), "--quiet"]
    for _ in range(12):
        process = run_in_process(command)
        while process.poll() is None and not (killed / "manifest.json").exists():
            time.sleep(0.01)
        try:
            process.wait(moments.uniform(0.0, 1.5) if kills < 6 else 120)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            if kills == 3 and RunFolder.open(killed).manifest().status != "finished":
                damage_newest_checkpoint(killed)
        else:
            assert process.returncode == 0, process.stderr.read()
            break
        command = ["resume", str(killed), "--quiet"]
    assert kills >= 3
    assert fingerprint(RunFolder.open(killed)) == fingerprint(whole.folder)


def damage_newest_checkpoint(run: Path) -> None:
    paths = Checkpoints(run / "checkpoints", 2).paths()
    if len(paths) > 1:
        paths[0].write_bytes(paths[0].read_bytes()[:-200])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_exits_130(birds, tiny, tmp_path, number):
    run = tmp_path / "run"
    process = run_in_process(["train", str(birds), *tiny("train.epochs=500"), "--out", str(run)])
    while process.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.02)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "\nstopping after this step; a second Ctrl-C stops at once\n" in errors
    assert f"Continue with: fieldmark resume {run}" in errors
    assert RunFolder.open(run).manifest().status == "interrupted"
    state, _ = Checkpoints(run / "checkpoints", 2).newest()
    assert state["position"]["steps"] > 0


def test_two_processes_never_write_one_run(birds, tiny, tmp_path):
    run = tmp_path / "run"
    process = run_in_process(["train", str(birds), *tiny("train.epochs=500"), "--out", str(run), "--quiet"])
    while process.poll() is None and not (run / "metrics.jsonl").exists():
        time.sleep(0.02)
    with pytest.raises(InputError, match="being written by another process"):
        resume(run)
    process.kill()
    process.wait()


def test_resuming_a_finished_run_changes_nothing(finished_run):
    before = fingerprint(finished_run.folder)
    fieldmark.resume(finished_run.path, quiet=True)
    assert fingerprint(finished_run.folder) == before


def test_a_finished_run_drops_what_only_training_needs(birds, tiny, tmp_path, finished_run):
    run = train(birds, *tiny("train.keep_checkpoints=0"), out=tmp_path / "run")
    assert [path.name for path in run.folder.checkpoints.iterdir()] == ["best.safetensors"]
    assert run.folder.best_weights.read_bytes() == finished_run.folder.best_weights.read_bytes()
    (run.folder.checkpoints / "step-00000010.pt").write_bytes(b"left by a process that was killed as it finished")
    assert resume(run.path).summary == run.summary
    assert [path.name for path in run.folder.checkpoints.iterdir()] == ["best.safetensors"]


def copy_of(birds: Path, target: Path) -> Path:
    import shutil

    shutil.copytree(birds, target)
    return target


def interrupted_run(data: Path, out: Path, tiny) -> RunFolder:
    process = run_in_process(["train", str(data), *tiny("train.epochs=500"), "--out", str(out), "--quiet"])
    while process.poll() is None and not (out / "metrics.jsonl").exists():
        time.sleep(0.02)
    process.kill()
    process.wait()
    return RunFolder.open(out)


def test_moved_or_changed_data_are_refused(birds, tiny, tmp_path):
    data = copy_of(birds, tmp_path / "data")
    folder = interrupted_run(data, tmp_path / "run", tiny)
    data.rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is not there any more"):
        resume(folder.path)
    point_to_data(folder.path, tmp_path / "elsewhere", QUIET)
    assert restore(folder, QUIET).loaded.dataset.root == tmp_path / "elsewhere"
    (tmp_path / "elsewhere").rename(data)
    point_to_data(folder.path, data, QUIET)
    victim = next((data / "train").rglob("*.png"))
    content = victim.read_bytes()
    victim.write_bytes(next((data / "test").rglob("*.png")).read_bytes())
    with pytest.raises(InputError, match="have changed since the run began: 1 differs"):
        resume(folder.path)
    victim.write_bytes(content)
    table = pq.read_table(folder.split_file)
    pq.write_table(table.set_column(3, "split", [["train"] * len(table)]), folder.split_file)
    with pytest.raises(InputError, match=r"split.parquet was changed"):
        resume(folder.path)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_state(birds, tiny, tmp_path):
    with pytest.raises(TrainingFailed, match=r"not finite.*epoch \d+, step \d+[\s\S]*last good state is step-\d+\.pt"):
        train(birds, *tiny("optim.lr=1e30", "schedule.warmup_epochs=0"), out=tmp_path / "run")
    folder = RunFolder.open(tmp_path / "run")
    state, damaged = Checkpoints(folder.checkpoints, 2).newest()
    assert not damaged and all(torch.isfinite(tensor).all() for tensor in state["model"].values())
    assert folder.manifest().status == "failed" and "not finite" in folder.manifest().reason


def test_patience_stops_early(birds, tiny, tmp_path):
    run = train(birds, *tiny("train.epochs=40", "train.patience=2", "optim.lr=1e-9"), out=tmp_path / "run")
    rows = read_json_lines(run.folder.metrics_file)
    best = run.summary.training.best_epoch
    assert len(rows) == best + 2 < 40


def test_refit_trains_on_train_and_val_for_the_chosen_epochs(birds, tiny, tmp_path):
    run = train(birds, *tiny("train.refit=true"), out=tmp_path / "run")
    rows = read_json_lines(run.folder.metrics_file)
    refit = [row for row in rows if row["phase"] == "refit"]
    assert len(refit) == run.summary.training.best_epoch
    assert refit[0]["steps"] == rows[1]["steps"] + 48 // 8  # 48 images of train and val
    assert not any(name.startswith("val") for name in refit[0])
    plain = train(birds, *tiny(), out=tmp_path / "plain")
    assert run.summary.val == plain.summary.val
    assert run.summary.test.nll != plain.summary.test.nll


def test_test_is_opened_once_after_the_last_epoch(birds, tiny, tmp_path, monkeypatch):
    """No test image is decoded or predicted before the last epoch's line is written."""
    from fieldmark.evaluation import inference as module

    seen = []
    original = module.logits_and_features

    def watched(model, pixels, *rest, **named):
        seen.append((len(pixels), len(read_json_lines(tmp_path / "run" / "metrics.jsonl"))))
        return original(model, pixels, *rest, **named)

    monkeypatch.setattr(module, "logits_and_features", watched)
    train(birds, *tiny(), out=tmp_path / "run")
    assert [call for call in seen if call[0] == 12] == [(12, 2)]


def test_too_many_parameters_refuse_before_anything_is_written(birds, tiny, tmp_path):
    with pytest.raises(CheckFailed, match=r"over the budget of"):
        train(birds, *tiny("model.max_parameters=10k"), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_too_slow_a_network_is_refused_before_anything_is_written(birds, tiny, tmp_path):
    with pytest.raises(CheckFailed, match=r"takes .* ms for one image of 32 pixels on this machine, over the limit of 0.0001"):
        train(birds, *tiny("model.max_latency_ms=1e-4"), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_unreadable_images_are_named_and_set_aside_or_stop_the_run(birds, tiny, tmp_path, capfd):
    data = copy_of(birds, tmp_path / "data")
    victim = sorted((data / "train").rglob("*.png"))[0]
    victim.write_bytes(victim.read_bytes()[:200])
    with pytest.raises(InputError, match=r"1 of 60 images \(1.7 %\) cannot be read") as caught:
        train(data, *tiny(), out=tmp_path / "run")
    assert victim.name in str(caught.value) and not (tmp_path / "run").exists()
    run = fieldmark.train(data, *tiny("data.max_unreadable=0.05"), out=tmp_path / "run")
    assert victim.name in capfd.readouterr().err
    assert run.summary.dataset.train + run.summary.dataset.val == 47
    table = pq.read_table(run.folder.split_file).to_pydict()
    assert [Path(path).name for path, note in zip(table["path"], table["note"], strict=True) if note] == [victim.name]


def split_copy(birds: Path, target: Path) -> Path:
    """The birds with a val folder, so that no split is drawn."""
    import shutil

    shutil.copytree(birds, target)
    for folder in sorted((target / "train").iterdir()):
        (target / "val" / folder.name).mkdir(parents=True)
        for file in sorted(folder.iterdir())[:3]:
            file.rename(target / "val" / folder.name / file.name)
    return target


def test_an_image_that_breaks_off_shifts_no_label(birds, tiny, tmp_path):
    """A file with a sound header and half a body: the run equals the one on data without that file, resumed or not."""
    without, broken = split_copy(birds, tmp_path / "without"), split_copy(birds, tmp_path / "broken")
    victim = sorted((broken / "train").rglob("*.png"))[5]
    victim.write_bytes(victim.read_bytes()[: victim.stat().st_size * 2 // 3])
    (without / victim.relative_to(broken)).unlink()
    settings = tiny("data.max_unreadable=0.1", "train.epochs=3")
    plain = train(without, *settings, out=tmp_path / "plain")
    whole = train(broken, *settings, out=tmp_path / "whole")
    assert fingerprint(whole.folder)["best"] == fingerprint(plain.folder)["best"]
    assert fingerprint(whole.folder)["steps"] == fingerprint(plain.folder)["steps"]
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, lambda position: position["epoch"] == 1)
        with pytest.raises(Interrupted):
            train(broken, *settings, out=tmp_path / "stopped")
    resumed = resume(tmp_path / "stopped")
    assert fingerprint(resumed.folder) == fingerprint(whole.folder)


def stop_at(patch, where) -> None:
    """Interrupt right after the first checkpoint whose position is `where`."""
    original = Checkpoints.save

    def save(self, step, state):
        path = original(self, step, state)
        if where(state["position"]):
            raise KeyboardInterrupt
        return path

    patch.setattr(Checkpoints, "save", save)


@pytest.mark.parametrize("batch", ["8", "64"])
def test_stopped_after_the_last_step_of_an_epoch(birds, tiny, tmp_path, batch):
    settings = tiny(f"train.batch={batch}", "train.checkpoint_minutes=1e-9", "train.epochs=3")
    whole = train(birds, *settings, out=tmp_path / "whole")
    steps = max(43 // int(batch), 1)
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, lambda position: position["epoch"] == 1 and position["step"] == steps)
        with pytest.raises(Interrupted):
            train(birds, *settings, out=tmp_path / "stopped")
    resumed = resume(tmp_path / "stopped")
    assert fingerprint(resumed.folder) == fingerprint(whole.folder)


def test_with_every_checkpoint_damaged_the_run_begins_again(birds, tiny, tmp_path, finished_run):
    """From the run's own initial weights: the file that they came from may be gone."""
    weights = tmp_path / "start.safetensors"
    weights.write_bytes(finished_run.folder.best_weights.read_bytes())
    settings = tiny(f"model.weights={weights}")
    whole = train(birds, *settings, out=tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, lambda position: position["epoch"] == 1)
        with pytest.raises(Interrupted):
            train(birds, *settings, out=tmp_path / "stopped")
    weights.unlink()
    for path in (tmp_path / "stopped" / "checkpoints").glob("step-*.pt"):
        path.write_bytes(b"damaged")
    (tmp_path / "stopped" / "checkpoints" / ".step-00000009.pt.1.tmp").write_bytes(b"left by a killed writer")
    resumed = resume(tmp_path / "stopped")
    assert fingerprint(resumed.folder) == fingerprint(whole.folder)
    assert not list((tmp_path / "stopped").rglob("*.tmp"))


def test_settings_of_splits_that_the_data_have_are_refused(birds, tiny, tmp_path):
    with pytest.raises(InputError, match=r"data.test_fraction=0.3 has no effect: the data have a test of their own"):
        train(birds, *tiny("data.test_fraction=0.3"), out=tmp_path / "run")
    data = split_copy(birds, tmp_path / "data")
    with pytest.raises(InputError, match=r"data.split_seed=4 has no effect") as caught:
        train(data, *tiny("data.split_seed=4", "data.val_fraction=0.3"), out=tmp_path / "run")
    assert len(caught.value.problems) == 2


def test_an_unfinished_or_refitted_run_is_not_evaluated_on_what_it_may_not_see(birds, tiny, tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        stop_at(patch, lambda position: position["epoch"] == 1)
        with pytest.raises(Interrupted):
            train(birds, *tiny("train.refit=true"), out=tmp_path / "run")
    with pytest.raises(InputError, match=r"is not finished \(interrupted\)"):
        fieldmark.evaluate(tmp_path / "run")
    resume(tmp_path / "run")
    with pytest.raises(InputError, match="was refitted on train and val together"):
        fieldmark.evaluate(tmp_path / "run", split="val")
    assert fieldmark.evaluate(tmp_path / "run").metrics.n == 12


def test_best_weights_carry_names_and_preprocessing(finished_run):
    from safetensors import safe_open

    with safe_open(finished_run.folder.best_weights, "pt") as file:
        carried = json.loads(file.metadata()["fieldmark"])
    assert carried["class_names"] == list(finished_run.class_names)
    assert carried["preprocess"]["size"] == 32
    assert all(np.isfinite(tensor.float().numpy()).all() for tensor in load_file(finished_run.folder.best_weights).values())


def test_interrupted_is_an_error_with_its_exit_code():
    assert Interrupted("x").exit_code == 130


def test_a_disk_that_fills_up_is_said_and_the_run_goes_on_once_there_is_room(birds, tiny, tmp_path):
    whole = train(birds, *tiny(), out=tmp_path / "whole")
    run, save = tmp_path / "stopped", torch.save
    with pytest.MonkeyPatch.context() as patch:

        def fill_up(state, stream):
            if state["position"]["epoch"] == 1:
                try:
                    raise OSError(errno.ENOSPC, "No space left on device")
                finally:
                    raise RuntimeError("unexpected pos 704 vs 598")
            save(state, stream)

        patch.setattr(torch, "save", fill_up)
        patch.setattr(RunFolder, "set_status", lambda *_: write_nothing())
        with pytest.raises(InputError, match="no space left on the disk that holds") as raised:
            train(birds, *tiny(), out=run)
    assert raised.value.hint == f"Free some space, or write elsewhere. Then continue with: fieldmark resume {run}"
    assert fingerprint(resume(run).folder) == fingerprint(whole.folder)


def write_nothing() -> None:
    raise InputError("no space left on the disk that holds the run")
