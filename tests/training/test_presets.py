"""Every recipe that comes with Fieldmark trains, and does what it did: 20 steps of a tiny network and their losses.

`python tests/training/test_presets.py` writes the losses anew.
"""

import json
import sys
import tempfile
from pathlib import Path

import pytest

from fieldmark.core.presets import RECIPES
from fieldmark.core.recipe.load import load_recipe
from fieldmark.core.run_folder import read_json_lines
from runs import train

GOLDEN = Path(__file__).with_name("golden_losses.json")
EPOCHS, STEPS, BATCH = 4, 20, 8
OWN_NETWORKS = {"custom-cnn": "plain_cnn", "tiny-images": "plain_cnn", "demo": "small_cnn"}


def small(name: str) -> list[str]:
    """What makes a recipe train a tiny network on eight images a step; its rate shrinks with the batch."""
    recipe = load_recipe(name)
    settings = [
        f"model.name={OWN_NETWORKS.get(name, 'test_resnet')}",
        "model.weights=none",
        "data.size=32",
        "data.layout=auto",
        "data.classes=null",
        "data.val_fraction=0.1",
        f"optim.lr={recipe.optim.lr * BATCH / recipe.train.batch}",
        f"train.batch={BATCH}",
        "train.log_every=1",
        "train.precision=float32",
        "train.memory_format=contiguous",
        "train.threads=1",
        "evaluate.resamples=100",
    ]
    if name in OWN_NETWORKS:
        settings.append("model.width=4")
    return settings


def settings_of(name: str) -> list[str]:
    """What shrinks a recipe to 20 steps of eight images."""
    recipe = load_recipe(name)
    settings = [*small(name), f"train.epochs={EPOCHS}"]
    if getattr(recipe.schedule, "warmup_epochs", 0) > 0:
        settings.append("schedule.warmup_epochs=0.5")
    if getattr(recipe.schedule, "every", 0) >= EPOCHS:
        settings.append("schedule.every=2")
    if recipe.schedule.name == "plateau":
        settings.append("schedule.patience=0")
    if recipe.ema.name != "none":
        settings.append("ema.every=2")
    if recipe.stages:
        stages = [stage.model_dump(mode="json", exclude_defaults=True) | {"epochs": 1} for stage in recipe.stages]
        stages[-1]["epochs"] = EPOCHS - len(stages) + 1
        settings.append(f"stages={json.dumps(stages)}")
    return settings


def losses_of(name: str, data: Path, out: Path) -> dict[str, list[float]]:
    """Of the steps, and of val after each epoch."""
    run = train(data, *settings_of(name), recipe=name, out=out)
    steps, epochs = read_json_lines(run.folder.steps_file), read_json_lines(run.folder.metrics_file)
    return {"steps": [row["loss"] for row in steps], "val": [row["val_nll"] for row in epochs]}


@pytest.mark.parametrize("name", RECIPES.names())
def test_golden_losses(name, birds, tmp_path):
    """As they were when the file was written; kernels of other processors may differ in the last digits, which training makes more of."""
    losses = losses_of(name, birds, tmp_path / "run")
    golden = json.loads(GOLDEN.read_text())[name]
    assert len(losses["steps"]) == STEPS or (name == "cheap" and len(losses["steps"]) > STEPS / 2)  # cheap draws splits of its own
    assert losses["steps"] == pytest.approx(golden["steps"], rel=3e-2)
    assert losses["val"] == pytest.approx(golden["val"], rel=3e-2)


@pytest.mark.parametrize("name", ["adam-step", "large-batch", "refined", "small-data", "gradual-unfreeze", "two-stage"])
def test_one_epoch_trains_what_has_to_be_shortened_most(name, birds, tmp_path):
    trains(name, 1, birds, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES.names())
@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_few_epochs_train(name, epochs, birds, tmp_path):
    trains(name, epochs, birds, tmp_path)


def trains(name, epochs, birds, tmp_path):
    """With as many epochs, and again from the recipe that it wrote, to the same weights."""
    run = train(birds, *small(name), f"train.epochs={epochs}", recipe=name, out=tmp_path / "run")
    assert run.summary.training.epochs == epochs
    again = train(birds, recipe=run.folder.recipe_file, out=tmp_path / "again")
    assert again.folder.best_weights.read_bytes() == run.folder.best_weights.read_bytes()


def test_every_recipe_has_its_losses_and_no_two_are_alike():
    golden = json.loads(GOLDEN.read_text())
    assert sorted(golden) == RECIPES.names()
    assert len({json.dumps(losses) for losses in golden.values()}) == len(golden)


def write(birds: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        found = {name: losses_of(name, birds, Path(folder) / name) for name in RECIPES.names()}
    found = {name: {kind: [round(loss, 5) for loss in each] for kind, each in losses.items()} for name, losses in found.items()}
    GOLDEN.write_text("{\n" + ",\n".join(f'  "{name}": {json.dumps(losses)}' for name, losses in found.items()) + "\n}\n")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import three_birds

    with tempfile.TemporaryDirectory() as place:
        write(three_birds(Path(place) / "birds3"))
