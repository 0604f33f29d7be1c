"""Stages: what is trained when, how the rate and batch norms follow, and that stops around their boundaries change nothing."""

import re
import signal

import numpy as np
import pytest
import torch
from torch import nn

from fieldmark.batches.train_batches import TrainBatches
from fieldmark.core.console import Console
from fieldmark.core.errors import InputError, Interrupted
from fieldmark.core.recipe.load import recipe_from
from fieldmark.core.recipe.stages import Stage
from fieldmark.core.run_folder import RunFolder, read_json_lines
from fieldmark.models.cost import parameters
from fieldmark.models.factory import build_model
from fieldmark.training import features
from fieldmark.training import train as module
from fieldmark.training.checkpoint import Checkpoints
from fieldmark.training.setup import weights_seed
from fieldmark.training.stages import apply_stage, stage_at, stages_of
from fieldmark.training.validation import Validation
from runs import train

STAGES = "stages=[{epochs: 1, trainable: [head]}, {epochs: 2, trainable: [head, layer4]}, {lr_factor: 0.1}]"
RESNET = "model.name=test_resnet"


def model_named(name, classes=3, size=32):
    return build_model(recipe_from({"model": {"name": name, "weights": "none"}}).model, classes, size, 0).model


def test_the_stage_of_an_epoch():
    recipe = recipe_from({"train": {"epochs": 10}, "stages": [{"epochs": 2}, {"epochs": 3}, {}], "schedule": {"warmup_epochs": 1}})
    assert [stage_at(recipe, epoch) for epoch in range(12)] == [0, 0, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2]
    plain = recipe_from({"train": {"epochs": 3}})
    assert [stage_at(plain, epoch) for epoch in range(3)] == [0, 0, 0] and stages_of(plain) == (Stage(),)


@pytest.mark.parametrize("handling", ["held", "adapting"])
def test_frozen_batch_norms_do_as_the_stage_says(handling):
    model = model_named("test_resnet")
    apply_stage(model, Stage(trainable=("head", "layer4"), frozen_norm=handling))
    norms = {name: each for name, each in model.named_modules() if isinstance(each, nn.BatchNorm2d)}
    before = {name: each.running_mean.clone() for name, each in norms.items()}
    model(torch.randn(4, 3, 32, 32)).sum().backward()
    for name, each in norms.items():
        adapts = name.startswith("backbone.layer4.") or handling == "adapting"
        assert torch.equal(each.running_mean, before[name]) != adapts
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith(("head.", "backbone.layer4."))


def test_norms_that_are_trained_in_a_frozen_network_adapt():
    model = model_named("test_resnet")
    apply_stage(model, Stage(trainable=("head", "norm")))
    assert all(each.training for each in model.modules() if isinstance(each, nn.BatchNorm2d))


@pytest.mark.parametrize(("name", "total", "part"), [("efficientnet_b0", 4_263_748, 1_010_200), ("efficientnet_b2", 7_982_794, 2_229_136)])
def test_the_four_counts_of_the_published_bird_classifier(name, total, part):
    model = model_named(name, classes=200, size=64)
    apply_stage(model, Stage())
    assert parameters(model) == (total, total)
    apply_stage(model, Stage(trainable=("last-block", "head", "norm")))
    assert parameters(model) == (total, part)
    assert not model.backbone.conv_head.weight.requires_grad


def test_a_run_in_stages(birds, tiny, tmp_path):
    run = train(birds, *tiny(RESNET, STAGES, "train.epochs=5"), out=tmp_path / "run")
    rows = read_json_lines(run.folder.metrics_file)
    model = model_named("test_resnet")
    counts = []
    for stage in run.recipe.stages:
        apply_stage(model, stage)
        counts.append(parameters(model)[1])
    assert [row["trainable"] for row in rows] == [["head"], *[["head", "layer4"]] * 2, ["all"], ["all"]]
    assert [row["trainable_parameters"] for row in rows] == [counts[0], *counts[1:2] * 2, *counts[2:] * 2]
    accounts = run.summary.training.stages
    assert [account.epochs for account in accounts] == [(1, 1), (2, 3), (4, 5)]
    assert [account.trainable_parameters for account in accounts] == counts
    assert run.summary.model.trainable == counts[-1] == run.summary.model.parameters
    log = run.folder.log_file.read_text()
    assert re.search(r"stage 1 of 3, epoch 1: .*head", log) and "stage 2 of 3, epochs 2 to 3" in log
    # The schedule restarts: each stage begins with its warmup and ends at the floor.
    lines = read_json_lines(run.folder.steps_file)
    assert rows[0]["lr"] == pytest.approx(0, abs=1e-9) and rows[2]["lr"] == pytest.approx(0, abs=1e-9)
    assert max(line["lr"] for line in lines if line["epoch"] > 3) <= 0.1 * 0.02 + 1e-9


def weights(path):
    state, _ = Checkpoints(RunFolder(path).checkpoints, 9).newest()
    return state["model"]


def test_what_is_frozen_stays_bit_for_bit(birds, tiny, tmp_path):
    settings = [
        RESNET,
        "train.epochs=2",
        "stages=[{trainable: [head, layer4]}]",
        "optim.weight_decay=0.1",
        "optim.decay_norm_and_bias=true",
        "ema=exponential",
    ]
    run = train(birds, *tiny(*settings), out=tmp_path / "run")
    start = build_model(run.recipe.model, 3, 32, weights_seed(run.recipe)).model.state_dict()
    for name, tensor in weights(run.path).items():
        assert torch.equal(tensor, start[name]) != name.startswith(("head.", "backbone.layer4."))


def test_a_schedule_that_goes_on_spans_its_stages(birds, tiny, tmp_path):
    stages = "stages=[{epochs: 1, trainable: [head]}, {restart: false}]"
    whole = train(birds, *tiny(RESNET, "train.epochs=3"), out=tmp_path / "whole")
    staged = train(birds, *tiny(RESNET, "train.epochs=3", stages), out=tmp_path / "staged")
    rates = [[line["lr"] for line in read_json_lines(run.folder.steps_file)] for run in (whole, staged)]
    assert rates[0] == rates[1]


def interrupt_at_step(step, monkeypatch):
    """Have a signal come while a step of the optimiser is under way."""
    done = 0

    def counted(kind):
        original = kind.step

        def stepped(self, *arguments):
            nonlocal done
            done += 1
            if done == step:
                signal.raise_signal(signal.SIGTERM)
            return original(self, *arguments)

        monkeypatch.setattr(kind, "step", stepped)

    for kind in (torch.optim.SGD, torch.optim.AdamW):
        counted(kind)


def stopped_and_resumed(birds, settings, step, out):
    """The run with these settings, interrupted at a step of the optimiser and continued."""
    with pytest.MonkeyPatch.context() as patch:
        interrupt_at_step(step, patch)
        with pytest.raises(Interrupted):
            train(birds, *settings, out=out)
    return module.resume_run(out, Console(quiet=True))


def assert_the_same_run(run, other):
    assert all(torch.equal(tensor, weights(other.path)[name]) for name, tensor in weights(run.path).items())
    assert run.folder.best_weights.read_bytes() == other.folder.best_weights.read_bytes()
    assert rows_of(run) == rows_of(other)


BOUNDARY = 5
"""Steps of the first epoch, which is the first stage."""


@pytest.mark.parametrize(
    "stop_after",
    [BOUNDARY - 1, BOUNDARY, BOUNDARY + 1, *(pytest.param(3 * BOUNDARY + more, marks=pytest.mark.slow) for more in (-1, 0, 1))],
)
def test_resuming_around_a_stage_boundary_is_exact(stop_after, birds, tiny, tmp_path, staged_run):
    """With an average, a plateau and momentum, so that there is much state to lose."""
    assert_the_same_run(stopped_and_resumed(birds, tiny(*STAGED), stop_after, tmp_path / "run"), staged_run)


STAGED = [
    RESNET,
    STAGES,
    "train.epochs=4",
    "optim=sgd",
    "optim.lr=0.02",
    "schedule=plateau",
    "schedule.patience=0",
    "schedule.monitor=top1",
    "schedule.warmup_epochs=0",
    "ema=exponential",
    "ema.use=better",
]


@pytest.fixture(scope="module")
def staged_run(birds, tiny, tmp_path_factory):
    return train(birds, *tiny(*STAGED), out=tmp_path_factory.mktemp("runs") / "staged")


def rows_of(run):
    files = (run.folder.metrics_file, run.folder.steps_file)
    rows = [row for file in files for row in read_json_lines(file)]
    return [{name: value for name, value in row.items() if name not in ("seconds", "images_per_second")} for row in rows]


def test_only_the_last_stage_stops_early(birds, tiny, tmp_path, monkeypatch):
    figures = {"top1": 50.0, "macro_f1": 50.0, "nll": 1.0}
    monkeypatch.setattr(Validation, "_figures", lambda self, predict: figures)
    settings = tiny(RESNET, "stages=[{epochs: 6, trainable: [head]}, {}]", "train.epochs=40", "train.patience=3")
    run = train(birds, *settings, out=tmp_path / "run")
    assert run.summary.training.epochs == 9  # the first epoch was the best; patience counts from the seventh on


REFITTED = [
    RESNET,
    "stages=[{epochs: 2, trainable: [head], views: 1}, {epochs: 2, trainable: [head, layer4]}, {}]",
    "train.epochs=6",
    "train.refit=true",
    "schedule=plateau",
    "schedule.patience=0",
    "schedule.monitor=top1",
    "schedule.warmup_epochs=0",
    "ema=exponential",
    "augment.crop=none",
]


def test_a_refit_goes_through_the_stages_again_and_resumes_exactly(birds, tiny, tmp_path):
    settings = tiny(*REFITTED, "evaluate.monitor=nll")
    whole = train(birds, *settings, out=tmp_path / "whole")
    best = whole.summary.training.best_epoch
    rows = read_json_lines(whole.folder.metrics_file)
    fit, refit = ([row for row in rows if row["phase"] == phase] for phase in ("fit", "refit"))
    assert len(refit) == best and [row["trainable"] for row in refit] == [row["trainable"] for row in fit[:best]]
    assert [row["lr"] for row in refit] == pytest.approx([row["lr"] for row in fit[:best]])
    assert_the_same_run(stopped_and_resumed(birds, settings, len(fit) * BOUNDARY + 2, tmp_path / "run"), whole)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("stages=[{trainable: [layer5]}]", r"stages\[0\]\.trainable.*layer5.*layer4"),
        ("optim.lr_factors=[{parameters: haed, factor: 2}]", r"optim\.lr_factors.*haed.*head"),
    ],
)
def test_what_the_model_does_not_have_is_refused_before_anything_is_written(setting, expected, birds, tiny, tmp_path):
    with pytest.raises(InputError) as refusal:
        train(birds, *tiny(RESNET, setting), out=tmp_path / "run")
    assert re.search(expected, " ".join([*map(str, refusal.value.problems), refusal.value.hint or ""]), re.DOTALL)
    assert not (tmp_path / "run").exists()


CACHED = [
    RESNET,
    "stages=[{epochs: 3, trainable: [head], views: 2}, {epochs: 3, trainable: [head, layer4], views: 1}, {}]",
    "train.epochs=7",
    "augment.policy=trivial",
    "augment.erase=noise",
    "ema=exponential",
    "ema.use=better",
]


@pytest.fixture(scope="module")
def cached_run(birds, tiny, tmp_path_factory):
    return train(birds, *tiny(*CACHED), out=tmp_path_factory.mktemp("runs") / "cached")


def test_a_run_from_cached_features_is_the_run_without_them(birds, tiny, tmp_path, monkeypatch):
    """Bit for bit where features are computed in the batches that are trained on."""
    monkeypatch.setattr(TrainBatches, "order", lambda self, _epoch: np.arange(len(self.rows)))
    cached = train(birds, *tiny(*CACHED), out=tmp_path / "cached")
    log = cached.folder.log_file.read_text()
    assert len(re.findall("runs once for", log)) == 2 and "layer3" in log
    assert not cached.folder.features.exists()
    monkeypatch.setattr(features, "cached_features", lambda *arguments: "it is switched off")
    plain = train(birds, *tiny(*CACHED), out=tmp_path / "plain")
    assert "the whole network runs each time: it is switched off" in plain.folder.log_file.read_text()
    assert_the_same_run(plain, cached)


SLOWLY = [pytest.param(step, marks=pytest.mark.slow) for step in (1, 29, 31)]


@pytest.mark.parametrize("stop_after", [14, 15, 16, *SLOWLY])
def test_resuming_a_run_with_cached_features_is_exact(stop_after, birds, tiny, tmp_path, cached_run):
    resumed = stopped_and_resumed(birds, tiny(*CACHED), stop_after, tmp_path / "run")
    assert_the_same_run(resumed, cached_run)
    assert not resumed.folder.features.exists()


@pytest.mark.parametrize("epoch", [3, 6])
def test_features_do_not_stay_where_a_run_stops_while_it_validates(epoch, birds, tiny, tmp_path, monkeypatch):
    """After the last epoch of a stage, and of the run."""
    original, validated = Validation.after_epoch, []

    def stopping(self, at, predict):
        validated.append(1)
        if len(validated) == epoch:
            signal.raise_signal(signal.SIGTERM)
        return original(self, at, predict)

    monkeypatch.setattr(Validation, "after_epoch", stopping)
    stages = "stages=[{epochs: 3, trainable: [head], views: 1}, {trainable: [head], views: 2}]"
    with pytest.raises(Interrupted):
        train(birds, *tiny(RESNET, stages, "train.epochs=6"), out=tmp_path / "run")
    resumed = module.resume_run(tmp_path / "run", Console(quiet=True))
    assert not resumed.folder.features.exists()


def test_the_log_says_why_features_are_not_cached(birds, tiny, tmp_path):
    stages = "stages=[{epochs: 2, trainable: [head]}, {epochs: 2, trainable: [head], frozen_norm: adapting, views: 1}, {views: 1}]"
    run = train(birds, *tiny(RESNET, stages, "train.epochs=5"), out=tmp_path / "run")
    reasons = re.findall("the whole network runs each time: (.*)", run.folder.log_file.read_text())
    assert len(reasons) == 2 and "set views in the stage" in reasons[0] and "adapt" in reasons[1]
