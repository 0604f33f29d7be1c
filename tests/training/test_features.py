"""Training from cached features against training that runs the whole network on the same views."""

import collections
import copy

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from fieldmark.batches.geometry import Frame
from fieldmark.batches.train_batches import TrainBatches
from fieldmark.batches.windows import Windows
from fieldmark.core.console import Console
from fieldmark.core.errors import Interrupted
from fieldmark.core.recipe.augment import Augment, Mixup, NoCrop, NoiseErasing, TrivialAugment
from fieldmark.core.recipe.model import Model
from fieldmark.core.recipe.stages import Stage
from fieldmark.evaluation.split import SplitPixels
from fieldmark.models.execution import Execution
from fieldmark.models.factory import build_model
from fieldmark.models.prefix import Prefix
from fieldmark.runtime.preprocess import Preprocess
from fieldmark.training import feature_store, features
from fieldmark.training.features import CachedFeatures, WholeNetwork, begin_stage, cached_features, draws_nothing, plan_features
from fieldmark.training.interrupt import Interrupt
from fieldmark.training.stages import apply_stage

FLOAT32 = Execution(torch.device("cpu"), "float32", "contiguous")
BFLOAT16 = Execution(torch.device("cpu"), "bfloat16", "channels-last")
STILL = Augment(crop=NoCrop(), flip=0.0)
HEAD = Stage(trainable=("head",), views=2)
LAST_STAGE = Stage(trainable=("blocks.3", "head"), views=2)
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)


def pixels(count, side, seed):
    return torch.randint(0, 256, (count, 3, side, side), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def train_batches(execution=FLOAT32, augment=None, views=2, **changed) -> TrainBatches:
    count = 23
    augment = augment or Augment(policy=TrivialAugment(), erase=NoiseErasing(), brightness=0.3)
    values = {"size": 32, "batch": 8, "seed": 3, "mean": MEAN, "std": STD, "fill": False, "views": views, **changed}
    frame = Frame.of("squash", np.full(count, 40), np.full(count, 40))
    place = {"device": execution.device, "dtype": execution.dtype, "memory_format": execution.memory_format}
    return TrainBatches(pixels(count, 40, 0), np.arange(2, count), np.arange(count) % 4, frame, augment, **place, **values)


def staged(stage=HEAD, execution=FLOAT32, name="test_efficientnet"):
    model = build_model(Model(name=name, weights="none", dropout=0.3), 4, 32, 0).model
    execution.prepare(model)
    apply_stage(model, stage)
    return model


def cached(folder, stage=HEAD, batches=None, model=None, execution=FLOAT32, epochs=5, interrupt=None, **changed):
    batches = batches or train_batches(execution)
    model = model or staged(stage, execution)
    console = Console(quiet=True)
    return cached_features(stage, epochs, batches, model, execution, folder / "features", console, interrupt or Interrupt(), **changed)


def split_of(count=11) -> SplitPixels:
    preprocess = Preprocess(32, "squash", MEAN, STD)
    return SplitPixels(None, preprocess, pixels(count, 32, 9).numpy(), np.arange(1, count), np.arange(1, count), "none", {})


def trained(model, batches, forward, execution, epochs, micro_batch=None):
    """The state after some epochs of training with momentum and dropout."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        for step, batch in enumerate(batches.epoch(epoch)):
            torch.manual_seed(100 * epoch + step)
            for part in batch.split(micro_batch or len(batch.labels)):
                with execution.autocast():
                    logits = forward(part.images)
                F.cross_entropy(logits.float(), part.labels).backward()
            optimizer.step()
            optimizer.zero_grad()
    return model.state_dict()


def trained_both_ways(folder, execution, stage, batch=8, micro_batch=None, seed=3):
    """States after training on images and from cached features, which are of the same views where the seed is 3."""
    plain, other = staged(stage, execution), staged(stage, execution)
    expected = trained(plain, train_batches(execution, batch=batch), plain, execution, 3, micro_batch)
    batches = train_batches(execution, batch=batch, seed=seed)
    found = cached(folder, stage, batches, other, execution, micro_batch=micro_batch)
    assert isinstance(found, CachedFeatures)
    return expected, trained(other, found.batches, found.network, execution, 3, micro_batch)


@pytest.mark.parametrize("micro_batch", [None, 4])
@pytest.mark.parametrize("stage", [HEAD, LAST_STAGE], ids=["head", "last stage"])
@pytest.mark.parametrize("execution", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
def test_training_on_the_batches_that_features_were_computed_in_is_equal_bit_for_bit(execution, stage, micro_batch, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainBatches, "order", lambda self, _epoch: np.arange(len(self.rows)))
    expected, state = trained_both_ways(tmp_path, execution, stage, micro_batch=micro_batch)
    assert all(torch.equal(state[name], tensor) for name, tensor in expected.items())
    start = staged(stage, execution).state_dict()
    changed = {name.split(".")[0] for name, tensor in expected.items() if not torch.equal(tensor, start[name])}
    assert changed == ({"head"} if stage is HEAD else {"head", "backbone"})


@pytest.mark.parametrize(
    ("execution", "stage", "batch", "micro_batch", "tolerance"),
    [
        pytest.param(FLOAT32, HEAD, 8, None, 1e-6, id="head"),
        pytest.param(FLOAT32, HEAD, 8, 3, 1e-6, id="head, unequal parts"),
        pytest.param(FLOAT32, HEAD, 5, None, 1e-6, id="head, odd batch"),
        pytest.param(FLOAT32, LAST_STAGE, 8, 4, 1e-5, id="last stage"),
        pytest.param(BFLOAT16, HEAD, 8, 4, 1e-4, id="head, bfloat16"),
        pytest.param(BFLOAT16, LAST_STAGE, 8, 4, 2e-2, id="last stage, bfloat16"),
    ],
)
def test_training_on_other_batches_is_equal_but_for_rounding(execution, stage, batch, micro_batch, tolerance, tmp_path):
    """The tolerance is at least five times what a change of the last bit of all features makes; other views make ten times as much."""
    expected, state = trained_both_ways(tmp_path, execution, stage, batch, micro_batch)
    torch.testing.assert_close(state, expected, rtol=0, atol=tolerance)
    expected, state = trained_both_ways(tmp_path, execution, stage, batch, micro_batch, seed=4)
    assert max((state[name] - tensor).abs().max().item() for name, tensor in expected.items()) > 10 * tolerance


def test_batches_are_those_of_the_images(tmp_path):
    plain = train_batches()
    found = cached(tmp_path, batches=plain).batches
    assert (found.batch, found.steps_per_epoch) == (plain.batch, plain.steps_per_epoch)
    for epoch in range(4):
        assert [each.labels.tolist() for each in found.epoch(epoch)] == [each.labels.tolist() for each in plain.epoch(epoch)]
    whole, rest = list(found.epoch(3)), list(found.epoch(3, first_step=1))
    assert len(rest) == 1 and torch.equal(rest[0].images, whole[1].images) and torch.equal(rest[0].labels, whole[1].labels)

    def seen(epoch):
        return sorted(map(tuple, torch.cat([each.images for each in found.epoch(epoch)]).tolist()))

    repeated = set(seen(0)) & set(seen(2))
    assert len(repeated) > 8 and not set(seen(0)) & set(seen(1))  # an epoch leaves out what does not fill a batch


def test_they_are_taken_up_where_they_are_whole_and_alike(tmp_path, monkeypatch):
    counted = collections.Counter()
    compute = Prefix.compute

    def counting(self, images):
        counted["now"] += 1
        return compute(self, images)

    monkeypatch.setattr(Prefix, "compute", counting)

    def runs(**changed):
        counted.clear()
        found = cached(tmp_path, **changed)
        assert len(list((tmp_path / "features").iterdir())) == 1
        return counted["now"], next(iter(found.batches.epoch(1))).images

    verifying = 1
    everything, first = runs()
    assert everything == verifying + 6
    again, second = runs()
    assert again == verifying + 1 and torch.equal(first, second)

    changed = staged()
    changed.backbone.bn1.running_mean += 0.5
    assert runs(model=changed)[0] == everything
    assert runs(batches=train_batches(seed=4))[0] == everything
    assert runs(stage=Stage(trainable=("head",), views=3))[0] == verifying + 9
    assert runs()[0] == everything

    [file] = (tmp_path / "features").iterdir()
    content = bytearray(file.read_bytes())
    content[200:204] = b"\x00\x00\xc0\x3f"
    file.write_bytes(content)
    count, third = runs()
    assert count == everything + 1 and torch.equal(first, third)


def test_the_prediction_pass_starts_there_too(tmp_path):
    model, split, console = staged(LAST_STAGE), split_of(), Console(quiet=True)
    found = cached(tmp_path, LAST_STAGE, model=model)
    expected, modes = split.logits_and_features(model, FLOAT32, 4, console), [module.training for module in staged(LAST_STAGE).modules()]
    apply_stage(model, LAST_STAGE)
    seen, stem = [], model.backbone.conv_stem
    forward = stem.forward
    stem.forward = lambda images: (seen.append(1), forward(images))[1]

    def same(batch=4, asked=split):
        seen.clear()
        return [np.array_equal(*each) for each in zip(found.predict(asked, batch, console), expected, strict=True)] == [True, True], len(
            seen
        )

    assert same() == (True, 3)
    apply_stage(model, LAST_STAGE)
    assert same() == (True, 0)
    assert [module.training for module in model.modules()] == modes
    with torch.no_grad():
        model.head.bias += 1
        model.backbone.blocks[3][0].conv_pwl.weight *= 0.5
    expected = split.logits_and_features(model, FLOAT32, 4, console)
    assert same() == (True, 0)
    assert same(asked=split_of())[1] == 3
    model.backbone.conv_stem.weight.data *= 0.5  # as an average of the weights may
    expected = split.logits_and_features(model, FLOAT32, 4, console)
    assert same() == (True, 3)
    model.backbone.conv_stem.weight.data *= 2
    expected = split.logits_and_features(model, FLOAT32, 4, console)
    assert same() == (True, 0)


@pytest.mark.parametrize("execution", [FLOAT32, BFLOAT16], ids=["float32", "bfloat16"])
def test_the_prediction_pass_in_any_execution(execution, tmp_path):
    model, split, console = staged(LAST_STAGE, execution), split_of(), Console(quiet=True)
    found = cached(tmp_path, LAST_STAGE, model=model, execution=execution)
    first, second = (found.predict(split, 4, console) for _ in range(2))
    assert np.array_equal(first[0], second[0]) and np.array_equal(first[1], second[1])


@pytest.mark.parametrize(
    ("stage", "batches", "epochs", "said"),
    [
        (Stage(), {}, 5, "conv_stem.weight is trained"),
        (Stage(trainable=("head",), frozen_norm="adapting", views=1), {}, 5, "frozen_norm=held"),
        (Stage(trainable=("head",)), {"views": None}, 5, "each epoch draws new views; set views in the stage"),
        (HEAD, {"augment": Augment(mix=Mixup())}, 5, "augment.mix.name=none"),
        (HEAD, {}, 2, "2 epochs see none of 2 views twice"),
    ],
)
def test_why_there_are_none(stage, batches, epochs, said, tmp_path):
    assert said in cached(tmp_path, stage, train_batches(**batches), staged(stage), epochs=epochs)
    assert list(tmp_path.iterdir()) == []


def test_without_augmentation_there_is_one_view(tmp_path):
    stage = Stage(trainable=("head",))
    plan = plan_features(stage, 2, train_batches(augment=STILL, views=None), staged(stage), FLOAT32)
    assert plan.views == 1 and plan.bytes == 21 * 256 * 4
    runs = "the whole backbone (100% of the network's multiply-adds) runs once for one view of 21 images; its output takes 0.0 MB"
    assert plan.text.startswith(runs)


def test_what_draws_nothing():
    assert draws_nothing(train_batches(augment=STILL)) and draws_nothing(
        train_batches(augment=Augment(crop=NoCrop(), flip=0.0, mix=Mixup()))
    )
    assert not draws_nothing(train_batches(augment=Augment(crop=NoCrop())))
    assert not draws_nothing(train_batches(augment=Augment(crop=NoCrop(), flip=0.0, erase=NoiseErasing())))
    moved = train_batches(augment=STILL)
    edges = np.tile([-0.5, -0.5, 0.5, 0.5], (23, 1))
    for reach, still in ((0.0, True), (0.1, False)):
        moved.frame = Frame.of("squash", np.full(23, 40), np.full(23, 40), Windows(edges, np.full((23, 2), reach)))
        assert draws_nothing(moved) == still


def test_a_full_disk_is_said_before_anything_is_written(tmp_path, monkeypatch):
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage(features._SPARE_BYTES + 1000))
    found = cached(tmp_path)
    assert isinstance(found, str) and "is free on the disk of" in found
    assert list(tmp_path.iterdir()) == []


def test_a_prediction_pass_without_room_runs_the_whole_network(tmp_path, monkeypatch):
    model, split, console = staged(), split_of(), Console(quiet=True)
    found = cached(tmp_path, model=model)
    usage = collections.namedtuple("usage", "free")
    monkeypatch.setattr(features.shutil, "disk_usage", lambda _: usage(1000))
    first, second = (found.predict(split, 4, console) for _ in range(2))
    assert np.array_equal(first[0], second[0])
    assert len(list((tmp_path / "features").iterdir())) == 1


def test_a_stop_leaves_nothing_half_written(tmp_path):
    interrupt = Interrupt()
    interrupt.requested = True
    with pytest.raises(Interrupted, match="while features were computed"):
        cached(tmp_path, interrupt=interrupt)
    assert list((tmp_path / "features").iterdir()) == []


def test_a_stage_without_features_deletes_those_of_the_one_before(tmp_path):
    found = cached(tmp_path)
    found.predict(split_of(), 4, Console(quiet=True))
    assert len(list((tmp_path / "features").iterdir())) == 2
    for stage in (Stage(), Stage(trainable=("head",))):
        cached(tmp_path)
        whole = WholeNetwork(train_batches(views=None), staged(stage), FLOAT32)
        assert begin_stage(stage, 4, whole, tmp_path / "features", Console(quiet=True), Interrupt(), None) is whole
        assert list(tmp_path.iterdir()) == []


@st.composite
def outputs(draw):
    """Tensors as networks give them: in any order of axes, with axes of one, some with gaps."""
    axes = draw(st.integers(1, 4))
    sides = draw(st.lists(st.integers(1, 4), min_size=axes, max_size=axes))
    order = draw(st.permutations(range(axes)))
    gap = draw(st.booleans())
    count = draw(st.integers(1, 3))
    made = torch.randn(count, *(sides[axis] for axis in order), 2 if gap else 1)[..., 0]
    back = [0, *(1 + order.index(axis) for axis in range(axes))]
    return made.permute(back).to(draw(st.sampled_from([torch.float32, torch.bfloat16, torch.float16])))


@given(outputs())
def test_features_come_back_as_they_were(output):
    form = feature_store.Form.of(output)
    rows = form.flat(output)
    back = form.features(torch.from_numpy(copy.deepcopy(rows)))
    assert rows.shape == (len(output), output[0].numel())
    assert torch.equal(back, output) and back.dtype == output.dtype
    if output.stride(0) == output[0].numel() and len(output) > 1:  # without gaps
        assert back.stride() == output.stride()
