"""Spaces as study files give them: what they contain, and everything that can be wrong with them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.core.errors import InputError
from fieldmark.core.recipe.layers import read_layer
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.yaml_text import parse
from fieldmark.studies.search.space import Choices, Range, read_space


def a_space(text, base="optim: {name: adamw}", command_line=()):
    problems = []
    layers = [read_layer(parse(base, "base.yaml"), "base.yaml", problems), read_layer(dict(command_line), "command line", problems)]
    return read_space(parse(text, "study.yaml"), layers, "study.yaml", problems), problems


def problems_of(text, **more):
    return [str(problem) for problem in a_space(text, **more)[1]]


def sound(text, **more):
    space, problems = a_space(text, **more)
    assert problems == []
    return space


def test_ranges_and_choices():
    space = sound("""
        optim.lr: {from: 1e-4, to: 1e-2, log: true}
        train.batch: {from: 16, to: 64, step: 16}
        augment: {crop.area: [[0.35, 1.0], [0.5, 1.0]], flip: [0, 0.5]}
        train.patience: [null, 5]
    """)
    assert {dimension.key: dimension.domain for dimension in space.dimensions} == {
        "optim.lr": Range(1e-4, 1e-2, log=True),
        "train.batch": Range(16, 64, step=16, whole=True),
        "augment.crop.area": Choices(([0.35, 1.0], [0.5, 1.0])),
        "augment.flip": Choices((0, 0.5)),
        "train.patience": Choices((None, 5)),
    }
    assert [dimension.origin for dimension in space.dimensions] == [f"study.yaml, line {n}" for n in (2, 3, 4, 4, 5)]
    recipe = space.recipe({"optim.lr": 2e-3, "train.batch": 48, "augment.crop.area": [0.35, 1.0], "train.patience": None})
    assert (recipe.optim.lr, recipe.train.batch, recipe.augment.crop.area) == (2e-3, 48, (0.35, 1.0))


def test_a_range_of_a_number_is_of_numbers_however_it_is_written():
    assert sound("optim.weight_decay: {from: 0, to: 1}").dimensions[0].domain == Range(0.0, 1.0)
    assert not sound("optim.weight_decay: {from: 0, to: 1}").dimensions[0].domain.whole
    assert sound("train.patience: {from: 1.0, to: 9.0}").dimensions[0].domain == Range(1, 9, whole=True)


def test_variants_are_chosen_first_and_bring_their_keys():
    space = sound("optim.momentum: [0.8, 0.9]\noptim: [sgd, adamw]")
    assert [dimension.key for dimension in space.dimensions] == ["optim.name", "optim.momentum"]
    asked = []

    def value_of(name):
        return lambda dimension: asked.append(dimension.key) or (name if dimension.key == "optim.name" else 0.8)

    assert space.settings(value_of("sgd")) == {"optim.name": "sgd", "optim.momentum": 0.8}
    assert space.settings(value_of("adamw")) == {"optim.name": "adamw"}
    assert asked == ["optim.name", "optim.momentum", "optim.name"]


def test_a_variant_may_have_a_space_of_its_own():
    space = sound("""
        optim.name:
          sgd: {optim.lr: {from: 0.01, to: 1, log: true}}
          adamw: {optim: {lr: {from: 1e-4, to: 1e-2, log: true}}}
    """)
    assert [dimension.name for dimension in space.dimensions] == ["optim.name", "optim.lr (sgd)", "optim.lr (adamw)"]
    low = {name: space.settings(lambda d, name=name: name if d.key == "optim.name" else d.domain.low) for name in ("sgd", "adamw")}
    assert low == {"sgd": {"optim.name": "sgd", "optim.lr": 0.01}, "adamw": {"optim.name": "adamw", "optim.lr": 1e-4}}
    assert sound("optim.name: {sgd: {optim.momentum: [0.8, 0.9]}, adamw: null}").dimensions[1].when == ("optim.name", "sgd")


def test_another_variant_drops_what_the_base_has_set_for_the_old_one():
    space = sound("optim.name: [sgd, adamw]", base="optim: {name: adamw, lr: 2e-3}")
    assert space.recipe({"optim.name": "sgd"}).optim.lr == load_recipe("default", ["optim.name=sgd"]).optim.lr
    assert space.recipe({"optim.name": "adamw"}).optim.lr == 2e-3


def test_the_base_is_found_in_the_space():
    base = "{optim: {name: adamw, lr: 2e-3}, augment.crop.area: [0.5, 1]}"
    space = "optim.lr: {from: 1e-4, to: 1e-2}\naugment.crop.area: [[0.35, 1.0], [0.5, 1.0]]\noptim.name: [sgd, adamw]\n"
    expected = {"optim.name": "adamw", "optim.lr": 2e-3, "augment.crop.area": [0.5, 1.0]}
    assert sound(space, base=base).base_settings() == expected
    assert sound(space + "optim.momentum: [0.8, 0.7]", base=base).base_settings() == expected
    assert sound(space, base=base.replace("2e-3", "2e-2")).base_settings() is None
    assert sound("train.batch: {from: 16, to: 64, step: 16}", base="train.batch: 40").base_settings() is None
    assert sound("train.batch: {from: 16, to: 64, step: 16}", base="train.batch: 48").base_settings() == {"train.batch": 48}


@given(low=st.floats(-1e3, 1e3), steps=st.integers(1, 50), step=st.floats(1e-3, 10), index=st.integers(0, 49))
def test_a_range_holds_its_steps_and_nothing_between(low, steps, step, index):
    domain = Range(low, low + steps * step, step=step)
    value = low + index * step
    assert domain.holds(value) == (index <= steps and value <= domain.high)
    assert not domain.holds(value + step / 2)


def test_how_many_recipes_a_space_holds():
    assert sound("augment.flip: [0, 0.5]\ntrain.batch: {from: 16, to: 64, step: 16}\ntrain.patience: {from: 3, to: 5}").largest == 24
    assert sound("augment.flip: [0, 0.5]\noptim.lr: {from: 0.1, to: 1}").largest == float("inf")


def test_choices_tell_numbers_from_words_and_truth():
    assert Choices((True, False)).holds(True) and not Choices((True, False)).holds(1)
    assert Choices((1, 0)).holds(1.0) and not Choices((1, 0)).holds(True)
    assert not Choices(("1", "2")).holds(1)
    assert not Range(0, 2).holds(True)


ONE_PROBLEM = {
    "optm.lr: [0.1, 0.2]": "optm.lr: there is no such key; did you mean optim.lr? (study.yaml, line 1)",
    "lr: [0.1, 0.2]": "lr: there is no such key; did you mean optim.lr? (study.yaml, line 1)",
    "optim.lr: 0.1": "optim.lr: expected a range such as {from: 1e-4, to: 1e-2, log: true}, or a list of choices, got 0.1; "
    "a value that stays the same belongs in the base (study.yaml, line 1)",
    "optim.lr: [0.1]": "optim.lr: expected two choices or more, got [0.1]; a value that stays the same belongs in the base "
    "(study.yaml, line 1)",
    "optim.lr: [0.1, 0.2, 0.1]": "optim.lr: 0.1 is given twice (study.yaml, line 1)",
    "optim.lr: {from: 0.1}": "optim.lr: a range needs to, such as {from: 1e-4, to: 1e-2, log: true} (study.yaml, line 1)",
    "optim.lr: {from: 0.1, too: 1}": "optim.lr: a range has no 'too'; did you mean to?; "
    "it has from, to, and log or step (study.yaml, line 1)",
    "optim.lr: {from: 0.1, to: high}": 'optim.lr: to: expected a number, got "high" (study.yaml, line 1)',
    "optim.lr: {from: true, to: 2}": "optim.lr: from: expected a number, got true (study.yaml, line 1)",
    "optim.lr: {from: 0.1, to: .inf}": "optim.lr: to: expected a number, got Infinity (study.yaml, line 1)",
    "optim.lr: {from: 0.1, to: 0.1}": "optim.lr: from (0.1) is not below to (0.1) (study.yaml, line 1)",
    "augment.hue: {from: 0, to: 0.1, log: true}": "augment.hue: a logarithmic range begins above 0, not at 0 (study.yaml, line 1)",
    "optim.lr: {from: 0.1, to: 1, log: yes}": 'optim.lr: log: expected true or false, got "yes" (study.yaml, line 1)',
    "train.batch: {from: 16, to: 64, log: true, step: 16}": "train.batch: log and step do not go together; leave one out "
    "(study.yaml, line 1)",
    "train.batch: {from: 16, to: 70, step: 16}": "train.batch: steps of 16 from 16 do not reach 70; the last is 64 (study.yaml, line 1)",
    "train.batch: {from: 16, to: 64, step: 0}": "train.batch: step: expected a number above 0, got 0 (study.yaml, line 1)",
    "train.batch: {from: 16, to: 64.5}": "train.batch: to: expected a whole number, got 64.5 (study.yaml, line 1)",
    "data.resize: {from: 1, to: 2}": "data.resize: a range is for numbers, and this is letterbox | shorter-side | squash; "
    "give a list of choices (study.yaml, line 1)",
    "optim.lr: {from: -1, to: 0.1}": "optim.lr: expected a number above 0, got -1.0 (study.yaml, line 1)",
    "data.resize: [squash, stretch]": 'data.resize: expected one of squash, shorter-side or letterbox, got "stretch" (study.yaml, line 1)',
    "optim.name: [sgd, adamv]": 'optim.name: expected one of sgd, adam, adamw, rmsprop, timm, got "adamv" (study.yaml, line 1)',
    "optim.momentum: [0.8, 0.9]": "optim.momentum: adamw has no momentum (it belongs to sgd, rmsprop); adamw has name, lr, lr_factors, "
    "weight_decay, decay_norm_and_bias, betas, eps (study.yaml, line 1)",
    "optim.name: {sgd: {optim.betas: [[0.9, 0.99], [0.9, 0.999]]}, adamw: }": "optim.betas: no trial would use it of sgd: "
    "it belongs to adam, adamw (study.yaml, line 1)",
    "optim.name: {sgd: {schedule.name: [cosine, constant]}, adamw: }": "schedule.name: a space beneath a choice cannot hold another "
    "choice between variants (study.yaml, line 1)",
    "optim.name: {sgd: 3, adamw: }": "optim.name: sgd: expected the keys searched over with it, or nothing, got 3 (study.yaml, line 1)",
    "train.seed: [0, 1]": "train.seed: the luckiest seed teaches nothing; `fieldmark study run` shows the spread over seeds "
    "(study.yaml, line 1)",
    "data.split_seed: [0, 1]": "data.split_seed: it decides what val measures, so that trials could not be compared; set it in the base "
    "(study.yaml, line 1)",
    "evaluate.monitor: [top1, nll]": "evaluate.monitor: it decides what val measures, so that trials could not be compared; "
    "set it in the base (study.yaml, line 1)",
    "train.threads: [1, 2]": "train.threads: it does not change what is learnt; set it in the base (study.yaml, line 1)",
}


@pytest.mark.parametrize("text", ONE_PROBLEM)
def test_what_is_wrong_is_said_with_its_line_and_a_remedy(text):
    assert problems_of(text) == [ONE_PROBLEM[text]]


def test_a_key_twice():
    text = "optim.lr: [0.1, 0.2]\noptim: {lr: [0.1, 0.3]}"
    assert problems_of(text) == ["optim.lr is given twice (study.yaml, line 2)"]
    text = "optim.lr: [0.1, 0.2]\noptim.name: {sgd: {optim.lr: [0.1, 0.3]}, adamw: }"
    assert problems_of(text) == ["optim.lr is given twice (study.yaml, line 2)"]


def test_a_searched_key_is_not_set_on_the_command_line_too():
    expected = "optim.lr is searched over (study.yaml, line 1), and set on the command line; leave one out"
    assert problems_of("optim.lr: [0.1, 0.2]", command_line={"optim.lr": 0.1}) == [expected]
    assert problems_of("optim.lr: [0.1, 0.2]", command_line={"optim.weight_decay": 0.1}) == []


def test_everything_wrong_is_said_at_once():
    problems = problems_of("optm.lr: [1, 2]\ntrain.batch: {from: 0, to: 8}\naugment.flip: [0.5, 2]\ntrain.epochs: {from: 4}")
    assert [problem.partition(":")[0] for problem in problems] == ["train.epochs", "optm.lr", "train.batch", "augment.flip"]


@pytest.mark.parametrize("text", ["{}", "[1, 2]", "optim.lr", ""])
def test_a_space_is_a_mapping_of_keys(text):
    problems = []
    read_space({"": None, "{}": {}, "[1, 2]": [1, 2], "optim.lr": "optim.lr"}[text], [], "study.yaml", problems)
    assert len(problems) == 1 and "search.space: expected recipe keys" in str(problems[0])


def test_corners_that_do_not_go_together():
    problems = problems_of("schedule.warmup_epochs: {from: 1, to: 5}\ntrain.epochs: {from: 3, to: 30}")
    assert problems == [
        "schedule.warmup_epochs (5) leaves nothing of train.epochs (3); lower schedule.warmup_epochs "
        "(schedule.warmup_epochs=5.0 in study.yaml, line 1, train.epochs=3 in study.yaml, line 2)"
    ]


@pytest.mark.parametrize("fillers", [0, 12])
def test_a_bad_pair_is_found_in_large_spaces_too(fillers):
    """With `fillers` there are too many corners to try them all."""
    names = ("brightness", "contrast", "saturation", "hue", "translate", "perspective", "rotate", "shear")
    keys = [*(f"augment.{name}" for name in names), "model.dropout", "model.drop_path", "loss.label_smoothing", "train.clip_norm"]
    text = "optim.name: [adamw, sgd]\noptim.momentum: [0.9, 0]\noptim.nesterov: [false, true]\n"
    problems = problems_of(text + "".join(f"{key}: [0.1, 0.2]\n" for key in keys[:fillers]))
    assert problems == [
        "optim.nesterov needs optim.momentum above 0 (optim.momentum=0 in study.yaml, line 2, optim.nesterov=true in study.yaml, line 3)"
    ]


def test_a_bad_base_is_reported_as_such():
    problems = problems_of("optim.lr: [0.1, 0.2]", base="train.epochs: 0")
    assert problems == ["train.epochs: expected a number of at least 1, got 0 (base.yaml, line 1)"]


def test_a_recipe_that_cannot_be_is_an_error_of_its_own():
    space = sound("optim.lr: [0.1, 0.2]")
    with pytest.raises(InputError, match=r"optim.lr: expected a number above 0, got -1 \(study.yaml, line 1\)"):
        space.recipe({"optim.lr": -1})
