import pytest

from fieldmark.core.console import Console
from fieldmark.core.errors import CheckFailed, InputError
from fieldmark.core.recipe.load import load_recipe
from fieldmark.training.measure import measure
from fieldmark.training.train import train_run


def test_cost_counts_what_a_run_then_does(birds, tiny, tmp_path):
    recipe = load_recipe("default", tiny())
    before = sorted(path.name for path in tmp_path.iterdir())
    cost = measure(birds, recipe, Console(quiet=True))
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    run = train_run(birds, recipe, tmp_path / "run", Console(quiet=True))
    summary = run.summary
    assert cost.steps == summary.training.steps
    assert all(seconds > 0 for seconds in (cost.start_seconds, cost.decode_seconds, cost.train_seconds, cost.predict_seconds))
    checkpoints = sum(path.stat().st_size for path in run.folder.checkpoints.glob("*.pt"))
    kept = sum(path.stat().st_size for path in run.path.rglob("*") if path.suffix in {".npz", ".safetensors"})
    assert checkpoints + kept == pytest.approx(cost.run_bytes, rel=0.3)
    assert checkpoints < cost.working_bytes < 3 * checkpoints
    usual = measure(birds, load_recipe("default", tiny("train.keep_checkpoints=0")), Console(quiet=True))
    assert kept == pytest.approx(usual.run_bytes, rel=0.3) and usual.working_bytes == pytest.approx(cost.working_bytes, rel=0.1)


def test_refit_and_epochs_are_counted(birds, tiny):
    quiet = Console(quiet=True)
    once = measure(birds, load_recipe("default", tiny()), quiet)
    refit = measure(birds, load_recipe("default", tiny("train.refit=true")), quiet)
    assert refit.steps > 2 * once.steps * 0.99


def test_what_a_run_would_refuse_is_refused(birds, tiny, tmp_path):
    with pytest.raises(InputError, match="weights"):
        measure(birds, load_recipe("default", tiny("model.weights=nowhere.safetensors")), Console(quiet=True))
    with pytest.raises(CheckFailed, match="over the budget"):
        measure(birds, load_recipe("default", tiny("model.max_parameters=1k")), Console(quiet=True))
    with pytest.raises(InputError):
        measure(tmp_path / "nowhere", load_recipe("default", tiny()), Console(quiet=True))


def test_stages_are_counted_each_with_its_own_cost(birds, tiny):
    quiet, model = Console(quiet=True), "model.name=resnet10t"
    whole = measure(birds, load_recipe("default", tiny(model, "train.epochs=40")), quiet)
    probe = measure(birds, load_recipe("default", tiny(model, "train.epochs=40", "stages=[{trainable: [head], views: 2}]")), quiet)
    many = measure(birds, load_recipe("default", tiny(model, "train.epochs=40", "stages=[{trainable: [head], views: 400}]")), quiet)
    assert probe.train_seconds < whole.train_seconds / 2 and many.train_seconds < 2 * whole.train_seconds
    assert probe.steps == whole.steps and probe.working_bytes > many.working_bytes
