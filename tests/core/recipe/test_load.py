import pytest

from fieldmark.core.errors import InputError
from fieldmark.core.presets import RECIPES
from fieldmark.core.recipe.load import load_recipe, recipe_from, with_settings
from fieldmark.core.recipe.values import to_yaml


@pytest.mark.parametrize("name", RECIPES.names())
def test_every_preset_loads_and_survives_writing(name, tmp_path):
    recipe = load_recipe(name)
    (tmp_path / "again.yaml").write_text(to_yaml(recipe))
    assert load_recipe(tmp_path / "again.yaml") == recipe
    assert RECIPES.text(name).startswith(f"# {name}: ")


def test_with_settings_keeps_the_rest():
    recipe = load_recipe("default", ["optim=adamw", "optim.lr=0.02"])
    changed = with_settings(recipe, {"train.epochs": 3})
    assert changed.train.epochs == 3 and changed.optim == recipe.optim


def test_a_dictionary_is_checked_like_a_file():
    with pytest.raises(InputError, match=r"train\.epochs is given twice \(here\)"):
        recipe_from({"train": {"epochs": 3}, "train.epochs": 4}, "here")
