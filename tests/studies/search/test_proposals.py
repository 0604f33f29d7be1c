"""What is proposed, without any training; the searches of test_run.py go through the same code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fieldmark.core.recipe.layers import read_layer
from fieldmark.studies.plan import StudyDataset
from fieldmark.studies.search.identity import Identity
from fieldmark.studies.search.journal import Journal
from fieldmark.studies.search.proposals import Proposals
from fieldmark.studies.search.section import Halving, Search
from fieldmark.studies.search.space import read_space

SPACE = {
    "optim.name": {"sgd": {"optim.momentum": [0.8, 0.9]}, "adamw": {"optim.lr": {"from": 1e-4, "to": 1e-2, "log": True}}},
    "schedule.floor_factor": {"from": 0.0, "to": 0.1},
    "train.batch": {"from": 16, "to": 64, "step": 16},
    "augment.flip": [0.0, 0.25, 0.5],
}


def a_space():
    problems = []
    space = read_space(SPACE, [read_layer({"optim.name": "sgd"}, "base", problems)], "study.yaml", problems)
    assert problems == []
    return space


def proposals(file, sampler="tpe", halving=None, seed=0, data="cars"):
    search = Search(a_space(), sampler, halving, seed)
    return Proposals(file, search, Identity.of(search, StudyDataset("cars", data)))


def worth(settings):
    return settings["train.batch"] + 100 * settings["schedule.floor_factor"] + settings["augment.flip"]


def propose(file, trials=25):
    asked = proposals(file)
    for _ in range(trials):
        trial = asked.ask()
        asked.report(trial.number, 1, worth(trial.settings), last=True)
        asked.finish(trial.number, worth(trial.settings))
    return [trial.settings for trial in asked.all()]


def test_proposals_do_not_depend_on_the_process(tmp_path):
    """Python puts sets of words in another order in each process."""
    code = "import sys, json, pathlib; sys.path.insert(0, sys.argv[1]); import test_proposals as t\n"
    code += "print(json.dumps(t.propose(pathlib.Path(sys.argv[2]))))"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path / "there")]
    there = subprocess.run(command, env=os.environ | {"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True).stdout
    assert json.loads(there) == propose(tmp_path / "here")


def test_opening_it_again_changes_neither_the_file_nor_what_comes_next(tmp_path):
    once = propose(tmp_path / "once")
    for trials in (3, 0, 9, 13):
        propose(tmp_path / "often", trials)
    assert [trial.settings for trial in proposals(tmp_path / "often").all()] == once
    before = (tmp_path / "often").read_bytes()
    assert proposals(tmp_path / "often").all() == proposals(tmp_path / "often").all()
    assert (tmp_path / "often").read_bytes() == before


def test_what_trials_gave_is_known_when_it_is_opened_again(tmp_path):
    asked = proposals(tmp_path / "file", halving=Halving(1, 2))
    for number, value in ((1, 50.0), (2, 40.0), (3, float("nan")), (4, 60.0), (5, 45.0)):
        assert asked.ask().number == number
        stopped = asked.report(number, 1, value, last=False)
        assert stopped == (number in (2, 3, 5))
    asked.finish(1, 70.0)
    asked.fail(4, "the loss is not finite")
    states = [(trial.state, trial.value, trial.reason) for trial in proposals(tmp_path / "file").all()]
    stopped = ("stopped", None, None)
    assert states == [("finished", 70.0, None), stopped, stopped, ("failed", None, "the loss is not finite"), stopped]
    assert [trial.figure for trial in asked.all()][:2] == [70.0, 40.0] and np.isnan(asked.one(3).figure)


def test_the_last_epoch_decides_nothing(tmp_path):
    asked = proposals(tmp_path / "file", halving=Halving(1, 2))
    for value in (50.0, 40.0):
        assert not asked.report(asked.ask().number, 1, value, last=True)


def test_its_identity_is_that_of_the_first_time(tmp_path):
    proposals(tmp_path / "file")
    again = proposals(tmp_path / "file", "random", None, 3, "birds")
    assert (again.identity.data, again.identity.sampler, again.identity.seed) == ("cars", "tpe", 0)


def test_random_proposals_fill_the_space(tmp_path):
    asked = proposals(tmp_path / "file", "random")
    found = [asked.ask().settings for _ in range(300)]
    for key, values in (("train.batch", (16, 32, 48, 64)), ("augment.flip", (0.0, 0.25, 0.5)), ("optim.name", ("sgd", "adamw"))):
        counts = [sum(settings[key] == value for settings in found) for value in values]
        assert sum(counts) == 300
        assert max(abs(count - 300 / len(values)) for count in counts) < 5 * np.sqrt(300 / len(values))
    lrs = np.log10([settings["optim.lr"] for settings in found if "optim.lr" in settings])
    assert -4 <= lrs.min() < -3.8 and -2.2 < lrs.max() <= -2
    assert abs(lrs.mean() + 3) < 0.2  # even on the logarithmic scale
    floors = [settings["schedule.floor_factor"] for settings in found]
    assert abs(np.mean(floors) - 0.05) < 0.01 and len(set(floors)) == 300


def test_a_step_reaches_the_file_whole(tmp_path):
    journal = Journal(tmp_path / "file")
    with journal.step():
        journal.append_logs([{"op_code": 0, "n": 1}])
        assert not (tmp_path / "file").exists()
        journal.append_logs([{"op_code": 0, "n": 2}, {"op_code": 0, "n": 3}])
    with journal.step():
        pass
    with pytest.raises(KeyError), journal.step():
        journal.append_logs([{"op_code": 0, "n": 4}])
        raise KeyError
    lines = [json.loads(line) for line in (tmp_path / "file").read_text().splitlines()]
    assert lines == [{"op_code": 0, "n": 1}, {"op_code": 0, "n": 2}, {"op_code": 0, "n": 3, "end": True}]
    whole = (tmp_path / "file").read_bytes()
    for length in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:length])
        cut = Journal(tmp_path / "cut")
        assert (list(cut.read_logs(0)), cut.was_cut) == ([], length > 0)
        assert (tmp_path / "cut").read_bytes() == b""
    assert list(Journal(tmp_path / "file").read_logs(1)) == lines[1:]
