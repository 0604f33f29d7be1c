import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.core.presets import RECIPES
from fieldmark.core.recipe.few_epochs import _shares
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.recipe.values import flat, to_yaml


def load(*settings, recipe="default"):
    said = []
    return load_recipe(recipe, settings, lambda *sentences: said.extend(sentences)), said


@pytest.mark.parametrize("name", RECIPES.names())
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_every_preset_fits_into_few_epochs_and_says_what_was_shortened(name, epochs, tmp_path):
    recipe, said = load(f"train.epochs={epochs}", recipe=name)
    assert recipe.train.epochs == epochs == sum(length for _, length in recipe.stage_spans())
    before, after = flat(load_recipe(name)), flat(recipe)
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)} - {"train.epochs"}
    assert bool(changed) == bool(said)
    assert {key.partition(".")[0] for key in changed} <= {"stages", "schedule", "ema"}
    for sentence in said:
        assert sentence.partition(" ")[0] in changed
    (tmp_path / "recipe.yaml").write_text(to_yaml(recipe))
    assert load(recipe=tmp_path / "recipe.yaml") == (recipe, [])


@pytest.mark.parametrize("name", RECIPES.names())
def test_a_preset_that_fits_is_not_changed(name):
    _, said = load(recipe=name)
    assert said == []


def test_the_warmup_is_a_fifth_of_one_epoch():
    recipe, said = load("train.epochs=1")
    assert recipe.schedule.warmup_epochs == 0.2
    assert said == ["schedule.warmup_epochs is 0.2 instead of 1: train.epochs=1 leaves no room for more"]


def test_stages_of_the_user_shorten_the_presets_warmup():
    recipe, said = load("stages=[{epochs: 1, trainable: [head]}, {}]")
    assert recipe.schedule.warmup_epochs == 0.2 and recipe.stages[0].epochs == 1
    assert said == ["schedule.warmup_epochs is 0.2 instead of 1: a stage takes 1 epoch"]


def test_stages_keep_their_proportions_and_the_last_ones_remain():
    spans = {epochs: load(f"train.epochs={epochs}", recipe="gradual-unfreeze")[0].stage_spans() for epochs in (10, 3)}
    assert [epochs for _, epochs in spans[10]] == [2, 2, 2, 4]
    recipe, said = load("train.epochs=2", recipe="gradual-unfreeze")
    assert [stage.trainable for stage in recipe.stages] == [
        ("head", "layer4", "layer3"),
        ("head", "layer4", "layer3", "layer2", "layer1"),
    ]
    assert said == ["stages take 0, 0, 1, 1 epochs instead of 10, 10, 10, 20: train.epochs=2 leaves no room for more"]


@pytest.mark.parametrize(("epochs", "name", "every"), [(1, "constant", None), (2, "step", 1), (3, "step", 2), (7, "step", 4)])
def test_steps_of_the_rate_lie_within_the_epochs(epochs, name, every):
    recipe, _ = load(f"train.epochs={epochs}", recipe="large-batch")
    assert recipe.schedule.name == name and getattr(recipe.schedule, "every", None) == every
    assert recipe.schedule.warmup_epochs > 0 and recipe.schedule.warmup_factor == 0.01


def test_default_epochs_of_a_schedule_that_the_user_chose():
    assert load("schedule=multi-step", "train.epochs=20")[0].schedule.after == (10, 17)
    assert load("schedule=multi-step", "train.epochs=2")[0].schedule.after == (1,)


def test_averaging_begins_in_time():
    recipe, said = load("train.epochs=3", recipe="refined")
    assert (recipe.ema.every, recipe.ema.warmup, recipe.ema.decay) == (1, True, 0.994)
    assert said[-1].startswith("ema.every is 1 instead of 32, with ema.warmup")
    assert load("train.epochs=30", recipe="refined")[0].ema.every == 32


def test_a_file_that_extends_nothing_may_have_one_epoch(tmp_path):
    (tmp_path / "r.yaml").write_text("train: {epochs: 1}\n")
    assert load(recipe=tmp_path / "r.yaml")[0].schedule.warmup_epochs == 0.2


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (["train.epochs=1", "schedule.warmup_epochs=1"], "lower schedule.warmup_epochs"),
        (["train.epochs=3", "stages=[{epochs: 3}, {}]"], "leave none of train.epochs"),
        (["train.epochs=1", "schedule=step"], "never reached"),
        (["train.epochs=4", "schedule=step", "schedule.every=9"], "lower schedule.every"),
        (["train.epochs=x"], "expected a whole number"),
    ],
)
def test_what_the_user_set_is_refused_rather_than_changed(settings, problem):
    with pytest.raises(InputError, match=problem):
        load(*settings)


def test_so_is_what_a_file_of_the_user_says(tmp_path):
    (tmp_path / "r.yaml").write_text("extends: default\nschedule: {warmup_epochs: 2}\n")
    with pytest.raises(InputError, match=r"leaves nothing of train\.epochs"):
        load("train.epochs=2", recipe=tmp_path / "r.yaml")


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.integers(1, 100))
def test_shares_add_up(lengths, total):
    shares = _shares(lengths, total)
    assert sum(shares) == total and len(shares) == len(lengths)
    if total >= len(lengths):
        assert min(shares) >= 1
        assert all(share <= 1 or share < length * total / sum(lengths) + 1 for share, length in zip(shares, lengths, strict=True))
