import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.fields import fields
from fieldmark.core.recipe.load import load_recipe, recipe_from


def test_another_variant_drops_what_was_inherited_for_the_old_one(tmp_path):
    (tmp_path / "base.yaml").write_text("extends: default\noptim:\n  name: sgd\n  momentum: 0.8\n  lr: 0.3\n")
    (tmp_path / "child.yaml").write_text("extends: base.yaml\noptim:\n  name: adamw\n  weight_decay: 0.2\n")
    recipe = load_recipe(tmp_path / "child.yaml")
    assert (recipe.optim.name, recipe.optim.lr, recipe.optim.weight_decay) == ("adamw", 1e-3, 0.2)
    assert load_recipe(tmp_path / "base.yaml", ["optim.name=sgd"]).optim.momentum == 0.8
    assert load_recipe(tmp_path / "base.yaml", ["optim=adamw", "optim.lr=0.01"]).optim.lr == 0.01


def test_a_key_that_the_variant_lacks_is_an_error_in_its_own_and_in_later_layers(tmp_path, problems):
    (tmp_path / "r.yaml").write_text("optim:\n  name: adamw\n  momentum: 0.9\n")
    (problem,) = problems(recipe=tmp_path / "r.yaml")
    assert "optim.momentum: adamw has no momentum (it belongs to sgd, rmsprop)" in problem and "r.yaml, line 3" in problem
    (tmp_path / "r.yaml").write_text("optim:\n  name: adamw\n")
    assert "adamw has no nesterov" in problems("optim.nesterov=true", recipe=tmp_path / "r.yaml")[0]


def test_all_problems_come_at_once_with_origin_and_suggestion(problems):
    found = problems(
        "trian.epochs=1", "lr=3", "train.batch=many", "augment.crop.area=[0.5]", "optim.name=adamx", "loose", "train.seed=1", "train.seed=2"
    )
    assert len(found) == 7
    text = "\n".join(found)
    assert "trian.epochs: there is no such key; did you mean train.epochs?" in text
    assert "lr: there is no such key; did you mean optim.lr?" in text
    assert 'train.batch: expected a whole number, got "many" (command line)' in text
    assert "augment.crop.area: expected two numbers, such as [0.5, 1.0], got [0.5]" in text
    assert 'optim.name: expected one of sgd, adam, adamw, rmsprop, timm, got "adamx"' in text
    assert "train.seed is given twice" in text


@pytest.mark.parametrize(
    ("setting", "part"),
    [
        ("augment.zoom=[2,1]", "augment.zoom: the first number (2) is larger"),
        ("schedule.warmup_epochs=1000", "lower schedule.warmup_epochs"),
        ("optim.name=sgd optim.momentum=0", "optim.nesterov needs optim.momentum above 0"),
        ("train=3", "train: expected keys beneath it"),
        ("train.seed={a: 1}", "give one key at a time"),
        ("optim.lr=.inf", "optim.lr"),
        ("optim.lr=.nan", "optim.lr"),
        ("train.epochs=true", "train.epochs: expected a whole number, got true"),
        ("train.refit=1", "train.refit: expected true or false, got 1"),
        ("data.size=99999999999999999999", "data.size"),
        ("data.val_fraction=1", "expected a number below 1"),
        ("model.name=[a", "not valid YAML"),
    ],
)
def test_one_problem_at_a_time(setting, part, problems):
    assert part in "\n".join(problems(*re.split(r" (?=optim)", setting)))


@given(
    st.sampled_from(fields()),
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.lists(st.floats(), max_size=3)),
)
@settings(max_examples=300, deadline=None)
def test_any_value_of_any_field_makes_a_recipe_or_names_the_field(field, value):
    outer, _, inner = field.key.partition("[].")
    section, _, name = outer.rpartition(".")
    values = {name: [{inner: value}] if inner else value} | ({"name": field.variant} if field.variant and name != "name" else {})
    for part in reversed(section.split(".") if section else []):
        values = {part: values}
    try:
        recipe_from(values)
    except InputError as error:
        assert field.key in str(error) or (inner or name) in str(error)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("stages=3", "stages: expected a list of {epochs, trainable, frozen_norm, lr_factor, restart, views}, got 3"),
        ("stages=[3]", "stages[0]: expected settings such as {epochs: ...}, got 3"),
        ("stages=[{epochs: x}]", 'stages[0].epochs: expected a whole number, got "x"'),
        ("stages=[{epochs: 1}, {epoch: 3}]", "stages[1].epoch: there is no such key; did you mean epochs?"),
        ("stages=[{trainable: head}]", 'stages[0].trainable: expected a list of text, got "head"'),
        ("stages=[{trainable: []}]", "names nothing"),
        ("stages=[{restart: false}]", "the first stage has no stage before it"),
        ("stages=[{}, {epochs: 3}]", "only the last stage may leave out its epochs"),
        ("stages=[{epochs: 40}]", "they take 40 epochs, and train.epochs is 30; leave out the epochs of the last"),
        ("stages=[{epochs: 30}, {}]", "all but the last take 30 epochs and leave none of train.epochs (30)"),
        ("optim.lr_factors=[{parameters: 3}]", "optim.lr_factors[0].parameters: expected text, got 3"),
        ("optim.lr_factors=[{parameters: head, factor: -1}]", "optim.lr_factors[0].factor: expected a number above 0, got -1"),
        ("stages={trainable: [head]}", "stages: expected a list of sections, such as stages=[{trainable: [head]}]"),
        ("stages.epochs=3", "stages.epochs: stages is a list of sections, which is set as a whole, such as stages=[{epochs: ...}]"),
        ("stages[0].epochs=3", "stages[0].epochs: stages is a list of sections, which is set as a whole"),
        ("stages=[{frozen_norm: adapting}]", "`frozen_norm` has no effect if `trainable` is all"),
        ("stages=[{trainable: [{head: 1}]}]", "stages[0].trainable[0]: expected text"),
    ],
)
def test_what_is_wrong_in_a_list_of_sections_is_named(setting, expected, problems):
    assert any(expected in problem for problem in problems(setting)), problems(setting)
