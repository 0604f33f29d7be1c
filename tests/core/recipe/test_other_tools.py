import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.recipe import other_tools
from fieldmark.core.recipe.fields import choices, keys
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.recipe.other_tools import typed_here


def test_every_word_leads_to_a_key_that_there_is():
    assert set(other_tools._KEYS.values()) <= keys()
    assert sum(len(words.split()) for words in other_tools._WORDS.values()) == len(other_tools._KEYS)


@pytest.mark.parametrize("word", sorted(other_tools._SWITCHES))
def test_a_switch_makes_a_recipe(word):
    load_recipe("default", [typed_here(word, "")])


@pytest.mark.parametrize(
    ("word", "value"),
    [("mixup", "0.2"), ("cutmix", "1.0"), ("reprob", "0.25"), ("aa", "rand-m9-mstd0.5"), ("model-ema", "true"), ("device", "cuda:0")],
)
def test_what_is_to_be_typed_makes_a_recipe(word, value):
    load_recipe("default", typed_here(word, value).split())


def test_choices_that_have_values_of_their_own_are_ours():
    for key, values in other_tools._VALUES.items():
        variants = choices()[key.removesuffix(".name")].variants if key.endswith(".name") else None
        assert variants is None or set(values.values()) <= set(variants)


@pytest.mark.parametrize(
    ("given", "wanted"), [("imgsz=224", "data.size"), ("batch_size=8", "train.batch"), ("model=resnet18", "model.name")]
)
def test_a_key_of_another_tool_is_answered_with_ours(given, wanted):
    with pytest.raises(InputError, match=wanted):
        load_recipe("default", [given])
