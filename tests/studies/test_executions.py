"""Runs of one network share precision and memory format, whatever each would have measured."""

import pytest

from fieldmark.core.recipe.load import load_recipe, with_settings
from fieldmark.core.recipe.values import identity
from fieldmark.core.run_folder import RunFolder
from fieldmark.studies.executions import with_executions
from fieldmark.studies.plan import PlannedRun, Rung, StudyDataset

FAST, OTHER = ("bfloat16", "channels-last"), ("float32", "contiguous")


@pytest.fixture
def run_of(tmp_path):
    def planned(name, *settings, seed=0, data="birds"):
        recipe = load_recipe("default", [*settings, f"train.seed={seed}"])
        return PlannedRun(StudyDataset(data, data), Rung(name), seed, recipe, tmp_path / data / name / str(seed))

    return planned


def executions(recipes):
    return [(recipe.train.precision, recipe.train.memory_format) for recipe in recipes.values()]


def test_what_was_measured_first_is_that_of_all_runs_of_the_network(run_of):
    runs = [run_of("base"), run_of("base", seed=1), run_of("longer", "train.epochs=40")]
    found = with_executions(runs, dict(zip([run.path for run in runs], (FAST, OTHER, OTHER), strict=True)))
    assert executions(found) == [FAST] * 3


def test_another_network_size_or_dataset_has_its_own(run_of):
    runs = [run_of("base"), run_of("larger", "data.size=192"), run_of("resnet", "model.name=resnet18"), run_of("base", data="cars")]
    found = with_executions(runs, dict(zip([run.path for run in runs], (FAST, OTHER, OTHER, OTHER), strict=True)))
    assert executions(found) == [FAST, OTHER, OTHER, OTHER]


def test_a_study_that_is_continued_stays_with_what_its_runs_were_begun_with(run_of):
    done, todo = run_of("base"), run_of("base", seed=1)
    done.path.parent.mkdir(parents=True)
    with RunFolder.create(done.path) as folder:
        folder.write_recipe(with_settings(done.recipe, {"train.precision": "float32", "train.memory_format": "channels-last"}))
    assert executions(with_executions([done, todo], {todo.path: FAST})) == [("float32", "channels-last")]


def test_what_a_rung_says_stays(run_of):
    runs = [run_of("base"), run_of("exact", "train.precision=float32")]
    found = with_executions(runs, {runs[0].path: FAST, runs[1].path: ("float32", "contiguous")})
    assert executions(found) == [FAST, ("float32", "contiguous")]


def test_the_runs_stay_those_that_were_planned(run_of):
    run = run_of("base")
    assert identity(with_executions([run], {run.path: FAST})[run.path]) == identity(run.recipe)
