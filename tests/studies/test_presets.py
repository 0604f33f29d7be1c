"""The studies that come with Fieldmark: all can be read, and those with a quick form run in it to their end."""

import json

import pytest

from fieldmark.api import run_study
from fieldmark.core.presets import STUDIES
from fieldmark.studies.study_file import load_study

QUICK = [name for name in STUDIES.names() if "\nquick:" in STUDIES.text(name)]


def test_the_published_systems_have_a_quick_form():
    assert {"birds-under-10m", "cifar100-two-models", "competition-models", "competition-ensemble", "refinement-ladder"} <= set(QUICK)


@pytest.mark.parametrize("name", STUDIES.names())
def test_a_study_names_its_rungs_and_its_command(name):
    study = load_study(name)
    assert study.rungs and study.title
    assert f"fieldmark study {'search' if 'search:' in STUDIES.text(name) else 'run'} {name} " in STUDIES.text(name)


def test_the_ladder_of_recipes_is_that_of_the_study():
    """The recipes `baseline` to `refined` are the rungs of `refinement-ladder`."""
    from fieldmark.core.recipe.load import load_recipe
    from fieldmark.core.recipe.values import identity

    names = ("baseline", "large-batch", "trivial-augment", "cosine-decay", "label-smoothing", "random-erasing", "refined")
    assert [identity(recipe) for recipe in load_study("refinement-ladder").recipes[:7]] == [identity(load_recipe(name)) for name in names]


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_the_quick_form_runs_on_the_birds(name, few_built_in_birds, tmp_path):
    table = run_study(name, "birds", "train.threads=1", out=tmp_path / "study", quick=True, quiet=True)
    (dataset,) = table.datasets
    study = load_study(name, quick=True)
    assert [row.name for row in dataset.rows] == [rung.name for rung in study.rungs]
    assert all(row.finished == len(study.seeds) and row.measured is not None for row in dataset.rows)
    answer = json.loads((tmp_path / "study" / "table.json").read_text())
    assert answer["quick"] is True
    assert [(row.name, row.reason) for row in dataset.ensembles] == [(ensemble.name, "") for ensemble in study.ensembles]
    staged = {rung.name for rung, recipe in zip(study.rungs, study.recipes, strict=True) if len(recipe.stages) > 1}
    assert {stage.name for stage in dataset.stages} == staged
    assert (tmp_path / "study" / "figures" / "tradeoff.png").is_file()
