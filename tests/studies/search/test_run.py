"""Searches with an engine that trains nothing: its runs follow curves that are known."""

import csv
import errno
import json
import math
import re
import subprocess
import sys
import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.console import Console
from fieldmark.core.errors import InputError, Interrupted, TrainingFailed
from fieldmark.core.files import storage_error
from fieldmark.core.recipe.layers import read_layer
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.datasets.layouts.location import locate
from fieldmark.studies.engines import Ended
from fieldmark.studies.estimate import Estimate
from fieldmark.studies.failure import Failure
from fieldmark.studies.plan import StudyDataset
from fieldmark.studies.search.results import run_path
from fieldmark.studies.search.run import Budget, check_trial, run_search
from fieldmark.studies.search.section import read_search
from records import a_manifest, a_summary

DATA = StudyDataset("cars", "cars")
EPOCHS = 9
NOT_FINITE = Failure.saying("the loss is not finite", "run")
KILLED = Failure.saying("the process was killed by signal 9 (out of memory?)", "killed")
FULL = Failure.of(storage_error(OSError(errno.ENOSPC, ""), Path("runs/a")))
STOPPED = Failure.saying("stopped", "stopped")
SPACE = {
    "optim.lr": {"from": 1e-4, "to": 1e-1, "log": True},
    "loss.label_smoothing": {"from": 0.0, "to": 0.4},
    "augment.flip": [0.0, 0.5],
}


class FakeEngine:
    """Each look at what has ended trains every running job by an epoch; what it has done is in the run folder only."""

    def __init__(self, val, jobs=1, epochs_a_look=1):
        self.val, self.jobs, self.epochs_a_look = val, jobs, epochs_a_look
        self._running, self.stopped, self.started, self.trained = [], [], [], 0

    @property
    def free(self):
        return self.jobs - len(self._running)

    @property
    def running(self):
        return tuple(self._running)

    def start(self, job):
        assert self.free > 0
        folder = RunFolder(job.path)
        if not job.path.exists():
            job.path.mkdir(parents=True)
            folder.recipe_file.write_text(json.dumps(job.recipe.model_dump(mode="json")))
        folder.write_manifest(a_manifest(status="running"))
        self._running.append(job)
        self.started.append(job.name)

    def stop(self, job):
        self.stopped.append(job)

    def ended(self):
        ended = []
        for job in self._running:
            ended += [Ended(job, failure)] if (failure := self._look(job)) != "goes on" else []
        self._running = [job for job in self._running if job not in [each.job for each in ended]]
        return ended

    def _look(self, job):
        folder, epochs = RunFolder(job.path), job.recipe.train.epochs
        if job in self.stopped:
            folder.set_status("interrupted")
            return STOPPED
        lines = folder.metrics_file.read_text().splitlines() if folder.metrics_file.exists() else []
        for epoch in range(len(lines) + 1, min(len(lines) + self.epochs_a_look, epochs) + 1):
            value = self.val(job.recipe, epoch)
            if isinstance(value, str):
                folder.set_status("failed", value)
                return Failure.saying(value, "run")
            with folder.metrics_file.open("a") as stream:
                stream.write(json.dumps({"phase": "fit", "epoch": epoch, "val_top1": value, "val_nll": -value}) + "\n")
            self.trained += 1
        if len(lines) + self.epochs_a_look < epochs:
            return "goes on"
        values = [json.loads(line)["val_top1"] for line in folder.metrics_file.read_text().splitlines()]
        val = {"n": 500, "top1": max(values), "top1_low": max(max(values) - 1, 0.0), "top1_high": max(values) + 1, "nll": -max(values)}
        a_summary(val=val, test=val | {"top1": max(max(values) - 2, 0.0)}).write(folder.summary_file)
        folder.set_status("finished")
        return None


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    """These searches last as long as their disk and their images, which are tested elsewhere."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    monkeypatch.setattr("fieldmark.studies.search.run.write_search_figure", lambda result, space, path: path.write_text("an image"))


def val(recipe, epoch):
    """Best at a learning rate of 3e-3, a smoothing of 0.1, and with flips."""
    far = (math.log10(recipe.optim.lr / 3e-3)) ** 2 + 20 * (recipe.loss.label_smoothing - 0.1) ** 2 + 0.2 * (recipe.augment.flip == 0.0)
    return 90 * math.exp(-far / 3) * (1 - math.exp(-epoch / 3))


def a_search(space=SPACE, base=None, **settings):
    layer = read_layer({"optim": {"name": "adamw"}, "train": {"epochs": EPOCHS}} | (base or {}), "base", [])
    return read_search({"space": space, **settings}, [layer], "study.yaml")


def search(out, engine, trials=None, hours=None, console=None, wait=lambda _: None, what=None, **more):
    return run_search(what or a_search(), DATA, out, engine, Budget(trials, hours), console or Console(quiet=True), wait=wait, **more)


def what_happened(result):
    return [(trial.state, trial.settings, trial.values, trial.value) for trial in result.trials]


class Killed(BaseException):
    pass


def killed_after(looks):
    left = iter(range(looks))

    def wait(_):
        if next(left, None) is None:
            raise Killed

    return wait


def test_both_samplers_find_better_than_most_of_the_space_and_tpe_learns(tmp_path):
    means = {}
    for sampler in ("tpe", "random"):
        result = search(tmp_path / sampler, FakeEngine(val, epochs_a_look=EPOCHS), 50, what=a_search(sampler=sampler, halving=False))
        values = [trial.value for trial in result.trials]
        assert result.best.value == max(values) > np.quantile(values, 0.9)
        means[sampler] = np.mean(values[25:])
    assert means["tpe"] > means["random"] + 5


def test_halving_stops_poor_trials_and_saves_epochs(tmp_path):
    engine = FakeEngine(val, jobs=2)
    result = search(tmp_path / "out", engine, 40, what=a_search(sampler="random", halving={"min_epochs": 1, "factor": 3}))
    stopped = [trial for trial in result.trials if trial.state == "stopped"]
    assert {trial.epochs for trial in stopped} <= {1, 3}
    assert len(stopped) > 15
    assert result.epochs == sum(trial.epochs for trial in result.trials)
    assert result.epochs < result.epochs_in_all / 2 == 40 * EPOCHS / 2
    assert len({job.name for job in engine.stopped}) == len(stopped)
    assert all(RunFolder(run_path(tmp_path / "out", DATA, trial.number)).manifest().status == "interrupted" for trial in stopped)
    everything = search(tmp_path / "all", FakeEngine(val), 40, what=a_search(sampler="random", halving=False))
    assert result.best.number == everything.best.number


def test_halving_follows_the_paper(tmp_path):
    """At each decision a trial goes on where it is among the best third of those that came there so far, itself included."""
    result = search(tmp_path / "out", FakeEngine(val), 30, what=a_search(sampler="random", halving={"min_epochs": 1, "factor": 3}))
    seen = {1: [], 3: []}
    for trial in result.trials:
        lasts = EPOCHS
        for epoch in (1, 3):
            value = val(a_search().space.recipe(trial.settings), epoch)
            seen[epoch].append(value)
            best = sorted(seen[epoch], reverse=True)[: max(len(seen[epoch]) // 3, 1)]
            if value not in best:
                lasts = epoch
                break
        assert trial.epochs == lasts, trial.number
    assert {trial.epochs for trial in result.trials} == {1, 3, EPOCHS}


def test_how_often_one_looks_does_not_matter(tmp_path):
    slow = search(tmp_path / "slow", FakeEngine(val), 20)
    fast = search(tmp_path / "fast", FakeEngine(val, epochs_a_look=EPOCHS), 20)
    assert what_happened(slow) == what_happened(fast)


def test_less_is_better_for_a_loss(tmp_path):
    result = search(tmp_path / "out", FakeEngine(val), 40, what=a_search(base={"evaluate": {"monitor": "nll"}}, sampler="random"))
    values = [trial.value for trial in result.finished]
    assert values == sorted(values) and len(set(values)) > 1
    assert result.best.value == values[0]
    assert any(trial.state == "stopped" for trial in result.trials)


@pytest.fixture(scope="module")
def whole_search(tmp_path_factory):
    """A search that is never stopped: what happened in it, and its journal."""
    out = tmp_path_factory.mktemp("search") / "out"
    return what_happened(search(out, FakeEngine(val), 14)), (out / "search.jsonl").read_bytes()


@pytest.mark.parametrize("looks", [0, 1, 5, 17, 33])
def test_killed_and_continued_it_is_the_search_that_was_never_stopped(tmp_path, whole_search, looks):
    with pytest.raises(Killed):
        search(tmp_path / "out", FakeEngine(val), 14, wait=killed_after(looks))
    assert what_happened(search(tmp_path / "out", FakeEngine(val), 14)) == whole_search[0]


@pytest.mark.parametrize("part", [0.0, 0.004, 0.1, 0.33, 0.5, 0.68, 0.9, 0.9999])
def test_a_journal_cut_anywhere_is_gone_on_from(tmp_path, whole_search, part, capsys):
    happened, journal = whole_search
    (tmp_path / "search.jsonl").write_bytes(journal[: round(part * len(journal))])
    result = search(tmp_path, FakeEngine(val), 14, console=Console())
    assert what_happened(result) == happened
    assert ("was cut short" in capsys.readouterr().err) == (part > 0)
    assert what_happened(search(tmp_path, FakeEngine(val), 14, console=Console())) == happened
    assert "was cut short" not in capsys.readouterr().err


def test_zeros_at_the_end_are_a_cut_too(tmp_path, whole_search):
    happened, journal = whole_search
    (tmp_path / "search.jsonl").write_bytes(journal[: len(journal) // 2] + bytes(100) + b"\n" + bytes(20))
    assert what_happened(search(tmp_path, FakeEngine(val), 14)) == happened


def test_a_journal_damaged_inside_is_refused_and_left_alone(tmp_path, whole_search):
    lines = whole_search[1].splitlines(keepends=True)
    for number, line in ((4, b'{"op_code": 4, "worker\n'), (0, b"[]\n"), (2, b'{"op_code": 99}\n'), (3, b'{"op_code": 4}\n')):
        damaged = b"".join([*lines[:number], line, *lines[number + 1 :]])
        (tmp_path / "search.jsonl").write_bytes(damaged)
        with pytest.raises(InputError, match=r"search.jsonl is damaged: .*\n.*another --out"):
            search(tmp_path, FakeEngine(val), 14)
        assert (tmp_path / "search.jsonl").read_bytes() == damaged


def test_optuna_itself_reads_the_journal(tmp_path):
    optuna = pytest.importorskip("optuna")
    result = search(tmp_path / "out", FakeEngine(val), 12)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "out" / "search.jsonl"))
    study = optuna.load_study(study_name="search", storage=optuna.storages.JournalStorage(backend))
    assert study.best_value == result.best.value
    reported = [line for line in (tmp_path / "out" / "search.jsonl").read_text().splitlines() if '"intermediate_value":' in line]
    assert len(reported) == result.epochs  # each epoch once
    assert [trial.user_attrs["settings"] for trial in study.trials] == [trial.settings for trial in result.trials]


def test_trials_at_once_go_on_where_they_were(tmp_path):
    with pytest.raises(Killed):
        search(tmp_path / "out", FakeEngine(val, jobs=3), 8, wait=killed_after(4), what=a_search(halving=False))
    before = {path.name: RunFolder(path).recipe() for path in (tmp_path / "out" / "runs" / "cars").iterdir()}
    engine = FakeEngine(val, jobs=3)
    result = search(tmp_path / "out", engine, 8, what=a_search(halving=False))
    assert engine.trained == 8 * EPOCHS - 3 * 4
    assert engine.started[:3] == ["trial 1", "trial 2", "trial 3"]
    assert len(result.finished) == 8
    assert {path: RunFolder(tmp_path / "out" / "runs" / "cars" / path).recipe() for path in before} == before


def test_another_seed_proposes_otherwise(tmp_path):
    one, other = (search(tmp_path / str(seed), FakeEngine(val), 3, what=a_search(seed=seed)) for seed in (0, 1))
    assert one.trials[1].settings != other.trials[1].settings


CONDITIONAL = {
    "optim.name": {
        "sgd": {"optim.lr": {"from": 0.01, "to": 1.0, "log": True}, "optim.momentum": [0.8, 0.9]},
        "adamw": {"optim.lr": {"from": 1e-4, "to": 1e-2, "log": True}},
    },
    "schedule.name": ["cosine", "constant"],
    "schedule.floor_factor": {"from": 0.0, "to": 0.1},
    "train.batch": {"from": 16, "to": 64, "step": 16},
    "augment.crop.area": [[0.35, 1.0], [0.5, 1.0]],
}


def test_a_key_of_a_variant_is_searched_in_its_trials_only(tmp_path):
    result = search(tmp_path / "out", FakeEngine(val), 40, what=a_search(CONDITIONAL))
    names = [trial.settings["optim.name"] for trial in result.trials]
    assert set(names) == {"sgd", "adamw"}
    for trial in result.trials:
        settings = trial.settings
        sgd = settings["optim.name"] == "sgd"
        assert ("optim.momentum" in settings) == sgd
        assert ("schedule.floor_factor" in settings) == (settings["schedule.name"] == "cosine")
        assert (0.01 <= settings["optim.lr"] <= 1) if sgd else (1e-4 <= settings["optim.lr"] <= 1e-2)
        assert settings["train.batch"] in (16, 32, 48, 64)
        assert settings["augment.crop.area"] in ([0.35, 1.0], [0.5, 1.0])
        recipe = RunFolder(run_path(tmp_path / "out", DATA, trial.number)).recipe()
        assert (recipe.optim.name, recipe.optim.lr) == (settings["optim.name"], settings["optim.lr"])
        assert recipe.train.batch == settings["train.batch"]


def test_the_first_trial_is_the_base_where_the_space_holds_it(tmp_path):
    result = search(tmp_path / "in", FakeEngine(val), 2, what=a_search(base={"loss.label_smoothing": 0.2, "optim.lr": 2e-3}))
    assert [trial.is_base for trial in result.trials] == [True, False]
    assert result.trials[0].settings == {"optim.lr": 2e-3, "loss.label_smoothing": 0.2, "augment.flip": 0.5}
    result = search(tmp_path / "not", FakeEngine(val), 2, what=a_search(base={"loss.label_smoothing": 0.5}))
    assert [trial.is_base for trial in result.trials] == [False, False]


@pytest.mark.parametrize(("trials", "said"), [(3, False), (4, True), (5, True)])
def test_a_space_smaller_than_the_search_is_named(tmp_path, capsys, trials, said):
    space = {"augment.flip": [0.0, 0.5], "train.batch": {"from": 16, "to": 32, "step": 16}}
    search(tmp_path / "out", FakeEngine(val, epochs_a_look=EPOCHS), trials, what=a_search(space), console=Console())
    assert ("the space holds only 4 recipes" in capsys.readouterr().err) == said


def test_trials_are_counted_over_all_calls(tmp_path):
    search(tmp_path / "out", FakeEngine(val), 5)
    engine = FakeEngine(val)
    assert len(search(tmp_path / "out", engine, 8).trials) == 8
    assert engine.started == ["trial 6", "trial 7", "trial 8"]
    engine = FakeEngine(val)
    assert len(search(tmp_path / "out", engine, 8).trials) == 8
    assert engine.started == []


def test_hours_are_those_of_the_call_and_what_runs_is_kept(tmp_path):
    hours = iter(np.arange(0, 10, 0.1))
    engine = FakeEngine(val, jobs=2)
    first = search(tmp_path / "out", engine, hours=1.05, clock=lambda: next(hours) * 3600, what=a_search(halving=False))
    assert [trial.state for trial in first.trials] == ["finished", "finished", "running", "running"]
    assert sorted(trial.epochs for trial in first.trials) == [1, 1, EPOCHS, EPOCHS]
    assert engine.running == ()
    whole = search(tmp_path / "whole", FakeEngine(val, jobs=2), 4, what=a_search(halving=False))
    second = search(tmp_path / "out", engine := FakeEngine(val, jobs=2), 4, what=a_search(halving=False))
    assert what_happened(second) == what_happened(whole)
    assert engine.trained == 2 * EPOCHS - 2


def test_a_failed_trial_is_named_and_the_search_goes_on(tmp_path, capsys):
    def diverges(recipe, epoch):
        return "the loss is not finite" if recipe.optim.lr > 0.01 and epoch == 2 else val(recipe, epoch)

    result = search(tmp_path / "out", FakeEngine(diverges), 20, console=Console(), what=a_search(sampler="random"))
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed and all(trial.settings["optim.lr"] > 0.01 and trial.reason == "the loss is not finite" for trial in failed)
    assert all(trial.settings["optim.lr"] <= 0.01 for trial in result.trials if trial.state == "finished")
    said = capsys.readouterr().err
    assert f"trial {failed[0].number}: failed: the loss is not finite" in said
    assert f"{len(failed)} failed" in said
    rows = list(csv.DictReader((tmp_path / "out" / "trials.csv").open()))
    assert [row["reason"] for row in rows if row["state"] == "failed"] == ["the loss is not finite"] * len(failed)


def test_when_five_in_a_row_fail_it_stops(tmp_path):
    engine = FakeEngine(lambda recipe, epoch: "out of memory", jobs=2)
    with pytest.raises(
        TrainingFailed, match=r"\d trials in a row failed, .*stops:\n  out of memory \(trials 1, 2, 3, 4, 5.*\)\n.*continues the search"
    ):
        search(tmp_path / "out", engine, 50)
    assert len(engine.started) <= 6
    assert not (tmp_path / "out" / "best.yaml").exists()
    assert len(search(tmp_path / "out", FakeEngine(val), 20).finished) > 0


def breaking(failure, first, last=math.inf):
    """An engine whose trials from `first` to `last`, counted as they are started, fail after two epochs."""

    class Breaking(FakeEngine):
        def _look(self, job):
            folder = RunFolder(job.path)
            begun = len(read_json_lines(folder.metrics_file))
            if begun >= 2 and first <= len(self.started) <= last:
                return failure
            return super()._look(job)

    return Breaking(val)


@pytest.mark.parametrize(("failure", "lost"), [(NOT_FINITE, 5), (FULL, 0)])
def test_after_good_trials_five_failures_in_a_row_stop_it_too(tmp_path, failure, lost):
    with pytest.raises(TrainingFailed, match=r"5 trials in a row failed, .*\n  (?s:.*) \(trials 3, 4, 5, 6, 7\)") as caught:
        search(tmp_path / "out", breaking(failure, 3), 20, what=a_search(halving=False))
    assert failure.text in str(caught.value)
    assert [row["state"] for row in csv.DictReader((tmp_path / "out" / "trials.csv").open())][:2] == ["finished"] * 2
    assert (tmp_path / "out" / "best.yaml").is_file()
    result = search(tmp_path / "out", FakeEngine(val), 20, what=a_search(halving=False))
    assert (len(result.finished), len(result.trials)) == (20 - lost, 20)


def test_failures_that_are_not_in_a_row_do_not_stop_it(tmp_path):
    class Alternating(FakeEngine):
        def _look(self, job):
            return NOT_FINITE if len(self.started) % 5 else super()._look(job)

    states = [trial.state for trial in search(tmp_path / "out", Alternating(val), 20, what=a_search(halving=False)).trials]
    assert states == [*["failed"] * 4, "finished"] * 4


@pytest.mark.parametrize("failure", [NOT_FINITE, KILLED])
def test_fewer_than_five_failures_without_a_success_are_no_success(tmp_path, failure):
    reason = re.escape(failure.text)
    for _ in range(2):
        with pytest.raises(TrainingFailed, match=rf"no trial has finished, and some failed:\n  {reason} \(trials 1, 2\)"):
            search(tmp_path / "out", breaking(failure, 0), 2, what=a_search(halving=False))


def no_permission(_):
    return Failure.of(storage_error(OSError(errno.EACCES, "Permission denied"), Path("runs/a")))


def no_data(_):
    with pytest.raises(InputError) as caught:
        locate("/no/such/folder")
    return Failure.of(caught.value)


def being_written(tmp_path):
    with RunFolder(tmp_path).locked(), pytest.raises(InputError) as caught, RunFolder(tmp_path).locked():
        pass
    return Failure.of(caught.value)


@pytest.mark.parametrize("failure", [lambda _: FULL, no_permission, no_data, being_written, lambda _: KILLED])
def test_what_failed_because_of_the_machine_is_tried_again(tmp_path, failure, capsys):
    search(tmp_path / "out", breaking(failure(tmp_path), 2, 3), 4, console=Console(), what=a_search(halving=False))
    said = capsys.readouterr().err
    assert "trial 2: postponed: " in said
    assert "postponed to the next call, because the machine and not the recipe failed: trials 2, 3" in said
    engine = FakeEngine(val)
    again = search(tmp_path / "out", engine, 4, what=a_search(halving=False))
    assert engine.started == ["trial 2", "trial 3"]
    assert engine.trained == 2 * (EPOCHS - 2)
    assert [trial.state for trial in again.trials] == ["finished"] * 4


def test_a_trial_killed_in_two_calls_has_failed(tmp_path):
    for expected in ("running", "failed"):
        result = search(tmp_path / "out", breaking(KILLED, 2 if expected == "running" else 0), 2, what=a_search(halving=False))
        assert [trial.state for trial in result.trials] == ["finished", expected]


@pytest.mark.parametrize("emptied", [True, False])
def test_while_the_data_are_gone_no_trial_is_used_up(tmp_path, emptied):
    data = tmp_path / "cars"
    data.mkdir()
    (data / "a.jpg").touch()

    class Unmounted(FakeEngine):
        def _look(self, job):
            if len(self.started) < 3:
                return super()._look(job)
            (data / "a.jpg").unlink(missing_ok=True)
            if not emptied and data.exists():
                data.rmdir()
            return Failure.saying("nothing is recognised there", "run")

    there = replace(DATA, given=str(data))
    with pytest.raises(TrainingFailed, match=r"recognised there \(trials 3, 4, 5, 6, 7\)"):
        run_search(a_search(), there, tmp_path / "out", Unmounted(val), Budget(9), Console(quiet=True), wait=lambda _: None)
    assert "failed" not in [row["state"] for row in csv.DictReader((tmp_path / "out" / "trials.csv").open())]


def test_a_process_that_cannot_be_started_is_tried_again(tmp_path):
    class Full(FakeEngine):
        def start(self, job):
            if len(self.started) == 1 and job.name == "trial 2":
                raise OSError(errno.ENOMEM, "Cannot allocate memory")
            super().start(job)

    states = [trial.state for trial in search(tmp_path / "out", Full(val), 3, what=a_search(halving=False)).trials]
    assert states == ["finished", "running", "finished"]
    assert len(search(tmp_path / "out", FakeEngine(val), 3, what=a_search(halving=False)).finished) == 3


@pytest.mark.parametrize("text", ['{"val": {"top', "[1]", "{}", '{"val": {"top1": "much"}}', "not finite"])
def test_a_damaged_summary_fails_its_trial_only(tmp_path, text):
    class Damaging(FakeEngine):
        def _look(self, job):
            said = super()._look(job)
            if said is None and job.name == "trial 2":
                if text == "not finite":
                    a_summary(val={"nll": None}).write(RunFolder(job.path).summary_file)
                else:
                    RunFolder(job.path).summary_file.write_text(text)
            return said

    result = search(tmp_path / "out", Damaging(val), 3, what=a_search(base={"evaluate": {"monitor": "nll"}}, halving=False))
    assert [trial.state for trial in result.trials] == ["finished", "failed", "finished"]
    assert ("its val nll is not finite" if text == "not finite" else "summary.json") in result.trials[1].reason


def test_a_damaged_manifest_fails_its_trial_only(tmp_path):
    class Damaging(FakeEngine):
        def _look(self, job):
            if job.name != "trial 2":
                return super()._look(job)
            RunFolder(job.path).manifest_file.write_text("{")
            return Failure.saying("its manifest is damaged", "run")

    states = [trial.state for trial in search(tmp_path / "out", Damaging(val), 3, what=a_search(halving=False)).trials]
    assert states == ["finished", "failed", "finished"]


GB = 10**9


@pytest.fixture
def timed(monkeypatch):
    """Runs are said to take 100 s, 2 GB and 3 GB more while they train; notes the calls, and the room that was asked for."""
    calls = []

    def estimated(runs, jobs, threads, console):
        calls.append("timed")
        return Estimate(
            seconds={run.path: 100.0 for run in runs},
            executions={},
            decode_seconds=0.0,
            run_bytes=2 * GB,
            working_bytes=3 * GB,
            cache_bytes=0,
            jobs=jobs,
        )

    monkeypatch.setattr("fieldmark.studies.search.run.estimate", estimated)
    monkeypatch.setattr(
        "fieldmark.studies.search.run.check_room", lambda needed, out: calls.append((needed.run_bytes, needed.working_bytes))
    )
    return calls


class TwoJobs:
    jobs, threads = 2, 1


@pytest.mark.parametrize(
    ("budget", "stays", "passing", "said"),
    [
        (
            Budget(40),
            80,
            6,
            "takes about 1 min 40 s, 2 at once, and 2.00 GB when it is finished; 40 trials: about 33 min 20 s and 80.00 GB, less",
        ),
        (Budget(1), 2, 3, "and 2.00 GB when it is finished; 1 trial: about 1 min 40 s and 2.00 GB"),
        (Budget(hours=1), 4, 6, "and 2.00 GB when it is finished\n"),
    ],
)
def test_there_has_to_be_room_for_all_trials(tmp_path, timed, capsys, budget, stays, passing, said):
    check_trial(a_search(), DATA, tmp_path / "out", TwoJobs(), budget, Console())
    assert timed == ["timed", (stays * GB, passing * GB)]
    assert said in capsys.readouterr().err


def test_a_folder_with_something_else_is_refused_before_anything_is_timed(tmp_path, timed):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not the folder of a search"):
        check_trial(a_search(), DATA, tmp_path, TwoJobs(), Budget(2), Console(quiet=True))
    assert timed == []


def test_a_figure_that_is_not_finite_never_wins(tmp_path):
    def sometimes(recipe, epoch):
        return math.nan if recipe.augment.flip == 0.0 else val(recipe, epoch)

    result = search(tmp_path / "out", FakeEngine(sometimes), 15, what=a_search(sampler="random"))
    assert {trial.state for trial in result.trials if trial.settings["augment.flip"] == 0.0} <= {"stopped", "failed"}
    assert result.best.settings["augment.flip"] == 0.5


def test_a_worker_that_someone_else_stopped_is_started_again(tmp_path):
    class Touchy(FakeEngine):
        touched = False

        def _look(self, job):
            if not self.touched and job.name == "trial 2":
                self.touched = True
                RunFolder(job.path).set_status("interrupted")
                return Failure.saying("stopped in epoch 1", "stopped")
            return super()._look(job)

    engine = Touchy(val)
    result = search(tmp_path / "out", engine, 3, what=a_search(halving=False))
    assert [trial.state for trial in result.trials] == ["finished"] * 3
    assert engine.started == ["trial 1", "trial 2", "trial 2", "trial 3"]


def test_ctrl_c_saves_and_says_how_to_go_on(tmp_path):
    import signal

    looks = iter(range(100))

    def wait(_):
        if next(looks) == 12:
            signal.raise_signal(signal.SIGINT)

    engine = FakeEngine(val, jobs=2)
    with pytest.raises(Interrupted, match=r"stopped; trials over: 2\. The same command continues the search"):
        search(tmp_path / "out", engine, 9, wait=wait, what=a_search(halving=False))
    assert engine.running == ()
    assert (tmp_path / "out" / "best.yaml").exists()
    assert len(search(tmp_path / "out", FakeEngine(val, jobs=2), 9, what=a_search(halving=False)).finished) == 9


def test_the_answers(tmp_path, capsys):
    what = a_search(base={"optim.lr": 2e-3})
    result = search(tmp_path / "out", FakeEngine(val), 30, console=Console(), what=what)
    text = (tmp_path / "out" / "best.yaml").read_text()
    assert load_recipe(tmp_path / "out" / "best.yaml") == what.space.recipe(result.best.settings)
    assert text.startswith(f"# best: val top-1 {result.best.value:.1f} %, trial {result.best.number} of a search on cars (")
    assert f"fieldmark train cars --recipe {tmp_path / 'out' / 'best.yaml'}\n" in text
    rows = list(csv.DictReader((tmp_path / "out" / "trials.csv").open()))
    assert [int(row["trial"]) for row in rows] == list(range(1, 31))
    for row, trial in zip(rows, result.trials, strict=True):
        assert float(row["optim.lr"]) == trial.settings["optim.lr"]
        assert (row["state"], float(row["val_top1"])) == (trial.state, trial.figure)
        assert (tmp_path / "out" / row["run"] / "recipe.yaml").is_file()
    assert not any("test" in name for name in rows[0])
    said = capsys.readouterr().err
    assert f"chosen on val: trial {result.best.number}, val top-1 {result.best.value:.1f} %" in said
    assert f"test top-1 {result.best.value - 2:.1f} %" in said and "optimistically biased" in said
    assert "1, the base" in said
    assert "reported for this trial only" in said
    assert (tmp_path / "out" / "figures" / "search.png").is_file()
    alike = sum(trial.value >= result.best.value - 1 for trial in result.finished) - 1
    assert (f"{alike} more trials lie within that interval" in said) == (alike > 0)


def test_importances_tell_what_matters(tmp_path):
    def only_lr(recipe, epoch):
        return 90 * math.exp(-((math.log10(recipe.optim.lr / 3e-3)) ** 2))

    few = search(tmp_path / "few", FakeEngine(only_lr, epochs_a_look=9), 15, what=a_search(halving=False))
    assert few.importances == {}
    result = search(tmp_path / "many", FakeEngine(only_lr, epochs_a_look=9), 60, what=a_search(sampler="random", halving=False))
    assert max(result.importances, key=result.importances.get) == "optim.lr"
    assert sum(result.importances.values()) == pytest.approx(1)


def test_another_search_in_the_same_folder_is_refused(tmp_path):
    search(tmp_path / "out", FakeEngine(val), 2)
    space = SPACE | {"optim.lr": {"from": 1e-4, "to": 1e-2, "log": True}, "augment.flip": [0.0, 0.5, 1.0], "augment.hue": [0.0, 0.1]}
    with pytest.raises(InputError) as caught:
        search(tmp_path / "out", FakeEngine(val), 5, what=a_search(space, {"model.dropout": 0.1}, sampler="random"))
    problems = [str(problem).partition("differently: ")[2] for problem in caught.value.problems]
    assert problems == [
        'sampler was "tpe", and is "random"',
        "in the base, model.dropout was 0.0, and is 0.1",
        "in the space, optim.lr was 0.0001 to 0.1, logarithmic, and is 0.0001 to 0.01, logarithmic",
        "in the space, augment.flip was 0.0, 0.5, and is 0.0, 0.5, 1.0",
        "in the space, augment.hue was not searched over, and is 0.0, 0.1",
    ]
    with pytest.raises(InputError, match='data was "cars", and is "birds"'):
        run_search(a_search(), replace(DATA, given="birds"), tmp_path / "out", FakeEngine(val), Budget(3), Console(quiet=True))


def test_a_run_that_is_not_the_trials_is_not_continued(tmp_path):
    path = run_path(tmp_path, DATA, 1)
    path.mkdir(parents=True)
    RunFolder(path).write_recipe(load_recipe("default", ["model.dropout=0.3"]))
    (tmp_path / "search.jsonl").touch()
    with pytest.raises(InputError, match=r"trial-0001 holds a run other than trial 1: .*model.dropout"):
        search(tmp_path, FakeEngine(val), 2)


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not the folder of a search"):
        search(tmp_path, FakeEngine(val), 2)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_two_at_once_are_refused(tmp_path):
    def wait(_):
        with pytest.raises(InputError, match="another process is working in"):
            search(tmp_path / "out", FakeEngine(val), 2)

    search(tmp_path / "out", FakeEngine(val, epochs_a_look=9), 1, wait=wait)


@pytest.mark.parametrize(("trials", "hours", "message"), [(None, None, "no search budget"), (0, None, "--trials"), (None, 0.0, "--hours")])
def test_a_budget_is_needed(tmp_path, trials, hours, message):
    with pytest.raises(InputError, match=message):
        search(tmp_path / "out", FakeEngine(val), trials, hours)
    assert not (tmp_path / "out").exists()


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InputError, match=r"pip install 'fieldmark\[search\]'"):
        search(tmp_path / "out", FakeEngine(val), 2)
    assert not (tmp_path / "out").exists()


def test_optuna_says_nothing(tmp_path, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(tmp_path / "out", FakeEngine(val, epochs_a_look=9), 25, what=a_search(CONDITIONAL, halving=False))
    said = capfd.readouterr()
    assert said.out == said.err == ""


REAL = """
import sys
from pathlib import Path
from fieldmark.core.console import Console
from fieldmark.core.recipe.layers import read_layer
from fieldmark.core.yaml_text import parse_value
from fieldmark.studies.engines import LocalEngine
from fieldmark.studies.plan import StudyDataset
from fieldmark.studies.search.run import Budget, run_search
from fieldmark.studies.search.section import read_search

out, *settings = sys.argv[1:]
values = dict(setting.split("=") for setting in settings)
layer = read_layer({key: parse_value(text) for key, text in values.items()}, "test", [])
space = {"optim.lr": {"from": 1e-3, "to": 1e-1, "log": True}, "optim.name": ["adamw", "sgd"]}
search = read_search({"space": space, "halving": False}, [layer], "test")
with LocalEngine(1) as engine:
    run_search(search, StudyDataset("birds", "birds"), Path(out), engine, Budget(2), Console())
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_real_runs_killed_and_continued(tmp_path, few_built_in_birds, tiny):
    """With processes that train, and a search that dies without warning."""
    script = tmp_path / "search.py"
    script.write_text(REAL)

    def begin(name):
        command = [sys.executable, str(script), str(tmp_path / name), *tiny("train.epochs=4")]
        return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)

    def answers(name):
        return list(csv.DictReader((tmp_path / name / "trials.csv").open()))

    killed = begin("killed")
    metrics = tmp_path / "killed" / "runs" / "birds" / "trial-0002" / "metrics.jsonl"
    patience = time.monotonic() + 300
    while not metrics.exists() and time.monotonic() < patience and killed.poll() is None:
        time.sleep(0.05)
    killed.kill()
    killed.communicate()
    assert [row["state"] for row in answers("killed")][:1] == ["finished"]
    for name in ("killed", "whole"):
        going = begin(name)
        said = going.communicate(timeout=400)[1]
        assert going.returncode == 0, said
        assert ("trials over: 1, under way: 1" in said) == (name == "killed")
        assert "chosen on val: trial" in said
    assert answers("killed") == answers("whole")
    assert [row["state"] for row in answers("whole")] == ["finished"] * 2
    assert load_recipe(tmp_path / "killed" / "best.yaml") == load_recipe(tmp_path / "whole" / "best.yaml")
