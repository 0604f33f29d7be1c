"""An ensemble is a run: what is in its folder, and that every command takes it."""

import json
import shutil

import numpy as np
import pytest
import torch

import fieldmark
from fieldmark.core.errors import InputError
from fieldmark.core.run_folder import RunFolder
from fieldmark.evaluation.run import Run
from fieldmark.models.weights import read_weights
from fieldmark.scoring.combination import Mean
from fieldmark.scoring.predictions import Predictions
from runs import ensemble, train


@pytest.fixture(scope="module")
def mean(members, tmp_path_factory):
    return fieldmark.ensemble(*members, method="mean", out=tmp_path_factory.mktemp("mean") / "run", quiet=True)


@pytest.fixture(scope="module")
def stack(members, tmp_path_factory):
    return ensemble(*members, method="stack", out=tmp_path_factory.mktemp("stack") / "run")


@pytest.fixture(scope="module")
def soup(members, tmp_path_factory):
    return ensemble(*members[:2], method="soup", ingredients="all", out=tmp_path_factory.mktemp("soup") / "run")


def said(path, split="test") -> Predictions:
    return Predictions.load(path / "predictions" / f"{split}.npz")


def test_a_mean_is_the_mean_of_what_its_members_said(mean, members):
    parts = [said(path) for path in members]
    assert np.allclose(said(mean.path).probabilities(), np.mean([part.probabilities() for part in parts], axis=0), atol=1e-5)
    assert np.array_equal(said(mean.path).features, np.concatenate([part.logits for part in parts], axis=1))
    summary = mean.summary
    assert summary.model.name == "mean of 3: test_efficientnet"
    assert summary.model.parameters == sum(Run.load(path).summary.model.parameters for path in members)
    assert summary.ensemble.over_best_member.n == summary.test.n == 12


@pytest.mark.parametrize("kind", ["mean", "stack", "soup"])
def test_every_command_takes_an_ensemble(kind, request, birds, tmp_path):
    run = request.getfixturevalue(kind)
    saved = said(run.path)
    found = fieldmark.evaluate(run.path)
    again = Predictions.load(found.predictions)
    assert np.allclose(again.logits, saved.logits, atol=1e-4) and found.metrics.top1 == run.summary.test.top1
    image = birds / saved.ids[0]
    answer = Run.load(run.path).predict(image, top=1)[0]
    assert answer.best == run.class_names[int(saved.logits[0].argmax())]
    assert answer.probabilities[0] == pytest.approx(run.probabilities(saved.logits)[0].max(), abs=1e-4)
    report = fieldmark.report(run.path, out=tmp_path / "report.html").read_text()
    assert 'id="members"' in report and 'id="curves"' not in report and all(name in report for name in ("<bdi>a</bdi>", "<bdi>b</bdi>"))
    assert fieldmark.resume(run.path, quiet=True).path == run.path
    assert fieldmark.evaluate(run.path, birds / "test", corrupt="fog:2").metrics.n == 12


def test_it_stands_alone(mean, members, tmp_path, birds):
    moved = shutil.move(shutil.copytree(mean.path, tmp_path / "copy"), tmp_path / "elsewhere")
    files = sorted(path.relative_to(moved).as_posix() for path in RunFolder(moved).members.rglob("*") if path.is_file())
    assert files[:3] == ["members/01-a/architecture.txt", "members/01-a/checkpoints/best.safetensors", "members/01-a/manifest.json"]
    assert Run.load(moved).predict(birds / said(moved).ids[0])[0].classes
    with pytest.raises(InputError, match="ensemble of 3 networks"):
        assert Run.load(moved).model
    shutil.rmtree(RunFolder(moved).members / "02-b")
    with pytest.raises(InputError, match="02-b"):
        Run.load(moved).predict(birds / said(moved).ids[0])


def test_fitted_weights_are_those_of_the_least_loss_on_val(members, tmp_path):
    from fieldmark.ensembles.weights import fit_weights

    run = ensemble(*members, method="mean", of="logits", weights="fitted", out=tmp_path / "run")
    val = [said(path, "val") for path in members]
    weights = fit_weights([each.logits for each in val], val[0].labels, "logits")
    assert run.ensemble.weights == pytest.approx(weights.tolist()) and run.ensemble.fitted_on == "val"
    assert np.allclose(said(run.path).logits, Mean("logits", weights)([said(path).logits for path in members]), atol=1e-5)


def test_nothing_of_test_reaches_a_stack(stack, members, tmp_path):
    """Members that say other things of test, which has other labels: the stack is the same, byte for byte."""
    poisoned = [shutil.copytree(path, tmp_path / path.name) for path in members]
    for path in poisoned:
        test = said(path)
        Predictions(test.ids, (test.labels + 1) % 3, -test.logits, test.features, test.class_names).save(path / "predictions" / "test.npz")
    run = ensemble(*poisoned, method="stack", out=tmp_path / "run")
    assert run.folder.stack_weights.read_bytes() == stack.folder.stack_weights.read_bytes()
    with pytest.raises(InputError, match="a stack cannot be fitted on test"):
        ensemble(*members, method="stack", fit_on="test", out=tmp_path / "leak")
    assert not (tmp_path / "leak").exists()


def test_val_is_no_test_of_what_was_fitted_on_it(stack, mean, members, tmp_path):
    with pytest.raises(InputError, match="was fitted on val"):
        fieldmark.evaluate(stack.path, split="val")
    assert fieldmark.evaluate(mean.path, split="val").metrics.n == len(said(members[0], "val"))
    on_train = ensemble(*members, method="stack", fit_on="train", out=tmp_path / "run")
    assert on_train.ensemble.fitted_on == "train" and fieldmark.evaluate(on_train.path, split="val").metrics.n > 0
    assert "where they are overconfident" in fieldmark.report(on_train.path).read_text()


def test_refitted_members_have_no_val_to_fit_on(members, birds, tiny, tmp_path):
    refitted = train(birds, *tiny("train.refit=true"), out=tmp_path / "refitted").path
    for method, options in (("stack", {}), ("mean", {"weights": "fitted"}), ("soup", {}), ("soup", {"ingredients": "all"})):
        with pytest.raises(InputError, match="was refitted on train and val"):
            ensemble(members[0], refitted, method=method, out=tmp_path / "run", **options)
        assert not (tmp_path / "run").exists()
    run = fieldmark.ensemble(members[0], refitted, method="mean", out=tmp_path / "run", quiet=True)
    assert run.summary.test.n == 12 and "before the refit" in run.folder.report_file.read_text()
    assert "knn" not in run.decisions.record.rejection.scores
    with pytest.raises(InputError, match="were trained on images of val"):
        fieldmark.evaluate(run.path, split="val")


def test_the_folds_of_two_recipes_are_stacked_on_what_each_left_out(folds, tmp_path):
    run = fieldmark.ensemble(*folds, method="stack", out=tmp_path / "run", quiet=True)
    assert run.ensemble.fitted_on == "out-of-fold" and run.ensemble.inputs == [0, 0, 0, 1, 1, 1]
    assert run.summary.val.n == 48 and run.summary.test.n == 12
    assert np.allclose(Predictions.load(fieldmark.evaluate(run.path).predictions).logits, said(run.path).logits, atol=1e-4)
    mean = fieldmark.ensemble(*folds[:3], method="mean", out=tmp_path / "mean", quiet=True)
    with pytest.raises(InputError, match="were trained on images of val"):
        fieldmark.evaluate(mean.path, split="val")
    assert mean.summary.val.n == 48 and mean.ensemble.weights == pytest.approx([1 / 3] * 3)
    for each in (run, mean):
        assert each.decisions is None and not each.summary.test.has("ece_calibrated")
        assert "nothing is rejected: all networks answer test together" in each.folder.report_file.read_text()
        with pytest.raises(InputError, match="nothing can be fitted"):
            fieldmark.calibrate(each.path)
        with pytest.raises(InputError, match="trained on other images each"):
            fieldmark.evaluate(each.path, split="train")
    for options in ({"method": "soup"}, {"method": "stack", "fit_on": "train"}):
        with pytest.raises(InputError, match="folds"):
            ensemble(*folds[:3], out=tmp_path / "no", **options)


def test_a_soup_has_the_mean_of_the_weights_and_norms_of_its_own(soup, members):
    ours, parts = (
        read_weights(soup.folder.best_weights)[0],
        [read_weights(path / "checkpoints" / "best.safetensors")[0] for path in members[:2]],
    )
    for name, tensor in ours.items():
        if name.endswith(("running_mean", "running_var")):
            assert not torch.allclose(tensor, (parts[0][name] + parts[1][name]) / 2)
        elif tensor.is_floating_point():
            assert torch.allclose(tensor, (parts[0][name] + parts[1][name]) / 2, atol=1e-6)


def test_norms_of_a_soup_are_those_of_the_images(soup, birds):
    """The first batch norm's statistics, against its input over all images of train at once."""
    from fieldmark.core.console import Console
    from fieldmark.evaluation.evaluate import run_data
    from fieldmark.evaluation.split import open_split

    console = Console(quiet=True)
    loaded = run_data(soup, None, console)
    split = open_split(loaded, loaded.rows("train"), soup.preprocess, "none", console)
    norm = next(module for module in soup.model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen = []
    norm.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        soup.model(soup.normalisation(torch.from_numpy(split.pixels[split.sound])))
    assert torch.allclose(norm.running_mean, seen[0].mean((0, 2, 3)), atol=1e-4)
    assert torch.allclose(norm.running_var, seen[0].var((0, 2, 3)), rtol=1e-3)


def test_a_greedy_soup_is_no_worse_on_val_than_its_best_ingredient(members, tmp_path):
    run = ensemble(*members[:2], method="soup", out=tmp_path / "run")
    vals = [Run.load(path).summary.val.top1 for path in members[:2]]
    used = [member.used for member in run.ensemble.members]
    assert run.summary.val.top1 >= max(vals) - 1e-6 and used[int(np.argmax(vals))]
    if used.count(True) == 1:
        assert run.summary.test.top1 == Run.load(members[int(np.argmax(vals))]).summary.test.top1


def test_norms_are_estimated_on_mixed_batches(soup, members, monkeypatch):
    """In small batches of images that lie class by class on the disk, the statistics are nearly those of all images together."""
    from fieldmark.core.console import Console
    from fieldmark.ensembles import soup as module
    from fieldmark.evaluation.evaluate import run_data

    console = Console(quiet=True)
    run = Run.load(soup.path)
    kitchen = module._Kitchen.of(run, run_data(run, None, console), console)
    labels = kitchen.train.labels
    assert (labels[1:] != labels[:-1]).mean() > 0.5


def test_members_with_logits_that_are_not_finite_leave_too_little(members, tmp_path):
    copies = [shutil.copytree(path, tmp_path / path.name) for path in members]
    val = said(copies[1], "val")
    Predictions(val.ids, val.labels, val.logits * np.nan, val.features, val.class_names).save(copies[1] / "predictions" / "val.npz")
    for options in ({"method": "stack"}, {"weights": "fitted"}, {"weights": "fitted", "of": "logits"}):
        with pytest.raises(InputError, match="b returned logits that are not finite for"):
            ensemble(*copies, out=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
    assert ensemble(*copies, method="mean", out=tmp_path / "run").summary.val.top1 == 0


def test_members_without_predictions_of_train_make_a_mean_without(members, tmp_path):
    copies = [shutil.copytree(path, tmp_path / path.name) for path in members]
    (copies[2] / "predictions" / "train.npz").unlink()
    run = ensemble(*copies, method="mean", out=tmp_path / "run")
    assert not (run.folder.predictions / "train.npz").exists() and (run.folder.predictions / "test.npz").exists()


def test_networks_that_are_not_alike_make_no_soup(members, tmp_path):
    with pytest.raises(InputError, match=r"their preprocessing \(size"):
        ensemble(*members, method="soup", out=tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"method": "mean", "fit_on": "val"}, "--fit-on is for a stack"),
        ({"method": "stack", "weights": "fitted"}, "--weights is for a mean"),
        ({"method": "soup", "of": "logits"}, "--of is for a mean"),
        ({"method": "mean", "ingredients": "all"}, "--ingredients is for a soup"),
        ({"method": "vote"}, "no method 'vote'"),
        ({"method": "stack", "fit_on": "everything"}, "expected val or train"),
    ],
)
def test_options_without_an_effect_are_refused(options, reason, members, tmp_path):
    with pytest.raises(InputError, match=reason):
        ensemble(*members, out=tmp_path / "run", **options)


def test_ensembles_of_ensembles_and_taken_folders_are_refused(mean, soup, members, tmp_path):
    for path in (mean.path, soup.path):
        with pytest.raises(InputError, match="is an ensemble itself"):
            ensemble(path, members[0], out=tmp_path / "run")
    with pytest.raises(InputError, match="already holds a run"):
        ensemble(*members, out=mean.path)


def test_the_manifest_says_what_it_is_made_of(mean, members):
    ensemble = json.loads(mean.folder.manifest_file.read_text())["ensemble"]
    assert [member["source"] for member in ensemble["members"]] == [str(path.resolve()) for path in members]
    assert [member["size"] for member in ensemble["members"]] == [32, 32, 48]
