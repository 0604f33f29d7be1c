from fieldmark.core.recipe.load import load_recipe, with_settings
from fieldmark.core.recipe.values import MEASURED, flat, identity, to_yaml


def test_a_list_of_sections_is_read_and_written_whole(tmp_path):
    file = tmp_path / "recipe.yaml"
    file.write_text(
        "extends: default\ntrain.epochs: 9\nstages:\n  - {epochs: 3, trainable: [head]}\n  - lr_factor: 0.1\n", encoding="utf-8"
    )
    recipe = load_recipe(file)
    assert [(stage.epochs, stage.trainable, stage.lr_factor) for stage in recipe.stages] == [(3, ("head",), 1.0), (None, ("all",), 0.1)]
    assert recipe.stage_spans() == recipe.schedule_spans() == ((0, 3), (3, 6))
    file.write_text(to_yaml(recipe), encoding="utf-8")
    assert load_recipe(file) == recipe
    on = load_recipe(file, ["stages=[{epochs: 2}, {epochs: 3, restart: false}, {}]"])
    assert on.stage_spans() == ((0, 2), (2, 3), (5, 4)) and on.schedule_spans() == ((0, 5), (5, 4))


def test_what_a_run_measures_when_it_begins_does_not_identify_it():
    recipe = load_recipe("default")
    measured = with_settings(recipe, {"train.precision": "float32", "train.device": "cpu", "train.threads": 2})
    assert identity(measured) == identity(recipe) != identity(with_settings(recipe, {"train.seed": 1}))
    assert {key for key, value in flat(measured).items() if flat(recipe)[key] != value} < set(MEASURED)
