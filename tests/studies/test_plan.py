import json
import re
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.recipe.values import flat
from fieldmark.studies.plan import Rung, StudyDataset, StudyPlan, differences, named_datasets, slug
from records import a_manifest


def plan_in(folder, **changes) -> StudyPlan:
    recipes = (load_recipe("default"), load_recipe("default", ["augment.flip=0"]))
    rungs = (Rung("base"), Rung("No flip!", {"augment.flip": 0.0}, "base"))
    plan = StudyPlan(
        folder=folder,
        name="mine",
        title="what helps",
        source="mine.yaml",
        settings=("train.epochs=3",),
        arrangement="ladder",
        rungs=rungs,
        recipes=recipes,
        datasets=(StudyDataset("birds", "birds"),),
        seeds=(0, 1),
    )
    return replace(plan, **changes)


def test_saved_plan_is_read_as_it_was(tmp_path):
    plan = plan_in(tmp_path / "study")
    plan.save()
    assert StudyPlan.load(plan.folder) == plan


def test_runs_have_folders_and_seeds_of_their_own(tmp_path):
    runs = plan_in(tmp_path).runs()
    assert [run.name for run in runs] == ["birds/base/seed-0", "birds/no-flip/seed-0", "birds/base/seed-1", "birds/no-flip/seed-1"]
    assert [run.recipe.train.seed for run in runs] == [0, 0, 1, 1]
    assert runs[3].recipe.augment.flip == 0 and runs[3].path == tmp_path / "runs" / "birds" / "no-flip" / "seed-1"


def test_run_is_finished_when_its_manifest_says_so(tmp_path):
    run = plan_in(tmp_path).runs()[0]
    assert not run.finished
    run.path.mkdir(parents=True)
    (run.path / "report.html").write_text("")
    for text in ("{", "[]", '{"status": "finished"}'):
        (run.path / "manifest.json").write_text(text)
        assert not run.finished
    for status in ("running", "finished"):
        a_manifest(status=status).write(run.path / "manifest.json")
        assert run.finished is (status == "finished")
    (run.path / "report.html").unlink()
    assert not run.finished, "the report comes last"


def test_study_grows_by_seeds_datasets_and_rungs(tmp_path):
    earlier = plan_in(tmp_path, seeds=(0, 1, 7))
    flips = Rung("no smoothing", {"loss.label_smoothing": 0.0}, "No flip!")
    recipe = load_recipe("default", ["augment.flip=0", "loss.label_smoothing=0"])
    now = plan_in(
        tmp_path,
        rungs=(*earlier.rungs, flips),
        recipes=(*earlier.recipes, recipe),
        datasets=(StudyDataset("flowers", "hf:o/flowers"),),
        seeds=(0, 1, 2),
    )
    grown = now.grown_from(earlier)
    assert grown.seeds == (0, 1, 2, 7)
    assert [dataset.given for dataset in grown.datasets] == ["birds", "hf:o/flowers"]
    assert len(grown.rungs) == 3


def test_changed_study_is_refused_with_what_changed(tmp_path):
    earlier = plan_in(tmp_path)
    other = plan_in(tmp_path, recipes=(load_recipe("default", ["data.size=96"]), earlier.recipes[1]))
    with pytest.raises(InputError, match=r"'base' has changed: data\.size 224 → 96"):
        other.grown_from(earlier)
    with pytest.raises(InputError, match="'No flip!' is no longer in the study"):
        plan_in(tmp_path, rungs=earlier.rungs[:1], recipes=earlier.recipes[:1]).grown_from(earlier)
    with pytest.raises(InputError, match="its changes are arranged as ladder there, and as independent now"):
        plan_in(tmp_path, arrangement="independent").grown_from(earlier)
    between = Rung("between", {"train.batch": 8}, "base")
    rungs = (earlier.rungs[0], between, replace(earlier.rungs[1], before="between"))
    recipes = (earlier.recipes[0], load_recipe("demo"), earlier.recipes[1])
    with pytest.raises(InputError, match="a rung was inserted: 'No flip!' is built on 'between' now, and on 'base' there"):
        plan_in(tmp_path, rungs=rungs, recipes=recipes).grown_from(earlier)


def test_side_branch_may_be_put_between_the_rungs_of_a_ladder(tmp_path):
    earlier = plan_in(tmp_path)
    branch = Rung("aside", {"on": "base", "train.batch": 8}, "base")
    assert branch.branch and not earlier.rungs[1].branch
    rungs = (earlier.rungs[0], branch, earlier.rungs[1])
    recipes = (earlier.recipes[0], load_recipe("default", ["train.batch=8"]), earlier.recipes[1])
    grown = plan_in(tmp_path, rungs=rungs, recipes=recipes)
    assert grown.grown_from(earlier).rungs == rungs
    moved = (*rungs[:2], replace(rungs[2], before="aside"))
    with pytest.raises(InputError, match="'No flip!' is built on 'aside' now, and on 'base' there"):
        replace(grown, rungs=moved).grown_from(grown)


def test_quick_form_and_the_full_study_do_not_share_a_folder(tmp_path):
    full, quick = plan_in(tmp_path), plan_in(tmp_path, quick=True)
    quick.save()
    assert StudyPlan.load(tmp_path) == quick and json.loads(quick.file.read_text())["quick"] is True
    with pytest.raises(InputError, match="holds the quick form of a study, and this is the full form"):
        full.grown_from(quick)
    with pytest.raises(InputError, match="holds the full form of a study, and this is the quick form"):
        quick.grown_from(full)
    stored = json.loads(quick.file.read_text())
    del stored["quick"]
    quick.file.write_text(json.dumps(stored))
    assert StudyPlan.load(tmp_path) == full, "a study of before there were quick forms"


def test_one_recipe_grows_into_a_ladder(tmp_path):
    ladder = plan_in(tmp_path)
    alone = plan_in(tmp_path, arrangement="independent", rungs=ladder.rungs[:1], recipes=ladder.recipes[:1])
    assert ladder.grown_from(alone) == ladder


def test_folder_without_a_study(tmp_path):
    with pytest.raises(InputError, match="is not the folder of a study"):
        StudyPlan.load(tmp_path)


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"schema": 1}', '{"schema": 99}', "null"])
def test_damaged_study_is_refused(tmp_path, damage):
    (tmp_path / "study.json").write_text(damage)
    with pytest.raises(InputError):
        StudyPlan.load(tmp_path)


@given(st.data())
def test_hostile_values_in_a_study_are_refused_or_read(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "hostile"
    plan_in(folder).save()
    stored = json.loads((folder / "study.json").read_text())
    key = data.draw(st.sampled_from(sorted(stored)))
    hostile = [None, 3, -1, "x", [], {}, [{}], [None], [{"name": 3}], [0, 0], [True], "../../x", 2 * stored["rungs"], "[" * 5000]
    hostile += [[{"name": "../x", "given": "birds"}], [{**stored["rungs"][0], "name": ".."}], [{**stored["rungs"][0], "settings": []}]]
    stored[key] = data.draw(st.sampled_from(hostile))
    (folder / "study.json").write_text(json.dumps(stored))
    with suppress(InputError):
        plan = StudyPlan.load(folder)
        assert all(folder in run.path.parents and ".." not in run.path.parts for run in plan.runs())
        assert len({run.path for run in plan.runs()}) == len(plan.runs())


def test_datasets_get_names_of_their_own(tmp_path):
    for name in ("a/cars", "b/cars"):
        (tmp_path / name).mkdir(parents=True)
    named = named_datasets([str(tmp_path / "a" / "cars"), str(tmp_path / "b" / "cars"), "hf:me/Cars", "birds"])
    assert [dataset.name for dataset in named] == ["cars", "cars-2", "me-cars", "birds"]
    with pytest.raises(InputError, match="given twice"):
        named_datasets(["birds", "birds"])


@given(st.text(max_size=30))
def test_slug_is_safe_in_a_path(name):
    made = slug(name)
    assert re.fullmatch(r"(\w[\w.-]*)?", made) and ".." not in Path("a", made, "b").parts


def test_slug_of_a_long_name_is_short_and_its_own():
    one, other = slug("augment " * 50), slug("augment " * 50 + "x")
    assert one != other and max(len(one), len(other)) <= 80
    assert slug("更多轮") == "更多轮"


def test_flat_recipe_holds_every_key_and_differences_name_them():
    one, other = load_recipe("default"), load_recipe("default", ["optim=sgd", "train.seed=5"])
    assert flat(one)["optim.betas"] == [0.9, 0.999] and "optim.momentum" not in flat(one)
    assert differences(one, one) == []
    told = differences(one, other)
    assert 'optim.name "adamw" → "sgd"' in told and "optim.momentum (none) → 0.9" in told
    assert not any("seed" in each for each in told)
